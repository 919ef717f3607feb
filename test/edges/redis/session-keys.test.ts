/** What lies in Redis: names, forms and times of keys, as docs/session-data.md says. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createKeyNames, storeNamespace } from '../../../src/edges/redis/keys.ts'
import type { RedisStores } from '../../../src/edges/redis/stores.ts'
import { epochMs, milliseconds, seconds } from '../../../src/time.ts'
import { newIndex } from '../../contract/session-directory.contract.ts'
import {
  HOUR_MS,
  MINUTE_MS,
  newAttemptId,
  newDigest,
  newRecord,
} from '../../contract/session-store.contract.ts'
import { compareWithPage, documentedKeys } from '../../support/documented-keys.ts'
import { ownKeys } from './connected.ts'
import { makeRedisRig, NAMESPACE, type RedisRig } from './redis-rig.ts'

let rig: RedisRig
let stores: RedisStores
beforeAll(async () => {
  rig = await makeRedisRig()
  stores = rig.gateways[0]
})
afterAll(() => rig.close())
beforeEach(() => rig.server.flush())

const begin = async () => {
  const digest = newDigest()
  const absoluteExpiresAt = epochMs(rig.now() + HOUR_MS)
  await stores.sessions.create(digest, newRecord(absoluteExpiresAt), rig.now())
  return { digest, absoluteExpiresAt, keys: createKeyNames(NAMESPACE).session(digest) }
}
const taking = () => ({
  owner: newAttemptId(),
  attemptId: newAttemptId(),
  generation: 0,
  leaseTime: milliseconds(2_000),
  giveUpTime: milliseconds(7_000),
})

describe('the namespace', () => {
  it('is eight characters of issuer and client id, and stays what it is', () => {
    expect(storeNamespace('https://id.example.com', 'spa')).toBe('byjFl2zd')
  })

  it('differs for every other pair, also where the joined text is the same', () => {
    const namespaces = [
      storeNamespace('https://id.example.com', 'spa'),
      storeNamespace('https://id.example.com', 'spa2'),
      storeNamespace('https://id.example.org', 'spa'),
      storeNamespace('https://id.example.coms', 'pa'),
    ]
    expect(new Set(namespaces).size).toBe(namespaces.length)
  })
})

describe('a lost activity key', () => {
  it('reads as unknown beside a live record and is made anew, with an end', async () => {
    const { digest, keys, absoluteExpiresAt } = await begin()
    await rig.client.del(keys.idle)
    expect(await stores.sessions.load(digest)).toMatchObject({
      kind: 'live',
      lastActivityAt: undefined,
    })
    const activeAt = rig.now()
    await stores.sessions.touch(digest, activeAt)
    expect(await stores.sessions.load(digest)).toMatchObject({ lastActivityAt: activeAt })
    expect(await rig.client.pexpiretime(keys.idle)).toBe(absoluteExpiresAt + 10 * MINUTE_MS)
  })

  it('is not made beside a tombstone', async () => {
    const { digest, keys } = await begin()
    await stores.sessions.end(digest, 'logout', rig.now())
    await stores.sessions.touch(digest, rig.now())
    expect(await ownKeys(rig.client)).toEqual([keys.record])
  })
})

describe('what scripts write', () => {
  it('has the form that the page says: tombstone and mark', async () => {
    const { digest, keys } = await begin()
    const absoluteExpiresAt = rig.now() + HOUR_MS
    const endedAt = rig.now()
    await stores.sessions.end(digest, 'backchannel_logout', endedAt)
    const [, deadline] =
      /^1e 0 (\d+) (\d+) backchannel_logout\n$/.exec((await rig.client.get(keys.record)) ?? '') ??
      []
    expect(Math.abs(Number(deadline) - absoluteExpiresAt)).toBeLessThan(MINUTE_MS)
    const index = newIndex()
    await stores.directory.markEnded(index, { at: endedAt, reason: 'admin' })
    expect(await rig.client.get(createKeyNames(NAMESPACE).mark(index))).toBe(`${endedAt} admin`)
  })
})

describe('a record of another release', () => {
  it.each([
    ['a later version', '2r 0 1790000000000 0\nsealed'],
    ['an unknown kind', '1x 0 1790000000000 0\nsealed'],
    ['no header', 'garbage'],
    ['a header that says more than there is', '1r 0 1790000000000 999\nsealed'],
    ['only a line', '\n'],
  ])('is never read as absent: %s', async (_, value) => {
    const { digest, keys } = await begin()
    await rig.client.set(keys.record, value)
    await expect(stores.sessions.load(digest)).rejects.toMatchObject({
      code: 'store_unavailable',
      reason: 'record_unreadable',
    })
  })

  it('is written over by nobody', async () => {
    const { digest, keys } = await begin()
    const value = '2r 0 1790000000000 0\nsealed'
    await rig.client.set(keys.record, value)
    const record = newRecord(epochMs(rig.now() + HOUR_MS), 1)
    const { sessions, lease } = stores
    for (const call of [
      () => sessions.create(digest, record, rig.now()),
      () => sessions.touch(digest, rig.now()),
      () => sessions.replace(digest, 0, newAttemptId(), record),
      () => sessions.reseal(digest, record),
      () => sessions.end(digest, 'logout', rig.now()),
      () => lease.take(digest, taking()),
    ])
      await expect(call()).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(await rig.client.get(keys.record)).toBe(value)
  })

  it('may be ended for a reason that this one does not know: it counts as a sign-out', async () => {
    const { digest, keys } = await begin()
    await rig.client.set(keys.record, '1e 3 1790000000000 1780000000000 revoked_by_admin\n')
    expect(await stores.sessions.load(digest)).toEqual({
      kind: 'ended',
      reason: 'logout',
      endedAt: 1_780_000_000_000,
    })
  })
})

describe('docs/session-data.md', () => {
  // The sessions here have an absolute lifetime of an hour.
  const rows = documentedKeys(NAMESPACE, HOUR_MS)

  /** A life with everything in it: refreshed, abandoned, unavailable, resealed and ended sessions. */
  const live = async () => {
    const { sessions, directory, lease, once } = stores
    const holder = taking()
    const refreshed = await begin()
    await lease.take(refreshed.digest, holder)
    await sessions.replace(
      refreshed.digest,
      0,
      holder.attemptId,
      newRecord(refreshed.absoluteExpiresAt, 1),
    )
    await sessions.touch(refreshed.digest, epochMs(rig.now() + 1))
    await lease.take((await begin()).digest, taking())
    const unavailable = await begin()
    await lease.take(unavailable.digest, holder)
    await lease.releaseUnavailable(
      unavailable.digest,
      holder.owner,
      milliseconds(30_000),
      'unknown',
    )
    await sessions.end((await begin()).digest, 'refresh_rejected', rig.now())
    await directory.enter(newIndex(), newDigest(), refreshed.absoluteExpiresAt, rig.now())
    await directory.markEnded(newIndex(), { at: rig.now(), reason: 'frontchannel_logout' })
    await once.claim(newDigest(), seconds(600))
    await once.put(newDigest(), Buffer.alloc(2_048), seconds(60))
  }

  it('names every key that a life writes and no other, with type, time and size; none is immortal', async () => {
    await live()
    const { differences, seen } = await compareWithPage(rig.client, rows)
    expect(differences).toEqual([])
    expect(seen.toSorted()).toEqual(rows.map(({ name }) => name).toSorted())
  })
})
