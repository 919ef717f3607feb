/** Indices in this process's memory. */

import { GatewayError } from '../../errors.ts'
import type { SessionDigest } from '../../session/session.ts'
import type { SessionIndex } from '../../session/session-index.ts'
import {
  type DigestPage,
  ENDED_BEFORE_LIFE_MS,
  type EndedBefore,
  recordExpiresAt,
  type SessionDirectory,
} from '../../session/session-store.ts'
import { after, type Clock, type EpochMs, milliseconds } from '../../time.ts'
import { createExpiringMap } from './expiring-map.ts'
import type { SessionTable } from './session-table.ts'

const PAGE_COUNT = 1_000

export const createMemorySessionDirectory = (
  { live, ended }: SessionTable,
  clock: Clock,
  sessionsMax: number,
): SessionDirectory => {
  // A session has two entries at most, so no index of a live session ever has to make room.
  const indices = createExpiringMap<SessionIndex, Map<SessionDigest, EpochMs>>({
    clock,
    entriesMax: sessionsMax * 2,
  })
  const marks = createExpiringMap<SessionIndex, EndedBefore>({ clock, entriesMax: sessionsMax })

  return {
    enter: async (index, digest, absoluteExpiresAt, now) => {
      const entries = indices.get(index) ?? new Map<SessionDigest, EpochMs>()
      for (const [member, deadline] of entries)
        if (recordExpiresAt(deadline) < now) entries.delete(member)
      entries.set(digest, absoluteExpiresAt)
      const [oldest] = entries.keys()
      // More than the store has sessions: those that fell out of it are still in here.
      if (entries.size > sessionsMax && oldest !== undefined) entries.delete(oldest)
      let last: EpochMs = absoluteExpiresAt
      for (const deadline of entries.values()) if (deadline > last) last = deadline
      indices.set(index, entries, recordExpiresAt(last))
    },

    leave: async (index, digest) => {
      indices.get(index)?.delete(digest)
    },

    list: async (index, cursor) => page([...(indices.get(index)?.keys() ?? [])], cursor),

    listAll: async (cursor) => page([...live.keys(), ...ended.keys()], cursor),

    markEnded: async (index, mark) => {
      const known = marks.get(index)
      if (known !== undefined && known.at > mark.at) return
      marks.set(index, mark, after(clock.now(), milliseconds(ENDED_BEFORE_LIFE_MS)))
    },

    endedBefore: async (of) =>
      of.flatMap((index) => marks.get(index) ?? []).toSorted((one, other) => other.at - one.at)[0],
  }
}

/** The cursor is the last digest of the page before, so that whoever leaves meanwhile moves nobody. */
const page = (all: readonly SessionDigest[], cursor: string | undefined): DigestPage => {
  if (cursor !== undefined && !/^[\w-]{43}$/.test(cursor))
    throw new GatewayError('request_invalid', { reason: 'cursor' })
  const rest = all.filter((digest) => cursor === undefined || digest > cursor).toSorted()
  const digests = rest.slice(0, PAGE_COUNT)
  return { digests, next: rest.length > PAGE_COUNT ? digests.at(-1) : undefined }
}
