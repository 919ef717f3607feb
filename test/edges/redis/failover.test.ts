/** Failover: a master dies or freezes in the middle of traffic. Calls are answered or refused in time, and all comes back. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { createKeyNames } from '../../../src/edges/redis/keys.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { SessionDigest } from '../../../src/session/session.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import { newAttemptId, newDigest } from '../../contract/session-store.contract.ts'
import { SENTINEL_PASSWORD, startCluster, startSentinels } from '../../support/redis-deployments.ts'
import { waitFor } from '../../support/wait.ts'
import {
  COMMAND_TIMEOUT_MS,
  type ConnectedStores,
  connect,
  connectPlainly,
  oneHourRecord,
  SLACK_MS,
  started,
} from './connected.ts'

const FAILOVER = { timeoutMs: 15_000, intervalMs: 50 }
const CALLERS = 8

const begin = async ({ sessions }: ConnectedStores, digest = newDigest()) => {
  await sessions.create(digest, oneHourRecord(), systemClock.now())
  return digest
}

/** Sessions are begun and read until it is stopped. Anything but an answer or `store_unavailable` fails the test. */
const startTraffic = (stores: ConnectedStores) => {
  const seen = { answered: 0, refused: 0, slowestMs: 0, reasons: new Map<string, number>() }
  let isRunning = true
  const timed = async (call: () => Promise<unknown>) => {
    const startedAt = performance.now()
    try {
      await call()
      seen.answered += 1
    } catch (thrown) {
      if (!(thrown instanceof GatewayError) || thrown.code !== 'store_unavailable') throw thrown
      seen.refused += 1
      const reason = thrown.reason ?? ''
      seen.reasons.set(reason, (seen.reasons.get(reason) ?? 0) + 1)
    }
    seen.slowestMs = Math.max(seen.slowestMs, performance.now() - startedAt)
  }
  const callers = Array.from({ length: CALLERS }, async () => {
    while (isRunning) {
      const digest = newDigest()
      await timed(() => begin(stores, digest))
      // Of a session that was refused it is not known, right after a failover, whether there is one.
      await timed(() => stores.sessions.load(digest))
      await sleep(5)
    }
  })
  return {
    seen,
    stop: async () => {
      isRunning = false
      await Promise.all(callers)
      return seen
    },
  }
}

const settling = (reasons: ReadonlyMap<string, number>) => reasons.get('settling') ?? 0

/** A loss of writes would be the replication's, which is not what is tested here. */
const untilReplicated = async (master: Redis | undefined) => {
  expect(await master?.wait(1, 5_000)).toBe(1)
}

/** Twenty sessions in a row, wherever they lie. */
const everythingWorks = async (stores: ConnectedStores) => {
  for (let session = 0; session < 20; session += 1) {
    const digest = await begin(stores)
    await stores.sessions.replace(digest, 0, newAttemptId(), oneHourRecord(1))
    await stores.sessions.end(digest, 'logout', systemClock.now())
  }
  await stores.health.ping()
  return true
}

