/** The ends that a session comes to by itself: when, and from when on its user is to be told of them. */

import type { EpochMs, Milliseconds } from '../time.ts'
import { epochMs, milliseconds } from '../time.ts'
import type { Lifetimes } from './session.ts'
import type { OpenSession } from './vault.ts'

export interface ComingEnd {
  readonly at: EpochMs
  /** A minute ahead; a fifth of the lifetime where that is shorter. */
  readonly toldFrom: EpochMs
}

export interface ComingEnds {
  /** A call of the API puts it off. */
  readonly idle: ComingEnd
  /** Nothing but another sign-in does. */
  readonly absolute: ComingEnd
}

const AHEAD_MAX_MS = 60_000
/** A read of a session that should be over by now, and is not by the store's word, is not repeated faster. */
const PAUSE_MIN_MS = 250

export const comingEnds = (
  { session, lastActivityAt }: Pick<OpenSession, 'session' | 'lastActivityAt'>,
  lifetimes: Lifetimes,
  now: EpochMs,
): ComingEnds => {
  const { accessTokenExpiresAt, accessTokenLifetime, refreshToken, refreshTokenExpiresAt } =
    session.tokens
  const isRefreshable =
    refreshToken !== undefined &&
    (refreshTokenExpiresAt === undefined || refreshTokenExpiresAt > accessTokenExpiresAt)
  const idleAt = (lastActivityAt ?? now) + lifetimes.idle * 1000
  const isShortOfRefresh = !isRefreshable && accessTokenExpiresAt < session.absoluteExpiresAt
  return {
    // The next call refreshes, and with the tokens comes another expiry of the refresh token.
    idle: end(
      isRefreshable ? Math.min(idleAt, refreshTokenExpiresAt ?? idleAt) : idleAt,
      lifetimes.idle,
    ),
    absolute: isShortOfRefresh
      ? end(accessTokenExpiresAt, accessTokenLifetime)
      : end(session.absoluteExpiresAt, lifetimes.absolute),
  }
}

const aheadMs = (lifetimeSeconds: number) => Math.min(AHEAD_MAX_MS, lifetimeSeconds * 200)

const end = (at: number, lifetimeSeconds: number): ComingEnd => ({
  at: epochMs(at),
  toldFrom: epochMs(at - aheadMs(lifetimeSeconds)),
})

/**
 * When to read the session again, if nobody tells of a change before: ahead of each end and at each end. Activity on
 * another replica is told to nobody; so while the idle end is near it is looked for four times.
 */
export const nextReadingIn = (
  open: Pick<OpenSession, 'session' | 'lastActivityAt'>,
  lifetimes: Lifetimes,
  now: EpochMs,
): Milliseconds => {
  const { idle, absolute } = comingEnds(open, lifetimes, now)
  const looksAgainAt =
    idle.toldFrom <= now ? Math.min(idle.at, now + aheadMs(lifetimes.idle) / 4) : idle.toldFrom
  const absoluteAt = absolute.toldFrom <= now ? absolute.at : absolute.toldFrom
  return milliseconds(Math.max(PAUSE_MIN_MS, Math.min(looksAgainAt, absoluteAt) - now))
}
