/** The memory stores keep the contract in one process, and their bounds. */

import { describe, expect, it } from 'vitest'
import { createMemoryStores } from '../../../src/edges/memory/stores.ts'
import { epochMs, milliseconds, seconds } from '../../../src/time.ts'
import { oneTimeStoreContract } from '../../contract/one-time-store.contract.ts'
import { refreshLeaseContract } from '../../contract/refresh-lease.contract.ts'
import { listenTo, sessionChangesContract } from '../../contract/session-changes.contract.ts'
import { sessionDirectoryContract } from '../../contract/session-directory.contract.ts'
import {
  HOUR_MS,
  newAttemptId,
  newDigest,
  newRecord,
  type StoreRig,
  sessionStoreContract,
} from '../../contract/session-store.contract.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const make = async (): Promise<StoreRig> => {
  const clock = createFakeClock()
  const stores = createMemoryStores({ clock, sessionsMax: 5_000 })
  return {
    gateways: [stores, stores],
    now: clock.now,
    advance: (ms) => clock.advance(ms),
    close: stores.close,
  }
}

sessionStoreContract('memory', { make })
sessionChangesContract('memory', { make })
sessionDirectoryContract('memory', { make })
refreshLeaseContract('memory', { make })
oneTimeStoreContract('memory', { make })

describe('bounds of the memory stores', () => {
  const setUp = (sessionsMax: number) => {
    const clock = createFakeClock()
    const notices: string[] = []
    const stores = createMemoryStores({
      clock,
      sessionsMax,
      notice: (notice) => notices.push(notice),
    })
    const begin = async (lifetimeMs = HOUR_MS) => {
      const digest = newDigest()
      await stores.sessions.create(
        digest,
        newRecord(epochMs(clock.now() + lifetimeMs)),
        clock.now(),
      )
      return digest
    }
    const kindOf = async (digest: ReturnType<typeof newDigest>) =>
      (await stores.sessions.load(digest)).kind
    return { ...stores, clock, notices, begin, kindOf }
  }

  it('the least recently active session makes room for a new one, and the operator hears of it once', async () => {
    const { sessions, changes, clock, notices, begin, kindOf } = setUp(3)
    const [first, second, third] = [await begin(), await begin(), await begin()]
    await clock.advance(60_000)
    await sessions.touch(first, clock.now())
    expect(notices).toEqual([])
    const { told } = listenTo(changes)
    const fourth = await begin()
    // Who has it in memory is told that it is gone.
    expect(told).toEqual([second, fourth])
    expect(await Promise.all([first, second, third, fourth].map(kindOf))).toEqual([
      ...['live', 'absent', 'live', 'live'],
    ])
    await begin()
    expect(await kindOf(third)).toBe('absent')
    expect(notices).toEqual(['memory_store_full'])
  })

  it('neither reading nor refreshing counts as activity', async () => {
    const { sessions, clock, begin, kindOf } = setUp(2)
    const [first, second] = [await begin(), await begin()]
    await sessions.load(first)
    const refreshed = newRecord(epochMs(clock.now() + HOUR_MS), 1)
    await sessions.replace(first, 0, newAttemptId(), refreshed)
    await begin()
    expect(await kindOf(first)).toBe('absent')
    expect(await kindOf(second)).toBe('live')
  })

  it('a wave of ended sessions pushes no live one out', async () => {
    const { sessions, clock, notices, begin, kindOf } = setUp(3)
    const living = await begin()
    for (let count = 0; count < 10; count += 1)
      await sessions.end(await begin(), 'logout', clock.now())
    expect(await kindOf(living)).toBe('live')
    expect(notices).toEqual([])
  })

  it('expired sessions make room before live ones have to', async () => {
    const { clock, notices, begin, kindOf } = setUp(2)
    const long = await begin(10 * HOUR_MS)
    await begin(HOUR_MS)
    await clock.advance(2 * HOUR_MS)
    await begin(HOUR_MS)
    expect(await kindOf(long)).toBe('live')
    expect(notices).toEqual([])
  })

  it('claims and values are bounded too: the oldest make room', async () => {
    const { once } = setUp(3)
    for (const name of ['a', 'b', 'c', 'd']) {
      expect(await once.claim(name, seconds(60))).toBe(true)
      await once.put(name, Buffer.from(name), seconds(60))
    }
    expect(await once.take('a')).toBeUndefined()
    expect(await once.take('b')).toBeDefined()
    expect(await once.claim('d', seconds(60))).toBe(false)
    expect(await once.claim('a', seconds(60))).toBe(true)
  })

  it('a wall clock that jumps ahead ends no lease early', async () => {
    const { lease, clock, begin } = setUp(3)
    const digest = await begin()
    const taking = () => ({
      owner: newAttemptId(),
      attemptId: newAttemptId(),
      generation: 0,
      leaseTime: milliseconds(2_000),
      giveUpTime: milliseconds(7_000),
    })
    await lease.take(digest, taking())
    clock.stepWallClock(30_000)
    expect((await lease.take(digest, taking())).kind).toBe('busy')
  })
})
