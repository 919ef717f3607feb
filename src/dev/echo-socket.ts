/** The demo API's WebSocket: sends every text or binary message back. RFC 6455 as far as browsers speak it to an echo. */

import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

export interface Echo {
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** Cuts all that are open. */
  close(): void
}

/** RFC 6455 §1.3. */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const FRAME_BYTES_MAX = 16 * 1024
const OPCODE = { close: 0x8, ping: 0x9, pong: 0xa } as const
/** Close codes (RFC 6455 §7.4.1) for frames that are not read. */
const UNREAD = { too_big: 1009, unmasked: 1002 } as const

export const startEcho = (
  path: string,
  mayOpen: (request: IncomingMessage) => Promise<boolean>,
): Echo => {
  const open = new Set<Duplex>()
  const refuse = (socket: Duplex, status: string, challenge = '') =>
    void socket.end(
      `HTTP/1.1 ${status}\r\n${challenge}Content-Length: 0\r\nConnection: close\r\n\r\n`,
    )

  const shakeHands = async (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const key = request.headers['sec-websocket-key']
    if (request.url?.split('?')[0] !== path) return refuse(socket, '404 Not Found')
    if (key === undefined || request.headers.upgrade?.toLowerCase() !== 'websocket')
      return refuse(socket, '400 Bad Request')
    if (!(await mayOpen(request)))
      return refuse(
        socket,
        '401 Unauthorized',
        'WWW-Authenticate: Bearer realm="demo-api", error="invalid_token"\r\n',
      )
    const accept = createHash('sha1')
      .update(key + ACCEPT_SUFFIX)
      .digest('base64')
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    )
    echoOn(socket, head)
  }

  return {
    upgrade: (request, socket, head) => {
      open.add(socket)
      socket.on('close', () => open.delete(socket))
      // The other end is gone: there is nobody to tell.
      socket.on('error', () => socket.destroy())
      void shakeHands(request, socket, head).catch(() => socket.destroy())
    },
    close: () => {
      for (const socket of open) socket.destroy()
    },
  }
}

const echoOn = (socket: Duplex, head: Buffer): void => {
  let unread = head
  const answer = (chunk: Buffer) => {
    unread = Buffer.concat([unread, chunk])
    for (let frame = nextFrame(unread); frame !== undefined; frame = nextFrame(unread)) {
      if (typeof frame === 'string') return void socket.end(closeFrame(UNREAD[frame]))
      unread = unread.subarray(frame.bytes)
      const { first, opcode, payload } = frame
      if (opcode === OPCODE.close) return void socket.end(frameOf(first, payload))
      if (opcode === OPCODE.ping) socket.write(frameOf(0x80 | OPCODE.pong, payload))
      else if (opcode !== OPCODE.pong) socket.write(frameOf(first, payload))
    }
  }
  socket.on('data', answer)
  answer(Buffer.alloc(0))
}

interface Frame {
  /** FIN and opcode: an echo has the fragments that came. */
  readonly first: number
  readonly opcode: number
  readonly payload: Buffer
  /** Header, mask and payload together. */
  readonly bytes: number
}

/** Undefined until all of it is there (RFC 6455 §5.2). */
const nextFrame = (buffer: Buffer): Frame | keyof typeof UNREAD | undefined => {
  if (buffer.length < 2) return undefined
  const [first = 0, second = 0] = buffer
  // What a browser sends is masked (§5.1).
  if ((second & 0x80) === 0) return 'unmasked'
  const short = second & 0x7f
  if (short === 127) return 'too_big'
  const maskAt = short === 126 ? 4 : 2
  if (buffer.length < maskAt) return undefined
  const length = short === 126 ? buffer.readUInt16BE(2) : short
  if (length > FRAME_BYTES_MAX) return 'too_big'
  const payloadAt = maskAt + 4
  const bytes = payloadAt + length
  if (buffer.length < bytes) return undefined
  const payload = Buffer.from(buffer.subarray(payloadAt, bytes))
  for (const index of payload.keys())
    payload[index] = (payload[index] ?? 0) ^ (buffer[maskAt + (index % 4)] ?? 0)
  return { first, opcode: first & 0x0f, payload, bytes }
}

const frameOf = (first: number, payload: Buffer): Buffer => {
  const header =
    payload.length < 126
      ? Buffer.from([first, payload.length])
      : Buffer.from([first, 126, payload.length >> 8, payload.length & 0xff])
  return Buffer.concat([header, payload])
}

const closeFrame = (code: number): Buffer =>
  frameOf(0x80 | OPCODE.close, Buffer.from([code >> 8, code & 0xff]))
