/** When changes are told, and when they are not: a tracker that dies, falls silent or hears another server. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createKeyNames } from '../../../src/edges/redis/keys.ts'
import { createRedisSessionChanges } from '../../../src/edges/redis/session-changes.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import { listenTo, untilTold } from '../../contract/session-changes.contract.ts'
import { startRedisProxy } from '../../support/redis-proxy.ts'
import { waitFor } from '../../support/wait.ts'
import { changeable, connect, connectPlainly, SLACK_MS, start, works } from './connected.ts'
import { documentedRights } from './documented-rights.ts'
import { addressOf } from './redis-rig.ts'
import { begin, isTold, trackersOn, watch } from './told.ts'

const FAILOVER = { timeoutMs: 20_000, intervalMs: 10 }
/** A master, for the tests that give it a replica. */
const SYNCING_AT_ONCE = { args: ['--repl-diskless-sync-delay', '0'] }
/** The tracker's proof may be this old. */
const PROOF_MS = 750

const startProxied = async () => {
  const server = await start()
  const proxy = await startRedisProxy(server.port)
  onTestFinished(proxy.close)
  const behind = connect(proxy.url)
  const direct = connect(server.url)
  await Promise.all([untilTold(behind.changes), untilTold(direct.changes)])
  return { server, proxy, behind, direct }
}

describe('a tracker that hears nothing any more', () => {
  it('and is not closed either is given up by the age of its proof, and made anew', async () => {
    const { proxy, behind, direct } = await startProxied()
    const watched = watch(behind)
    await waitFor('it is told', () => watched.runs.at(-1) === true)
    const listening = listenTo(behind.changes)

    proxy.treatTrackers('swallow')
    const swallowedAt = performance.now()
    const digest = await begin(direct)
    await waitFor('it is not told', () => watched.runs.at(-1) === false)
    expect(performance.now() - swallowedAt).toBeLessThan(PROOF_MS + SLACK_MS)
    expect(listening.count(digest)).toBe(0)
    expect(watched.gaps()).toBe(1)
    // What is read meanwhile comes over the connection that works.
    expect((await behind.sessions.load(digest)).kind).toBe('live')
    await sleep(PROOF_MS * 2)
    expect(watched.runs).toEqual([true, false])
    expect(watched.gaps()).toBe(1)

    proxy.treatTrackers('pass')
    await waitFor('it is told again', () => watched.runs.at(-1) === true, FAILOVER)
    // The gap before it, because what changed meanwhile was told to nobody.
    expect(watched.gaps()).toBe(2)
    await isTold(direct, behind)
  })

  it.each(['swallow', 'cut'] as const)(
    'is tried again a few times a second, not more, while a firewall does this: %s',
    async (how) => {
      const { server, proxy, behind } = await startProxied()
      proxy.treatTrackers(how)
      await waitFor('it is not told', () => !behind.changes.areTold())
      const client = connectPlainly(server.url)
      const before = await connectionsOf(client)
      await sleep(2_000)
      expect((await connectionsOf(client)) - before).toBeLessThan(20)
      expect(proxy.trackers()).toBeLessThan(10)
      proxy.treatTrackers('pass')
      await untilTold(behind.changes)
    },
  )

  it('or whose answers come so late that they prove nothing', async () => {
    const { proxy } = await startProxied()
    // So patient that each step of the beginning may take as long.
    const stores = connect(proxy.url, { commandTimeout: milliseconds(10_000) })
    await untilTold(stores.changes)
    proxy.treatTrackers({ lateByMs: PROOF_MS + 50 })
    await waitFor('it is not told', () => !stores.changes.areTold())
    const watched = watch(stores)
    await sleep(4_000)
    expect(watched.runs).toEqual([false])
    proxy.treatTrackers('pass')
    await untilTold(stores.changes)
  })

  it('is the same to who asks first after a long silence of this very process', async () => {
    const { behind } = await startProxied()
    const watched = watch(behind)
    await waitFor('it is told', () => watched.runs.at(-1) === true)
    const until = performance.now() + PROOF_MS + 100
    // No timer and no socket is served meanwhile, as in a process that was stopped.
    while (performance.now() < until);
    expect(behind.changes.areTold()).toBe(false)
    expect(watched.gaps()).toBe(1)
    await waitFor('it is told again', () => behind.changes.areTold(), FAILOVER)
    expect(watched.gaps()).toBe(2)
  })
})

const connectionsOf = async (client: Redis): Promise<number> =>
  Number(/total_connections_received:(\d+)/.exec(await client.info('stats'))?.[1])

