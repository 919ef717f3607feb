/** What the session store and the lease share: every session this process knows, live and ended. */

import type { EndReason } from '../../events.ts'
import type { SessionDigest } from '../../session/session.ts'
import type { StoredRecord } from '../../session/session-store.ts'
import type { Clock, EpochMs } from '../../time.ts'
import { createExpiringMap, type ExpiringMap } from './expiring-map.ts'

/** A live session. Instants ending in `Ms` are on the monotonic clock. */
export interface LiveEntry {
  record: StoredRecord
  lastActivityAt: EpochMs
  lease: { readonly owner: string; readonly untilMs: number } | undefined
  /** Of the record's generation: a compare-and-set removes it with the generation it was for. */
  attempt: Attempt | undefined
  /** Nobody else calls the provider before: its last answer was that it is unavailable. */
  unavailableUntilMs: number
  /** Id of the attempt whose result the record is. */
  writtenAttemptId: string | undefined
}

export interface Attempt {
  readonly owner: string
  readonly attemptId: string
  /** An attempt before this one was never resolved either. */
  readonly followsAbandoned: boolean
  /** Nobody else takes the lease before. */
  readonly keepsAwayUntilMs: number
}

export interface Tombstone {
  readonly reason: EndReason
  readonly endedAt: EpochMs
}

/** Two bounds, so that a wave of sign-outs pushes no live session out. */
export interface SessionTable {
  readonly live: ExpiringMap<SessionDigest, LiveEntry>
  readonly ended: ExpiringMap<SessionDigest, Tombstone>
}

export const createSessionTable = (
  clock: Clock,
  sessionsMax: number,
  sessionDropped: (digest: SessionDigest) => void,
): SessionTable => ({
  live: createExpiringMap({ clock, entriesMax: sessionsMax, overflowed: sessionDropped }),
  ended: createExpiringMap({ clock, entriesMax: sessionsMax }),
})
