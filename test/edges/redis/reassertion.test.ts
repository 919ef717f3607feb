/**
 * What was written again after the store lost it: each case against what else may have happened meanwhile. A failover
 * is stood in for by keys that are set back, and a connection that is cut; failover-losses.test.ts has real ones.
 */

import { describe, expect, it } from 'vitest'
import { createKeyNames } from '../../../src/edges/redis/keys.ts'
import type { SessionDigest } from '../../../src/session/session.ts'
import type { SessionIndex } from '../../../src/session/session-index.ts'
import { type Clock, epochMs, milliseconds, systemClock } from '../../../src/time.ts'
import { newIndex } from '../../contract/session-directory.contract.ts'
import {
  HOUR_MS,
  MINUTE_MS,
  newAttemptId,
  newDigest,
  newRecord,
} from '../../contract/session-store.contract.ts'
import { waitFor } from '../../support/wait.ts'
import {
  type ConnectedStores,
  connect,
  connectPlainly,
  oneHourRecord,
  ownKeys,
  refusal,
  start,
} from './connected.ts'

const keys = createKeyNames('test0001')
const PATIENT = { commandTimeout: milliseconds(5_000) }

const setUp = async () => {
  const server = await start()
  const admin = connectPlainly(server.url)
  const connected = async () => {
    const of = connect(server.url, PATIENT)
    await of.health.ping()
    const ids = [...String(await admin.client('LIST')).matchAll(/^id=(\d+) .* name=coatcheck /gm)]
    return [of, ids.at(-1)?.[1] ?? ''] as const
  }
  const [stores, storesId] = await connected()
  const [others, othersId] = await connected()
  const ids = { stores: storesId, others: othersId }
  // Wrote nothing, and so puts nothing right: it sees what is there.
  const [witness] = await connected()

  const reasserted = (of: ConnectedStores) =>
    of.events.filter((event) => event.type === 'store_reasserted')
  /** Every connection but this one is cut, and both gateways have written again what they had to. */
  const reconnect = async (...who: readonly ConnectedStores[]) => {
    const before = who.map((of) => reasserted(of).length)
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('all was written again', () =>
      who.every((of, index) => reasserted(of).length > (before[index] ?? 0)),
    )
    return who.map((of) => reasserted(of).at(-1))
  }
  /** The same for one of them alone. */
  const reconnectOnly = async (which: 'stores' | 'others') => {
    const of = which === 'stores' ? stores : others
    const before = reasserted(of).length
    expect(await admin.call('CLIENT', 'KILL', 'ID', ids[which])).toBe(1)
    await waitFor('all was written again', () => reasserted(of).length > before)
  }
  const begin = async (of = stores) => {
    const digest = newDigest()
    const record = oneHourRecord()
    await of.sessions.create(digest, record, systemClock.now())
    return { digest, record }
  }
  const next = (record: { absoluteExpiresAt: number; generation: number }) =>
    newRecord(epochMs(record.absoluteExpiresAt), record.generation + 1)
  /** Everything of the session becomes what it is now. */
  const snapshot = async (digest: SessionDigest) => {
    const names = Object.values(keys.session(digest))
    const dumps = await Promise.all(
      names.map(async (name) => ({
        name,
        dump: await admin.dumpBuffer(name),
        ttl: await admin.pttl(name),
      })),
    )
    return async () => {
      await admin.del(...names)
      for (const { name, dump, ttl } of dumps)
        if (dump !== null) await admin.restore(name, ttl, dump)
    }
  }
  const state = (digest: SessionDigest) => witness.sessions.load(digest)
  return { server, admin, stores, others, reconnect, reconnectOnly, begin, next, snapshot, state }
}

const generationOf = async (
  state: Promise<Awaited<ReturnType<ConnectedStores['sessions']['load']>>>,
) => {
  const known = await state
  return known.kind === 'live' ? known.record.generation : known.kind
}

