/** One connection to an upstream, known to the call that goes by it: who pauses an answer stops the reading as well. */

import type { Socket } from 'node:net'
import { type buildConnector, Client, type Dispatcher } from 'undici'

/** A handler that is told which connection it goes by, each time before anything else. */
export interface ConnectionUser {
  goesBy(connection: UpstreamConnection): void
}

export type ConnectionOptions = Client.Options & { readonly connect: buildConnector.connector }

export class UpstreamConnection extends Client {
  readonly #held: { socket?: Socket | undefined }

  constructor(url: URL | string, options: ConnectionOptions) {
    const held: { socket?: Socket | undefined } = {}
    super(url, {
      ...options,
      connect: (target, callback) =>
        options.connect(target, (...result) => {
          held.socket = result[1] ?? undefined
          callback(...result)
        }),
    })
    this.#held = held
  }

  /** The latest one; undefined before the first. */
  get socket(): Socket | undefined {
    return this.#held.socket
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler & Partial<ConnectionUser>,
  ): boolean {
    handler.goesBy?.(this)
    return super.dispatch(options, handler)
  }
}
