/** The demo's load balancer: takes the replicas in turn, and another one where nobody listens. Nothing else is repeated. */

import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
  request as sendRequest,
} from 'node:http'
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { finished } from 'node:stream/promises'

export interface Passed {
  readonly request: IncomingMessage
  /** Of the replica that answered, counted from 1; undefined where none did. */
  readonly replica: number | undefined
  readonly status: number
  readonly durationMs: number
  /** Of a 401 or 403 alone: why is in its body. */
  readonly body: string
}

/** No replica listens; or the one that had the request died with it. */
export type Unanswered = 'nobody_there' | 'cut_off'

export interface BalancerOptions {
  readonly host: string
  readonly port: number
  /** Ports of the replicas, on the same host. */
  readonly replicaPorts: readonly number[]
  /** Paths that begin so are answered here and reach no replica. */
  readonly own: { readonly prefix: string; readonly listener: RequestListener }
  /** Answers instead of a replica. */
  readonly unanswered: (why: Unanswered, request: IncomingMessage, response: ServerResponse) => void
  /** Told once of every answer to a request that was a replica's to answer. */
  readonly passed: (passed: Passed) => void
}

export interface Balancer {
  readonly port: number
  /** Cuts everything at once. */
  close(): Promise<void>
}

/** Which replica answered, for the page that shows it. */
const REPLICA_HEADER = 'X-Demo-Replica'

/** Of one connection (RFC 9110 §7.6.1). `Transfer-Encoding` stays: it tells Node how to frame the body anew. */
const OF_ONE_CONNECTION = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'upgrade',
])
/** As much as the gateway reads; what is too much is its to refuse. */
const HEAD_BYTES_MAX = 64 * 1024
const PROBLEM_BYTES_MAX = 16 * 1024

export const startBalancer = async (options: BalancerOptions): Promise<Balancer> => {
  const { host, replicaPorts, own } = options
  const upgraded = new Set<Duplex>()
  let turn = 0

  /** Indices of all replicas, beginning with the one whose turn it is. */
  const inTurn = (): number[] => {
    const first = turn
    turn = (turn + 1) % replicaPorts.length
    return replicaPorts.map((_, index) => (first + index) % replicaPorts.length)
  }

  const server = createServer({ maxHeaderSize: HEAD_BYTES_MAX }, (request, response) => {
    if (request.url?.startsWith(own.prefix)) return own.listener(request, response)
    const from = performance.now()
    const tell = (replica: number | undefined, body = '') =>
      options.passed({
        request,
        replica,
        status: response.statusCode,
        durationMs: performance.now() - from,
        body,
      })
    const pass = ([index, ...others]: number[]): void => {
      if (index === undefined) {
        options.unanswered('nobody_there', request, response)
        tell(undefined)
        return
      }
      let isConnected = false
      const onward = sendRequest({
        host,
        port: replicaPorts[index],
        // A connection of its own: that it can't be had is then the one failure that nothing was sent before.
        agent: false,
        method: request.method,
        path: request.url,
        headers: withoutConnection(request.rawHeaders),
      })
      onward.on('socket', (socket) =>
        socket.once('connect', () => {
          isConnected = true
          request.pipe(onward)
        }),
      )
      onward.on('error', () => {
        if (response.destroyed) return
        if (!isConnected) return pass(others)
        // The replica died with the request: whether it had begun on it nobody knows, so that nothing is repeated.
        if (response.headersSent) {
          response.destroy()
          return
        }
        response.setHeader(REPLICA_HEADER, index + 1)
        options.unanswered('cut_off', request, response)
        tell(index + 1)
      })
      onward.on('response', (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.statusMessage, [
          ...withoutConnection(answer.rawHeaders),
          ...[REPLICA_HEADER, String(index + 1)],
        ])
        response.flushHeaders()
        answer.pipe(response)
        answer.on('error', () => response.destroy())
        if (answer.statusCode !== 401 && answer.statusCode !== 403) return tell(index + 1)
        void textOf(answer).then((body) => tell(index + 1, body))
      })
      response.on('close', () => onward.destroy())
    }
    pass(inTurn())
  })

  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    upgraded.add(socket)
    socket.on('close', () => upgraded.delete(socket))
    socket.on('error', () => socket.destroy())
    const pass = ([index, ...others]: number[]): void => {
      const port = index === undefined ? undefined : replicaPorts[index]
      if (port === undefined) return void socket.end('HTTP/1.1 503 Service Unavailable\r\n\r\n')
      const onward = connect(port, host)
      let isConnected = false
      onward.on('error', () => (isConnected ? socket.destroy() : pass(others)))
      onward.on('connect', () => {
        isConnected = true
        onward.write(headOf(request))
        onward.write(head)
        socket.pipe(onward).pipe(socket)
        socket.on('close', () => onward.destroy())
      })
    }
    pass(inTurn())
  })

  server.listen(options.port, host)
  await once(server, 'listening')
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : options.port,
    close: async () => {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      for (const socket of upgraded) socket.destroy()
      await closed
    },
  }
}

/** Names and values in turn, as `rawHeaders` has them. */
const withoutConnection = (rawHeaders: readonly string[]): string[] => {
  const pairs = pairsOf(rawHeaders)
  const named = pairs
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.toLowerCase().split(/[\s,]+/))
  return pairs
    .filter(([name]) => !OF_ONE_CONNECTION.has(name.toLowerCase()))
    .filter(([name]) => !named.includes(name.toLowerCase()))
    .flat()
}

const headOf = ({ method, url, rawHeaders }: IncomingMessage): string =>
  [
    `${method} ${url} HTTP/1.1`,
    ...pairsOf(rawHeaders).map(([name, value]) => `${name}: ${value}`),
    '\r\n',
  ].join('\r\n')

const pairsOf = (rawHeaders: readonly string[]): (readonly [string, string])[] =>
  rawHeaders.flatMap((name, index) =>
    index % 2 === 0 ? [[name, rawHeaders[index + 1] ?? ''] as const] : [],
  )

const textOf = async (answer: IncomingMessage): Promise<string> => {
  let text = ''
  answer.setEncoding('utf8')
  answer.on('data', (chunk: string) => {
    if (text.length < PROBLEM_BYTES_MAX) text += chunk
  })
  await finished(answer).catch(() => undefined)
  return text
}
