/** Reads that come at once go in one command, and each gets its own answer. */

import { setImmediate } from 'node:timers/promises'
import { expect, it } from 'vitest'
import type { RedisStores } from '../../../src/edges/redis/stores.ts'
import type { SessionDigest } from '../../../src/session/session.ts'
import type { StoredState } from '../../../src/session/session-store.ts'
import { epochMs, systemClock } from '../../../src/time.ts'
import { newDigest } from '../../contract/session-store.contract.ts'
import { startCluster } from '../../support/redis-deployments.ts'
import { connect, connectPlainly, oneHourRecord, refusal, start, started } from './connected.ts'

/** Each with a record and an activity of its own; the first has ended, and the second never was. */
const createSessions = async ({ sessions }: RedisStores, count: number) => {
  const now = systemClock.now()
  const expected = new Map<SessionDigest, unknown>()
  for (let at = 0; at < count; at += 1) {
    const digest = newDigest()
    const [record, lastActivityAt] = [oneHourRecord(at), epochMs(now - at)]
    if (at !== 1) await sessions.create(digest, record, lastActivityAt)
    if (at === 0) await sessions.end(digest, 'logout', now)
    expected.set(digest, { kind: 'live', record: plain(record), lastActivityAt })
    if (at === 0) expected.set(digest, { kind: 'ended', reason: 'logout', endedAt: now })
    if (at === 1) expected.set(digest, { kind: 'absent' })
  }
  return expected
}

const plain = ({ sealed, metadata, ...rest }: ReturnType<typeof oneHourRecord>) => ({
  ...rest,
  sealed: Buffer.from(sealed).toString('hex'),
  metadata: Buffer.from(metadata).toString('hex'),
})

const loadAll = ({ sessions }: RedisStores, digests: Iterable<SessionDigest>) =>
  Promise.all([...digests].map((digest) => sessions.load(digest)))

const asPlain = (state: StoredState) =>
  state.kind === 'live' ? { ...state, record: plain(state.record) } : state

it('as many as fit, and the rest in another', async () => {
  const server = await start()
  const client = connectPlainly(server.url)
  const stores = connect(server.url)
  const expected = await createSessions(stores, 100)
  await client.config('RESETSTAT')
  const states = await loadAll(stores, expected.keys())
  expect(states.map(asPlain)).toEqual([...expected.values()])
  expect(await client.info('commandstats')).toMatch(/^cmdstat_mget:calls=2,/m)
})

it('one that asks later sees what changed meanwhile', async () => {
  const server = await start()
  const stores = connect(server.url)
  const [, , digest] = [...(await createSessions(stores, 3)).keys()] as SessionDigest[]
  if (digest === undefined) throw new Error('there are three')
  const earlier = stores.sessions.load(digest)
  await setImmediate()
  await connect(server.url).sessions.end(digest, 'admin', systemClock.now())
  expect(await stores.sessions.load(digest)).toMatchObject({ kind: 'ended', reason: 'admin' })
  await earlier
})

it('all of them are refused where there is no answer, and the next ones are answered again', async () => {
  const server = await start()
  const stores = connect(server.url)
  const digests = [...(await createSessions(stores, 3)).keys()]
  server.pause()
  const refusals = await Promise.all(digests.map((each) => refusal(stores.sessions.load(each))))
  expect(refusals.map(({ code, reason }) => [code, reason])).toEqual(
    digests.map(() => ['store_unavailable', 'timeout']),
  )
  server.resume()
  expect((await loadAll(stores, digests)).map(({ kind }) => kind)).toEqual([
    'ended',
    'absent',
    'live',
  ])
})

it('in a Cluster each goes to the server that has it', async () => {
  const cluster = await started(startCluster())
  const stores = connect(cluster.url)
  const expected = await createSessions(stores, 30)
  const states = await loadAll(stores, expected.keys())
  expect(states.map(asPlain)).toEqual([...expected.values()])
})
