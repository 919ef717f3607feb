/**
 * An API that is stricter than any real one: it reads requests byte by byte after RFC 9112, and whatever is not exactly
 * one is a fault that the test must see. It answers each request with the request's own target, so that an answer can be
 * told from any other. A WebSocket handshake it agrees to, and echoes what comes.
 */

import { createHash } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { within } from '../support/wait.ts'

export interface SeenRequest {
  readonly method: string
  readonly target: string
  /** Lower-case name and value, in order. */
  readonly fields: readonly (readonly [string, string])[]
  readonly body: string
}

export interface StrictUpstream {
  readonly url: string
  readonly requests: readonly SeenRequest[]
  /** What came and was no request, with the bytes. */
  readonly faults: readonly string[]
  /** Every byte of every connection since the last `forget`. */
  received(): string
  forget(): void
  close(): Promise<void>
}

export const startStrictUpstream = async (
  answer: (request: SeenRequest) => string = echo,
): Promise<StrictUpstream> => {
  let requests: SeenRequest[] = []
  let faults: string[] = []
  let received = ''
  const sockets = new Set<Socket>()

  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
    let pending = ''
    let isUpgraded = false
    socket.on('data', (chunk) => {
      const text = chunk.toString('latin1')
      received += text
      if (isUpgraded) {
        socket.write(chunk)
        return
      }
      pending += text
      try {
        for (;;) {
          const read = readRequest(pending)
          if (read === undefined) break
          pending = pending.slice(read.length)
          requests.push(read.request)
          const agreement = agreementTo(read.request)
          if (agreement === undefined) socket.write(answer(read.request), 'latin1')
          else {
            isUpgraded = true
            socket.write(agreement + pending, 'latin1')
            break
          }
        }
      } catch (fault) {
        faults.push(`${(fault as Error).message}: ${JSON.stringify(pending)}`)
        socket.destroy()
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo

  return {
    url: `http://127.0.0.1:${port}`,
    get requests() {
      return requests
    },
    get faults() {
      return faults
    },
    received: () => received,
    forget() {
      requests = []
      faults = []
      received = ''
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await within(5_000, 'the strict upstream closes', closed)
    },
  }
}

/** The target stands in the body and in a field; a HEAD request gets the same without the body. */
export const echo = ({ method, target }: SeenRequest): string =>
  `HTTP/1.1 200 OK\r\nX-Target: ${target}\r\nContent-Length: ${target.length}\r\n\r\n` +
  (method === 'HEAD' ? '' : target)

/** RFC 6455 §4.2.2; from then on the connection is an echo. */
const agreementTo = ({ fields }: SeenRequest): string | undefined => {
  const key = fields.find(([name]) => name === 'sec-websocket-key')?.[1]
  const upgrade = fields.find(([name]) => name === 'upgrade')?.[1]
  if (key === undefined || upgrade !== 'websocket') return undefined
  const accept = createHash('sha1')
    .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`
}

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
const REQUEST_LINE = new RegExp(`^(${TOKEN}) (/[!-~]*) HTTP/1\\.1$`)
/** RFC 9112 §5 with RFC 9110 §5.5 for the value: visible characters and obs-text, blanks only between them. */
const FIELD_LINE = new RegExp(
  `^(${TOKEN}): ?((?:[!-~\\x80-\\xff](?:[\\t -~\\x80-\\xff]*[!-~\\x80-\\xff])?)?)$`,
)

/** The first whole request of the text, undefined while it is not there yet. Throws for what can never be one. */
const readRequest = (text: string): { request: SeenRequest; length: number } | undefined => {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) {
    if (text.length > 65_536) throw new Error('a head without an end')
    return undefined
  }
  const [requestLine = '', ...lines] = text.slice(0, headEnd).split('\r\n')
  const [, method, target] = REQUEST_LINE.exec(requestLine) ?? fail('no request line')
  const fields = lines.map((line): [string, string] => {
    const [, name = '', value = ''] = FIELD_LINE.exec(line) ?? fail(`no field line ${line}`)
    return [name.toLowerCase(), value]
  })
  const valuesOf = (name: string) => fields.filter((field) => field[0] === name).map(([, v]) => v)
  if (valuesOf('host').length !== 1) fail('not one Host')
  const [lengths, codings] = [valuesOf('content-length'), valuesOf('transfer-encoding')]
  if (lengths.length + codings.length > 1) fail('more than one framing')
  if (lengths.some((length) => !/^[0-9]{1,9}$/.test(length))) fail('no Content-Length')
  if (codings.some((coding) => coding !== 'chunked')) fail('no transfer coding')

  const rest = text.slice(headEnd + 4)
  const body = codings.length > 0 ? readChunks(rest) : readSized(rest, Number(lengths[0] ?? 0))
  if (body === undefined) return undefined
  const request = { method: method ?? '', target: target ?? '', fields, body: body.text }
  return { request, length: headEnd + 4 + body.length }
}

const readSized = (rest: string, length: number) =>
  rest.length < length ? undefined : { text: rest.slice(0, length), length }

const readChunks = (rest: string): { text: string; length: number } | undefined => {
  let text = ''
  let at = 0
  for (;;) {
    const lineEnd = rest.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const size = rest.slice(at, lineEnd)
    if (!/^[0-9A-Fa-f]{1,8}$/.test(size)) fail(`no chunk size ${size}`)
    const dataEnd = lineEnd + 2 + Number.parseInt(size, 16)
    if (rest.length < dataEnd + 2) return undefined
    // Trailers are not for a gateway to pass on unasked: the last chunk ends the message.
    if (rest.slice(dataEnd, dataEnd + 2) !== '\r\n') fail('no end of a chunk')
    text += rest.slice(lineEnd + 2, dataEnd)
    at = dataEnd + 2
    if (dataEnd === lineEnd + 2) return { text, length: at }
  }
}

const fail = (what: string): never => {
  throw new Error(what)
}
