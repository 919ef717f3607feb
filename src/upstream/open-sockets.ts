/** The WebSockets of this process, from their handshake on: how many a session has, how long they live, and who ends them. */

import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { Route } from '../routing/route-table.ts'
import { activityIsDue, type SessionDigest } from '../session/session.ts'
import type { SessionWatch, WatchedEnd } from '../session/session-watch.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import { type Clock, milliseconds, type Seconds } from '../time.ts'
import type { FrameKind } from './frames.ts'
import type { OpenSocket, SocketObserver } from './web-socket.ts'

export interface OpenSockets {
  /**
   * A place for one, from before its upstream is dialled, so that handshakes count and a session that ends meanwhile is
   * seen. Throws `too_many_web_sockets`.
   */
  take(visitor: SocketVisitor): SocketPlace
  /** Closes all of them, and every later one as soon as it opens: their pages come back, to another replica. */
  goAway(): void
}

export interface SocketVisitor {
  readonly requestId: string
  readonly route: Pick<Route, 'id' | 'webSockets'>
  /** Undefined where the route takes anyone. */
  readonly session: OpenSession | undefined
}

export interface SocketPlace {
  /** Why the session is over, if it is. */
  sessionEnd(): WatchedEnd | undefined
  /** Joins the two ends, by whoever can. */
  open(join: (observer: SocketObserver) => OpenSocket): void
  /** Nothing was opened. */
  leave(): void
}

export interface OpenSocketsDependencies {
  readonly vault: Pick<Vault, 'touch'>
  readonly watch: SessionWatch
  readonly clock: Clock
  /** Of sessions. */
  readonly idle: Seconds
  readonly perSessionMax: number
  readonly emit: Emit
}

/** What the gateway closes with: docs/web-sockets.md. A client that hears 1001 comes back by itself. */
const GOING_AWAY = 1001
const SESSION_ENDED = 4401

/** How often the limits of all sockets are looked at: none of them has a timer. */
const TURN_MS = 500

interface Held {
  open: OpenSession
  readonly places: Set<Place>
  end: WatchedEnd | undefined
  stopWatching: () => void
}

export const createOpenSockets = (dependencies: OpenSocketsDependencies): OpenSockets => {
  const { vault, watch, clock, idle, perSessionMax, emit } = dependencies
  const opened = new Set<Place>()
  const bySession = new Map<SessionDigest, Held>()
  let isTurning = false
  let isGoingAway = false

  const hold = (session: OpenSession): Held => {
    const { digest } = session.ticket
    const known = bySession.get(digest)
    if (known !== undefined) return known
    const held: Held = { open: session, places: new Set(), end: undefined, stopWatching: () => {} }
    bySession.set(digest, held)
    held.stopWatching = watch.watch(session, {
      lives: (open) => {
        held.open = open
      },
      ended: (reason) => {
        held.end = reason
        if (bySession.get(digest) === held) bySession.delete(digest)
        for (const place of held.places) place.close(SESSION_ENDED, reason, 'session_ended')
      },
    })
    return held
  }

  const release = (place: Place) => {
    opened.delete(place)
    const { held } = place
    if (held === undefined || !held.places.delete(place) || held.places.size > 0) return
    held.stopWatching()
    const { digest } = held.open.ticket
    if (bySession.get(digest) === held) bySession.delete(digest)
  }

  /** Messages of the client are calls of the API; heartbeats, and what the upstream says, are not. */
  const noteActivity = (held: Held) => {
    const now = clock.now()
    if (!activityIsDue(held.open.lastActivityAt, idle, now)) return
    vault.touch(held.open)
    held.open = { ...held.open, lastActivityAt: now }
  }

  /** One loop for all of them: a timer for each would cost more than what it keeps. */
  const turn = async (): Promise<void> => {
    isTurning = true
    while (opened.size > 0) {
      await clock.sleep(milliseconds(TURN_MS))
      const now = clock.monotonicMs()
      for (const place of opened) place.keepLimits(now)
    }
    isTurning = false
  }

  return {
    take: (visitor) => {
      const held = visitor.session === undefined ? undefined : hold(visitor.session)
      if (held !== undefined && held.places.size >= perSessionMax)
        throw new GatewayError('too_many_web_sockets', { reason: 'per_session' })
      const place = new Place(visitor, held, { clock, emit, release, noteActivity })
      held?.places.add(place)
      return {
        sessionEnd: () => held?.end,
        open: (join) => {
          opened.add(place)
          place.open(join)
          if (isGoingAway) place.close(GOING_AWAY, 'going away', 'drain')
          if (!isTurning) void turn()
        },
        leave: () => release(place),
      }
    },

    goAway: () => {
      isGoingAway = true
      for (const place of opened) place.close(GOING_AWAY, 'going away', 'drain')
    },
  }
}

type ClosedBy = 'client' | 'upstream' | 'session_ended' | 'drain' | 'idle' | 'lifetime'

interface Surroundings {
  readonly clock: Clock
  readonly emit: Emit
  readonly release: (place: Place) => void
  readonly noteActivity: (held: Held) => void
}

class Place implements SocketObserver {
  readonly held: Held | undefined
  readonly #requestId: string
  readonly #route: SocketVisitor['route']
  readonly #surroundings: Surroundings
  #socket: OpenSocket | undefined
  #openedAtMs = 0
  #heardAtMs = 0
  #wasHeard = false
  #closedBy: ClosedBy | undefined

  constructor({ requestId, route }: SocketVisitor, held: Held | undefined, around: Surroundings) {
    this.held = held
    this.#requestId = requestId
    this.#route = route
    this.#surroundings = around
  }

  open(join: (observer: SocketObserver) => OpenSocket): void {
    const { clock, emit } = this.#surroundings
    this.#openedAtMs = clock.monotonicMs()
    this.#heardAtMs = this.#openedAtMs
    emit({ type: 'web_socket_opened', requestId: this.#requestId, route: this.#route.id })
    this.#socket = join(this)
  }

  close(code: number, reason: string, by: ClosedBy): void {
    if (this.#socket === undefined) return
    this.#closedBy ??= by
    this.#socket.close(code, reason)
  }

  /** Any frame in either direction keeps a socket from being idle, a heartbeat too. */
  keepLimits(now: number): void {
    if (this.#wasHeard) this.#heardAtMs = now
    this.#wasHeard = false
    const { idle, lifetime } = this.#route.webSockets
    if (lifetime > 0 && now - this.#openedAtMs >= lifetime)
      this.close(GOING_AWAY, 'lifetime', 'lifetime')
    else if (idle > 0 && now - this.#heardAtMs >= idle) this.close(GOING_AWAY, 'idle', 'idle')
  }

  fromClient(frame: FrameKind): void {
    this.#wasHeard = true
    if (frame === 'message' && this.held !== undefined) this.#surroundings.noteActivity(this.held)
  }

  fromUpstream(): void {
    this.#wasHeard = true
  }

  ended(by: 'client' | 'upstream' | 'gateway'): void {
    const { clock, emit, release } = this.#surroundings
    release(this)
    emit({
      type: 'web_socket_closed',
      requestId: this.#requestId,
      route: this.#route.id,
      reason: by === 'gateway' ? (this.#closedBy ?? 'drain') : by,
      durationMs: Math.round(clock.monotonicMs() - this.#openedAtMs),
    })
  }
}
