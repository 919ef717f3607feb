/** A listening HTTP server: limits on what a client may send, refusals below the routes, and an orderly end. */

import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerOptions,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ErrorCode } from '../../errors.ts'
import { createAnswers } from './answers.ts'
import { problemDocument } from './problem.ts'
import { cutStalled } from './stalled.ts'
import { createTurns } from './turns.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

export type UpgradeListener = (req: IncomingMessage, socket: Duplex, head: Buffer) => void

export interface ListenerOptions {
  readonly listener: RequestListener
  /** WebSocket handshakes; without it they are answered as ordinary requests. */
  readonly upgrade?: UpgradeListener
  readonly address: ListenAddress
  /** Faults that belong to no exchange, and throws that a listener let through. */
  readonly onError: (error: unknown) => void
  /** Told the code of each request that is refused here, before anything has read it. */
  readonly onRefused?: (code: ErrorCode) => void
  readonly limits?: ListenerLimits
  /** Without it plain HTTP is spoken. */
  readonly tls?: ListenerTls
}

/** Certificate, with its chain, and private key, in PEM. */
export interface TlsIdentity {
  readonly cert: string
  readonly key: string
}

export interface ListenerTls {
  readonly identity: {
    readonly current: TlsIdentity
    /** New connections get the new one; those that are open keep the old. */
    subscribe(listener: (identity: TlsIdentity) => void): () => void
  }
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3'
}

export interface ListenerLimits {
  /** From the first byte of a request, or from the connection's start, to the end of its head; a TLS handshake as long. */
  readonly headMs: number
  /** Longer than the 60 s of common load balancers, so that it is they who close an idle connection. */
  readonly keepAliveMs: number
  /** Request line and header lines together. */
  readonly headBytesMax: number
  /** Far below the 2000 beyond which Node drops lines without a word. */
  readonly headerLinesMax: number
  /** How long a client that has its answer may go on sending the body that belongs to it. */
  readonly unreadBodyMs: number
  /** How long a client may take nothing of what is ready for it. */
  readonly stalledMs: number
  /** Asked for each connection with its peer's address; undefined refuses it, else it is told of the end. */
  readonly admitConnection?: (peerAddress: string) => (() => void) | undefined
}

export const LISTENER_LIMITS: ListenerLimits = {
  headMs: 10_000,
  keepAliveMs: 72_000,
  headBytesMax: 32_768,
  headerLinesMax: 256,
  unreadBodyMs: 30_000,
  stalledMs: 60_000,
}

export interface DrainOptions {
  /** How long new connections are still taken, because a load balancer needs time to see the failing readiness. */
  readonly delayMs?: number
  /** From the call on; what is still open then is cut. */
  readonly deadlineMs: number
  /** Called once no new connection is taken: answers without an end of their own must end now. */
  readonly onClosed?: () => void
}

export interface ListeningServer {
  /** As bound: the port is never 0. */
  readonly address: ListenAddress
  /**
   * Lets requests in flight finish, tells every client to close its connection, and resolves when the last one
   * is closed, with the number of those that the deadline cut. A WebSocket that does not end by itself, or by
   * `onClosed`, is cut when no request is left.
   */
  drain(options: DrainOptions): Promise<number>
  /** Cuts everything at once. */
  close(): Promise<void>
}

/** The address can't be had. `code` is the system's word for why, such as `EADDRINUSE`. */
export class ListenError extends Error {
  readonly code: string

  constructor(address: ListenAddress, cause: NodeJS.ErrnoException) {
    const code = cause.code ?? 'UNKNOWN'
    const name = address.host.includes(':') ? `[${address.host}]` : address.host
    super(`cannot listen on ${name}:${address.port}: ${LISTEN_FAULTS[code] ?? code}`, { cause })
    this.name = 'ListenError'
    this.code = code
  }
}

const LISTEN_FAULTS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process uses this port',
  EACCES: 'this user may not use this port',
  EADDRNOTAVAIL: 'this machine does not have this address',
  ENOTFOUND: 'this host name has no address',
}

