/**
 * A leaver: somebody's access ends now, everywhere. Two replicas share one Redis; the operator ends the subject on one
 * of them. Within a second every replica refuses, every open page knows, and no refresh token is left to be used.
 */

import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { storeNamespace } from '../../src/edges/redis/keys.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createSealer } from '../../src/session/seal.ts'
import { digestOf } from '../../src/session/ticket.ts'
import { seconds } from '../../src/time.ts'
import { createBrowser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { type EventStream, openEventStream } from '../support/event-source.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'
import { CLIENT_ID, RING_SECRET } from '../support/whole-gateway.ts'

const TOKEN = 'an-admin-token-of-more-than-32-characters'
const WITHIN_A_SECOND_MS = 1_000

let replicas: Replicas
let inspector: Redis
beforeAll(async () => {
  replicas = await startReplicas({ env: { COATCHECK_ADMIN_TOKEN: TOKEN } })
  inspector = new Redis(replicas.redis.url)
})
afterAll(async () => {
  inspector.disconnect()
  await replicas.close()
})

const admin = async (replica: number, method: string, query: string) => {
  const { operationsUrl } = replicas.gateways[replica]!
  const answer = await fetch(`${operationsUrl}/admin/sessions${query}`, {
    method,
    headers: { authorization: `Bearer ${TOKEN}` },
  })
  return (await answer.json()) as Record<string, unknown>
}

/** What Redis has under the session's names, as text; by the cookie, which nobody else has. */
const storedFor = async (cookie: string) => {
  const sealer = createSealer({ current: createKeyRing([RING_SECRET]) })
  const seal = cookie.slice(cookie.indexOf('=') + 1)
  const opened = await sealer.unseal('ticket', seal, seconds(28_800), (ticket) => ticket)
  if (opened.kind !== 'opened') throw new Error('the cookie is sealed by this secret')
  const digest = digestOf(String(opened.opened.value.id))
  const namespace = storeNamespace(replicas.provider.issuer, CLIENT_ID)
  const record = `cc:${namespace}:s:{${digest}}`
  return {
    keys: (await inspector.keys(`*${digest}*`)).map((key) => key.replace(record, 'record')),
    record: (await inspector.getBuffer(record))?.toString('latin1') ?? '',
  }
}

it('is refused by every replica within a second, told to each open page, and keeps nothing to refresh with', async () => {
  const cookies = [await replicas.signIn(), await replicas.signIn()]
  const streams: EventStream[] = []
  for (const cookie of cookies)
    for (const { port } of replicas.gateways) streams.push(await openEventStream({ port, cookie }))
  const bob = await replicas.signIn(createBrowser(), 'bob')
  const bobs = await openEventStream({ port: replicas.gateways[0]!.port, cookie: bob })
  // A sign-in that has begun: the provider's page is open, and nothing is typed yet.
  const late = createBrowser()
  const page = await late.navigate(`${replicas.publicUrl}/bff/login?returnTo=/`)
  for (const cookie of [...cookies, bob]) expect((await replicas.call(0, cookie)).status).toBe(200)
  for (const cookie of cookies) expect((await storedFor(cookie)).record).toMatch(/^1r /)

  const startedAt = performance.now()
  expect(await admin(1, 'DELETE', '?subject=alice')).toEqual({ ended: 2 })
  await waitFor('every replica refuses', async () => {
    const answers = await Promise.all(
      cookies.flatMap((cookie) => [0, 1].map((replica) => replicas.call(replica, cookie))),
    )
    return answers.every(({ status, code }) => status === 401 && code === 'session_ended')
  })
  expect(performance.now() - startedAt).toBeLessThan(WITHIN_A_SECOND_MS)
  for (const stream of streams) {
    const ended = await stream.next('ended')
    expect(ended.data).toEqual({ reason: 'admin' })
    expect(ended.at - startedAt).toBeLessThan(WITHIN_A_SECOND_MS)
    await stream.ended()
  }

  // The record was the only place of the refresh token, and what is there now has nothing sealed in it.
  for (const cookie of cookies) {
    const { keys, record } = await storedFor(cookie)
    expect(keys).toEqual(['record'])
    expect(record).toMatch(/^1e \d+ \d+ \d+ admin\n$/)
  }
  const refreshes = replicas.refreshes().length
  for (const cookie of cookies) for (const replica of [0, 1]) await replicas.call(replica, cookie)
  expect(replicas.refreshes()).toHaveLength(refreshes)

  // The sign-in under way leads to a session that is over; nor is there one to be listed.
  await late.submitForm(page, { login: 'alice', password: 'alice' })
  const cookie = sessionCookie(late)
  for (const replica of [0, 1]) {
    const answer = await replicas.call(replica, cookie ? `${cookie.name}=${cookie.value}` : '')
    expect(answer.status).toBe(401)
  }
  expect(await admin(0, 'GET', '?subject=alice')).toMatchObject({ sessions: [] })
  const ends = replicas.gateways
    .flatMap(({ stdout }) => stdout)
    .map((line) => (line.startsWith('{') ? JSON.parse(line) : {}) as Record<string, unknown>)
    .flatMap(({ event, reason }) => (event === 'session_ended' ? [reason] : []))
  expect(ends).toEqual(['admin', 'admin', 'admin'])

  // Somebody else notices nothing.
  expect(bobs.hasEnded()).toBe(false)
  expect((await replicas.call(1, bob)).status).toBe(200)
  bobs.close()
}, 40_000)
