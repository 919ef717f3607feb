/**
 * Sessions in Redis: one command for reads that come at once, one script per write, and what was written kept in the
 * journal. docs/session-data.md lists the keys.
 */

import type { EndReason } from '../../events.ts'
import type { SessionDigest } from '../../session/session.ts'
import {
  RECORD_GRACE_MS,
  recordExpiresAt,
  type SessionStore,
  type StoredState,
  tombstoneExpiresAt,
  WRITTEN_ATTEMPT_LIFE_MS,
} from '../../session/session-store.ts'
import { type Clock, type EpochMs, epochMs } from '../../time.ts'
import type { RedisConnection } from './connection.ts'
import { notConfirmed, storeUnavailable, unreadableAnswer } from './failure.ts'
import { createGatheredReads } from './gathered-reads.ts'
import type { Journal, JournalEntry } from './journal.ts'
import type { Settling } from './settling.ts'
import { BURY_LUA, READ_STORED_LUA, readStored, writeRecord } from './stored-form.ts'
import type { Writes } from './writes.ts'

const CREATE = `${READ_STORED_LUA}
local state = read(KEYS[1])
if state == 'live' then return 'present' end
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

// The lease goes only with its own attempt: that of a later taker is in use until the taker lets go of it. Without a
// record there is nothing to replace, unless it was here before and is written again.
const REPLACE = `${READ_STORED_LUA}
local state, generation = read(KEYS[1])
if state == 'absent' and ARGV[6] then generation = ARGV[1]
elseif state ~= 'live' then return state end
if generation == ARGV[5] and redis.call('GET', KEYS[6]) == ARGV[2] then return 'repeated' end
if tonumber(generation) > tonumber(ARGV[1]) then return 'moved' end
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

// With generation and deadline it is written again, and lies then also where the record was lost with it: whoever
// still has the record must find it.
const END = `${READ_STORED_LUA}${BURY_LUA}
local state, generation, deadline = read(KEYS[1])
if state == 'ended' then return { 'already_ended' } end
if state == 'absent' and ARGV[3] then generation, deadline = ARGV[3], ARGV[4]
elseif state ~= 'live' then return { state } end
bury(KEYS, generation, deadline, ARGV[1], ARGV[2])
return { state == 'live' and 'ended' or 'buried', generation, deadline }
`

/**
 * Ends that somebody asked for and was told had failed: made after the outage, which is what they wanted. Others
 * follow from what the store says, and do so again or not at all; one at a login that failed was called off.
 */
const ASKED_FOR: readonly EndReason[] = [
  'logout',
  'ended_elsewhere',
  'backchannel_logout',
  'frontchannel_logout',
  'admin',
]

export interface RedisSessionStoreOptions {
  readonly connection: RedisConnection
  readonly writes: Writes
  readonly journal: Journal
  readonly settling: Settling
  readonly clock: Clock
  /** A session was ended by a call that was told it had failed. */
  readonly endedUntold: (digest: SessionDigest, reason: EndReason) => void
}

