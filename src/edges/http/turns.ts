/**
 * Turns on a connection: of pipelined requests one at a time is served, in their order. An answer may end its
 * connection, and nothing behind it may then have been acted on (RFC 9112 §9.6); nor may one connection have any
 * number of calls at work.
 */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

export interface Turns {
  /** `serve` is called when every earlier answer is complete; never, where one of them ended the connection. */
  take(req: IncomingMessage, res: ServerResponse, serve: () => void): void
  /** Nothing that still comes is served: the last request that was taken gets its answer, and with it the connection ends. */
  endAfterThose(socket: Duplex): void
  /** The latest request of which something is still to come: of its body or of its answer. */
  latest(socket: Duplex): ServerResponse | undefined
  /** The connection is over for requests. */
  isOver(socket: Duplex): boolean
}

/** Further ones are left to the client, which sends them again on another connection (RFC 9112 §9.3.2). */
const WAITING_MAX = 32

interface Connection {
  readonly waiting: (() => void)[]
  latest: ServerResponse | undefined
  isServing: boolean
  isOver: boolean
}

export const createTurns = (): Turns => {
  const connections = new WeakMap<Duplex, Connection>()

  const of = (socket: Duplex): Connection => {
    let connection = connections.get(socket)
    if (connection === undefined) {
      connection = { waiting: [], latest: undefined, isServing: false, isOver: false }
      connections.set(socket, connection)
    }
    return connection
  }

  const begin = (connection: Connection, res: ServerResponse, serve: () => void) => {
    const { socket } = res.req
    connection.isServing = true
    res.on('close', () => {
      connection.isServing = false
      // One that was answered before its body was whole stays: what is wrong with that body is no new request.
      if (connection.latest === res && res.req.complete) connection.latest = undefined
      if (socket.writable) connection.waiting.shift()?.()
      else connection.waiting.length = 0
    })
    serve()
  }

  const end = (connection: Connection, socket: Socket) => {
    const { latest } = connection
    if (connection.isOver) return
    connection.isOver = true
    if (latest === undefined) return
    latest.shouldKeepAlive = false
    // Where its head was on its way already, the client learns it from the connection.
    latest.once('close', () => socket.destroySoon())
  }

  return {
    take: (req, res, serve) => {
      const connection = of(req.socket)
      // No longer writable: an answer that was sent before this request was read has ended the connection.
      if (connection.isOver || !req.socket.writable) return
      connection.latest = res
      if (!connection.isServing) return begin(connection, res, serve)
      connection.waiting.push(() => begin(connection, res, serve))
      if (connection.waiting.length >= WAITING_MAX) end(connection, req.socket)
    },
    endAfterThose: (socket) => end(of(socket), socket as Socket),
    latest: (socket) => connections.get(socket)?.latest,
    isOver: (socket) => connections.get(socket)?.isOver === true,
  }
}