/** Node looks for overdue heads only so often; its default of 30 s would make 10 s up to 40 s. */
const OVERDUE_CHECK_MS = 1_000
/** How much of an answer may wait for its client before its source is held back. */
const UNSENT_BYTES_MAX = 16 * 1024
/** A client whose machine is gone says nothing: probes end its connection, also on a quiet event stream. */
const TCP_PROBE_AFTER_MS = 60_000
const DRAIN_POLL_MS = 50
/** How long a connection that was to be kept waits for the next request, whose answer says that it ends. */
const DRAIN_PROMISED_MS = 500
/** All clients of a replica that stopped come at once; what the queue does not hold waits for TCP's second try. The system may allow less. */
const BACKLOG = 4_096
/** For WebSockets: longer than a close frame waits for its answer. */
const DRAIN_SOCKETS_MS = 3_000
/** How long a refused client may take to read why, while what it still sends is dropped. */
const LINGER_MS = 1_000

export const startListener = async (options: ListenerOptions): Promise<ListeningServer> => {
  const { upgrade, onError, onRefused, limits = LISTENER_LIMITS } = options
  const inFlight = createAnswers()
  /** With the bytes that had been written to each before its handshake: until there are more, that is a request in flight. */
  const upgraded = new Map<Duplex, number>()
  const turns = createTurns()
  let isDraining = false
  let isClosing = false

  const server = createServer(options.tls, limits, {
    keepAliveTimeout: limits.keepAliveMs,
    headersTimeout: limits.headMs,
    // A body may take as long as it moves: stalled ones are ended where they are read, by the route's limits.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.min(OVERDUE_CHECK_MS, limits.headMs),
    maxHeaderSize: limits.headBytesMax,
    // Checked below with all else that is wrong with a Host: Node's own refusal serves what comes behind it.
    requireHostHeader: false,
    highWaterMark: UNSENT_BYTES_MAX,
    keepAlive: true,
    keepAliveInitialDelay: TCP_PROBE_AFTER_MS,
    // Any other protocol is served as if it had not been asked for (RFC 9110 §7.8). Without this, a client
    // that offers h2c would never be answered.
    shouldUpgradeCallback: (req) =>
      upgrade !== undefined && req.headers.upgrade?.toLowerCase() === 'websocket',
  })

  const connections = followConnections(server)

  server.on('connection', (socket: Socket) => {
    const release = limits.admitConnection?.(socket.remoteAddress ?? '')
    if (release !== undefined) socket.once('close', release)
    else if (limits.admitConnection !== undefined) refuseConnection(socket)
  })
  const refuseConnection = (socket: Socket) => {
    // Nothing can be said before a TLS handshake, which costs more than a whole request.
    if (options.tls !== undefined) return socket.destroy()
    turns.endAfterThose(socket)
    return cut(socket, 429)
  }

  server.once('close', cutStalled(inFlight, limits.stalledMs))

  const serve = guarded(options.listener, onError)
  const refuseSocket = (socket: Duplex, status: number) => {
    // The parser complains again of what follows.
    if (socket.writable) onRefused?.(codeOf(status))
    cut(socket, status)
  }

  const begin = (req: IncomingMessage, res: ServerResponse, fault: number | undefined) => {
    // Each comes once: `once` would wrap and remove the listener for nothing.
    res.on('close', inFlight.add(res))
    res.on('finish', () => endUnread(req, limits.unreadBodyMs))
    if (isDraining) res.shouldKeepAlive = false
    if (fault === undefined) return serve(req, res)
    onRefused?.(codeOf(fault))
    refuse(req, res, fault)
  }
  const take = (req: IncomingMessage, res: ServerResponse, fault: number | undefined) => {
    turns.take(req, res, () => begin(req, res, fault))
    // Node goes on parsing what was sent behind a refused head; served, it would be a smuggled request. Behind an
    // offered protocol it has lost its place: bytes are missing from where a head or a body goes on.
    if (fault !== undefined || req.headers.upgrade !== undefined) turns.endAfterThose(req.socket)
  }

  server.on('request', (req, res) => take(req, res, headFault(req, limits)))

  server.on('checkContinue', (req, res) => {
    continueWhenRead(req, res, () => !isDraining && !turns.isOver(req.socket))
    take(req, res, headFault(req, limits))
  })

  // 100-continue never comes here. What else `Expect` names, nobody here can do.
  server.on('checkExpectation', (req, res) => take(req, res, headFault(req, limits) ?? 417))

  server.on('upgrade', (req, socket, head) => {
    // Behind a request that is still being answered, two answers would share one connection.
    if (turns.isOver(socket) || turns.latest(socket) !== undefined) {
      socket.destroy()
      return
    }
    upgraded.set(socket, bytesWritten(socket))
    socket.once('close', () => upgraded.delete(socket))
    // Node listens no longer, and an unheard 'error' ends the process.
    socket.on('error', () => socket.destroy())
    // No timeout of the server's covers it any more: whoever got a last word must not keep it half open.
    socket.once('finish', () => linger(socket))
    const fault = headFault(req, limits) ?? handshakeFault(req)
    if (fault !== undefined) return refuseSocket(socket, fault)
    if (isClosing || upgrade === undefined) return cut(socket, 503)
    try {
      upgrade(req, socket, head)
    } catch (error) {
      onError(error)
      cut(socket, 500)
    }
  })

  // An upgrade to any protocol that names its own destination is not for a reverse proxy (RFC 9110 §9.3.6).
  server.on('connect', (_req, socket) => {
    socket.on('error', () => socket.destroy())
    if (turns.isOver(socket) || turns.latest(socket) !== undefined) socket.destroy()
    else refuseSocket(socket, 405)
  })

  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const latest = turns.latest(socket)
    // What ends the connection has been said.
    if (turns.isOver(socket) && latest?.writableEnded) return
    // What is wrong stands behind a whole request, whose answer a refusal sent now would seem to be.
    if (error.code !== 'ECONNRESET' && latest?.req.complete) return turns.endAfterThose(socket)
    // Behind the first bytes of an answer, a second status line would be read as part of it.
    const isAnothersTurn = latest !== undefined && (latest.headersSent || latest.socket === null)
    if (saysNothing(error) || isAnothersTurn || turns.isOver(socket)) socket.destroy()
    else refuseSocket(socket, parseFault(error))
  })

  await listen(server, options.address)
  server.on('error', onError)

  const closed = new Promise<void>((resolve) => server.once('close', resolve))
  const cutEverything = () => {
    server.closeAllConnections()
    for (const socket of [...upgraded.keys(), ...connections]) socket.destroy()
  }

  const isShakingHands = () => {
    for (const [socket, before] of upgraded) if (bytesWritten(socket) === before) return true
    return false
  }

  const drain = async ({ delayMs = 0, deadlineMs, onClosed }: DrainOptions): Promise<number> => {
    isDraining = true
    let cutByDeadline = 0
    let keptUntil = 0
    for (const res of inFlight) {
      res.shouldKeepAlive = false
      // Its head has told the client that it may go on with this connection, which it may do at once.
      if (res.headersSent)
        res.once('close', () => {
          keptUntil = performance.now() + DRAIN_PROMISED_MS
        })
    }
    const deadline = setTimeout(() => {
      server.close()
      cutByDeadline = connections.size
      cutEverything()
    }, deadlineMs)
    const stopTaking = setTimeout(
      () => {
        isClosing = true
        server.close()
        onClosed?.()
        cutsSocketsAt = performance.now() + DRAIN_SOCKETS_MS
        endIdle()
      },
      Math.min(delayMs, deadlineMs),
    )
    // `close` ends idle connections once; those that become idle later would stay until they time out.
    let poll: NodeJS.Timeout | undefined
    let cutsSocketsAt = 0
    const endIdle = () => {
      const now = performance.now()
      if (now >= keptUntil) server.closeIdleConnections()
      if (isShakingHands()) cutsSocketsAt = now + DRAIN_SOCKETS_MS
      if (inFlight.size === 0 && now >= cutsSocketsAt)
        for (const socket of upgraded.keys()) socket.destroy()
      poll = setTimeout(endIdle, DRAIN_POLL_MS)
    }
    await closed
    for (const timer of [deadline, stopTaking, poll]) clearTimeout(timer)
    return cutByDeadline
  }

  let draining: Promise<number> | undefined
  return {
    address: boundAddress(server),
    drain: (drainOptions) => {
      draining ??= drain(drainOptions)
      return draining
    },
    close: () => {
      server.close()
      cutEverything()
      return closed
    },
  }
}

