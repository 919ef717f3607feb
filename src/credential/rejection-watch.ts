/** When an upstream refuses a token that looked good: whether a refresh may be forced for it, route by route. */

import type { Clock } from '../time.ts'

/** Replays in a row that were refused again: then the route, not the token, is what is wrong. */
const REJECTIONS_MAX = 5
const PAUSE_MS = 60_000

export interface RejectionWatch {
  mayReplay(routeId: string): boolean
  /** The answer to a replay: 401 again, or anything else. */
  replayed(routeId: string, refusedAgain: boolean): void
}

export const createRejectionWatch = (
  clock: Clock,
  notice: (notice: string, detail: string) => void,
): RejectionWatch => {
  const routes = new Map<string, { inARow: number; pausedUntilMs: number }>()
  return {
    mayReplay: (routeId) => (routes.get(routeId)?.pausedUntilMs ?? 0) <= clock.monotonicMs(),

    replayed: (routeId, refusedAgain) => {
      if (!refusedAgain) {
        routes.delete(routeId)
        return
      }
      const inARow = (routes.get(routeId)?.inARow ?? 0) + 1
      if (inARow < REJECTIONS_MAX) {
        routes.set(routeId, { inARow, pausedUntilMs: 0 })
        return
      }
      routes.set(routeId, { inARow: 0, pausedUntilMs: clock.monotonicMs() + PAUSE_MS })
      notice('upstream_rejects_tokens', routeId)
    },
  }
}

/** RFC 6750 §3.1: a Bearer challenge whose error is `invalid_token`. */
export const isInvalidToken = (status: number, rawHeaders: readonly string[]): boolean => {
  if (status !== 401) return false
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    if (rawHeaders[index]?.toLowerCase() !== 'www-authenticate') continue
    const challenge = rawHeaders[index + 1] ?? ''
    if (/\bbearer\b/i.test(challenge) && /\berror\s*=\s*"?invalid_token\b/i.test(challenge))
      return true
  }
  return false
}
