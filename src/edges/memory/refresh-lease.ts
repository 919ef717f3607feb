/** The refresh lease in this process's memory: the same rules as in Redis, for requests of one process. */

import type { RefreshLease } from '../../credential/refresh-lease.ts'
import type { SessionDigest } from '../../session/session.ts'
import { type Clock, type Milliseconds, milliseconds } from '../../time.ts'
import type { LiveEntry, SessionTable } from './session-table.ts'

export const createMemoryRefreshLease = (
  { live, ended }: SessionTable,
  clock: Clock,
): RefreshLease => {
  const holds = (entry: LiveEntry, owner: string) =>
    entry.lease?.owner === owner && entry.lease.untilMs > clock.monotonicMs()

  const letGo = (
    digest: SessionDigest,
    owner: string,
    spent: 'no' | 'unknown',
    retryAfter: Milliseconds | undefined,
  ) => {
    const entry = live.get(digest)
    if (entry === undefined) return
    const attempt = entry.attempt?.owner === owner ? entry.attempt : undefined
    if (attempt === undefined && !holds(entry, owner)) return
    if (entry.lease?.owner === owner) entry.lease = undefined
    if (attempt !== undefined)
      entry.attempt =
        spent === 'unknown' || attempt.followsAbandoned
          ? { ...attempt, keepsAwayUntilMs: 0 }
          : undefined
    if (retryAfter !== undefined) entry.unavailableUntilMs = clock.monotonicMs() + retryAfter
  }

  return {
    take: async (digest, { owner, attemptId, generation, leaseTime, giveUpTime }) => {
      const entry = live.get(digest)
      if (entry === undefined) return { kind: ended.get(digest) === undefined ? 'absent' : 'ended' }
      if (entry.record.generation !== generation) return { kind: 'moved' }
      const now = clock.monotonicMs()
      if (entry.unavailableUntilMs > now)
        return {
          kind: 'unavailable',
          retryAfter: milliseconds(Math.ceil(entry.unavailableUntilMs - now)),
        }
      const earlier = entry.attempt
      if (entry.lease !== undefined && entry.lease.untilMs > now) return { kind: 'busy' }
      if (earlier !== undefined && earlier.keepsAwayUntilMs > now) return { kind: 'busy' }
      const followsAbandoned = earlier !== undefined
      entry.lease = { owner, untilMs: now + leaseTime }
      entry.attempt = { owner, attemptId, followsAbandoned, keepsAwayUntilMs: now + giveUpTime }
      return { kind: 'taken', abandonedAttempt: followsAbandoned }
    },

    // No failover takes anything from here: what is gone was let go of.
    renew: async (digest, { owner, leaseTime }) => {
      const entry = live.get(digest)
      if (entry === undefined || !holds(entry, owner)) return false
      entry.lease = { owner, untilMs: clock.monotonicMs() + leaseTime }
      return true
    },

    release: async (digest, owner) => letGo(digest, owner, 'no', undefined),
    releaseUnavailable: async (digest, owner, retryAfter, spent) =>
      letGo(digest, owner, spent, retryAfter),
  }
}
