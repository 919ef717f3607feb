/** WebSockets with real processes on one Redis: ends on one replica, drains, and what coming back costs the store. */

import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { waitFor, within } from '../support/wait.ts'
import {
  openPageSocket,
  type PageSocket,
  startWebSocketApi,
  type WebSocketApi,
} from '../support/web-sockets.ts'

const WITHIN_A_SECOND_MS = 1_000
const SESSIONS = 50
const SOCKETS = 1_000

let api: WebSocketApi
let replicas: Replicas
let redis: Redis
let opened: PageSocket[] = []
beforeAll(async () => {
  api = await startWebSocketApi()
  replicas = await startReplicas({
    accessTokenLifetimeSeconds: 600,
    env: { COATCHECK_UPSTREAM: api.url },
  })
  redis = new Redis(replicas.redis.url)
})
afterEach(async () => {
  for (const { socket } of opened) socket.terminate()
  opened = []
  await waitFor('all are closed', () => api.server.clients.size === 0, { timeoutMs: 10_000 })
})
afterAll(async () => {
  redis.disconnect()
  await replicas.close()
  await api.close()
})

const open = async (replica: number, cookie: string): Promise<PageSocket> => {
  const { port } = replicas.gateways[replica] ?? expect.unreachable()
  const socket = await openPageSocket({ port, cookie, origin: replicas.publicUrl })
  opened.push(socket)
  return socket
}

/** Opens so many at a time: the listening socket's backlog is finite. */
const openMany = async (replica: number, cookies: readonly string[]): Promise<void> => {
  for (let at = 0; at < cookies.length; at += 100)
    await Promise.all(cookies.slice(at, at + 100).map((cookie) => open(replica, cookie)))
}

const calls = async (command: string): Promise<number> => {
  const stats = await redis.info('commandstats')
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
}

describe('the session ends on one replica', () => {
  it('and its WebSockets on both are closed with 4401 within a second, nobody else’s', async () => {
    const [cookie, other] = [await replicas.signIn(), await replicas.signIn()]
    const mine = [await open(0, cookie), await open(1, cookie), await open(1, cookie)]
    const bystander = await open(1, other)
    const startedAt = performance.now()
    expect((await replicas.call(0, cookie, '/bff/logout', 'POST')).status).toBe(200)
    for (const { closed } of mine) {
      const { code, reason, at } = await within(3_000, 'closed', closed)
      expect([code, reason]).toEqual([4401, 'logout'])
      expect(at - startedAt).toBeLessThan(WITHIN_A_SECOND_MS)
    }
    expect(bystander.hasClosed()).toBe(false)
  })

  it('while Redis is frozen nothing is closed; afterwards what ended is', async () => {
    const [cookie, other] = [await replicas.signIn(), await replicas.signIn()]
    const [mine, bystander] = [await open(1, cookie), await open(1, other)]
    replicas.redis.pause()
    await sleep(3_000)
    replicas.redis.resume()
    expect(mine.hasClosed()).toBe(false)
    await waitFor(
      'the sign-out',
      async () => (await replicas.call(0, cookie, '/bff/logout', 'POST')).status === 200,
      { timeoutMs: 10_000, intervalMs: 250 },
    )
    expect((await within(3_000, 'closed', mine.closed)).code).toBe(4401)
    expect(bystander.hasClosed()).toBe(false)
  })
})

describe('a replica is stopped', () => {
  it('1,000 WebSockets hear 1001, and coming back costs one read of the store per session', async () => {
    const cookies: string[] = []
    while (cookies.length < SESSIONS) cookies.push(await replicas.signIn())
    // All of one session at once, as the tabs of a browser come.
    const each = cookies.flatMap((cookie) => Array<string>(SOCKETS / SESSIONS).fill(cookie))
    await openMany(1, each)
    const exit = within(10_000, 'the replica ends', replicas.gateways[1]!.kill('SIGTERM'))
    const closes = await within(
      10_000,
      'all closed',
      Promise.all(opened.map(({ closed }) => closed)),
    )
    expect(new Set(closes.map(({ code }) => code))).toEqual(new Set([1001]))
    expect((await exit).code).toBe(0)
    opened = []

    const before = await calls('mget')
    await openMany(0, each)
    await sleep(1_000)
    const reads = (await calls('mget')) - before
    console.log(
      `${SOCKETS} WebSockets of ${SESSIONS} sessions came back: ${reads} reads of records`,
    )
    expect(reads).toBeLessThanOrEqual(SESSIONS)
    await replicas.start(1)
  }, 120_000)
})