describe('a tracker that is closed', () => {
  it('by the server: a gap, and another before it is told again', async () => {
    const server = await start()
    const [stores, writer] = [connect(server.url), connect(server.url)]
    await untilTold(stores.changes)
    await untilTold(writer.changes)
    const watched = watch(stores)
    const client = connectPlainly(server.url)
    for (const id of await trackersOn(client)) await client.client('KILL', 'ID', id)
    await waitFor('two gaps', () => watched.gaps() === 2)
    await untilTold(stores.changes)
    await isTold(writer, stores)
    expect(await trackersOn(client)).toHaveLength(2)
  })

  it('with its server: nothing is told until a new one is there', async () => {
    const server = await start()
    const [stores, writer] = [connect(server.url), connect(server.url)]
    await untilTold(stores.changes)
    const watched = watch(stores)
    await server.kill()
    await waitFor('it is not told', () => !stores.changes.areTold())
    await server.restart()
    await untilTold(stores.changes)
    expect(watched.gaps()).toBe(2)
    await waitFor('the other works too', () => works(writer))
    await isTold(writer, stores)
  })

  it('when the connection that reads was lost alone: it may have been another server’s', async () => {
    const server = await start()
    const stores = connect(server.url)
    await untilTold(stores.changes)
    const watched = watch(stores)
    const client = connectPlainly(server.url)
    const reading = /^id=(\d+) .* name=coatcheck /m.exec(String(await client.client('LIST')))?.[1]
    const [former] = await trackersOn(client)
    await client.client('KILL', 'ID', Number(reading))
    await waitFor('two gaps', () => watched.gaps() === 2)
    await untilTold(stores.changes)
    expect(await trackersOn(client)).not.toContain(former)
  })

  it('not at all, but there is no other connection: nothing is told', async () => {
    const { proxy, behind } = await startProxied()
    const watched = watch(behind)
    await waitFor('it is told', () => watched.runs.at(-1) === true)
    proxy.cutOthers()
    await waitFor('it is not told', () => watched.runs.at(-1) === false)
    expect(watched.gaps()).toBe(1)
    expect(proxy.trackers()).toBe(1)
    await sleep(PROOF_MS)
    expect(watched.runs).toEqual([true, false])
  })
})

describe('everything at once', () => {
  it('a flush of the database is a gap', async () => {
    const server = await start()
    const stores = connect(server.url)
    await untilTold(stores.changes)
    const listening = listenTo(stores.changes)
    await server.flush()
    await waitFor('a gap', () => listening.count('gap') > 0)
    expect(stores.changes.areTold()).toBe(true)
  })

  it('so is a server that becomes the replica of another and takes over its data', async () => {
    const [server, other] = [await start(), await start(SYNCING_AT_ONCE)]
    const [stores, elsewhere] = [connect(server.url), connect(other.url)]
    await untilTold(stores.changes)
    const digest = await begin(stores)
    await begin(elsewhere, digest)
    await elsewhere.sessions.end(digest, 'admin', systemClock.now())
    const listening = listenTo(stores.changes)
    const client = connectPlainly(server.url)
    await client.replicaof('127.0.0.1', other.port)
    await waitFor('a gap', () => listening.count('gap') > 0, FAILOVER)
    await waitFor(
      'the end',
      async () => (await stores.sessions.load(digest)).kind === 'ended',
      FAILOVER,
    )
    // And then of what comes by replication.
    const later = await begin(elsewhere)
    await waitFor('the later change', () => listening.count(later) > 0, FAILOVER)
  })

  it('a record that is forgotten is told', async () => {
    const server = await start()
    const stores = connect(server.url)
    await untilTold(stores.changes)
    const digest = await begin(stores)
    const client = connectPlainly(server.url)
    const listening = listenTo(stores.changes)
    await client.pexpire(createKeyNames('test0001').record(digest), 1)
    await waitFor('the change', () => listening.count(digest) > 0)
  })
})

