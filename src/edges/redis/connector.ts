/** Sockets for the clients: to a server that is looked up first, with the cause of a failure passed on. */

import { connect as connectPlainly, type Socket } from 'node:net'
import { connect as connectByTls } from 'node:tls'
import { AbstractConnector } from 'ioredis'
import type { RedisHost, TlsOptions } from './address.ts'

interface ConnectorOptions {
  readonly tls: TlsOptions | undefined
  readonly disconnectTimeout: number
  /** The server to connect to; `configured` is what the client was made with. */
  readonly find: (configured: RedisHost) => RedisHost | Promise<RedisHost>
  readonly onError?: (error: Error) => void
}

export type Connector = new (configured: unknown) => AbstractConnector

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
      const { host, port } = await find(this.#configured)
      if (!this.connecting) throw new Error('the connection was given up')
      const stream =
        tls === undefined ? connectPlainly({ host, port }) : connectByTls({ host, port, ...tls })
      stream.once('error', (error) => {
        this.firstError = error
        onError?.(error)
      })
      this.stream = stream
      return stream
    }
  }
