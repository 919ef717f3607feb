/** An API behind the gateway: records every request as it came in and answers as the test scripts it. */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { linesOf, onlyLineOf } from './raw-headers.ts'
import { waitFor, within } from './wait.ts'

export interface UpstreamRequest {
  readonly method: string
  /** The request target, byte for byte as it stood in the request line. */
  readonly url: string
  readonly rawHeaders: readonly string[]
  /** Value of the only line of that name; throws when there are several. */
  header(name: string): string | undefined
  /** Values of all lines of that name, in order. */
  headerLines(name: string): readonly string[]
  /** What has arrived of the body so far. */
  readonly body: Buffer
  /** The whole body; rejects when the client leaves before its end. */
  readonly wholeBody: Promise<Buffer>
  /** Resolves when the connection closed before the answer was complete. */
  readonly aborted: Promise<void>
  /** The stream itself, e.g. to pause it; with `recordBodies: false` nobody else reads it. */
  readonly incoming: IncomingMessage
}

export type UpstreamAnswer = (
  request: UpstreamRequest,
  response: ServerResponse,
) => void | Promise<void>

export interface UpstreamApi {
  /** Origin, without a trailing slash. */
  readonly url: string
  readonly port: number
  readonly requests: readonly UpstreamRequest[]
  /** Replaces the scripted answer for later requests. */
  answerWith(answer: UpstreamAnswer): void
  /** The request with this index, counted from 0, as soon as it has arrived. */
  request(index: number): Promise<UpstreamRequest>
  forgetRequests(): void
  close(): Promise<void>
}

interface UpstreamOptions {
  readonly answer?: UpstreamAnswer
  readonly recordBodies?: boolean
  readonly host?: string
  readonly port?: number
}

/** Reads the whole request, then answers with this value as JSON. */
export const answerJson =
  (
    value: unknown,
    status = 200,
    headers: Readonly<Record<string, string | readonly string[]>> = {},
  ): UpstreamAnswer =>
  async (request, response) => {
    await request.wholeBody
    const body = JSON.stringify(value)
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      ...Object.fromEntries(Object.entries(headers).map(([name, lines]) => [name, [lines].flat()])),
    })
    response.end(body)
  }

/** As a real API does, without any tolerance: 401 `invalid_token` once the bearer JWT is over. */
export const answerUnexpired: UpstreamAnswer = (request, response) => {
  const payload = request.header('authorization')?.split('.')[1] ?? ''
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { exp: number }
  if (claims.exp * 1000 > Date.now()) response.end('{}')
  else response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end('{}')
}

export const startUpstreamApi = async (options: UpstreamOptions = {}): Promise<UpstreamApi> => {
  let answer: UpstreamAnswer = options.answer ?? answerJson({ ok: true })
  let requests: UpstreamRequest[] = []

  const server = createServer({ maxHeaderSize: 128 * 1024 }, (incoming, response) => {
    const request = record(incoming, response, options.recordBodies ?? true)
    requests.push(request)
    // A fault in the script must be seen by the test: as a broken answer and as text on the console.
    Promise.resolve()
      .then(() => answer(request, response))
      .catch((error: unknown) => {
        if (!incoming.destroyed) console.error('the scripted upstream answer failed:', error)
        response.destroy()
      })
  })
  server.on('clientError', (_error, socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo

  return {
    url: `http://${options.host ?? '127.0.0.1'}:${port}`,
    port,
    get requests() {
      return requests
    },
    answerWith(next) {
      answer = next
    },
    request: (index) => waitFor(`request ${index} reaches the upstream`, () => requests[index]),
    forgetRequests() {
      requests = []
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await within(5_000, 'the upstream closes', closed)
    },
  }
}

const record = (
  incoming: IncomingMessage,
  response: ServerResponse,
  recordBodies: boolean,
): UpstreamRequest => {
  const chunks: Buffer[] = []
  if (recordBodies) incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
  const wholeBody = new Promise<Buffer>((resolve, reject) => {
    incoming.once('end', () => resolve(Buffer.concat(chunks)))
    incoming.once('close', () => reject(new Error('the client left before the end of its body')))
    incoming.once('error', reject)
  })
  // Nobody need ask for the body; a client that leaves must not be an unhandled rejection.
  wholeBody.catch(() => undefined)
  const aborted = new Promise<void>((resolve) => {
    response.once('close', () => {
      if (!response.writableFinished) resolve()
    })
  })
  return {
    method: incoming.method ?? '',
    url: incoming.url ?? '',
    rawHeaders: incoming.rawHeaders,
    header: (name) => onlyLineOf(incoming.rawHeaders, name),
    headerLines: (name) => linesOf(incoming.rawHeaders, name),
    get body() {
      return Buffer.concat(chunks)
    },
    wholeBody,
    aborted,
    incoming,
  }
}
