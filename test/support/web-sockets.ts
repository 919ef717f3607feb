/** WebSockets through a gateway: an API that speaks them, and clients that come as a browser's page does. */

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'
import { within } from './wait.ts'

export interface WebSocketApi {
  readonly url: string
  readonly server: WebSocketServer
  readonly http: Server
  /** Handshakes as they came, refused ones included. */
  readonly handshakes: readonly IncomingMessage[]
  /** What it closed with, or was closed with. */
  readonly closes: readonly { readonly code: number; readonly reason: string }[]
  /** Answers handshakes with this instead, while it gives one: status line, fields and body. */
  refuseWith(refusal: ((handshake: IncomingMessage) => string | undefined) | undefined): void
  close(): Promise<void>
}

/** Sends every message back. */
export const startWebSocketApi = async (): Promise<WebSocketApi> => {
  const http = createServer((_request, response) => void response.end('{"ok":true}'))
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: true,
    handleProtocols: (protocols) => (protocols.has('chat') ? 'chat' : false),
  })
  const connections = new Set<Socket>()
  http.on('connection', (connection) => {
    connections.add(connection)
    connection.once('close', () => connections.delete(connection))
  })
  const handshakes: IncomingMessage[] = []
  const closes: { code: number; reason: string }[] = []
  let refusal: ((handshake: IncomingMessage) => string | undefined) | undefined
  http.on('upgrade', (request, socket, head) => {
    handshakes.push(request)
    socket.on('error', () => undefined)
    const refused = refusal?.(request)
    if (refused !== undefined) return void socket.end(refused)
    server.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on('error', () => undefined)
      webSocket.on('close', (code, reason) => closes.push({ code, reason: String(reason) }))
      webSocket.on('message', (message, isBinary) => webSocket.send(message, { binary: isBinary }))
    })
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    server,
    http,
    handshakes,
    closes,
    refuseWith: (made) => {
      refusal = made
    },
    close: async () => {
      const closed = once(http, 'close')
      http.close()
      for (const connection of connections) connection.destroy()
      await within(5_000, 'the API closes', closed)
    },
  }
}

export interface PageSocket {
  readonly socket: WebSocket
  readonly messages: readonly string[]
  readonly closed: Promise<{ readonly code: number; readonly reason: string; readonly at: number }>
  hasClosed(): boolean
}

export interface PageSocketOptions {
  readonly port: number
  readonly cookie?: string | undefined
  /** Absent where null. */
  readonly origin: string | null
  readonly path?: string
  readonly protocols?: readonly string[]
  readonly headers?: Readonly<Record<string, string>>
}

const socketOf = (options: PageSocketOptions): WebSocket => {
  const { port, cookie, origin, path = '/api/live', protocols = [], headers } = options
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, [...protocols], {
    ...(origin === null ? {} : { origin }),
    headers: {
      host: origin === null ? `localhost:${port}` : new URL(origin).host,
      ...(cookie === undefined ? {} : { cookie }),
      ...headers,
    },
  })
  socket.on('error', () => undefined)
  return socket
}

/** Opens one, as a page of `origin` would. */
export const openPageSocket = async (options: PageSocketOptions): Promise<PageSocket> => {
  const socket = socketOf(options)
  const messages: string[] = []
  let isClosed = false
  socket.on('message', (message) => messages.push(String(message)))
  const closed = new Promise<Awaited<PageSocket['closed']>>((resolve) =>
    socket.on('close', (code, reason) => {
      isClosed = true
      resolve({ code, reason: String(reason), at: performance.now() })
    }),
  )
  const refused = once(socket, 'unexpected-response').then(([, response]) => {
    throw new Error(`the handshake got ${(response as IncomingMessage).statusCode}`)
  })
  refused.catch(() => undefined)
  await within(5_000, 'the WebSocket opens', Promise.race([once(socket, 'open'), refused]))
  return { socket, messages, closed, hasClosed: () => isClosed }
}

export interface Refusal {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
  /** Of a problem document of the gateway. */
  readonly code: string | undefined
}

/** The answer to a handshake that must not succeed. */
export const refusedPageSocket = async (options: PageSocketOptions): Promise<Refusal> => {
  const socket = socketOf(options)
  const opened = once(socket, 'open').then(() => {
    socket.terminate()
    throw new Error('the WebSocket opened')
  })
  opened.catch(() => undefined)
  const [, answer] = await within(
    10_000,
    'the refusal',
    Promise.race([once(socket, 'unexpected-response'), opened]),
  )
  const response = answer as IncomingMessage
  let body = ''
  response.setEncoding('utf8')
  response.on('data', (chunk: string) => {
    body += chunk
  })
  await within(5_000, 'the whole refusal', once(response, 'end'))
  const isProblem = response.headers['content-type'] === 'application/problem+json'
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body,
    code: isProblem ? (JSON.parse(body) as { code?: string }).code : undefined,
  }
}