describe('a sign-in that was lost', () => {
  it('is there again: record, activity and times', async () => {
    const { admin, stores, reconnect, begin, state } = await setUp()
    const { digest, record } = await begin()
    const { record: name, idle } = keys.session(digest)
    const before = [
      await admin.getBuffer(name),
      await admin.get(idle),
      await admin.pexpiretime(name),
    ]
    await admin.flushall()
    expect(await reconnect(stores)).toMatchObject([{ written: 1, lost: 1, lostEnds: 0 }])
    expect((await state(digest)).kind).toBe('live')
    expect([
      await admin.getBuffer(name),
      await admin.get(idle),
      await admin.pexpiretime(name),
    ]).toEqual(before)
    expect(await admin.pexpiretime(idle)).toBe(record.absoluteExpiresAt + 10 * MINUTE_MS)
  })

  it('is not written over where it was not lost', async () => {
    const { admin, stores, reconnect, begin } = await setUp()
    const { digest } = await begin()
    await admin.set(keys.idle(digest), '1')
    expect(await reconnect(stores)).toMatchObject([{ written: 1, lost: 0 }])
    expect(await admin.get(keys.idle(digest))).toBe('1')
  })

  it('stays dead where another process ended it', async () => {
    const { stores, others, reconnect, begin, state } = await setUp()
    const { digest } = await begin()
    await others.sessions.end(digest, 'admin', systemClock.now())
    await reconnect(stores, others)
    expect(await state(digest)).toMatchObject({ kind: 'ended', reason: 'admin' })
  })

  it.each([
    ['who wrote it', ['stores', 'others']],
    ['who ended it', ['others', 'stores']],
  ] as const)(
    'stays dead where record and tombstone were lost together, and comes first: %s',
    async (_, order) => {
      const { admin, others, reconnectOnly, begin, state } = await setUp()
      const { digest } = await begin()
      await others.sessions.end(digest, 'admin', systemClock.now())
      await admin.flushall()
      for (const which of order) await reconnectOnly(which)
      expect(await state(digest)).toMatchObject({ kind: 'ended', reason: 'admin' })
    },
  )

  it('stays away where this process saw that it had ended', async () => {
    const { admin, stores, others, begin, reconnect } = await setUp()
    const { digest } = await begin()
    await begin()
    await others.sessions.end(digest, 'admin', systemClock.now())
    await stores.sessions.load(digest)
    // The process that ended it is gone, and its tombstone is lost.
    await others.close()
    await admin.flushall()
    await reconnect(stores)
    // At first it is not known: others might have it.
    expect(await refusal(stores.sessions.load(digest))).toMatchObject({ reason: 'settling' })
    const state = await waitFor('it is known', () => stores.sessions.load(digest))
    expect(state).toEqual({ kind: 'absent' })
  })

  it('stays away once its time is over', async () => {
    let nowMs = Date.now()
    const clock = { ...systemClock, now: () => epochMs(nowMs) }
    const server = await start()
    const admin = connectPlainly(server.url)
    const stores = connect(server.url, { ...PATIENT, clock })
    const [digest, index] = [newDigest(), newIndex()]
    await stores.directory.enter(index, digest, epochMs(nowMs + HOUR_MS), epochMs(nowMs))
    await stores.sessions.create(digest, newRecord(epochMs(nowMs + HOUR_MS)), epochMs(nowMs))
    await admin.flushall()
    nowMs += HOUR_MS + 10 * MINUTE_MS
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('all was gone through', () =>
      stores.events.some((event) => event.type === 'store_reasserted' && event.written === 2),
    )
    expect(await ownKeys(admin)).toEqual([])
  })
})

describe('what another process has still to write again', () => {
  const rewound = async () => {
    const set = await setUp()
    const { digest, record } = await set.begin(set.others)
    await set.admin.flushall()
    // Only this one is connected again.
    await set.others.close()
    await set.admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('the store answers', () => set.stores.health.ping().then(() => true))
    return { ...set, digest, record }
  }

  it('is not read as absent', async () => {
    const { stores, digest } = await rewound()
    expect(await refusal(stores.sessions.load(digest))).toMatchObject({
      code: 'store_unavailable',
      reason: 'settling',
    })
  })

  it('is not what an end finds missing: it is made after all', async () => {
    const { admin, stores, digest } = await rewound()
    const end = () => stores.sessions.end(digest, 'logout', systemClock.now())
    expect(await refusal(end())).toMatchObject({ reason: 'settling' })
    await waitFor('it is over', () => admin.exists(keys.record(digest)))
    expect(await waitFor('it is known', end)).toBe('already_ended')
  })

  it('does not make a refresh of it void', async () => {
    const { stores, digest, record, next } = await rewound()
    const replace = () => stores.sessions.replace(digest, 0, newAttemptId(), next(record))
    expect(await refusal(replace())).toMatchObject({ reason: 'settling' })
    expect(await waitFor('it is known', replace)).toBe('absent')
  })
})