const createServer = (
  tls: ListenerTls | undefined,
  { headMs }: ListenerLimits,
  options: ServerOptions,
): Server => {
  if (tls === undefined) return createHttpServer(options)
  const { identity, minVersion } = tls
  const server = createHttpsServer({
    ...options,
    ...identity.current,
    minVersion,
    handshakeTimeout: headMs,
  })
  const unsubscribe = identity.subscribe((renewed) =>
    server.setSecureContext({ ...renewed, minVersion }),
  )
  server.once('close', unsubscribe)
  return server
}

/** Node's types do not tell that both of its servers give sockets. */
const bytesWritten = (socket: Duplex): number => (socket as Socket).bytesWritten

/** No HTTP server knows a connection before its TLS handshake is over, but `close` waits for it. */
const followConnections = (server: Server): ReadonlySet<Socket> => {
  const connections = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
  })
  return connections
}

const listen = (server: Server, address: ListenAddress): Promise<void> =>
  new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException) => reject(new ListenError(address, error))
    server.once('error', fail)
    const host = address.host.replace(/^\[(.*)\]$/, '$1')
    server.listen({ host, port: address.port, backlog: BACKLOG }, () => {
      server.off('error', fail)
      resolve()
    })
  })

const boundAddress = (server: Server): ListenAddress => {
  // A server that listens on a host and port never has the other forms of `address()`.
  const { address, port } = server.address() as AddressInfo
  return { host: address, port }
}

