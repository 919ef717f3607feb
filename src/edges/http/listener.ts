/** Interim listener. */
import { once } from 'node:events'
import http, { type IncomingMessage, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'

export interface ListeningServer {
  readonly address: { readonly host: string; readonly port: number }
  drain(limits: { delayMs?: number; deadlineMs: number }): Promise<void>
  close(): Promise<void>
}

export const startListener = async (options: {
  listener: RequestListener
  upgrade?: (req: IncomingMessage, socket: Duplex, head: Buffer) => void
  address: { host: string; port: number }
  onError?: (error: unknown) => void
}): Promise<ListeningServer> => {
  const server = http.createServer({ maxHeaderSize: 32_768 }, options.listener)
  if (options.upgrade !== undefined) server.on('upgrade', options.upgrade)
  server.listen(options.address.port, options.address.host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = async () => {
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return { address: { host: options.address.host, port }, drain: close, close }
}
