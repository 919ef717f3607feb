/**
 * A failover that loses acknowledged writes, under two real gateways: a sign-in, a rotation and a sign-out that the
 * replica never got. A killed master alone loses nothing on loopback, because its sockets still deliver what they hold;
 * so the replica is stopped first, and ballast fills the sockets before the writes that are to be lost.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { type RedisDeployment, startCluster, startSentinels } from '../support/redis-deployments.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'

const TOKEN_SECONDS = 3
const FAILOVER = { timeoutMs: 25_000, intervalMs: 50 }
/** More than the sockets of a connection hold on both sides (10 MiB by default), less than the master keeps for a replica. */
const BALLAST_MIB = 40

interface SignedIn {
  readonly cookie: string
  /** Where its record lies. */
  readonly key: string
}

const recordsOn = async (master: Redis | undefined): Promise<readonly string[]> =>
  (await master?.keys('cc:*:s:*')) ?? []

/** A session whose record lies on the first master: in a Cluster it may take a few. */
const signInOn = async (replicas: Replicas, master: Redis | undefined): Promise<SignedIn> =>
  waitFor(
    'a session lies on the first master',
    async () => {
      const before = await recordsOn(master)
      const cookie = await replicas.signIn()
      const key = (await recordsOn(master)).find((name) => !before.includes(name))
      return key === undefined ? undefined : { cookie, key }
    },
    { timeoutMs: 20_000, intervalMs: 0 },
  )

const fillSockets = async (master: Redis | undefined, neighbour: string) => {
  const [tag] = /\{.+\}/.exec(neighbour) ?? []
  for (let number = 0; number < BALLAST_MIB; number += 1)
    await master?.set(`ballast:${tag}:${number}`, Buffer.alloc(1024 * 1024))
}

/** What the replica has, before anybody promotes it: the first bytes of each record. */
const headsOn = async (replica: Redis, keys: readonly string[]) =>
  Promise.all(keys.map(async (key) => (await replica.getrange(key, 0, 3)) || 'nothing'))

test.for([
  ['Sentinels', startSentinels, 1],
  ['a Cluster', startCluster, 3],
] as const)(
  'a failover behind %s loses a sign-in, a rotation and a sign-out: all three are there again',
  { timeout: 90_000 },
  async ([, startDeployment, replicaIndex], { onTestFinished }) => {
    const deployment: RedisDeployment = await startDeployment()
    onTestFinished(deployment.close)
    const replicas = await startReplicas({
      accessTokenLifetimeSeconds: TOKEN_SECONDS,
      env: { COATCHECK_REDIS_URL: deployment.url },
    })
    onTestFinished(() => replicas.close())
    const [master] = deployment.masters
    const [masterServer, replicaServer] = [deployment.servers[0], deployment.servers[replicaIndex]]
    const replica = new Redis(replicaServer?.port ?? 0, { readOnly: true })
    replica.on('error', () => {})
    onTestFinished(() => replica.disconnect())

    const signedOut = await signInOn(replicas, master)
    const rotated = await signInOn(replicas, master)
    expect(await master?.wait(1, 5_000)).toBe(1)
    await sleep(TOKEN_SECONDS * 1_000)

    replicaServer?.pause()
    await fillSockets(master, rotated.key)
    expect((await replicas.call(0, rotated.cookie)).status).toBe(200)
    expect((await replicas.call(0, signedOut.cookie, '/bff/logout', 'POST')).status).toBe(200)
    const signedIn = await signInOn(replicas, master)
    const keys = [signedOut.key, rotated.key, signedIn.key]
    expect(await headsOn(master as Redis, keys)).toEqual([
      expect.stringMatching(/^1e/),
      '1r 1',
      '1r 0',
    ])
    // Not by `kill`, which resumes what it kills: here it makes no difference, and this is what is meant.
    process.kill(masterServer?.pid ?? 0, 'SIGKILL')
    replicaServer?.resume()
    expect(await headsOn(replica, keys)).toEqual(['1r 0', '1r 0', 'nothing'])

    const seen: { replica: number; who: string; status: number; cookieSet: boolean }[] = []
    const round = async () => {
      const sessions = { signedOut, rotated, signedIn }
      const calls = Object.entries(sessions).flatMap(([who, { cookie }]) =>
        [0, 1].map(async (gateway) => {
          const { status, headers } = await replicas.call(gateway, cookie)
          return { replica: gateway, who, status, cookieSet: 'set-cookie' in headers }
        }),
      )
      const latest = await Promise.all(calls)
      seen.push(...latest)
      return latest.every(({ who, status }) => status === (who === 'signedOut' ? 401 : 200))
    }
    await waitFor('each session is what it was', round, FAILOVER)
    // Through one more expiry at least, on either gateway.
    const until = performance.now() + 1.5 * TOKEN_SECONDS * 1_000
    while (performance.now() < until) {
      expect(await round()).toBe(true)
      await sleep(100)
    }

    const statusesOf = (who: string, ...of: readonly number[]) => [
      ...new Set(
        seen.filter((one) => one.who === who && of.includes(one.replica)).map((one) => one.status),
      ),
    ]
    expect([200, 503]).toEqual(expect.arrayContaining(statusesOf('rotated', 0, 1)))
    expect([200, 503]).toEqual(expect.arrayContaining(statusesOf('signedIn', 0, 1)))
    // Whoever signed them out never takes them for signed in again.
    expect([401, 503]).toEqual(expect.arrayContaining(statusesOf('signedOut', 0)))
    expect(seen.filter(({ cookieSet }) => cookieSet)).toEqual([])

    expectEachSpentOnce(replicas)
    // No grant ended but that of the sign-out.
    expect(replicas.provider.revokedGrants()).toHaveLength(1)

    const told = eventsOf(replicas, 'store_reasserted')
    expect(told.some(({ lost, lostEnds }) => Number(lost) >= 3 && lostEnds === 1)).toBe(true)
  },
)