describe('a refresh that was lost', () => {
  it('is there again, and attempt, window and pause of the former generation are gone', async () => {
    const { admin, stores, reconnect, begin, next, snapshot, state } = await setUp()
    const { digest, record } = await begin()
    const holder = { ...taking(), generation: 0 }
    await stores.lease.take(digest, holder)
    const setBack = await snapshot(digest)
    await stores.sessions.replace(digest, 0, holder.attemptId, next(record))
    await setBack()
    expect(await admin.exists(keys.session(digest).attempt)).toBe(1)
    expect(await reconnect(stores)).toMatchObject([{ written: 1, lost: 1 }])
    expect(await generationOf(state(digest))).toBe(1)
    const { lease, attempt, window, outcome, written } = keys.session(digest)
    expect(await admin.exists(lease, attempt, window, outcome)).toBe(0)
    expect(await admin.get(written)).toBe(holder.attemptId)
  })

  it('is there again where all of the session was lost', async () => {
    const { admin, stores, reconnect, begin, next, state } = await setUp()
    const { digest, record } = await begin()
    await stores.sessions.replace(digest, 0, newAttemptId(), next(record))
    await admin.flushall()
    await reconnect(stores)
    expect(await generationOf(state(digest))).toBe(1)
    const expiresAt = record.absoluteExpiresAt + 10 * MINUTE_MS
    expect(await admin.pexpiretime(keys.record(digest))).toBe(expiresAt)
  })

  it.each([
    ['first', ['stores', 'others']],
    ['last', ['others', 'stores']],
  ] as const)('gives way to a newer generation of another process, coming %s', async (_, order) => {
    const { admin, stores, others, reconnectOnly, begin, next, state } = await setUp()
    const { digest, record } = await begin()
    const second = next(record)
    const third = next(second)
    await stores.sessions.replace(digest, 0, newAttemptId(), second)
    await others.sessions.replace(digest, 1, newAttemptId(), third)
    await admin.flushall()
    for (const which of order) await reconnectOnly(which)
    expect(await generationOf(state(digest))).toBe(2)
  })

  it('leaves the same generation by another process alone', async () => {
    const { stores, others, reconnect, begin, next, snapshot, state } = await setUp()
    const { digest, record } = await begin()
    const setBack = await snapshot(digest)
    await stores.sessions.replace(digest, 0, newAttemptId(), next(record))
    await setBack()
    const theirs = next(record)
    await others.sessions.replace(digest, 0, newAttemptId(), theirs)
    await reconnect(stores)
    const known = await state(digest)
    expect(known).toMatchObject({ kind: 'live' })
    if (known.kind === 'live') expect(Buffer.compare(known.record.sealed, theirs.sealed)).toBe(0)
  })

  it('brings nothing back that another process ended', async () => {
    const { stores, others, reconnect, begin, next, snapshot, state } = await setUp()
    const { digest, record } = await begin()
    const setBack = await snapshot(digest)
    await stores.sessions.replace(digest, 0, newAttemptId(), next(record))
    await setBack()
    await others.sessions.end(digest, 'backchannel_logout', systemClock.now())
    await reconnect(stores)
    expect(await state(digest)).toMatchObject({ kind: 'ended', reason: 'backchannel_logout' })
  })
})

describe('an end that was lost', () => {
  it('is there again, and nothing else of the session', async () => {
    const { admin, stores, reconnect, begin, snapshot, state } = await setUp()
    const { digest } = await begin()
    const setBack = await snapshot(digest)
    const endedAt = systemClock.now()
    await stores.sessions.end(digest, 'logout', endedAt)
    const expiresAt = await admin.pexpiretime(keys.record(digest))
    await setBack()
    expect(await reconnect(stores)).toMatchObject([{ written: 1, lost: 1, lostEnds: 1 }])
    expect(await state(digest)).toEqual({ kind: 'ended', reason: 'logout', endedAt })
    expect(await ownKeys(admin)).toEqual([keys.record(digest)])
    expect(await admin.pexpiretime(keys.record(digest))).toBe(expiresAt)
    // The one event was emitted by whoever ended it.
    expect(stores.events.filter(({ type }) => type === 'session_ended')).toEqual([])
  })

  it('is there again though it was asked for twice, as by two tabs at once', async () => {
    const { stores, reconnect, begin, snapshot, state } = await setUp()
    const { digest } = await begin()
    const setBack = await snapshot(digest)
    expect(await stores.sessions.end(digest, 'logout', systemClock.now())).toBe('ended')
    expect(await stores.sessions.end(digest, 'logout', systemClock.now())).toBe('already_ended')
    await setBack()
    await reconnect(stores)
    expect(await state(digest)).toMatchObject({ kind: 'ended', reason: 'logout' })
  })

  it('beats a newer generation that another process has', async () => {
    const { stores, others, reconnect, begin, next, snapshot, state } = await setUp()
    const { digest, record } = await begin()
    const setBack = await snapshot(digest)
    await stores.sessions.end(digest, 'logout', systemClock.now())
    await setBack()
    await others.sessions.replace(digest, 0, newAttemptId(), next(record))
    await reconnect(stores, others)
    expect(await state(digest)).toMatchObject({ kind: 'ended', reason: 'logout' })
  })
})

