/** Sockets for the clients: to a server that may be looked up first, and whose every failure is heard. */

import { connect as connectPlainly, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectByTls } from 'node:tls'
import { AbstractConnector } from 'ioredis'
import type { RedisHost } from './address.ts'

interface ConnectorOptions {
  readonly tls: ConnectionOptions | undefined
  readonly disconnectTimeout: number
  /** The server to connect to, where it is not the one that the client was made with. */
  readonly find?: () => Promise<RedisHost>
  readonly onError?: (error: Error) => void
}

export type Connector = new (configured: unknown) => AbstractConnector

const destinations = new WeakMap<object, RedisHost>()

/** Where a socket of a connector was made to; undefined for any other. */
export const destinationOf = (stream: object | undefined): RedisHost | undefined =>
  stream === undefined ? undefined : destinations.get(stream)

/**
 * The client's own connector hears the first error of a socket alone. TLS can have two (the certificate is refused,
 * then the server's alert comes), and one that nobody hears ends the process (observed, ioredis 6.0, Node 24).
 */
export const createConnector = ({
  tls,
  disconnectTimeout,
  find,
  onError,
}: ConnectorOptions): Connector =>
  class extends AbstractConnector {
    readonly #configured: RedisHost

    constructor(configured: unknown) {
      super(disconnectTimeout)
      this.#configured = configured as RedisHost
    }

    async connect(): Promise<Socket> {
      this.connecting = true
      const { host, port } = (await find?.()) ?? this.#configured
      if (!this.connecting) throw new Error('the connection was given up')
      const stream =
        tls === undefined ? connectPlainly({ host, port }) : connectByTls({ host, port, ...tls })
      stream.on('error', (error) => {
        this.firstError = error
        onError?.(error)
      })
      destinations.set(stream, { host, port })
      this.stream = stream
      return stream
    }
  }