/** The last net: a listener that throws or rejects costs its own exchange, never the process. */
const guarded = (listener: RequestListener, onError: (error: unknown) => void): RequestListener => {
  return async (req, res) => {
    res.on('error', onError)
    try {
      await listener(req, res)
    } catch (error) {
      onError(error)
      if (res.headersSent) res.destroy()
      else refuse(req, res, 500)
    }
  }
}

/**
 * RFC 9110 §10.1.1: 100 goes out when somebody begins to read the body, and never to a request that is refused.
 * What its client does then, send the body or not, nobody can know: its connection ends with the answer.
 */
const continueWhenRead = (
  req: IncomingMessage,
  res: ServerResponse,
  mayKeepAlive: () => boolean,
): void => {
  const { shouldKeepAlive } = res
  const read = req._read
  res.shouldKeepAlive = false
  req._read = (bytes) => {
    // Node reads ahead of what arrives unasked; that is nobody's reading.
    if (req.readableFlowing === true || req.listenerCount('readable') > 0) {
      req._read = read
      if (!res.headersSent && !res.destroyed) {
        res.shouldKeepAlive = shouldKeepAlive && mayKeepAlive()
        res.writeContinue()
      }
    }
    read.call(req, bytes)
  }
}

/** A body that nobody wants any more must end soon: Node drops what comes, for as long as something comes. */
const endUnread = (req: IncomingMessage, limitMs: number): void => {
  if (req.complete) return
  const timer = setTimeout(() => req.socket.destroy(), limitMs)
  req.socket.once('close', () => clearTimeout(timer))
  req.once('end', () => clearTimeout(timer))
}

/** Without user information, percent signs or commas: what a browser can send, and nothing that two parsers split. */
const HOST = /^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$/

/** What Node's parser lets through although RFC 9112 does not, or nobody here can do. */
const headFault = (req: IncomingMessage, limits: ListenerLimits): number | undefined => {
  // It reads HTTP/0.9 and 2.0 as if they were 1.1 (RFC 9110 §15.6.6).
  if (req.httpVersionMajor !== 1) return 505
  return codingFault(req) ?? fieldFault(req, limits)
}

/** RFC 9112 §6.1: HTTP/1.0 knows no codings, and of others than `chunked` we could only lose the name. */
const codingFault = ({ headers, httpVersion }: IncomingMessage): number | undefined => {
  const coding = headers['transfer-encoding']
  if (coding === undefined) return undefined
  if (httpVersion === '1.0') return 400
  return coding.toLowerCase() === 'chunked' ? undefined : 501
}