describe('an end whose answer never came', () => {
  const endInVain = async (reason: 'logout' | 'idle') => {
    const set = await setUp()
    const impatient = connect(set.server.url)
    await impatient.health.ping()
    const { digest } = await set.begin(set.others)
    await set.admin.client('PAUSE', 60_000, 'WRITE')
    await expect(impatient.sessions.end(digest, reason, systemClock.now())).rejects.toMatchObject({
      code: 'store_unavailable',
      reason: 'timeout',
    })
    // The command goes with its connection.
    await set.admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await set.admin.client('UNPAUSE')
    return { ...set, digest, impatient }
  }

  it('is made after all where somebody asked for it, and told of', async () => {
    const { digest, impatient, state } = await endInVain('logout')
    await waitFor('the session is over', async () => (await state(digest)).kind === 'ended')
    const told = impatient.events.filter(({ type }) => type === 'session_ended')
    expect(told).toEqual([
      { type: 'session_ended', session: digest.slice(0, 12), reason: 'logout' },
    ])
  })

  it('is made without any reconnect, too', async () => {
    const { admin, server, others, begin, state } = await setUp()
    const impatient = connect(server.url)
    await impatient.health.ping()
    const [{ digest }, index] = [await begin(others), newIndex()]
    const mark = { at: systemClock.now(), reason: 'admin' } as const
    // Takes no writes for a while, and keeps every connection.
    await admin.config('SET', 'maxmemory', '1')
    await expect(impatient.sessions.end(digest, 'logout', systemClock.now())).rejects.toMatchObject(
      { reason: 'out_of_memory' },
    )
    await expect(impatient.directory.markEnded(index, mark)).rejects.toMatchObject({
      reason: 'out_of_memory',
    })
    await admin.config('SET', 'maxmemory', '0')
    await waitFor('the session is over', async () => (await state(digest)).kind === 'ended')
    await waitFor('the mark is there', () => others.directory.endedBefore([index]))
    expect(await others.directory.endedBefore([index])).toEqual(mark)
  })

  it('is not where it only followed from what the store said', async () => {
    const { digest, impatient, state } = await endInVain('idle')
    await impatient.sessions.create(newDigest(), oneHourRecord(), systemClock.now())
    await impatient.health.ping()
    expect((await state(digest)).kind).toBe('live')
    expect(impatient.events.filter(({ type }) => type === 'session_ended')).toEqual([])
  })
})

