/** Sockets for the clients: to a server that may be looked up first, and whose every failure is heard. */

import { connect as connectPlainly, type Socket } from 'node:net'
import { connect as connectByTls } from 'node:tls'
import { AbstractConnector } from 'ioredis'
import type { RedisHost, TlsOptions } from './address.ts'

interface ConnectorOptions {
  readonly tls: TlsOptions | undefined
  readonly disconnectTimeout: number
  /** The server to connect to, where it is not the one that the client was made with. */
  readonly find?: () => Promise<RedisHost>
  readonly onError?: (error: Error) => void
}

export type Connector = new (configured: unknown) => AbstractConnector

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
      this.stream = stream
      return stream
    }
  }
