/** The session: what a signed-in browser has at the gateway, and how long it lives. */

import type { EpochMs, Seconds } from '../time.ts'
import { epochMs } from '../time.ts'

declare const brand: unique symbol

/** base64url SHA-256 of the session id: the only name under which a store knows a session. */
export type SessionDigest = string & { readonly [brand]: 'SessionDigest' }

/** What the provider issued. Lives only inside sealed records and process memory. */
export interface TokenSet {
  readonly accessToken: string
  /** When the token request was sent, rounded down to a whole second, plus `expires_in`. */
  readonly accessTokenExpiresAt: EpochMs
  /** `expires_in` as answered or as assumed: the percentages of freshness are of this. */
  readonly accessTokenLifetime: Seconds
  /** Scope as granted (RFC 6749 §5.1), or as requested where the answer named none. */
  readonly scope: string | undefined
  readonly refreshToken: string | undefined
  /** Known only where the provider says so; absent, 0 or malformed means unknown. */
  readonly refreshTokenExpiresAt: EpochMs | undefined
  /** Kept for `id_token_hint` at sign-out; never leaves the gateway but for that redirect. */
  readonly idToken: string | undefined
}

export type Claims = Readonly<Record<string, unknown>>

export interface Session {
  /** Moved by a refresh and by nothing else; the compare-and-set counts it. Starts at 0. */
  readonly generation: number
  readonly issuer: string
  readonly subject: string
  /** The provider's `sid` claim, where there is one. */
  readonly providerSessionId: string | undefined
  /** Claims by allow-list, names as the provider sends them. */
  readonly claims: Claims
  readonly acr: string | undefined
  readonly amr: readonly string[] | undefined
  /** `auth_time`, in seconds since the epoch as in the ID token. */
  readonly authTime: number | undefined
  /** The gateway's clock when the authorization request was made. */
  readonly signInStartedAt: EpochMs
  readonly createdAt: EpochMs
  readonly absoluteExpiresAt: EpochMs
  readonly tokens: TokenSet
}

export interface Lifetimes {
  readonly idle: Seconds
  readonly absolute: Seconds
}

export type Lifetime = 'live' | 'idle' | 'absolute' | 'access_token_expired' | 'refresh_expired'

/**
 * Why a session is over at `now`, or `live`. An unknown last activity (lost in a failover) never reads as idle:
 * it is recreated beside a live record. A session that cannot refresh ends with its access token.
 */
export const lifetimeAt = (
  session: Pick<Session, 'absoluteExpiresAt' | 'tokens'>,
  lastActivityAt: EpochMs | undefined,
  idle: Seconds,
  now: EpochMs,
): Lifetime => {
  if (now >= session.absoluteExpiresAt) return 'absolute'
  if (lastActivityAt !== undefined && now >= lastActivityAt + idle * 1000) return 'idle'
  if (now < session.tokens.accessTokenExpiresAt || canRefresh(session.tokens, now)) return 'live'
  return session.tokens.refreshToken === undefined ? 'access_token_expired' : 'refresh_expired'
}

/** The same as far as it shows without the session's key: its two lifetimes. */
export const isOverByTime = (
  absoluteExpiresAt: EpochMs,
  lastActivityAt: EpochMs | undefined,
  idle: Seconds,
  now: EpochMs,
): boolean =>
  now >= absoluteExpiresAt || (lastActivityAt !== undefined && now >= lastActivityAt + idle * 1000)

/** A refresh token's own expiry counts only where the provider stated one; past it there is nothing to spend. */
export const canRefresh = (tokens: TokenSet, now: EpochMs): boolean =>
  tokens.refreshToken !== undefined &&
  (tokens.refreshTokenExpiresAt === undefined || now < tokens.refreshTokenExpiresAt)

/** Latest instant at which the session can still be alive, whatever its user does. */
export const sessionDeadline = (
  session: Pick<Session, 'absoluteExpiresAt' | 'tokens'>,
  now: EpochMs,
): EpochMs =>
  canRefresh(session.tokens, now)
    ? session.absoluteExpiresAt
    : epochMs(Math.min(session.absoluteExpiresAt, session.tokens.accessTokenExpiresAt))

/** Whole seconds until the idle deadline, which no other deadline of the session exceeds. */
export const idleExpiresIn = (
  session: Pick<Session, 'absoluteExpiresAt' | 'tokens'>,
  lastActivityAt: EpochMs | undefined,
  idle: Seconds,
  now: EpochMs,
): number =>
  wholeSecondsUntil(
    epochMs(Math.min((lastActivityAt ?? now) + idle * 1000, sessionDeadline(session, now))),
    now,
  )

export const wholeSecondsUntil = (deadline: EpochMs, now: EpochMs): number =>
  Math.max(0, Math.floor((deadline - now) / 1000))

/** Idle is extended at most once per min(60 s, a tenth of the idle time). */
export const activityIsDue = (
  lastActivityAt: EpochMs | undefined,
  idle: Seconds,
  now: EpochMs,
): boolean => lastActivityAt === undefined || now - lastActivityAt >= Math.min(60_000, idle * 100)
