/** Upstream connections: one undici pool per origin behind the UpstreamDispatch port. */

import type { SecureContext } from 'node:tls'
import type { Dispatcher } from 'undici'
import { buildConnector, type Client, errors, Pool } from 'undici'
import { systemClock } from '../../time.ts'
import type {
  UpstreamCall,
  UpstreamDispatch,
  UpstreamFault,
  UpstreamObserver,
  UpstreamRequest,
} from '../../upstream/forward.ts'
import {
  type Caller,
  createPlaces,
  type PlaceCounts,
  type PlaceLimits,
  type Places,
} from '../../upstream/places.ts'
import { createUpstreamTls, tlsFault, type UpstreamTls } from './tls.ts'
import {
  type ConnectionOptions,
  type ConnectionUser,
  type Connector,
  UpstreamConnection,
} from './upstream-connection.ts'
import { createUpstreamReads, type UpstreamReads } from './upstream-reads.ts'

export interface UpstreamDispatchOptions {
  /** Of each origin, so that one that hangs takes nothing from another. */
  readonly limits?: PlaceLimits
  readonly tls?: UpstreamTls
}

/** More than any one upstream serves well; the bound keeps a hanging one from taking every file descriptor. */
const PLACE_LIMITS: PlaceLimits = { connections: 4096, queue: 1024 }
/** Upstreams close idle connections after 5 s or more (Node 5 s, nginx 75 s); one that says less is believed. */
const KEEP_ALIVE_MS = 4_000
const KEEP_ALIVE_MAX_MS = 60_000
const RESPONSE_HEADER_BYTES_MAX = 65_536

export type ClosableDispatch = UpstreamDispatch & {
  /** Of each origin that was called so far. */
  counts(): ReadonlyMap<string, PlaceCounts>
  /** Ends every connection, with the calls on them. */
  close(): Promise<void>
}

export const createUpstreamDispatch = (options: UpstreamDispatchOptions = {}): ClosableDispatch => {
  const { limits = PLACE_LIMITS, tls = createUpstreamTls() } = options
  const upstreams = new Map<string, Upstream>()
  const reads = createUpstreamReads()

  const dispatch: UpstreamDispatch = (request, observer) => {
    let upstream = upstreams.get(request.origin)
    if (upstream === undefined) {
      upstream = createUpstream(request.origin, limits, { tls, reads })
      upstreams.set(request.origin, upstream)
    }
    const call = new Call(upstream, observer, request)
    call.enter()
    return call
  }
  const close = async () => {
    const clients = [...upstreams.values()].flatMap(({ pool, singles }) => [pool, ...singles])
    upstreams.clear()
    await Promise.all(clients.map((client) => client.destroy()))
  }
  const counts = () =>
    new Map([...upstreams].map(([origin, { places }]) => [origin, places.counts()]))
  return Object.assign(dispatch, { counts, close })
}

interface Upstream {
  readonly pool: Pool
  /** A connection for one call alone. */
  readonly connectOnce: () => Client
  /** Those that are open. */
  readonly singles: Set<Client>
  /** Names the TLS peer; always the configured host, also where `Host` is the public one. */
  readonly servername: string
  readonly places: Places
  readonly reads: UpstreamReads
}

/** What connections to all origins have in common. */
interface Ways {
  readonly tls: UpstreamTls
  readonly reads: UpstreamReads
}

const createUpstream = (origin: string, limits: PlaceLimits, { tls, reads }: Ways): Upstream => {
  const { protocol, hostname } = new URL(origin)
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  // undici would take the TLS name from the Host header, which a route with preserveHost sets to the public host.
  const servername = tls.serverName(host)
  const connect = protocol === 'https:' ? connectByTls(tls, reads) : connectorWith(reads, undefined)
  const options: ConnectionOptions = {
    // HTTP/2 is undici's default and gives raw headers in another form, as an object.
    allowH2: false,
    connect: (target, callback) => connect({ ...target, servername }, callback),
    keepAliveTimeout: KEEP_ALIVE_MS,
    keepAliveMaxTimeout: KEEP_ALIVE_MAX_MS,
    maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    // Limits are kept per call, below: undici's cover neither the wait for a connection nor a stalled upload.
    headersTimeout: 0,
    bodyTimeout: 0,
  }
  return {
    // Without a limit of its own: places are the limit, and a call in the pool's queue has no connection to give up.
    pool: new Pool(origin, {
      ...options,
      factory: (url, given) => new UpstreamConnection(url, given as ConnectionOptions),
    }),
    connectOnce: () => new UpstreamConnection(origin, options),
    singles: new Set(),
    servername,
    places: createPlaces(limits),
    reads,
  }
}

