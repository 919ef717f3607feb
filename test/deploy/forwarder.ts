/** Hands TCP connections of one loopback port on to another, and remembers which HTTP requests went through. */

import { connect, createServer, type Socket } from 'node:net'

export interface Forwarder {
  /** Method and target of every request seen so far, e.g. `GET /realms/coatcheck`. */
  readonly requests: readonly string[]
  close(): Promise<void>
}

const REQUEST_LINE = /^([A-Z]+ \S+) HTTP\/1\.1\r$/gm

export const startForwarder = async (fromPort: number, toPort: number): Promise<Forwarder> => {
  const requests: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((browser) => {
    const provider = connect(toPort, '127.0.0.1')
    for (const socket of [browser, provider]) {
      sockets.add(socket)
      socket.once('close', () => {
        sockets.delete(socket)
        browser.destroy()
        provider.destroy()
      })
      // `close` follows each error and ends both sides.
      socket.on('error', () => {})
    }
    browser.on('data', (chunk) => {
      for (const [, request = ''] of chunk.toString('latin1').matchAll(REQUEST_LINE)) {
        requests.push(request)
      }
    })
    browser.pipe(provider)
    provider.pipe(browser)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(fromPort, '127.0.0.1', resolve)
  })
  return {
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
