/** `redis.confirm`: a write counts once replicas have it, and one that they do not get is refused and never lost sight of. */

import type { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createKeyNames, slotOf } from '../../../src/edges/redis/keys.ts'
import type { SessionDigest } from '../../../src/session/session.ts'
import { epochMs, milliseconds, seconds, systemClock } from '../../../src/time.ts'
import { newIndex } from '../../contract/session-directory.contract.ts'
import { newAttemptId, newDigest } from '../../contract/session-store.contract.ts'
import type { RedisServer } from '../../support/redis.ts'
import { startCluster } from '../../support/redis-deployments.ts'
import { startRedisProxy } from '../../support/redis-proxy.ts'
import { waitFor } from '../../support/wait.ts'
import {
  type ConnectedStores,
  connect,
  connectPlainly,
  oneHourRecord,
  ownKeys,
  refusal,
  SLACK_MS,
  start,
  started,
} from './connected.ts'
import { documentedRights } from './documented-rights.ts'

const keys = createKeyNames('test0001')
const COMMAND_TIMEOUT_MS = 600
const NOT_CONFIRMED = { code: 'store_unavailable', reason: 'not_confirmed' }

const options = { confirm: 1, commandTimeout: milliseconds(COMMAND_TIMEOUT_MS) }

const replicated = (master: Redis) =>
  waitFor(
    'the replica follows',
    async () =>
      (await master.pipeline().set('first', '1', 'PX', 1).wait(1, 1_000).exec())?.[1]?.[1] === 1,
    { timeoutMs: 15_000 },
  )

const startPair = async () => {
  const server = await start({ args: ['--repl-diskless-sync-delay', '0'] })
  const replica = await start({ args: ['--replicaof', '127.0.0.1', String(server.port)] })
  const [master, copy] = [connectPlainly(server.url), connectPlainly(replica.url)]
  await replicated(master)
  await master.config('RESETSTAT')
  return { server, replica, master, copy }
}

const stalled = (replica: RedisServer | undefined) => {
  replica?.pause()
  onTestFinished(() => replica?.resume())
}

const begin = async ({ sessions }: ConnectedStores, digest = newDigest()) => {
  await sessions.create(digest, oneHourRecord(), systemClock.now())
  return digest
}

/** Each kind of write that must not be lost. */
const WRITES: Readonly<
  Record<string, (stores: ConnectedStores, digest: SessionDigest) => Promise<unknown>>
> = {
  'a sign-in': (stores) => begin(stores),
  'a refresh': ({ sessions }, digest) =>
    sessions.replace(digest, 0, newAttemptId(), oneHourRecord(1)),
  'an end': ({ sessions }, digest) => sessions.end(digest, 'logout', systemClock.now()),
  'an entry': ({ directory }, digest) =>
    directory.enter(newIndex(), digest, epochMs(Date.now() + 60_000), systemClock.now()),
  'a mark': ({ directory }) =>
    directory.markEnded(newIndex(), { at: systemClock.now(), reason: 'admin' }),
}

const callsOf = async (client: Redis, command: string): Promise<number> =>
  Number(
    new RegExp(`^cmdstat_${command}:calls=(\\d+)`, 'm').exec(
      await client.info('commandstats'),
    )?.[1] ?? 0,
  )

it.each(Object.entries(WRITES))('%s is on the replica once it is answered', async (_, write) => {
  const { server, master, copy } = await startPair()
  const stores = connect(server.url, options)
  const digest = await begin(stores)
  const before = await callsOf(master, 'wait')
  await write(stores, digest)
  expect(await callsOf(master, 'wait')).toBe(before + 1)
  const names = await ownKeys(master)
  expect(await ownKeys(copy)).toEqual(names)
  expect(names.length).toBeGreaterThan(0)
})

it('nothing waits where it is off', async () => {
  const { server, master } = await startPair()
  const stores = connect(server.url)
  const digest = await begin(stores)
  for (const write of Object.values(WRITES)) await write(stores, digest)
  expect(await callsOf(master, 'wait')).toBe(0)
  expect(String(await master.client('LIST')).match(/name=coatcheck /g)).toHaveLength(1)
})

