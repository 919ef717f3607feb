/** One connection to an upstream, known to the call that goes by it: who pauses an answer stops the reading as well. */

import type { Socket } from 'node:net'
import { type buildConnector, Client, type Dispatcher } from 'undici'

/** A handler that is told which connection it goes by, each time before anything else. */
export interface ConnectionUser {
  goesBy(connection: UpstreamConnection): void
}

/** As undici's connectors are: they give the socket at once, and call back when it is connected. */
export type Connector = (
  target: buildConnector.Options,
  callback: buildConnector.Callback,
) => Socket

export type ConnectionOptions = Omit<Client.Options, 'connect'> & { readonly connect: Connector }

interface Held {
  connecting?: Socket | undefined
  socket?: Socket | undefined
}

export class UpstreamConnection extends Client {
  readonly #held: Held

  constructor(url: URL | string, options: ConnectionOptions) {
    const held: Held = {}
    super(url, {
      ...options,
      connect: (target, callback) => {
        held.connecting = options.connect(target, (...result) => {
          held.connecting = undefined
          held.socket = result[1] ?? undefined
          callback(...result)
        })
      },
    })
    this.#held = held
  }

  /** The latest one; undefined before the first. */
  get socket(): Socket | undefined {
    return this.#held.socket
  }

  /**
   * Ends an attempt to connect. Left alone it would go on for minutes where nothing answers, and the pool would have
   * one connection less for as long.
   */
  stopConnecting(): void {
    this.#held.connecting?.destroy(new Error('nobody waits for it any more'))
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler & Partial<ConnectionUser>,
  ): boolean {
    handler.goesBy?.(this)
    return super.dispatch(options, handler)
  }
}
