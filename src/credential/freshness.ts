/** Freshness of an access token: a pure function of its expiry, its life and now. */

import type { TokenSet } from '../session/session.ts'
import type { EpochMs } from '../time.ts'

/** `due`: still good, refresh behind the request. `expired`: too close to its end to be sent if one can wait. */
export type Freshness = 'fresh' | 'due' | 'expired'

/** No token is due longer than this before its end. */
export const DUE_BEFORE_MAX_MS = 60_000

export const freshnessAt = (
  tokens: Pick<TokenSet, 'accessTokenExpiresAt' | 'accessTokenLifetime'>,
  now: EpochMs,
): Freshness => {
  const lifeMs = tokens.accessTokenLifetime * 1000
  const leftMs = tokens.accessTokenExpiresAt - now
  if (leftMs <= Math.min(5_000, lifeMs * 0.05)) return 'expired'
  return leftMs <= Math.min(DUE_BEFORE_MAX_MS, lifeMs * 0.25) ? 'due' : 'fresh'
}
