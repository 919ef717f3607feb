/** What the demo counts: calls by their answers, sessions that were lost, and what happened to whom, latest first. */

import { createHash } from 'node:crypto'
import type { Passed } from './balancer.ts'

export interface Calls {
  readonly total: number
  readonly ok: number
  readonly unauthorized: number
  readonly unavailable: number
  /** Inside a replica when it was killed. */
  readonly cutOff: number
  readonly other: number
  readonly slowestMs: number
}

export interface Sessions {
  /** Sessions that made a good call. */
  readonly seen: number
  /** Over, though neither a person nor time ended them. */
  readonly lost: number
}

export interface Happening {
  readonly at: string
  readonly text: string
}

/** Only the data plane counts: the gateway's own endpoints answer 401 and 403 in the course of things. */
const API_PREFIX = '/api/'
/** Reasons of `session_ended` that nobody wanted (docs/events.md). */
const LOSSES = new Set(['refresh_rejected', 'refresh_lost', 'identity_changed'])
const SESSIONS_MAX = 10_000
const HAPPENINGS_MAX = 8

export class CallTally {
  readonly #calls = {
    total: 0,
    ok: 0,
    unauthorized: 0,
    unavailable: 0,
    cutOff: 0,
    other: 0,
    slowestMs: 0,
  }
  readonly #answeredBy: number[]
  readonly #sessionCookies: readonly string[]
  /** Fingerprints of cookies: the tally keeps nothing that opens a session. */
  readonly #seen = new Set<string>()
  readonly #vanished = new Set<string>()
  #lossesTold = 0
  readonly #happenings: Happening[] = []

  constructor(replicas: number, sessionCookies: readonly string[]) {
    this.#answeredBy = Array.from({ length: replicas }, () => 0)
    this.#sessionCookies = sessionCookies
  }

  get calls(): Calls {
    return { ...this.#calls }
  }

  get sessions(): Sessions {
    return { seen: this.#seen.size, lost: this.#lossesTold + this.#vanished.size }
  }

  get happenings(): readonly Happening[] {
    return this.#happenings
  }

  /** Calls that the replica of this number answered, counted from 1. */
  answeredBy(replica: number): number {
    return this.#answeredBy[replica - 1] ?? 0
  }

  count({ request, replica, status, durationMs, body }: Passed): void {
    if (!request.url?.startsWith(API_PREFIX)) return
    this.#calls.total += 1
    this.#calls[classOf(status)] += 1
    this.#calls.slowestMs = Math.max(this.#calls.slowestMs, Math.round(durationMs))
    if (replica !== undefined) this.#answeredBy[replica - 1] = this.answeredBy(replica) + 1

    const session = this.#sessionOf(request.headers.cookie)
    if (session === undefined) return
    if (status < 300 && this.#seen.size < SESSIONS_MAX) this.#seen.add(session)
    // A ticket that was good and leads nowhere: the store has lost the session without a word.
    if (this.#seen.has(session) && body.includes('"session_required"')) this.#vanished.add(session)
  }

  /** An event of `session_ended`, as a replica logs it. */
  sessionEnded(reason: string): void {
    if (!LOSSES.has(reason)) return
    this.#lossesTold += 1
    this.happened(`A session was lost: ${reason}`)
  }

  happened(text: string): void {
    this.#happenings.unshift({ at: new Date().toISOString(), text })
    this.#happenings.splice(HAPPENINGS_MAX)
  }

  #sessionOf(cookies: string | undefined): string | undefined {
    const cookie = cookies
      ?.split(';')
      .map((pair) => pair.trim())
      .find((pair) => this.#sessionCookies.includes(pair.split('=', 1)[0] ?? ''))
    return cookie && createHash('sha256').update(cookie).digest('base64url')
  }
}

const classOf = (status: number): Exclude<keyof Calls, 'total' | 'slowestMs'> => {
  if (status < 300) return 'ok'
  if (status === 401) return 'unauthorized'
  if (status === 503) return 'unavailable'
  return status === 502 ? 'cutOff' : 'other'
}