const connectorWith = (reads: UpstreamReads, secureContext: SecureContext | undefined) =>
  buildConnector({
    allowH2: false,
    // Whoever waits for it has a limit, and ends the attempt with it.
    timeout: 0,
    onread: reads.onread,
    ...(secureContext === undefined ? {} : { secureContext }),
  }) as Connector

/** Made anew with each context: the connector remembers sessions, and a resumed one is not verified again. */
const connectByTls = (tls: UpstreamTls, reads: UpstreamReads): Connector => {
  let context = tls.context()
  let connect = connectorWith(reads, context)
  return (target, callback) => {
    const now = tls.context()
    if (now !== context) {
      context = now
      connect = connectorWith(reads, context)
    }
    return connect(target, callback)
  }
}

type Limit = 'queue' | 'connect' | 'first_byte' | 'idle'

class Call implements UpstreamCall, Caller, ConnectionUser, Dispatcher.DispatchHandler {
  readonly #upstream: Upstream
  readonly #observer: UpstreamObserver
  readonly #request: UpstreamRequest
  #controller: Dispatcher.DispatchController | undefined
  #single: Client | undefined
  #connection: UpstreamConnection | undefined
  #timer: NodeJS.Timeout | undefined
  /** When the timer comes, and when the limit is met: never, where there is none. */
  #firesAtMs = Number.POSITIVE_INFINITY
  #dueAtMs = Number.POSITIVE_INFINITY
  #limit: Limit = 'queue'
  #limitMs = 0
  #total: NodeJS.Timeout | undefined
  #hasPlace = false
  #isAnswered = false
  #isPaused = false
  #isOver = false

  constructor(upstream: Upstream, observer: UpstreamObserver, request: UpstreamRequest) {
    this.#upstream = upstream
    this.#observer = observer
    this.#request = request
  }

  /** Takes a place, waits for one, or is refused. */
  enter(): void {
    const { endsAtMs, timeouts } = this.#request
    if (endsAtMs !== undefined) {
      const leftMs = Math.max(1, endsAtMs - systemClock.monotonicMs())
      this.#total = setTimeout(() => this.#onTimeout('total'), leftMs)
    }
    const place = this.#upstream.places.ask(this, this.#request.isAgain)
    if (place === 'taken') this.start()
    // As long as for the connection itself: to the client it is the same wait.
    else if (place === 'waits') this.#arm('queue', timeouts.connectMs)
    else this.fail({ kind: 'busy', reason: 'queue_full' })
  }

  start(): void {
    const request = this.#request
    this.#hasPlace = true
    this.#arm('connect', request.timeouts.connectMs)
    const options: Dispatcher.DispatchOptions & { servername: string } = {
      path: request.path,
      method: request.method,
      headers: request.headers as string[],
      body: request.body,
      servername: this.#upstream.servername,
    }
    if (request.connection === 'any') {
      this.#upstream.pool.dispatch(options, this)
      return
    }
    this.#single = this.#upstream.connectOnce()
    this.#upstream.singles.add(this.#single)
    this.#single.dispatch({ ...options, reset: true }, this)
  }

  goesBy(connection: UpstreamConnection): void {
    this.#connection = connection
  }

