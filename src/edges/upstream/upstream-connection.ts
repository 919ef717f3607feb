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

/** An answer that has come before its connection broke is here already, and is read within one turn or two. */
const ANSWER_READ_MS = 250

interface Held {
  connecting?: Socket | undefined
  socket?: Socket | undefined
  /** The socket whose failed writes wait for its answer. */
  uploadsBy?: Socket | undefined
}

/**
 * Reports a failed write later. An upstream that refuses an upload may close its side before it has read all of it, and
 * the failure of the next write would destroy the socket together with the answer that lies there unread.
 */
const readAnswerFirst = (socket: Socket): void => {
  const later = (callback: WriteCallback) => (error?: Error | null) => {
    if (error) setTimeout(callback, ANSWER_READ_MS, error)
    else callback(error)
  }
  const { _write: write, _writev: writeMany } = socket
  socket._write = (chunk, encoding, callback) =>
    write.call(socket, chunk, encoding, later(callback))
  if (writeMany !== undefined)
    socket._writev = (chunks, callback) => writeMany.call(socket, chunks, later(callback))
}

type WriteCallback = (error?: Error | null) => void

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

  /** A request with a body goes by the socket: an answer before its end is heard, though the upstream reads no further. */
  expectUpload(): void {
    const { socket, uploadsBy } = this.#held
    if (socket === undefined || socket === uploadsBy) return
    this.#held.uploadsBy = socket
    readAnswerFirst(socket)
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
