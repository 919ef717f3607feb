/**
 * The reference that every figure is a multiple of: node:http and undici's `Pool.dispatch`, no sessions, no checks. It
 * does what any proxy must (hop-by-hop fields, `Host`, backpressure, the browser that leaves) and nothing else.
 *
 *   node bench/peers/bare-proxy.ts PORT UPSTREAM_ORIGIN
 */

import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import { type Dispatcher, Pool } from 'undici'

const [port = '', upstream = ''] = process.argv.slice(2)
const upstreamHost = new URL(upstream).host
const pool = new Pool(upstream, { allowH2: false })

const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te'])

/** Flat name-value list in and out. */
const withoutHopByHop = (headers: readonly string[]): string[] => {
  const kept: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string
    if (!HOP_BY_HOP.has(name.toLowerCase())) kept.push(name, headers[i + 1] as string)
  }
  return kept
}

const towardsUpstream = (rawHeaders: readonly string[]): string[] => {
  const headers = withoutHopByHop(rawHeaders)
  const host = headers.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === 'host')
  headers[host + 1] = upstreamHost
  return headers
}

class Exchange implements Dispatcher.DispatchHandler {
  readonly #res: ServerResponse
  #controller: Dispatcher.DispatchController | undefined

  constructor(res: ServerResponse) {
    this.#res = res
    res.on('drain', () => this.#controller?.resume())
    // A response that is paused would keep its connection of the pool for ever.
    res.on('close', () => {
      if (!res.writableFinished) this.#controller?.abort(new Error('the client left'))
    })
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#res.destroyed) controller.abort(new Error('the client left'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return
    const raw = controller.rawHeaders as Buffer[]
    this.#res.writeHead(status, withoutHopByHop(raw.map((field) => field.toString('latin1'))))
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#res.write(chunk)) controller.pause()
  }

  onResponseEnd(): void {
    this.#res.end()
  }

  onResponseError(): void {
    if (this.#res.headersSent) this.#res.destroy()
    else this.#res.writeHead(502).end()
  }
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

http
  .createServer((req, res) => {
    pool.dispatch(
      {
        path: req.url ?? '/',
        method: req.method ?? 'GET',
        headers: towardsUpstream(req.rawHeaders),
        body: hasBody(req) ? req : null,
      },
      new Exchange(res),
    )
  })
  .listen(Number(port), '127.0.0.1')
