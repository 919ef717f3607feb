/** Port: who may spend a session's refresh token now. Adapters: edges/redis, edges/memory; one contract suite. */

import type { SessionDigest } from '../session/session.ts'
import type { Milliseconds } from '../time.ts'

/** A result that the store did not take is offered to it again after this, at most. */
export const REWRITE_PAUSE_MAX_MS = 1_000
/** A holder renews at least this often, however long its call may take: a failover may have lost its lease. */
export const RENEW_PAUSE_MAX_MS = 500

export interface LeaseRequest {
  /** Random per taking: only its holder renews or releases. */
  readonly owner: string
  /** Random per refresh token spent; the store remembers the last one that was written. */
  readonly attemptId: string
  /** Generation whose refresh token would be spent. */
  readonly generation: number
  readonly leaseTime: Milliseconds
  /** How long an unresolved attempt keeps everyone else away, counted from this taking by the store's clock. */
  readonly giveUpTime: Milliseconds
}

export type LeaseAnswer =
  /** `abandonedAttempt`: an earlier attempt of this generation was never resolved, so its token may be spent. */
  | { readonly kind: 'taken'; readonly abandonedAttempt: boolean }
  /** Somebody holds the lease, or their attempt is unresolved and not yet given up: wait and re-read. */
  | { readonly kind: 'busy' }
  /** A holder found the provider unavailable; nobody calls before that time is over. */
  | { readonly kind: 'unavailable'; readonly retryAfter: Milliseconds }
  /** The record's generation is not the requested one any more: re-read it. */
  | { readonly kind: 'moved' }
  | { readonly kind: 'ended' }
  | { readonly kind: 'absent' }

/** Each method is one atomic step and throws `store_unavailable` when the store cannot answer in time. */
export interface RefreshLease {
  /** Checks the record's generation, takes the lease and writes the attempt that outlives it. */
  take(digest: SessionDigest, request: LeaseRequest): Promise<LeaseAnswer>
  /**
   * False when the lease is no longer this owner's. The refresh goes on all the same. Where lease and attempt are both
   * gone and nobody moved the record, the store lost them in a failover: they are written again, `giveUpTime` counted
   * from now, so that nobody else spends the token that is being spent.
   */
  renew(digest: SessionDigest, request: LeaseRequest): Promise<boolean>
  /**
   * The refresh token was certainly not spent (refused connection, error answer) or the session ends anyway:
   * removes the lease and the attempt, if they are this owner's. An earlier attempt of the same generation stays
   * abandoned: the next taker hears of it.
   */
  release(digest: SessionDigest, owner: string): Promise<void>
  /**
   * The provider is unavailable: removes the lease, leaves `retryAfter` for whoever comes next. With
   * `spent: 'unknown'` (timeout, reset) the attempt stays on record, so that the next taker hears
   * `abandonedAttempt`, but keeps nobody waiting. Does nothing once another owner has taken over.
   */
  releaseUnavailable(
    digest: SessionDigest,
    owner: string,
    retryAfter: Milliseconds,
    spent: 'no' | 'unknown',
  ): Promise<void>
}
