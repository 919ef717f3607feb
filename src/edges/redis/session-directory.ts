/** Indices in Redis: sorted sets of digests by absolute deadline, each under a hash tag of its own, and their marks. */

import { GatewayError } from '../../errors.ts'
import type { SessionDigest } from '../../session/session.ts'
import type { SessionIndex } from '../../session/session-index.ts'
import {
  ENDED_BEFORE_LIFE_MS,
  type EndedBefore,
  RECORD_GRACE_MS,
  recordExpiresAt,
  type SessionDirectory,
} from '../../session/session-store.ts'
import { type Clock, epochMs } from '../../time.ts'
import type { RedisConnection } from './connection.ts'
import { notConfirmed } from './failure.ts'
import type { Journal } from './journal.ts'
import { knownReason } from './stored-form.ts'
import type { Writes } from './writes.ts'

// The index ends with its last record. PEXPIREAT may shorten a time that a removed entry had set, never below what
// an entry that is there needs: the last score is the highest.
const ENTER = `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
local isNew = redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', tonumber(last) + ${RECORD_GRACE_MS}))
return isNew
`

const MARK = `
local known = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+'))
if known and known >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ${ENDED_BEFORE_LIFE_MS})
return 1
`

const MARK_FORM = /^(\d+) (\w+)$/

/** How many keys one step of a SCAN looks at: a few hundred microseconds of the server's time. */
const SCAN_COUNT = 1_000
const PAGE_COUNT = 200

export const createRedisSessionDirectory = (options: {
  readonly connection: RedisConnection
  readonly writes: Writes
  readonly journal: Journal
  readonly clock: Clock
}): SessionDirectory => {
  const { connection, writes, journal, clock } = options
  const { keys, run } = connection
  const enter = writes.script('cc_enter', 1, ENTER)
  const mark = writes.script('cc_mark', 1, MARK)
  const entryName = (index: SessionIndex, digest: SessionDigest) => `${keys.index(index)} ${digest}`

  return {
    enter: async (index, digest, absoluteExpiresAt, now) => {
      const sent = [
        [keys.index(index)],
        [digest, absoluteExpiresAt, now - RECORD_GRACE_MS],
      ] as const
      const sentIn = journal.epoch()
      const { isConfirmed } = await enter.send(...sent)
      if (!isConfirmed) throw notConfirmed()
      const again = async () =>
        clock.now() < recordExpiresAt(absoluteExpiresAt) && (await enter.again(...sent)) === 1
      journal.keep({ stage: 'entry', name: entryName(index, digest), bytes: 0, again }, sentIn)
    },

    leave: async (index, digest) => {
      journal.forget(entryName(index, digest))
      await run((client) => client.zrem(keys.index(index), digest))
    },

    list: async (index, cursor = '0') => {
      if (!/^\d{1,20}$/.test(cursor)) throw noCursor()
      const [next, entries] = await run((client) =>
        client.zscan(keys.index(index), cursor, 'COUNT', PAGE_COUNT),
      )
      // Members and scores take turns.
      const members = entries.filter((_, place) => place % 2 === 0)
      return { digests: members as SessionDigest[], next: next === '0' ? undefined : next }
    },

    // A cursor is the place of a master among the masters, and that master's own cursor.
    listAll: async (cursor = '0-0') => {
      const [, place, position] = /^(\d{1,4})-(\d{1,20})$/.exec(cursor) ?? []
      if (place === undefined || position === undefined) throw noCursor()
      return connection.withMasters(async (masters) => {
        const master = masters[Number(place)]
        if (master === undefined) return { digests: [], next: undefined }
        const [next, found] = await master.scan(
          position,
          'MATCH',
          keys.everyRecord,
          'COUNT',
          SCAN_COUNT,
        )
        const digests = found.flatMap((key) => keys.digestOf(key) ?? [])
        if (next !== '0') return { digests, next: `${place}-${next}` }
        const following = Number(place) + 1
        return { digests, next: following < masters.length ? `${following}-0` : undefined }
      })
    },

    markEnded: async (index, { at, reason }) => {
      const name = keys.mark(index)
      const sent = [[name], [at, reason]] as const
      const again = async () => (await mark.again(...sent)) === 1
      const sentIn = journal.epoch()
      const keep = (outcome: 'written' | 'asked_for') =>
        journal.keep({ stage: 'end', name, outcome, bytes: 0, again }, sentIn)
      const { isConfirmed } = await mark.send(...sent).catch((thrown: unknown) => {
        keep('asked_for')
        throw thrown
      })
      keep('written')
      if (!isConfirmed) throw notConfirmed()
    },

    // One command each: indices lie in different slots.
    endedBefore: async (indices) => {
      const marks = await Promise.all(
        indices.map((index) => run((client) => client.get(keys.mark(index)))),
      )
      return latest(marks.flatMap((text) => readMark(text) ?? []))
    },
  }
}

const readMark = (text: string | null): EndedBefore | undefined => {
  const [, at, reason] = MARK_FORM.exec(text ?? '') ?? []
  return at === undefined ? undefined : { at: epochMs(Number(at)), reason: knownReason(reason) }
}

const latest = (marks: readonly EndedBefore[]): EndedBefore | undefined =>
  marks.toSorted((one, other) => other.at - one.at)[0]

const noCursor = (): GatewayError => new GatewayError('request_invalid', { reason: 'cursor' })
