/** What a page knows of its session, and how it reads that from an answer of the session endpoint. */

import { type CoatcheckError, unexpectedAnswer } from './problem.ts'

/** The user's claims, named as the provider names them. */
export interface User {
  readonly sub: string
  readonly name?: string
  readonly [claim: string]: unknown
}

export interface SignedIn {
  readonly status: 'signed-in'
  readonly user: User
  /** RFC 3339. */
  readonly createdAt?: string
  /** When it ends whatever happens, and when it ends unless something does; in the milliseconds of `Date.now()`. */
  readonly expiresAt?: number
  readonly idleExpiresAt?: number
  /** That end is near: `idle` is put off by any call of the API, `absolute` only by signing in again. */
  readonly expiring?: 'idle' | 'absolute'
  /** Addresses of further endpoints, such as `sessions`. */
  readonly links: Readonly<Record<string, string>>
}

export interface SignedOut {
  readonly status: 'signed-out'
  readonly user: null
  /** Why the session ended (docs/event-streams.md), where this page saw it end. */
  readonly reason?: string
}

/** It cannot be known now whether there is a session. One that there was is kept by the gateway. */
export interface Unavailable {
  readonly status: 'unavailable'
  /** Who was signed in when it was known last. */
  readonly user: User | null
  readonly error: CoatcheckError
}

/** Nothing has answered yet. */
export interface Loading {
  readonly status: 'loading'
  readonly user: null
}

export type SessionState = SignedIn | SignedOut | Unavailable

export const LOADING: Loading = { status: 'loading', user: null }
const SIGNED_OUT: SignedOut = { status: 'signed-out', user: null }

/** Who, if anybody: what two views of the same session have in common. */
export const isSameSession = (one: SessionState | Loading, other: SessionState): boolean =>
  one.status === other.status && one.user?.sub === other.user?.sub

/** Throws `unexpected_answer`. */
export const stateIn = async (response: Response): Promise<SessionState> => {
  if (response.status === 401) return SIGNED_OUT
  const body: unknown = response.ok ? await response.json().catch(() => undefined) : undefined
  if (body === null) return SIGNED_OUT
  if (typeof body !== 'object') throw unexpectedAnswer(response)
  return stateFrom(body as Body)
}

/** Ours, or the user alone: an object or a list of claims, as other gateways send it. */
type Body = {
  readonly authenticated?: boolean
  readonly user?: User
  readonly session?: {
    readonly createdAt: string
    readonly expiresIn: number
    readonly idleExpiresIn: number
  }
  readonly links?: Readonly<Record<string, string>>
}

const stateFrom = (body: Body): SessionState => {
  if (body.authenticated === false) return SIGNED_OUT
  const { user = userIn(body), session, links = {} } = body
  return {
    status: 'signed-in',
    user,
    links,
    ...(session && {
      createdAt: session.createdAt,
      expiresAt: secondsFromNow(session.expiresIn),
      idleExpiresAt: secondsFromNow(session.idleExpiresIn),
    }),
  }
}

const userIn = (body: unknown): User =>
  (Array.isArray(body)
    ? Object.fromEntries(body.map(({ type, value }) => [type, value]))
    : body) as User

export const secondsFromNow = (seconds: number): number => Date.now() + seconds * 1000
