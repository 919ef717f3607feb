/**
 * The session as all tabs of an application see it. One of them, elected by a Web Lock, holds the event stream, since
 * six streams over HTTP/1.1 would freeze every tab of the origin; a BroadcastChannel tells the others.
 */

import { attempt } from './calls.ts'
import { asProblem } from './problem.ts'
import {
  isSameSession,
  LOADING,
  type Loading,
  type SessionState,
  type SignedIn,
  secondsFromNow,
  stateIn,
  type User,
} from './session-state.ts'

export type Listener = (state: SessionState) => void

export interface SharedSession {
  readonly state: SessionState | Loading
  /** Asks the session endpoint. With `afresh`, an answer that is under way already is not good enough. */
  read(afresh?: 'afresh'): Promise<SessionState>
  /** What this page knows by itself, for the other tabs too. */
  tell(state: SessionState): void
  subscribe(listener: Listener): () => void
  close(): void
}

const ANSWER_MS = 10_000
/** Where no event stream tells. */
const POLL_SECONDS = 30
const RETRY_SECONDS = 5
/** News that contradict the answer each time: the last one stands, and what comes next corrects it. */
const ROUNDS_MAX = 3

const CLOSED = 2

/** `name` is that of the lock and the channel. */
export const createSharedSession = (
  name: string,
  address: string,
  events: string | false,
): SharedSession => {
  const listeners = new Set<Listener>()
  const rank = Math.random()
  const over = new AbortController()
  let state: SessionState | Loading = LOADING
  let reading: Promise<SessionState> | undefined
  /** What came in while an answer was under way, and may contradict it. */
  let doubt: SessionState | 'afresh' | undefined
  let channel: BroadcastChannel | undefined
  /** False while nobody follows the session, and while the page is out of sight for good. */
  let isFollowing = false
  /** Undefined while there is nothing to lead. */
  let candidacy: AbortController | undefined
  let source: EventSource | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const show = (next: SessionState): void => {
    doubt = next
    state = next
    leadOrNot()
    schedule()
    for (const listener of [...listeners]) listener(next)
  }

  const tell = (next: SessionState): void => {
    channel?.postMessage(next)
    show(next)
  }

  const read = (afresh?: 'afresh'): Promise<SessionState> => {
    if (afresh) doubt = afresh
    reading ??= readUndoubted().finally(() => {
      reading = undefined
    })
    return reading
  }

  const readUndoubted = async (): Promise<SessionState> => {
    const before = state
    let next: SessionState
    let rounds = 0
    do {
      doubt = undefined
      next = await ask(address, state.user)
      rounds += 1
    } while (isDoubted(next) && rounds < ROUNDS_MAX)
    // That endpoint cannot say why; an event has.
    if (state.status === 'signed-out' && next.status === 'signed-out') next = state
    // What every tab finds out by itself is no news to the others, or eight tabs would go on telling each other.
    if (next.status !== 'unavailable' && !isSameSession(before, next)) tell(next)
    else show(next)
    return next
  }

  const isDoubted = (next: SessionState): boolean =>
    doubt !== undefined && (doubt === 'afresh' || !isSameSession(doubt, next))

  const change = (changes: Partial<SignedIn>): void => {
    if (state.status === 'signed-in') tell({ ...state, ...changes })
  }

  const readForAll = async (): Promise<void> => {
    const next = await read('afresh')
    if (next.status !== 'unavailable') channel?.postMessage(next)
  }

  const leadOrNot = (): void => {
    if (state.status === 'signed-out') resign()
    else if (state.status === 'signed-in' && isFollowing) runForLead()
  }

  const runForLead = (): void => {
    if (candidacy || !events) return
    candidacy = new AbortController()
    const { signal } = candidacy
    navigator.locks
      ?.request(name, { signal }, () => lead(events, signal))
      // No longer wanted before it was granted.
      .catch(() => {})
  }

  /** Holds the lock until this page resigns. */
  const lead = (url: string, signal: AbortSignal): Promise<void> | undefined => {
    if (signal.aborted) return
    source = listen(url)
    channel?.postMessage(rank)
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => resolve())
    })
  }

  /**
   * Another leader. Pages from before a sign-out and pages from after it have locks of their own, which know nothing of
   * each other, because its `Clear-Site-Data` gave the site a new storage (observed in Chromium). One of them stays.
   */
  const meet = (other: number): void => {
    if (source === undefined || source.readyState === CLOSED) return
    if (other < rank) channel?.postMessage(rank)
    else {
      source.close()
      schedule()
    }
  }

  const resign = (): void => {
    candidacy?.abort()
    candidacy = undefined
    source?.close()
    source = undefined
  }

  const listen = (url: string): EventSource => {
    const opened = new EventSource(url)
    const on = (event: string, hear: (news: News) => void) =>
      opened.addEventListener(event, ({ data }) => hear(JSON.parse(data)))
    // Also after each reconnect, with whatever session the browser has by then, and when an end was put off.
    on('session', readForAll)
    on('claims', ({ user }) => change({ user }))
    on('expiring', ({ reason, expiresIn }) => {
      const at = secondsFromNow(expiresIn)
      const expiring = reason as 'idle' | 'absolute'
      change({ expiring, ...(expiring === 'idle' ? { idleExpiresAt: at } : { expiresAt: at }) })
    })
    on('ended', ({ reason }) => {
      // Another tab has signed in anew, and this stream comes back with that session as soon as the browser has it.
      if (reason !== 'replaced_at_login') tell({ status: 'signed-out', user: null, reason })
    })
    // It reconnects by itself; or it was refused and cannot say why, or had to make room for others.
    opened.addEventListener('error', () => {
      if (opened.readyState === CLOSED && opened === source) read()
    })
    return opened
  }

  const schedule = (): void => {
    clearTimeout(timer)
    if (!isFollowing || state.status === 'signed-out') return
    const isTold = events && navigator.locks && source?.readyState !== CLOSED
    if (state.status !== 'unavailable' && isTold) return
    const seconds =
      state.status === 'unavailable'
        ? Math.max(state.error.retryAfterSeconds ?? RETRY_SECONDS, 1)
        : POLL_SECONDS
    // Pages that lost the gateway together come back one after the other.
    timer = setTimeout(poll, seconds * (750 + Math.random() * 500))
  }

  const poll = (): void => {
    // Whoever leads next tries the stream again.
    if (source?.readyState === CLOSED) resign()
    read()
  }

  const follow = (): void => {
    if (isFollowing) return
    isFollowing = true
    read()
  }

  const open = (): void => {
    channel = new BroadcastChannel(name)
    channel.onmessage = ({ data }) => (typeof data === 'number' ? meet(data) : show(data))
    if (listeners.size > 0) follow()
  }

  /** A page with a lock, a stream or a channel is not kept for the way back. */
  const stop = (): void => {
    isFollowing = false
    resign()
    channel?.close()
    channel = undefined
    clearTimeout(timer)
  }

  const { signal } = over
  addEventListener('pagehide', stop, { signal })
  addEventListener('pageshow', ({ persisted }) => persisted && open(), { signal })
  document.addEventListener(
    'visibilitychange',
    () => {
      if (isFollowing && !document.hidden) read()
    },
    { signal },
  )
  open()

  return {
    get state() {
      return state
    },
    read,
    tell,
    subscribe: (listener) => {
      listeners.add(listener)
      follow()
      return () => listeners.delete(listener)
    },
    close: () => {
      over.abort()
      stop()
      listeners.clear()
    },
  }
}

/** Of the events together; each has some of it. */
interface News {
  readonly reason: string
  readonly expiresIn: number
  readonly user: User
}

const ask = async (address: string, before: User | null): Promise<SessionState> => {
  try {
    const request = new Request(address, {
      headers: { accept: 'application/json', 'x-csrf': '1' },
      cache: 'no-store',
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    return await stateIn(await attempt(request))
  } catch (thrown) {
    return { status: 'unavailable', user: before, error: asProblem(thrown) }
  }
}