describe('indices', () => {
  const listed = async (stores: ConnectedStores, index: SessionIndex) =>
    (await stores.directory.list(index, undefined)).digests

  it('have their entries again, with their times', async () => {
    const { admin, stores, others, reconnect } = await setUp()
    const [index, digest] = [newIndex(), newDigest()]
    const expiresAt = epochMs(systemClock.now() + HOUR_MS)
    await stores.directory.enter(index, digest, expiresAt, systemClock.now())
    await admin.flushall()
    expect(await reconnect(stores)).toMatchObject([{ written: 1, lost: 1, lostEnds: 0 }])
    expect(await listed(others, index)).toEqual([digest])
    expect(await admin.pexpiretime(keys.index(index))).toBe(expiresAt + 10 * MINUTE_MS)
  })

  it('do not have those that were taken out', async () => {
    const { admin, stores, others, reconnect } = await setUp()
    const [index, [left, kept]] = [newIndex(), [newDigest(), newDigest()]]
    const expiresAt = epochMs(systemClock.now() + HOUR_MS)
    for (const digest of [left, kept])
      await stores.directory.enter(index, digest, expiresAt, systemClock.now())
    await stores.directory.leave(index, left)
    await admin.flushall()
    await reconnect(stores)
    expect(await listed(others, index)).toEqual([kept])
  })

  it('have their marks again, and never an earlier one over a later one', async () => {
    const { admin, stores, others, reconnect } = await setUp()
    const [lost, later] = [newIndex(), newIndex()]
    const mark = { at: systemClock.now(), reason: 'admin' } as const
    const theirs = { at: epochMs(mark.at + 1), reason: 'backchannel_logout' } as const
    await stores.directory.markEnded(lost, mark)
    await stores.directory.markEnded(later, mark)
    await admin.flushall()
    await others.directory.markEnded(later, theirs)
    expect(await reconnect(stores)).toMatchObject([{ written: 2, lost: 1, lostEnds: 1 }])
    expect(await others.directory.endedBefore([lost])).toEqual(mark)
    expect(await others.directory.endedBefore([later])).toEqual(theirs)
  })
})

describe('whoever reads before all was written again', () => {
  it('meets no session that it ended itself', async () => {
    const { stores, begin, snapshot } = await setUp()
    const { digest } = await begin()
    const setBack = await snapshot(digest)
    await stores.sessions.end(digest, 'logout', systemClock.now())
    await setBack()
    // Not even that the connection was lost is known.
    expect(await stores.sessions.load(digest)).toMatchObject({ kind: 'ended', reason: 'logout' })
    await waitFor('the operator is told', () => stores.events.length > 0)
    expect(stores.events).toMatchObject([{ type: 'store_reasserted', lost: 1, lostEnds: 1 }])
  })

  it('meets no session that it ended itself, though a repetition of that end failed', async () => {
    const { server, admin, begin, snapshot } = await setUp()
    const impatient = connect(server.url)
    await impatient.health.ping()
    const { digest } = await begin()
    const setBack = await snapshot(digest)
    const end = () => impatient.sessions.end(digest, 'logout', systemClock.now())
    await end()
    await admin.client('PAUSE', 60_000, 'WRITE')
    const mark = { at: systemClock.now(), reason: 'admin' } as const
    await Promise.all([refusal(end()), refusal(impatient.directory.markEnded(newIndex(), mark))])
    await admin.client('UNPAUSE')
    await waitFor('what was asked for is made', () => impatient.events.length > 0)
    await setBack()
    expect(await impatient.sessions.load(digest)).toMatchObject({ kind: 'ended', reason: 'logout' })
  })

  it('meets no generation that it has replaced itself', async () => {
    const { stores, begin, next, snapshot } = await setUp()
    const { digest, record } = await begin()
    const setBack = await snapshot(digest)
    await stores.sessions.replace(digest, 0, newAttemptId(), next(record))
    await setBack()
    expect(await generationOf(stores.sessions.load(digest))).toBe(1)
  })

  it('finds a record missing that was deleted while the store lost nothing', async () => {
    const { admin, stores, begin } = await setUp()
    const { digest } = await begin()
    await admin.del(keys.record(digest))
    expect(await stores.sessions.load(digest)).toEqual({ kind: 'absent' })
  })

  it('finds a sign-in of its own among thousands that are still to be written', async () => {
    const { admin, stores, begin } = await setUp()
    const sessions = await Promise.all(Array.from({ length: 2_000 }, () => begin()))
    await admin.flushall()
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    const last = sessions.at(-1)
    const state = await waitFor('the store answers', () =>
      last === undefined ? undefined : stores.sessions.load(last.digest),
    )
    expect(state.kind).toBe('live')
    await waitFor('the operator is told', () => stores.events.length > 0)
    expect(stores.events).toMatchObject([{ type: 'store_reasserted', lost: 2_000 }])
  })
})

