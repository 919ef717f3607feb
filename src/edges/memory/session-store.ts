/** Sessions in this process's memory. No method waits inside, so each is one atomic step. */

import {
  recordExpiresAt,
  type SessionStore,
  type StoredRecord,
  tombstoneExpiresAt,
} from '../../session/session-store.ts'
import type { Clock } from '../../time.ts'
import type { MemorySessionChanges } from './session-changes.ts'
import type { SessionTable } from './session-table.ts'

/** The caller's arrays stay the caller's, and a slice of a larger buffer does not keep all of it. */
const copyOf = (record: StoredRecord): StoredRecord => ({
  ...record,
  sealed: new Uint8Array(record.sealed),
  metadata: new Uint8Array(record.metadata),
})

export const createMemorySessionStore = (
  { live, ended }: SessionTable,
  clock: Clock,
  { tell }: MemorySessionChanges,
): SessionStore => ({
  create: async (digest, record, lastActivityAt) => {
    if (ended.get(digest) !== undefined) return 'ended'
    if (live.get(digest) === undefined)
      live.set(
        digest,
        {
          record: copyOf(record),
          lastActivityAt,
          lease: undefined,
          attempt: undefined,
          unavailableUntilMs: 0,
          writtenAttemptId: undefined,
        },
        recordExpiresAt(record.absoluteExpiresAt),
      )
    tell(digest)
    return 'created'
  },

  load: async (digest) => {
    const entry = live.get(digest)
    if (entry !== undefined)
      return { kind: 'live', record: entry.record, lastActivityAt: entry.lastActivityAt }
    const tombstone = ended.get(digest)
    return tombstone === undefined ? { kind: 'absent' } : { kind: 'ended', ...tombstone }
  },

  touch: async (digest, lastActivityAt) => {
    const entry = live.get(digest)
    if (entry === undefined || entry.lastActivityAt >= lastActivityAt) return
    entry.lastActivityAt = lastActivityAt
    live.set(digest, entry, recordExpiresAt(entry.record.absoluteExpiresAt))
  },

  replace: async (digest, expectedGeneration, attemptId, record) => {
    const entry = live.get(digest)
    if (entry === undefined) return ended.get(digest) === undefined ? 'absent' : 'ended'
    const { generation } = entry.record
    if (generation === record.generation && entry.writtenAttemptId === attemptId) return 'replaced'
    if (generation > expectedGeneration) return 'moved'
    if (entry.attempt?.attemptId === attemptId && entry.lease?.owner === entry.attempt.owner)
      entry.lease = undefined
    entry.attempt = undefined
    entry.unavailableUntilMs = 0
    entry.record = copyOf(record)
    entry.writtenAttemptId = attemptId
    tell(digest)
    return 'replaced'
  },

  reseal: async (digest, record) => {
    const entry = live.get(digest)
    if (
      entry === undefined ||
      entry.record.generation !== record.generation ||
      entry.attempt !== undefined ||
      (entry.lease !== undefined && entry.lease.untilMs > clock.monotonicMs())
    )
      return 'skipped'
    entry.record = copyOf(record)
    tell(digest)
    return 'resealed'
  },

  end: async (digest, reason, endedAt) => {
    const entry = live.get(digest)
    if (entry === undefined) return ended.get(digest) === undefined ? 'absent' : 'already_ended'
    live.delete(digest)
    ended.set(
      digest,
      { reason, endedAt },
      tombstoneExpiresAt(endedAt, entry.record.absoluteExpiresAt),
    )
    tell(digest)
    return 'ended'
  },
})
