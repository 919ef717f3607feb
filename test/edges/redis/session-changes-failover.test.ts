/** A failover: trackers follow the masters, and nothing is told of a server until it is listened to. */

import { expect, it } from 'vitest'
import type { SessionDigest } from '../../../src/session/session.ts'
import { systemClock } from '../../../src/time.ts'
import { listenTo, untilTold } from '../../contract/session-changes.contract.ts'
import { newDigest } from '../../contract/session-store.contract.ts'
import { startCluster, startSentinels } from '../../support/redis-deployments.ts'
import { waitFor } from '../../support/wait.ts'
import { connect, connectPlainly, started, works } from './connected.ts'
import { begin, isTold, trackersOn, watch } from './told.ts'

const FAILOVER = { timeoutMs: 20_000, intervalMs: 10 }

it.each([
  ['killed', 'kill'],
  ['frozen', 'pause'],
] as const)(
  'behind Sentinels, of a master that was %s: changes of the new one are told',
  async (_, how) => {
    const deployment = await started(startSentinels())
    const [stores, writer] = [connect(deployment.url), connect(deployment.url)]
    await untilTold(stores.changes)
    await begin(writer)
    await deployment.masters[0]?.wait(1, 5_000)
    const watched = watch(stores)
    await waitFor('it is told', () => watched.runs.at(-1) === true)
    await deployment.servers[0]?.[how]()
    await waitFor('it is not told', () => watched.runs.at(-1) === false)
    expect(watched.gaps()).toBe(1)
    await untilTold(stores.changes, FAILOVER.timeoutMs)
    expect(watched.gaps()).toBeGreaterThanOrEqual(2)
    await waitFor('the other works too', () => works(writer), FAILOVER)
    await isTold(writer, stores)
    const promoted = connectPlainly(`redis://127.0.0.1:${deployment.servers[1]?.port}`)
    expect(await trackersOn(promoted)).toHaveLength(2)
  },
  60_000,
)

it('in a Cluster: a tracker for each master, and for the one that takes over', async () => {
  const deployment = await started(startCluster())
  const [stores, writer] = [connect(deployment.url), connect(deployment.url)]
  await Promise.all([untilTold(stores.changes), untilTold(writer.changes)])
  for (const master of deployment.masters) expect(await trackersOn(master)).toHaveLength(2)
  // Servers choose at random, so that each is met with near certainty.
  await isTold(writer, stores, 30)

  await Promise.all(deployment.masters.map((master) => master.wait(1, 5_000)))
  const watched = watch(stores)
  await waitFor('it is told', () => watched.runs.at(-1) === true)
  await deployment.servers[0]?.kill()
  await waitFor('it is not told', () => watched.runs.at(-1) === false)
  const hit = digestIn(0, 5460)
  await waitFor('its slots are served again', () => begin(writer, hit), FAILOVER)
  await untilTold(stores.changes, FAILOVER.timeoutMs)
  expect(watched.gaps()).toBeGreaterThanOrEqual(2)
  const listening = listenTo(stores.changes)
  await writer.sessions.end(hit, 'admin', systemClock.now())
  await waitFor('the end', () => listening.count(hit) > 0)
  const promoted = connectPlainly(`redis://127.0.0.1:${deployment.servers[3]?.port}`)
  await waitFor('both listen to the promoted one', async () => {
    const trackers = await trackersOn(promoted)
    return trackers.length === 2
  })
}, 60_000)

it('in a Cluster, that was planned: no session is told as live after it ended', async () => {
  const deployment = await started(startCluster())
  const [stores, writer] = [connect(deployment.url), connect(deployment.url)]
  await Promise.all([untilTold(stores.changes), untilTold(writer.changes)])
  const watched = watch(stores)
  await deployment.failOver()
  const promoted = connectPlainly(`redis://127.0.0.1:${deployment.servers[3]?.port}`)
  await waitFor('it takes over', async () =>
    /^role:master/m.test(await promoted.info('replication')),
  )
  await waitFor('the promoted one is listened to', async () => {
    const trackers = await trackersOn(promoted)
    return trackers.length === 2
  })
  await untilTold(stores.changes, FAILOVER.timeoutMs)
  expect(watched.gaps()).toBeGreaterThanOrEqual(1)
  await isTold(writer, stores, 30)
}, 60_000)

/** A digest of that part of the slots. */
const digestIn = (first: number, last: number): SessionDigest => {
  for (;;) {
    const digest = newDigest()
    const slot = slotOf(digest)
    if (slot >= first && slot <= last) return digest
  }
}

/** CRC-16/XMODEM modulo the number of slots, as the Cluster's specification has it. */
const slotOf = (tag: string): number => {
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
    crc &= 0xffff
  }
  return crc % 16_384
}
