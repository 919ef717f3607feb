/** Sessions in Redis: one command per read, one script per write. docs/session-data.md lists the keys. */

import {
  recordExpiresAt,
  type SessionStore,
  TOMBSTONE_LIFE_MS,
  WRITTEN_ATTEMPT_LIFE_MS,
} from '../../session/session-store.ts'
import { type EpochMs, epochMs } from '../../time.ts'
import type { RedisConnection } from './connection.ts'
import { unreadableAnswer } from './failure.ts'
import { READ_STORED_LUA, readStored, WRITE_TOMBSTONE_LUA, writeRecord } from './stored-form.ts'

const CREATE = `${READ_STORED_LUA}
local state = read(KEYS[1])
if state == 'live' then return 'created' end
if state ~= 'absent' then return state end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PXAT', ARGV[2])
return 'created'
`

const TOUCH = `${READ_STORED_LUA}
local state, _, deadline = read(KEYS[1])
if state ~= 'live' then return state end
local known = redis.call('GET', KEYS[2])
if not known or tonumber(known) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[2], ARGV[1], 'PXAT', expiry(deadline))
end
return state
`

// The lease goes only with its own attempt: that of a later taker is in use until the taker lets go of it.
const REPLACE = `${READ_STORED_LUA}
local state, generation = read(KEYS[1])
if state ~= 'live' then return state end
if generation == ARGV[5] and redis.call('GET', KEYS[6]) == ARGV[2] then return 'replaced' end
if generation ~= ARGV[1] then return 'moved' end
local owner, attemptId = string.match(redis.call('GET', KEYS[3]) or '', '^%d+ (%S+) (%S+) ')
if attemptId == ARGV[2] and redis.call('GET', KEYS[2]) == owner then redis.call('DEL', KEYS[2]) end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[5])
redis.call('SET', KEYS[1], ARGV[3], 'PXAT', ARGV[4])
redis.call('SET', KEYS[6], ARGV[2], 'PX', ${WRITTEN_ATTEMPT_LIFE_MS})
return 'replaced'
`

const RESEAL = `${READ_STORED_LUA}
local state, generation = read(KEYS[1])
if state == 'unreadable' then return state end
if state ~= 'live' or generation ~= ARGV[1] then return 'skipped' end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 'skipped' end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 'resealed'
`

const END = `${READ_STORED_LUA}${WRITE_TOMBSTONE_LUA}
local state, generation, deadline = read(KEYS[1])
if state == 'ended' then return 'already_ended' end
if state ~= 'live' then return state end
local expiresAt = math.min(tonumber(ARGV[1]) + ${TOMBSTONE_LIFE_MS}, tonumber(expiry(deadline)))
redis.call('SET', KEYS[1], tombstone(generation, deadline, ARGV[1], ARGV[2]), 'PXAT', string.format('%.0f', expiresAt))
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
return 'ended'
`

export const createRedisSessionStore = (connection: RedisConnection): SessionStore => {
  const { keys } = connection
  const create = connection.script('cc_create', 2, CREATE)
  const touch = connection.script('cc_touch', 2, TOUCH)
  const replace = connection.script('cc_replace', 6, REPLACE)
  const reseal = connection.script('cc_reseal', 3, RESEAL)
  const end = connection.script('cc_end', 7, END)

  return {
    create: async (digest, record, lastActivityAt) =>
      oneOf(
        ['created', 'ended'],
        await create(
          [keys.record(digest), keys.idle(digest)],
          [writeRecord(record), recordExpiresAt(record.absoluteExpiresAt), lastActivityAt],
        ),
      ),

    load: async (digest) => {
      const [value, idle] = await connection.run((client) =>
        client.mgetBuffer(keys.record(digest), keys.idle(digest)),
      )
      if (value === null || value === undefined) return { kind: 'absent' }
      const stored = readStored(value)
      if (stored === undefined) throw unreadableAnswer('record')
      return stored.kind === 'live' ? { ...stored, lastActivityAt: activityFrom(idle) } : stored
    },

    touch: async (digest, lastActivityAt) => {
      oneOf(
        ['live', 'ended', 'absent'],
        await touch([keys.record(digest), keys.idle(digest)], [lastActivityAt]),
      )
    },

    replace: async (digest, expectedGeneration, attemptId, record) => {
      const { lease, attempt, window, outcome, written, ...of } = keys.session(digest)
      return oneOf(
        ['replaced', 'moved', 'ended', 'absent'],
        await replace(
          [of.record, lease, attempt, window, outcome, written],
          [
            expectedGeneration,
            attemptId,
            writeRecord(record),
            recordExpiresAt(record.absoluteExpiresAt),
            record.generation,
          ],
        ),
      )
    },

    reseal: async (digest, record) => {
      const of = keys.session(digest)
      return oneOf(
        ['resealed', 'skipped'],
        await reseal(
          [of.record, of.lease, of.attempt],
          [record.generation, writeRecord(record), recordExpiresAt(record.absoluteExpiresAt)],
        ),
      )
    },

    end: async (digest, reason, endedAt) => {
      const of = keys.session(digest)
      return oneOf(
        ['ended', 'already_ended', 'absent'],
        await end(
          [of.record, of.idle, of.lease, of.attempt, of.window, of.outcome, of.written],
          [endedAt, reason],
        ),
      )
    },
  }
}

/** A script's answer as one of the words that this call can have; `unreadable` and anything else is none. */
const oneOf = <const Word extends string>(words: readonly Word[], answer: unknown): Word => {
  const word = words.find((candidate) => candidate === answer)
  if (word === undefined) throw unreadableAnswer('record')
  return word
}

const activityFrom = (idle: Buffer | null | undefined): EpochMs | undefined => {
  const instant = idle?.toString('latin1') ?? ''
  return /^\d+$/.test(instant) ? epochMs(Number(instant)) : undefined
}