  pause(): void {
    // Another call may go by the connection already, and nobody would resume that one.
    if (this.#isOver) return
    this.#holdBack(true)
    this.#moveOn()
    this.#controller?.pause()
    // undici parses no further now, but it would go on reading.
    this.#connection?.socket?.pause()
  }

  resume(): void {
    if (this.#isOver) return
    this.#holdBack(false)
    this.#moveOn()
    this.#connection?.socket?.resume()
    this.#controller?.resume()
  }

  abort(): void {
    if (this.#isOver) return
    this.#end()
    if (this.#controller === undefined) this.#connection?.stopConnecting()
    else this.#controller.abort(new Error('the call was ended'))
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // The call ended while it waited for its connection, which has no other way to be told.
    if (this.#isOver) {
      controller.abort(new Error('the call was ended'))
      return
    }
    this.#controller = controller
    if (this.#request.body !== null) this.#connection?.expectUpload()
    this.#arm('first_byte', this.#request.timeouts.firstByteMs)
  }

  /** An upload that moves keeps its call alive; one that stalls is cut like an answer that does not come. */
  onBodySent(): void {
    if (!this.#isOver) this.#moveOn()
  }

  onResponseStarted(): void {
    this.#isAnswered = true
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200 || this.#isOver) return
    this.#arm('idle', this.#request.timeouts.idleMs)
    const rawHeaders = asText(controller.rawHeaders)
    // Its buffers are parts of the first portion, and would keep that for as long as the answer takes.
    controller.rawHeaders = null
    this.#observer.onHead(status, rawHeaders)
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    // undici flushes its parser as it resumes, which may give an empty chunk: a reader that paused at that as well would
    // stop the connection before anything could come by it.
    if (this.#isOver || chunk.length === 0) return
    this.#moveOn()
    this.#observer.onChunk(chunk)
  }

  onResponseEnd(): void {
    if (this.#isOver) return
    this.#end()
    this.#observer.onEnd()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.fail(faultOf(error, this.#controller !== undefined, this.#isAnswered))
  }

  /** Later, because undici refuses a malformed request before `dispatch` has returned. */
  fail(fault: UpstreamFault): void {
    queueMicrotask(() => {
      if (this.#isOver) return
      this.#end()
      this.#observer.onFault(fault)
    })
  }

  #arm(limit: Limit, durationMs: number): void {
    this.#limit = limit
    this.#limitMs = durationMs
    this.#moveOn()
  }

  /**
   * Limits are moved on several times in each call and hardly ever met: a timer that runs is left alone unless it would
   * come too late, and looks at the time itself when it comes too early.
   */
  #moveOn(): void {
    // While it is paused the upstream cannot but be silent.
    const isLimited = this.#limitMs > 0 && !this.#isPaused
    this.#dueAtMs = isLimited ? systemClock.monotonicMs() + this.#limitMs : Number.POSITIVE_INFINITY
    if (this.#dueAtMs < this.#firesAtMs) this.#setTimer(this.#limitMs)
  }

  #setTimer(afterMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(this.#onTimer, afterMs)
    this.#firesAtMs = this.#dueAtMs
  }

  readonly #onTimer = (): void => {
    this.#firesAtMs = Number.POSITIVE_INFINITY
    const leftMs = this.#dueAtMs - systemClock.monotonicMs()
    // A timer may be early by the part of a millisecond.
    if (leftMs < 1) this.#onTimeout(this.#limit)
    else if (leftMs < Number.POSITIVE_INFINITY) this.#setTimer(leftMs)
  }

  #onTimeout(limit: Limit | 'total'): void {
    this.abort()
    this.#observer.onFault(
      limit === 'queue'
        ? { kind: 'busy', reason: 'queue_timeout' }
        : { kind: 'timeout', reason: limit },
    )
  }

  #holdBack(isPaused: boolean): void {
    if (isPaused === this.#isPaused) return
    this.#isPaused = isPaused
    this.#upstream.reads.countHeld(isPaused ? 1 : -1)
  }

  #end(): void {
    this.#isOver = true
    this.#holdBack(false)
    clearTimeout(this.#timer)
    clearTimeout(this.#total)
    const single = this.#single
    if (single !== undefined) {
      // In order: it waits for the call that is just ending, also for one that has no connection yet.
      const forget = () => this.#upstream.singles.delete(single)
      // It fails only where the whole dispatcher was closed first.
      single.close().then(forget, forget)
    }
    if (this.#hasPlace) this.#upstream.places.leave()
    else this.#upstream.places.giveUp(this)
  }
}

/** Bytes to latin1 and back lose nothing; undici parses them as UTF-8 only for the object that is not used here. */
const asText = (rawHeaders: Dispatcher.DispatchController['rawHeaders']): string[] =>
  (rawHeaders as Buffer[]).map((field) => field.toString('latin1'))

const refused = (reason: string, cause: unknown, unanswered = false): UpstreamFault => ({
  kind: 'unreachable',
  reason,
  cause,
  unanswered,
})

const UNSENDABLE = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection_refused',
  ENOTFOUND: 'name_not_resolved',
  EAI_AGAIN: 'name_not_resolved',
  EHOSTUNREACH: 'no_route_to_host',
  ENETUNREACH: 'no_route_to_host',
  UND_ERR_HEADERS_OVERFLOW: 'response_headers_too_large',
  // Of an answer that has no head yet: a length beside a coding, two lengths.
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'response_malformed',
}

const faultOf = (error: Error, isStarted: boolean, isAnswered: boolean): UpstreamFault => {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (UNSENDABLE.has(code)) return { kind: 'unsendable', cause: error }
  const reason = REASONS[code]
  if (reason !== undefined) return refused(reason, error)
  const ofTls = tlsFault(code)
  if (ofTls !== undefined) return refused(ofTls, error)
  // Without a beginning it is what the answer before this call left on the connection.
  if (error instanceof errors.HTTPParserError)
    return refused('response_malformed', error, !isAnswered)
  if (!isStarted) return refused('connection_failed', error)
  return refused('connection_lost', error, !isAnswered)
}
