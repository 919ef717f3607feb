/** Plain sockets where a well-behaved HTTP library would not do what the test needs. */

import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { waitFor, within } from '../../support/wait.ts'

export interface RawConnection {
  readonly socket: Socket
  /** Everything received so far, as latin1. */
  received(): string
  /** The whole text once the pattern occurs in what was received. */
  receives(pattern: string | RegExp): Promise<string>
  readonly closed: Promise<void>
}

const rawConnection = (socket: Socket): RawConnection => {
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return {
    socket,
    received: () => received,
    receives: (pattern) =>
      waitFor(
        `the socket receives ${pattern}`,
        () => (received.search(pattern) === -1 ? undefined : received),
        { intervalMs: 5 },
      ),
    closed,
  }
}

/** A client that writes exactly these bytes. */
export const rawClient = async (port: number, bytes: string): Promise<RawConnection> => {
  const socket = connect({ port, host: '127.0.0.1' })
  const connection = rawConnection(socket)
  await within(2_000, 'the client connects', once(socket, 'connect'))
  socket.write(bytes, 'latin1')
  return connection
}

/** Writes the bytes and gives what came until the server closed; the request must ask for that. */
export const rawExchange = async (port: number, bytes: string): Promise<string> => {
  const client = await rawClient(port, bytes)
  await within(5_000, `an answer and its end to ${bytes.slice(0, 80)}`, client.closed)
  return client.received()
}

export interface RawUpstream {
  readonly url: string
  readonly port: number
  readonly connections: readonly RawConnection[]
  close(): Promise<void>
}

/** An upstream that answers with exactly these bytes, or not at all. */
export const startRawUpstream = async (
  script: (connection: RawConnection, index: number) => unknown,
): Promise<RawUpstream> => {
  const connections: RawConnection[] = []
  const server = createServer((socket) => {
    const connection = rawConnection(socket)
    connections.push(connection)
    Promise.resolve(script(connection, connections.length - 1)).catch((error: unknown) => {
      console.error('the scripted upstream failed:', error)
      socket.destroy()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    connections,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const { socket } of connections) socket.destroy()
      await within(5_000, 'the raw upstream closes', closed)
    },
  }
}