export const createRedisSessionStore = (options: RedisSessionStoreOptions): SessionStore => {
  const { connection, writes, journal, settling, clock, endedUntold } = options
  const { keys } = connection
  const readPair = createGatheredReads(connection)
  const create = writes.script('cc_create', 2, CREATE)
  const touch = connection.script('cc_touch', 2, TOUCH)
  const replace = writes.script('cc_replace', 6, REPLACE)
  const reseal = connection.script('cc_reseal', 3, RESEAL)
  const end = writes.script('cc_end', 7, END)

  /** A key that would be gone already is not written again. */
  const isForgotten = (expiresAt: EpochMs): boolean => clock.now() >= expiresAt

  const read = async (digest: SessionDigest): Promise<StoredState> => {
    const [value, idle] = await readPair(digest)
    if (value === null) return { kind: 'absent' }
    const stored = readStored(value)
    if (stored === undefined) throw unreadableAnswer('record')
    return stored.kind === 'live' ? { ...stored, lastActivityAt: activityFrom(idle) } : stored
  }

  /** A record that is missing while others may still be writing theirs again is not known to be absent. */
  const whereSettled = <T>(answer: T): T => {
    if (settling.isUnderWay()) throw storeUnavailable('settling')
    return answer
  }

  /** The session is over. An end of its own stays: a failover may still lose it. */
  const forgetRecord = (known: JournalEntry | undefined) => {
    if (known?.stage === 'record') journal.forget(known.name)
  }

  /**
   * Whether the store lacks what this process knows it had. A missing record alone says nothing: it may have been
   * deleted, unless the store may have lost writes.
   */
  const isBehind = (state: StoredState, known: JournalEntry): boolean => {
    if (isEndedHere(known)) return state.kind === 'live'
    if (known.stage !== 'record') return false
    if (state.kind === 'live') return state.record.generation < known.generation
    if (state.kind === 'ended') return false
    connection.lookForMasters()
    return journal.isDoubted(known)
  }

  return {
    create: async (digest, record, lastActivityAt) => {
      const name = keys.record(digest)
      const value = writeRecord(record)
      const expiresAt = recordExpiresAt(record.absoluteExpiresAt)
      const sent = [
        [name, keys.idle(digest)],
        [value, expiresAt, lastActivityAt],
      ] as const
      const sentIn = journal.epoch()
      const { answer, isConfirmed } = await create.send(...sent)
      if (oneOf(['created', 'present', 'ended'], answer) === 'ended') return 'ended'
      // Nobody will have its cookie: it is not worth keeping.
      if (!isConfirmed) throw notConfirmed()
      journal.keep(
        {
          stage: 'record',
          name,
          generation: record.generation,
          bytes: value.byteLength,
          again: async () => !isForgotten(expiresAt) && (await create.again(...sent)) === 'created',
        },
        sentIn,
      )
      return 'created'
    },

    // Whoever reads before all is written again meets nothing that this process knows to be lost.
    load: async (digest) => {
      const state = await read(digest)
      const known = journal.find(keys.record(digest))
      if (state.kind === 'ended') forgetRecord(known)
      if (known !== undefined && isBehind(state, known)) {
        if (!journal.isDoubted(known)) journal.doubt()
        await journal.restore(known)
        return read(digest)
      }
      return state.kind === 'absent' ? whereSettled(state) : state
    },

    touch: async (digest, lastActivityAt) => {
      oneOf(
        ['live', 'ended', 'absent'],
        await touch([keys.record(digest), keys.idle(digest)], [lastActivityAt]),
      )
    },

    replace: async (digest, expectedGeneration, attemptId, record) => {
      const { lease, attempt, window, outcome, written, ...of } = keys.session(digest)
      const all = [of.record, lease, attempt, window, outcome, written]
      const value = writeRecord(record)
      const expiresAt = recordExpiresAt(record.absoluteExpiresAt)
      const sent = [expectedGeneration, attemptId, value, expiresAt, record.generation]
      const sentIn = journal.epoch()
      const { answer, isConfirmed } = await replace.send(all, sent)
      const word = oneOf(['replaced', 'repeated', 'moved', 'ended', 'absent'], answer)
      if (word === 'absent') return whereSettled(word)
      if (word !== 'replaced' && word !== 'repeated') return word
      journal.keep(
        {
          stage: 'record',
          name: of.record,
          generation: record.generation,
          bytes: value.byteLength,
          again: async () =>
            !isForgotten(expiresAt) &&
            (await replace.again(all, [...sent, 'again'])) === 'replaced',
        },
        sentIn,
      )
      if (!isConfirmed) throw notConfirmed()
      return 'replaced'
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
      const all = [of.record, of.idle, of.lease, of.attempt, of.window, of.outcome, of.written]
      const sent = [endedAt, reason]
      const sentIn = journal.epoch()
      const keep = (outcome: 'written' | 'asked_for', generation: number, deadline: EpochMs) =>
        journal.keep(
          {
            stage: 'end',
            name: of.record,
            outcome,
            bytes: 0,
            again: async () => {
              if (isForgotten(tombstoneExpiresAt(endedAt, deadline))) return false
              const [word] = wordsOf(await end.again(all, [...sent, generation, deadline]))
              if (word === 'ended' && outcome === 'asked_for') endedUntold(digest, reason)
              return word === 'ended' || word === 'buried'
            },
          },
          sentIn,
        )

      // Nothing is known of the record; a tombstone without one stays until nobody has it any more.
      const inVain = (thrown: unknown): never => {
        if (ASKED_FOR.includes(reason) && !isEndedHere(journal.find(of.record)))
          keep('asked_for', 0, epochMs(endedAt + RECORD_GRACE_MS))
        throw thrown
      }

      const { answer, isConfirmed } = await end.send(all, sent).catch(inVain)
      const [word, generation, deadline] = wordsOf(answer)
      const outcome = oneOf(['ended', 'already_ended', 'absent'], word)
      if (outcome === 'ended') keep('written', Number(generation), epochMs(Number(deadline)))
      else forgetRecord(journal.find(of.record))
      if (outcome === 'absent' && settling.isUnderWay()) return inVain(storeUnavailable('settling'))
      if (isConfirmed) return outcome
      if (outcome === 'ended') endedUntold(digest, reason)
      throw notConfirmed()
    },
  }
}

const isEndedHere = (known: JournalEntry | undefined): boolean =>
  known?.stage === 'end' && known.outcome === 'written'

const wordsOf = (answer: unknown): readonly unknown[] => (Array.isArray(answer) ? answer : [])

/** A script's answer as one of the words that this call can have; `unreadable` and anything else is none. */
const oneOf = <const Word extends string>(words: readonly Word[], answer: unknown): Word => {
  const word = words.find((candidate) => candidate === answer)
  if (word === undefined) throw unreadableAnswer('record')
  return word
}

const activityFrom = (idle: Buffer | null): EpochMs | undefined => {
  const instant = idle?.toString('latin1') ?? ''
  return /^\d+$/.test(instant) ? epochMs(Number(instant)) : undefined
}