/** By the provider's own log of its refresh tokens. */
const expectEachSpentOnce = (replicas: Replicas) => {
  const refreshes = replicas.refreshes()
  expect(refreshes.map(({ status }) => status)).toEqual(refreshes.map(() => 200))
  const spent = refreshes.map(({ refreshTokenFingerprint }) => refreshTokenFingerprint)
  expect(new Set(spent).size).toBe(spent.length)
}

const eventsOf = (replicas: Replicas, type: string): Readonly<Record<string, unknown>>[] =>
  (replicas.gateways[0]?.stdout ?? [])
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ event }) => event === type)

test('a failover that loses the lease of a refresh in the air: no other replica spends the token again', {
  timeout: 60_000,
}, async ({ onTestFinished }) => {
  const deployment = await startSentinels()
  onTestFinished(deployment.close)
  const replicas = await startReplicas({
    accessTokenLifetimeSeconds: TOKEN_SECONDS,
    env: { COATCHECK_REDIS_URL: deployment.url },
  })
  onTestFinished(() => replicas.close())
  const [master] = deployment.masters
  const [masterServer, replicaServer] = deployment.servers
  const { cookie, key } = await signInOn(replicas, master)
  expect(await master?.wait(1, 5_000)).toBe(1)
  await sleep(TOKEN_SECONDS * 1_000)

  replicaServer?.pause()
  await fillSockets(master, key)
  // The provider has spent the token, and its answer takes longer than a failover.
  replicas.provider.setFault({ delayMs: 4_500 }, 'after')
  const holder = replicas.call(0, cookie)
  await waitFor('the token is spent', () => replicas.refreshes()[0]?.consumed)
  replicas.provider.setFault('continue', 'after')
  process.kill(masterServer?.pid ?? 0, 'SIGKILL')
  replicaServer?.resume()

  const statuses = new Set<number>()
  await waitFor(
    'the other replica has the result',
    async () => {
      const { status } = await replicas.call(1, cookie)
      statuses.add(status)
      return status === 200
    },
    FAILOVER,
  )
  expect([200, 503]).toEqual(expect.arrayContaining([...statuses]))
  expect([200, 503]).toContain((await holder).status)
  // What came so late had run out: it is refreshed in its turn.
  expectEachSpentOnce(replicas)
  expect(replicas.provider.revokedGrants()).toEqual([])
})

test('redis.confirm: while the replica is stalled nothing counts, and nothing is lost', {
  timeout: 60_000,
}, async ({ onTestFinished }) => {
  const deployment = await startSentinels()
  onTestFinished(deployment.close)
  const replicas = await startReplicas({
    accessTokenLifetimeSeconds: TOKEN_SECONDS,
    env: { COATCHECK_REDIS_URL: deployment.url, COATCHECK_REDIS_CONFIRM: '1' },
  })
  onTestFinished(() => replicas.close())
  const [master] = deployment.masters
  const signedOut = await signInOn(replicas, master)
  const rotated = await signInOn(replicas, master)
  await sleep(TOKEN_SECONDS * 1_000)
  deployment.servers[1]?.pause()
  onTestFinished(() => deployment.servers[1]?.resume())

  // Who has refreshed serves the result, which is written again until the replica has it.
  expect((await replicas.call(0, rotated.cookie)).status).toBe(200)
  const out = await replicas.call(0, signedOut.cookie, '/bff/logout', 'POST')
  expect([out.status, out.code]).toEqual([503, 'store_unavailable'])
  expect(out.headers['retry-after']).toMatch(/^\d+$/)
  expect(out.headers).not.toHaveProperty('set-cookie')
  const browser = createBrowser()
  expect((await signIn(browser, replicas.publicUrl)).status).toBe(503)
  expect(sessionCookie(browser)).toBeUndefined()
  const reasons = eventsOf(replicas, 'request_refused').map(({ reason }) => reason)
  expect(reasons).toContain('not_confirmed')

  deployment.servers[1]?.resume()
  await waitFor('signing in works again', () => replicas.signIn(), FAILOVER)
  expect((await replicas.call(1, signedOut.cookie)).status).toBe(401)
  // Of the sign-in that failed nothing is left.
  const records = await recordsOn(master)
  const heads = await headsOn(master as Redis, records)
  expect(heads.filter((head) => head.startsWith('1r'))).toHaveLength(2)
  expect(eventsOf(replicas, 'session_ended').map(({ reason }) => reason)).toEqual(['logout'])
  await waitFor(
    'the grants of both are revoked',
    () => replicas.provider.revokedGrants().length === 2,
  )
  const until = performance.now() + 1.5 * TOKEN_SECONDS * 1_000
  while (performance.now() < until) {
    expect((await replicas.call(1, rotated.cookie)).status).toBe(200)
    await sleep(100)
  }
  expectEachSpentOnce(replicas)
})