describe('which server is heard', () => {
  it('one that is a master since now, and not listened to yet, makes all of it doubtful', async () => {
    const [server, other] = [await start(), await start()]
    const [known, unknown] = [connectPlainly(server.url), connectPlainly(other.url)]
    await Promise.all([known.ping(), unknown.ping()])
    let masters: readonly Redis[] = [known]
    const changes = createRedisSessionChanges(
      {
        keys: createKeyNames('test0001'),
        masters: () => masters,
        onMasters: (listener) => {
          listener(masters)
          return () => {}
        },
      },
      () => {},
    )
    onTestFinished(changes.close)
    await untilTold(changes)
    const { count } = listenTo(changes)
    // A MOVED led there, and nobody had the time to say so.
    masters = [known, unknown]
    expect(changes.areTold()).toBe(false)
    expect(count('gap')).toBe(1)
    masters = []
    expect(changes.areTold()).toBe(false)
    masters = [known]
    await untilTold(changes)
    expect(count('gap')).toBe(2)
  })

  it('a tracker that would hear another one is not believed, and the operator is told', async () => {
    const [server, other] = [await start(), await start()]
    const proxy = await startRedisProxy(server.port)
    onTestFinished(proxy.close)
    const stores = connect(proxy.url)
    await works(stores)
    proxy.leadTo(other.port)
    const client = connectPlainly(server.url)
    await waitFor('it is told', () => stores.changes.areTold())
    for (const id of await trackersOn(client)) await client.client('KILL', 'ID', id)
    await waitFor('the operator hears of it', () => stores.notices.length > 0, {
      timeoutMs: 30_000,
    })
    // Three more tries.
    await sleep(1_500)
    expect(stores.notices).toEqual([
      ['session_changes_untold', expect.stringContaining('different servers')],
    ])
    expect(stores.changes.areTold()).toBe(false)
    await works(stores)
  }, 40_000)

  it('nor is one that hears a replica of it', async () => {
    const server = await start(SYNCING_AT_ONCE)
    const replica = await start({ args: ['--replicaof', '127.0.0.1', String(server.port)] })
    const client = connectPlainly(server.url)
    await waitFor(
      'the replica follows',
      async () => /^slave0:.*state=online/m.test(await client.info('replication')),
      FAILOVER,
    )
    const proxy = await startRedisProxy(server.port)
    onTestFinished(proxy.close)
    const stores = connect(proxy.url)
    await untilTold(stores.changes)
    proxy.leadTo(replica.port)
    for (const id of await trackersOn(client)) await client.client('KILL', 'ID', id)
    await waitFor('it is not told', () => !stores.changes.areTold())
    await sleep(1_500)
    expect(stores.changes.areTold()).toBe(false)
    proxy.leadTo(server.port)
    await untilTold(stores.changes)
  })

  it('another address of the settings is moved to, and its changes are told', async () => {
    const [former, latter] = [await start(), await start()]
    const address = changeable(addressOf(former.url).current)
    const stores = connect(address)
    await untilTold(stores.changes)
    const watched = watch(stores)
    address.change(addressOf(latter.url).current)
    const writer = connect(latter.url)
    await waitFor('two gaps', () => watched.gaps() === 2)
    await isTold(writer, stores)
    const client = connectPlainly(former.url)
    await waitFor('the former is left', async () => (await trackersOn(client)).length === 0)
  })

  it('nothing is left behind by stores that were closed', async () => {
    const server = await start()
    const stores = connect(server.url)
    await untilTold(stores.changes)
    const listening = listenTo(stores.changes)
    await stores.close()
    expect(stores.changes.areTold()).toBe(false)
    expect(listening.told).toEqual(['gap'])
    const client = connectPlainly(server.url)
    await waitFor('nobody is connected', async () => (await trackersOn(client)).length === 0)
    await sleep(600)
    expect(await trackersOn(client)).toEqual([])
  })
})

describe('rights that do not reach that far', () => {
  it.each([
    ['client|tracking', '-client|tracking'],
    ['client|id', '-client|id'],
    ['subscribe', '-subscribe'],
    ['the channel', 'resetchannels'],
  ])('without %s everything else works, and the operator is told once', async (_, without) => {
    const server = await start()
    const admin = connectPlainly(server.url)
    const { single } = await documentedRights('works')
    await admin.acl('SETUSER', ...single, without)
    const stores = connect(`redis://coatcheck:works@127.0.0.1:${server.port}`)
    await works(stores)
    await waitFor('the operator was told', () => stores.notices.length > 0)
    expect(stores.changes.areTold()).toBe(false)
    const digest = await begin(stores)
    expect(await stores.sessions.end(digest, 'logout', systemClock.now())).toBe('ended')
    expect(stores.notices).toEqual([
      ['session_changes_untold', expect.stringContaining('may not run the commands')],
    ])
  })

  it('what is granted later is used later, without haste, and that is told too', async () => {
    const server = await start()
    const admin = connectPlainly(server.url)
    const { single } = await documentedRights('works')
    await admin.acl('SETUSER', ...single, '-client|tracking')
    const stores = connect(`redis://coatcheck:works@127.0.0.1:${server.port}`)
    await waitFor('the operator was told', () => stores.notices.length > 0)
    const before = await connectionsOf(admin)
    await sleep(1_000)
    expect(await connectionsOf(admin)).toBe(before)
    await admin.acl('SETUSER', 'coatcheck', '+client|tracking')
    await untilTold(stores.changes, 15_000)
    expect(stores.notices.map(([name]) => name)).toEqual([
      'session_changes_untold',
      'session_changes_told',
    ])
  })
})