describe('while the store is away again', () => {
  it('what is left is written once it comes', async () => {
    const { server, admin, stores, begin, state } = await setUp()
    const { digest } = await begin()
    await server.kill()
    await server.restart()
    // Takes connections and no writes: the first tries fail.
    await admin.call('REPLICAOF', '127.0.0.1', '1')
    await waitFor('a write was refused', () =>
      stores.once.claim(newDigest(), 60 as never).then(
        () => false,
        (error) => error.reason === 'read_only',
      ),
    )
    await admin.call('REPLICAOF', 'NO', 'ONE')
    await waitFor('it is there again', async () => (await state(digest)).kind === 'live')
  })

  it('an end that cannot be made, as where one master of a Cluster is missing, holds up no record', async () => {
    const { admin, stores, begin, state } = await setUp()
    const [hopeless, lost] = [newDigest(), await begin()]
    await admin.rpush(keys.record(hopeless), 'no record')
    await refusal(stores.sessions.end(hopeless, 'logout', systemClock.now()))
    await admin.del(keys.record(lost.digest))
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('it is there again', async () => (await state(lost.digest)).kind === 'live')
  })

  it('no pause between two tries outlasts the reconnect', async () => {
    const { server, admin, state } = await setUp()
    let pauses = 0
    const clock: Clock = {
      ...systemClock,
      sleep: (_, signal) => {
        pauses += 1
        return new Promise((resolve) => signal?.addEventListener('abort', () => resolve()))
      },
    }
    const stores = connect(server.url, { ...PATIENT, clock })
    const [hopeless, lost] = [newDigest(), newDigest()]
    await stores.sessions.create(lost, oneHourRecord(), systemClock.now())
    await admin.rpush(keys.record(hopeless), 'no record')
    await refusal(stores.sessions.end(hopeless, 'logout', systemClock.now()))
    await waitFor('the first try failed', () => pauses === 1)
    await admin.del(keys.record(lost))
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('it is there again', async () => (await state(lost)).kind === 'live')
  })
})

const taking = () => ({
  owner: newAttemptId(),
  attemptId: newAttemptId(),
  generation: 0,
  leaseTime: milliseconds(2_000),
  giveUpTime: milliseconds(7_000),
})

describe('a refresh in the air', () => {
  const inTheAir = async () => {
    const set = await setUp()
    const { digest, record } = await set.begin()
    const setBack = await set.snapshot(digest)
    const holder = taking()
    await set.stores.lease.take(digest, holder)
    return { ...set, digest, record, setBack, holder }
  }

  it('whose lease and attempt were lost has them again with its next renewal', async () => {
    const { admin, stores, others, digest, holder, setBack } = await inTheAir()
    await setBack()
    const remaining = { ...holder, giveUpTime: milliseconds(3_000) }
    expect(await stores.lease.renew(digest, remaining)).toBe(true)
    expect(await others.lease.take(digest, taking())).toEqual({ kind: 'busy' })
    const { lease, attempt, window } = keys.session(digest)
    expect(await admin.get(lease)).toBe(holder.owner)
    expect(await admin.get(attempt)).toBe(`0 ${holder.owner} ${holder.attemptId} 0`)
    expect(await admin.pttl(window)).toBeLessThanOrEqual(3_000)
  })

  it.each([
    ['somebody else has the lease', 'taken'],
    ['the generation moved', 'moved'],
    ['the session ended', 'ended'],
    ['the record was lost too', 'absent'],
  ] as const)('has nothing again where %s', async (_, what) => {
    const { admin, stores, others, digest, record, next, holder, setBack } = await inTheAir()
    await setBack()
    const successor = taking()
    if (what === 'taken') await others.lease.take(digest, successor)
    if (what === 'moved') await others.sessions.replace(digest, 0, newAttemptId(), next(record))
    if (what === 'ended') await others.sessions.end(digest, 'admin', systemClock.now())
    if (what === 'absent') await admin.flushall()
    expect(await stores.lease.renew(digest, holder)).toBe(false)
    const { lease, attempt } = keys.session(digest)
    expect(await admin.get(lease)).toBe(what === 'taken' ? successor.owner : null)
    expect(await admin.exists(attempt)).toBe(what === 'taken' ? 1 : 0)
  })

  it('comes before any other: for a moment after a reconnect nobody takes a lease', async () => {
    const { admin, others, digest, setBack } = await inTheAir()
    await setBack()
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await waitFor('the store answers', () => others.health.ping().then(() => true))
    const startedAt = performance.now()
    expect(await others.lease.take(digest, taking())).toEqual({ kind: 'busy' })
    expect(await admin.exists(keys.session(digest).lease)).toBe(0)
    await waitFor(
      'it may be taken',
      async () => (await others.lease.take(digest, taking())).kind === 'taken',
    )
    // A holder's own next renewal comes within 500 ms, and its result within a second.
    expect(performance.now() - startedAt).toBeGreaterThan(1_000)
  })
})
