/**
 * Sessions in the memory of one gateway process while another one ends them: told at once, refused within a second
 * where nothing is told any more, and never served as they were by a process that was stopped meanwhile.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { type RedisProxy, startRedisProxy } from '../support/redis-proxy.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'

/** Enough for a busy machine, and far below the 30 s that an entry may live. */
const SOON = { timeoutMs: 3_000, intervalMs: 10 }

let redis: RedisServer
/** The first replica hears of changes through it, the second one directly. */
let proxy: RedisProxy
let replicas: Replicas
beforeAll(async () => {
  redis = await startRedis()
  proxy = await startRedisProxy(redis.port)
  replicas = await startReplicas({
    accessTokenLifetimeSeconds: 600,
    env: (index) => ({ COATCHECK_REDIS_URL: index === 0 ? proxy.url : redis.url }),
  })
}, 60_000)
afterAll(async () => {
  await replicas.close()
  await proxy.close()
  await redis.close()
})
afterEach(() => proxy.treatTrackers('pass'))

const lookups = async () => {
  const text = await (await fetch(`${replicas.gateways[0]?.operationsUrl}/metrics`)).text()
  const number = (sample: string) =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${sample} `))
        ?.split(' ')[1],
    )
  return {
    memory: number('coatcheck_session_lookups_total{from="memory"}'),
    store: number('coatcheck_session_lookups_total{from="store"}'),
    areTold: number('coatcheck_session_changes_told'),
  }
}

/** A session that the first replica serves from its memory. */
const remembered = async () => {
  const cookie = await replicas.signIn()
  await waitFor('it is served from memory', async () => {
    const before = await lookups()
    expect((await replicas.call(0, cookie)).status).toBe(200)
    return (await lookups()).memory > before.memory
  })
  return cookie
}

const signOut = async (replica: number, cookie: string) => {
  const { status } = await replicas.call(replica, cookie, '/bff/logout', 'POST')
  expect(status).toBe(200)
}

const isRefused = async (cookie: string) => {
  const { status, code } = await replicas.call(0, cookie)
  if (status === 200) return false
  expect({ status, code }).toEqual({ status: 401, code: 'session_ended' })
  return true
}

test('what one replica ends, the other refuses, however often it was served from memory', async () => {
  const cookies = [await remembered(), await remembered()]
  for (const cookie of cookies) {
    await signOut(1, cookie)
    await waitFor('it is refused', () => isRefused(cookie), SOON)
  }
  expect((await lookups()).areTold).toBe(1)
})

test('a tracker that is black-holed and not closed: refused within a second, and read from the store from then on', async () => {
  const [ended, living] = [await remembered(), await remembered()]
  proxy.treatTrackers('swallow')
  await signOut(1, ended)
  await waitFor('it is refused', () => isRefused(ended), SOON)

  const before = await lookups()
  expect(before.areTold).toBe(0)
  for (let call = 0; call < 5; call += 1) expect((await replicas.call(0, living)).status).toBe(200)
  expect(await lookups()).toEqual({ ...before, store: before.store + 5 })

  proxy.treatTrackers('pass')
  await waitFor('changes are told again', async () => (await lookups()).areTold === 1)
  await remembered()
})

test('a process that was stopped serves nothing from before, not even in its first answer', async () => {
  const cookie = await remembered()
  replicas.gateways[0]?.signal('SIGSTOP')
  // Only time speaks against what it remembers: that the session ended is told to nobody.
  proxy.treatTrackers('swallow')
  await signOut(1, cookie)
  const answer = replicas.call(0, cookie)
  await sleep(1_000)
  replicas.gateways[0]?.signal('SIGCONT')
  expect(await answer).toMatchObject({ status: 401, code: 'session_ended' })
})

test('what a process ended itself is over at once, before it is told', async () => {
  const cookie = await remembered()
  proxy.treatTrackers('swallow')
  await signOut(0, cookie)
  expect(await isRefused(cookie)).toBe(true)
})