describe('while the replica is stalled', () => {
  it.each(Object.entries(WRITES))(
    '%s is refused in time, and counts once it goes on',
    async (_, write) => {
      const { server, replica } = await startPair()
      const stores = connect(server.url, options)
      const digest = await begin(stores)
      stalled(replica)
      const startedAt = performance.now()
      expect(await refusal(write(stores, digest))).toMatchObject(NOT_CONFIRMED)
      expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
      replica.resume()
      await begin(stores)
      expect(stores.notices).toEqual([])
    },
  )

  it('reads, activity, leases and claims go on', async () => {
    const { server, replica } = await startPair()
    const stores = connect(server.url, options)
    const digest = await begin(stores)
    stalled(replica)
    const refused = refusal(begin(stores))
    const startedAt = performance.now()
    expect((await stores.sessions.load(digest)).kind).toBe('live')
    await stores.sessions.touch(digest, epochMs(Date.now() + 1))
    expect(await stores.once.claim(newDigest(), seconds(60))).toBe(true)
    const taken = await stores.lease.take(digest, {
      owner: newAttemptId(),
      attemptId: newAttemptId(),
      generation: 0,
      leaseTime: milliseconds(2_000),
      giveUpTime: milliseconds(7_000),
    })
    expect(taken.kind).toBe('taken')
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS / 2)
    await refused
  })

  it('a refresh that is repeated with its attempt counts in the end', async () => {
    const { server, replica } = await startPair()
    const stores = connect(server.url, options)
    const digest = await begin(stores)
    stalled(replica)
    const write = ['attempt', oneHourRecord(1)] as const
    for (let tries = 0; tries < 2; tries += 1)
      expect(await refusal(stores.sessions.replace(digest, 0, ...write))).toMatchObject(
        NOT_CONFIRMED,
      )
    replica.resume()
    expect(await stores.sessions.replace(digest, 0, ...write)).toBe('replaced')
  })

  it('an end is made all the same, told of once, and its repetition waits likewise', async () => {
    const { server, replica } = await startPair()
    const stores = connect(server.url, options)
    const digest = await begin(stores)
    stalled(replica)
    const end = () => stores.sessions.end(digest, 'logout', systemClock.now())
    for (let tries = 0; tries < 2; tries += 1)
      expect(await refusal(end())).toMatchObject(NOT_CONFIRMED)
    expect(await stores.sessions.load(digest)).toMatchObject({ kind: 'ended', reason: 'logout' })
    expect(stores.events).toEqual([
      { type: 'session_ended', session: digest.slice(0, 12), reason: 'logout' },
    ])
    replica.resume()
    expect(await end()).toBe('already_ended')
  })

  it('writes do not pile up: who does not get a turn is refused unsent', async () => {
    const { server, replica, master } = await startPair()
    const stores = connect(server.url, options)
    await begin(stores)
    stalled(replica)
    const startedAt = performance.now()
    const refusals = await Promise.all(Array.from({ length: 50 }, () => refusal(begin(stores))))
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    const unsent = refusals.filter(({ reason }) => reason === 'timeout')
    expect(unsent.length).toBeGreaterThan(40)
    expect(await master.keys('cc:*:s:*')).toHaveLength(1 + refusals.length - unsent.length)
    // Nor does any of them come later.
    replica.resume()
    await begin(stores)
    expect(await master.keys('cc:*:s:*')).toHaveLength(2 + refusals.length - unsent.length)
  })
})

it('what was confirmed by a former master that the other connection had left is written again', async () => {
  const [{ server, master }, promoted] = [await startPair(), await start()]
  const proxy = await startRedisProxy(server.port)
  onTestFinished(proxy.close)
  const stores = connect(proxy.url, options)
  await begin(stores)
  await stores.sessions.load(newDigest())
  const cut = async (lastCommand: string) => {
    const clients = String(await master.client('LIST'))
    const [, id = ''] =
      new RegExp(`^id=(\\d+) .* name=coatcheck .* cmd=${lastCommand} `, 'm').exec(clients) ?? []
    expect(await master.call('CLIENT', 'KILL', 'ID', id)).toBe(1)
  }
  proxy.leadTo(promoted.port)
  await cut('mget')
  const copy = connectPlainly(promoted.url)
  await waitFor('one has moved', async () =>
    /name=coatcheck /.test(String(await copy.client('LIST'))),
  )
  const digest = await begin(stores)
  expect(await copy.exists(keys.record(digest))).toBe(0)
  await cut('wait')
  await waitFor('it is there too', async () => (await copy.exists(keys.record(digest))) === 1)
})

describe('in a Cluster', () => {
  it.each([
    ['123456789', 12739],
    ['{user1000}.following', 3443],
    ['x{user1000}.followers', 3443],
  ])('the slot of %s is %i (Redis Cluster specification)', (key, slot) => {
    expect(slotOf(key)).toBe(slot)
  })

  it('each write is confirmed by the replicas of its own master, whoever else is stalled', async () => {
    const { url, masters, servers } = await started(startCluster())
    const stores = connect(url, options)
    const digests = await Promise.all(
      masters.map((master) => waitFor('a digest lies there', () => digestOn(master), NO_PAUSE)),
    )
    for (const digest of digests) await begin(stores, digest)
    for (const master of masters) expect(await callsOf(master, 'wait')).toBe(1)

    stalled(servers[3])
    const [hit, ...spared] = digests
    if (hit === undefined) throw new Error('there are three masters')
    const refused = refusal(stores.sessions.end(hit, 'logout', systemClock.now()))
    const startedAt = performance.now()
    for (const digest of spared)
      expect(await stores.sessions.end(digest, 'logout', systemClock.now())).toBe('ended')
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS / 2)
    expect(await refused).toMatchObject(NOT_CONFIRMED)
  })
})

const NO_PAUSE = { intervalMs: 0 }

/** Any other node answers MOVED, which counts as "not yet". */
const digestOn = async (master: Redis): Promise<SessionDigest> => {
  const digest = newDigest()
  await master.exists(keys.record(digest))
  return digest
}

describe('its right', () => {
  const connectAs = async (...more: readonly string[]) => {
    const { server, master } = await startPair()
    const { single } = await documentedRights('works')
    await master.acl('SETUSER', ...single, ...more)
    return connect(`redis://coatcheck:works@127.0.0.1:${server.port}`, options)
  }

  it('is the documented one', async () => {
    const { confirm } = await documentedRights('works')
    const stores = await connectAs(confirm)
    const digest = await begin(stores)
    for (const write of Object.values(WRITES)) await write(stores, digest)
  })

  it('is missed by a name of its own', async () => {
    const stores = await connectAs()
    expect(await refusal(begin(stores))).toMatchObject({ reason: 'permission_refused' })
  })
})