/** RFC 9112 §3.2. Only HTTP/1.0 knows requests without Host. */
const fieldFault = (req: IncomingMessage, limits: ListenerLimits): number | undefined => {
  const { rawHeaders } = req
  if (rawHeaders.length > limits.headerLinesMax * 2) return 431
  let hosts = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1
  }
  if (hosts === 0) return req.httpVersion === '1.0' ? undefined : 400
  return hosts === 1 && HOST.test(req.headers.host ?? '') ? undefined : 400
}

/** RFC 6455 §4.2.1. A body would be taken for the first frames by whoever reads the spliced connection. */
const handshakeFault = ({ method, headers, httpVersion }: IncomingMessage): number | undefined => {
  if (method !== 'GET' || httpVersion !== '1.1') return 400
  if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') {
    return 400
  }
  if (!/^[A-Za-z0-9+/]{22}==$/.test(headers['sec-websocket-key'] ?? '')) return 400
  return headers['sec-websocket-version'] === '13' ? undefined : 426
}

/** Nobody is there, or no TLS that we speak is spoken: OpenSSL has sent its alert, and nothing else would be read. */
const saysNothing = ({ code = '' }: NodeJS.ErrnoException): boolean =>
  code === 'ECONNRESET' || code.startsWith('ERR_SSL_') || code.startsWith('ERR_TLS_')

const PARSE_FAULTS: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}

const parseFault = (error: NodeJS.ErrnoException & { rawPacket?: Buffer }): number =>
  error.code === 'HPE_HEADER_OVERFLOW' && isOneRequestLine(error.rawPacket)
    ? 414
    : (PARSE_FAULTS[error.code ?? ''] ?? 400)

/** The parser does not say what was too large; a request's beginning that came without any line end does. */
const isOneRequestLine = (packet: Buffer | undefined): boolean =>
  packet !== undefined &&
  !packet.includes('\n') &&
  /^[A-Z]+ \//.test(packet.toString('latin1', 0, 32))

/** What this page refuses, by the status that HTTP has for it. */
const CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'request_invalid',
  405: 'method_not_allowed',
  408: 'request_timeout',
  413: 'body_too_large',
  414: 'url_too_long',
  417: 'expectation_failed',
  426: 'upgrade_required',
  429: 'rate_limited',
  431: 'headers_too_large',
  500: 'internal',
  501: 'coding_not_implemented',
  503: 'gateway_stopping',
  505: 'version_not_supported',
}

const codeOf = (status: number): ErrorCode => CODES[status] ?? 'internal'

/** Without a request id: there may have been no request. */
const problemOf = (status: number): string => `${JSON.stringify(problemDocument(codeOf(status)))}\n`

/** Header fields that the status demands (RFC 9110 §15.5.6, §15.5.22; RFC 6455 §4.4). */
const REFUSAL_HEADERS: Readonly<Record<number, readonly string[]>> = {
  // No method at all can be used on the authority that CONNECT names.
  405: ['allow', ''],
  426: ['upgrade', 'websocket', 'sec-websocket-version', '13'],
  429: ['retry-after', '1'],
  503: ['retry-after', '1'],
}

const refusalHeaders = (status: number, problem: string): string[] => [
  ...(REFUSAL_HEADERS[status] ?? []),
  'cache-control',
  'no-store',
  'content-type',
  'application/problem+json',
  'x-content-type-options',
  'nosniff',
  'content-length',
  String(Buffer.byteLength(problem)),
  'connection',
  'close',
]

/** A request that is refused unread ends its connection: in what follows, another request could hide. */
const refuse = (req: IncomingMessage, res: ServerResponse, status: number): void => {
  if (res.headersSent || res.destroyed) {
    res.destroy()
    return
  }
  req.resume()
  const problem = problemOf(status)
  res.writeHead(status, refusalHeaders(status, problem))
  res.end(problem)
}

/** The same on a raw socket. What still arrives is dropped: unread bytes would turn the answer into a reset. */
const cut = (socket: Duplex, status: number): void => {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const problem = problemOf(status)
  const headers = refusalHeaders(status, problem)
  let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`
  for (let i = 0; i < headers.length; i += 2) head += `${headers[i]}: ${headers[i + 1]}\r\n`
  socket.end(`${head}\r\n${problem}`)
  linger(socket)
}

const linger = (socket: Duplex): void => {
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
}