describe.each([
  ['killed', 'kill'],
  ['frozen', 'pause'],
] as const)('a master that is %s', (_, how) => {
  it('behind Sentinels: the other takes over, and a session from before is there', async () => {
    const { url, masters, servers } = await started(startSentinels())
    const stores = connect(url)
    const before = await begin(stores)
    await untilReplicated(masters[0])
    const traffic = startTraffic(stores)
    await waitFor('there is traffic', () => traffic.seen.answered > 50)

    await servers[0]?.[how]()
    await waitFor('calls are refused', () => traffic.seen.refused > 0, FAILOVER)
    await waitFor('everything works again', () => everythingWorks(stores), FAILOVER)
    const { slowestMs } = await traffic.stop()
    expect(slowestMs).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    expect((await stores.sessions.load(before)).kind).toBe('live')
    // A second reason may be told on the way, on a machine that is busy.
    const told = stores.notices.map(([name]) => name)
    expect([told.at(0), told.at(-1)]).toEqual(['store_unreachable', 'store_reachable'])

    // The former master comes back and for 8 s believes that it still is one; the gateway does not follow it.
    if (how === 'pause') servers[0]?.resume()
    else await servers[0]?.restart()
    await everythingWorks(stores)
    expect(await masters[0]?.exists(recordOf(await begin(stores)))).toBe(0)
  })

  it('in a Cluster: only its slots are refused meanwhile, and its replica takes over', async () => {
    const { url, masters, servers } = await started(startCluster())
    const stores = connect(url)
    const hit = await digestOn(masters[0])
    const spared = [await digestOn(masters[1]), await digestOn(masters[2])]
    for (const digest of [hit, ...spared]) await begin(stores, digest)
    await untilReplicated(masters[0])
    const traffic = startTraffic(stores)
    await waitFor('there is traffic', () => traffic.seen.answered > 50)

    await servers[0]?.[how]()
    await waitFor('calls are refused', () => traffic.seen.refused > 0, FAILOVER)
    for (const digest of spared) expect((await stores.sessions.load(digest)).kind).toBe('live')
    await waitFor('everything works again', () => everythingWorks(stores), FAILOVER)
    const { slowestMs } = await traffic.stop()
    expect(slowestMs).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    expect((await stores.sessions.load(hit)).kind).toBe('live')

    if (how === 'pause') servers[0]?.resume()
    else await servers[0]?.restart()
    await waitFor('the former master follows', () => isReplica(masters[0]), FAILOVER)
    await everythingWorks(stores)
  })
})

const isReplica = async (client: Redis | undefined): Promise<boolean> =>
  /^role:slave/m.test((await client?.info('replication')) ?? '')

const recordOf = (digest: SessionDigest): string => createKeyNames('test0001').record(digest)

/** A digest whose keys lie on that node of the Cluster. */
const digestOn = async (master: Redis | undefined): Promise<SessionDigest> =>
  waitFor(
    'a digest lies on the node',
    async () => {
      const digest = newDigest()
      // Any other node answers MOVED, which counts as "not yet".
      await master?.exists(recordOf(digest))
      return digest
    },
    { intervalMs: 0 },
  )

describe('a planned change of the master', () => {
  it('behind Sentinels refuses a few calls and needs no outage to be noticed', async () => {
    const { url, masters, servers, failOver } = await started(startSentinels())
    const stores = connect(url)
    const before = await begin(stores)
    await untilReplicated(masters[0])
    const traffic = startTraffic(stores)
    await waitFor('there is traffic', () => traffic.seen.answered > 50)
    await failOver()
    // Sentinel tells its clients at once, and the former master itself only after 8 s.
    await waitFor(
      'writes go to the new master',
      async () => (await masters[0]?.exists(recordOf(await begin(stores)))) === 0,
      FAILOVER,
    )
    const { slowestMs, refused, reasons } = await traffic.stop()
    expect(refused - settling(reasons)).toBeLessThanOrEqual(CALLERS * 2)
    expect(slowestMs).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    expect((await stores.sessions.load(before)).kind).toBe('live')

    const sentinel = connectPlainly(`redis://:${SENTINEL_PASSWORD}@127.0.0.1:${servers[2]?.port}`)
    const isWatched = async () => String(await sentinel.client('LIST')).includes('name=coatcheck')
    expect(await isWatched()).toBe(true)
    await stores.close()
    await waitFor('nobody watches the Sentinel', async () => !(await isWatched()))
  })

  it('in a Cluster refuses a few calls at most: those that old and new master send to each other', async () => {
    const { url, masters, failOver } = await started(startCluster())
    // The master holds writes back until its replica has them all: 50 ms, or more on a busy machine.
    const stores = connect(url, { commandTimeout: milliseconds(5_000) })
    await everythingWorks(stores)
    const traffic = startTraffic(stores)
    await waitFor('there is traffic', () => traffic.seen.answered > 50)
    await failOver()
    await waitFor('the former master follows', () => isReplica(masters[0]), FAILOVER)
    await everythingWorks(stores)
    const { reasons, refused } = await traffic.stop()
    expect(refused - settling(reasons), JSON.stringify([...reasons])).toBeLessThanOrEqual(
      CALLERS * 2,
    )
  })
})
