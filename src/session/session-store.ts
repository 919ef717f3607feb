/** Ports of the session vault. Adapters: edges/redis, edges/memory; one contract suite for both. */

import { GatewayError } from '../errors.ts'
import type { EndReason } from '../events.ts'
import { type EpochMs, epochMs, type Seconds } from '../time.ts'
import type { SessionDigest } from './session.ts'
import type { SessionIndex } from './session-index.ts'

/** A sealed session as the store keeps it. The store can read the generation and the deadline, nothing else. */
export interface StoredRecord {
  readonly generation: number
  readonly absoluteExpiresAt: EpochMs
  /** Tokens and claims, sealed under the browser's key and the ring. */
  readonly sealed: Uint8Array
  /** Subject, times, device: sealed under the ring alone. */
  readonly metadata: Uint8Array
}

export type StoredState =
  | {
      readonly kind: 'live'
      readonly record: StoredRecord
      /** Undefined when that key was lost; read as "now", never as idle. */
      readonly lastActivityAt: EpochMs | undefined
    }
  | { readonly kind: 'ended'; readonly reason: EndReason; readonly endedAt: EpochMs }
  | { readonly kind: 'absent' }

/** Records and side keys outlive the absolute deadline by this: who comes late learns why the session is over. */
export const RECORD_GRACE_MS = 600_000
export const TOMBSTONE_LIFE_MS = 86_400_000
/** Longer than a holder repeats a write that the store did not confirm. */
export const WRITTEN_ATTEMPT_LIFE_MS = 900_000

/** When the store forgets a record by itself. */
export const recordExpiresAt = (absoluteExpiresAt: EpochMs): EpochMs =>
  epochMs(absoluteExpiresAt + RECORD_GRACE_MS)

/** When it forgets that a session was ended. */
export const tombstoneExpiresAt = (endedAt: EpochMs, absoluteExpiresAt: EpochMs): EpochMs =>
  epochMs(Math.min(endedAt + TOMBSTONE_LIFE_MS, recordExpiresAt(absoluteExpiresAt)))

/** Reason of a `store_unavailable` for a write that was made, though not where it has to be to survive a failover. */
export const NOT_CONFIRMED = 'not_confirmed'

export const isNotConfirmed = (thrown: unknown): boolean =>
  thrown instanceof GatewayError && thrown.reason === NOT_CONFIRMED

/**
 * Every method is one atomic step on one session and throws `store_unavailable` when the store cannot answer
 * in time; it never answers "absent" for "unknown". Records, tombstones and their side keys expire by
 * themselves 10 minutes after the absolute deadline, tombstones after 24 hours at most.
 */
export interface SessionStore {
  /**
   * Writes a new record and its activity. A tombstone under the same digest wins: `ended`. A record that is
   * there already stays as it is, so that repeating a create that timed out changes nothing: `created`.
   */
  create(
    digest: SessionDigest,
    record: StoredRecord,
    lastActivityAt: EpochMs,
  ): Promise<'created' | 'ended'>
  load(digest: SessionDigest): Promise<StoredState>
  /**
   * Remembers activity, recreating that key where it was lost, and never moves it back; does nothing for ended
   * or absent sessions.
   */
  touch(digest: SessionDigest, lastActivityAt: EpochMs): Promise<void>
  /**
   * Compare-and-set of a refresh: replaces the record unless its generation is above `expectedGeneration`. One below
   * it is what a failover left of the expected one, and the higher generation wins. Deletes every attempt of that
   * generation and the lease of this one, and remembers `attemptId` for at least 15 minutes, so
   * that repeating the very same write answers `replaced` again. `record.generation` is `expectedGeneration + 1`.
   * Works with or without the lease.
   */
  replace(
    digest: SessionDigest,
    expectedGeneration: number,
    attemptId: string,
    record: StoredRecord,
  ): Promise<'replaced' | 'moved' | 'ended' | 'absent'>
  /**
   * A write that is not a refresh (a re-seal): same generation before and after, skipped (`skipped`) when the
   * generation moved, the session ended, or a lease or an unresolved attempt exists.
   */
  reseal(digest: SessionDigest, record: StoredRecord): Promise<'resealed' | 'skipped'>
  /** Replaces the record by a tombstone. `ended` to exactly one caller, who emits the one event. */
  end(
    digest: SessionDigest,
    reason: EndReason,
    endedAt: EpochMs,
  ): Promise<'ended' | 'already_ended' | 'absent'>
}

/** Everybody whose sign-in began by then is signed out, for this reason. */
export interface EndedBefore {
  readonly at: EpochMs
  readonly reason: EndReason
}

/** Longer than a sign-in may be under way. */
export const ENDED_BEFORE_LIFE_MS = 900_000

export interface DigestPage {
  readonly digests: readonly SessionDigest[]
  /** Opaque; undefined after the last page. */
  readonly next: string | undefined
}

/**
 * Finds sessions without their cookie. An entry is made before its record and removed after its tombstone, so that
 * no live session is ever without: an entry may lead nowhere, and what it leads to is the session store's to say.
 * Every method is one atomic step on one index and throws `store_unavailable` when the store cannot answer.
 */
export interface SessionDirectory {
  /** Adds the entry, and drops those whose records are forgotten at `now`. An index lives as long as its entries. */
  enter(
    index: SessionIndex,
    digest: SessionDigest,
    absoluteExpiresAt: EpochMs,
    now: EpochMs,
  ): Promise<void>
  leave(index: SessionIndex, digest: SessionDigest): Promise<void>
  /**
   * Pages in no order. An entry that is there all the while is on one of them at least, whatever else comes and
   * goes meanwhile. Throws `request_invalid` for a cursor that is none.
   */
  list(index: SessionIndex, cursor: string | undefined): Promise<DigestPage>
  /** The same over all sessions that the store has, ended ones included. */
  listAll(cursor: string | undefined): Promise<DigestPage>
  /** Remembered for 15 minutes; an earlier instant never replaces a later one. */
  markEnded(index: SessionIndex, mark: EndedBefore): Promise<void>
  /** The latest mark on any of the indices. */
  endedBefore(indices: readonly SessionIndex[]): Promise<EndedBefore | undefined>
}

/** Things that may happen once: authorization responses, and sealed values that wait for one reader. */
export interface OneTimeStore {
  /** True for the first caller within the time, false for every other. */
  claim(name: string, ttl: Seconds): Promise<boolean>
  /** Whether somebody has claimed it and the time is not over. */
  isClaimed(name: string): Promise<boolean>
  /** Keeps a sealed value until it is taken or the time is over. */
  put(name: string, value: Uint8Array, ttl: Seconds): Promise<void>
  /** Reads and removes in one step. */
  take(name: string): Promise<Uint8Array | undefined>
}

/** For readiness: resolves when the store answers, throws `store_unavailable` when it does not. */
export interface StoreHealth {
  ping(): Promise<void>
}
