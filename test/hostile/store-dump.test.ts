/**
 * Attack: somebody reads the whole Redis: a backup, a replica, a shared instance. Every key and every value is dumped
 * in the middle of a session, after a refresh and while a sign-out waits, and searched for what would be worth
 * having. Tokens are AES-GCM under a key that only the browser's cookie has; the dump has no cookie.
 */

import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createSealer } from '../../src/session/seal.ts'
import { digestOf } from '../../src/session/ticket.ts'
import { seconds } from '../../src/time.ts'
import type { Browser } from '../support/browser.ts'
import { logoutCookie, sessionCookie } from '../support/cookies.ts'
import { FakeProvider, type JsonObject } from '../support/fake-provider.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import {
  CLIENT_ID,
  CLIENT_SECRET,
  RING_SECRET,
  startWholeGateway,
  type WholeGateway,
} from '../support/whole-gateway.ts'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { authorizationResponseFor, signInAtOnce } from './sign-in-steps.ts'

let provider: FakeProvider
let redis: RedisServer
let inspector: Redis
let whole: WholeGateway
const tokens: string[] = []
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 1 })
  // The fake says `auth_time` anew in each token, which at a refresh would be another sign-in (OIDC Core §12.2).
  provider.lieInIdTokens({ claims: { auth_time: undefined } })
  provider.alterTokenAnswer((honest: JsonObject) => {
    for (const name of ['access_token', 'refresh_token', 'id_token'])
      tokens.push(...String(honest[name]).split('.'))
    return honest
  })
  redis = await startRedis()
  inspector = new Redis(redis.url)
  whole = await startWholeGateway({
    env: {
      COATCHECK_ISSUER: provider.issuer,
      COATCHECK_RESOURCE: undefined,
      COATCHECK_REDIS_URL: redis.url,
      COATCHECK_SPA: 'fixtures/spa',
    },
  })
})
afterAll(async () => {
  inspector.disconnect()
  await whole.close()
  await redis.close()
  await provider.close()
})

/** All keys and values as text, once as they are and once decoded from base64url wherever that is possible. */
const dump = async (): Promise<string> => {
  const parts: string[] = []
  for (const key of await inspector.keys('*')) {
    parts.push(key)
    const type = await inspector.type(key)
    if (type === 'string') parts.push((await inspector.getBuffer(key))?.toString('latin1') ?? '')
    else if (type === 'hash')
      for (const [field, value] of Object.entries(await inspector.hgetallBuffer(key)))
        parts.push(field, value.toString('latin1'))
    else if (type === 'zset') parts.push(...(await inspector.zrange(key, '0', '-1', 'WITHSCORES')))
    // `none`: it has ended in between.
    else if (type !== 'none')
      throw new Error(`no session data of type ${type} is known to this test`)
  }
  const text = parts.join('\n')
  const decoded = [...text.matchAll(/[\w-]{16,}/g)].map(([word]) =>
    Buffer.from(word, 'base64url').toString('latin1'),
  )
  return [text, ...decoded].join('\n')
}

/** PTTL of a key that stays for ever. */
const NO_END = -1

const ticketOf = async (browser: Browser) => {
  const sealer = createSealer({ current: createKeyRing([RING_SECRET]) })
  const value = sessionCookie(browser)?.value ?? ''
  const opened = await sealer.unseal('ticket', value, seconds(28_800), (ticket) => ticket)
  if (opened.kind !== 'opened') throw new Error('the cookie is sealed by this secret')
  return { id: String(opened.opened.value.id), key: String(opened.opened.value.key) }
}

describe('RFC 9700 §4.9.3 a dump of the store', () => {
  it('holds no token, no session id and no key, and names no user', async () => {
    const browser = whole.browser()
    await signInAtOnce(whole, browser)
    const { id, key } = await ticketOf(browser)
    const cookie = sessionCookie(browser)?.value ?? ''
    const worthHaving = () => [
      ...tokens,
      id,
      key,
      cookie.slice(0, 60),
      Buffer.from(id, 'base64url').toString('latin1'),
      Buffer.from(key, 'base64url').toString('latin1'),
      CLIENT_SECRET,
      RING_SECRET,
      'alice',
      'Alice',
      'openid',
      'TestBrowser',
      '127.0.0.1',
      '"sub"',
    ]
    const expectNothing = async () => {
      const text = await dump()
      expect(text).toContain(digestOf(id))
      expect(worthHaving().filter((value) => value.length > 3 && text.includes(value))).toEqual([])
    }

    await expectNothing()
    const before = tokens.length
    await new Promise((resolve) => setTimeout(resolve, 1_050))
    expect((await browser.fetch('/api/items')).status).toBe(200)
    expect(tokens.length).toBeGreaterThan(before)
    await expectNothing()
    await browser.fetch('/bff/logout', { method: 'POST' })
    // The ID token waits for its one reader.
    expect(await inspector.keys('*:o:*')).toHaveLength(1)
    expect(logoutCookie(browser)).toBeDefined()
    await expectNothing()
  })

  it('ASVS 7.4.1 after sign-out holds a tombstone without a seal, and nothing after it was read', async () => {
    await redis.flush()
    const browser = whole.browser()
    await signInAtOnce(whole, browser)
    const sizeOf = async () => (await dump()).length
    const alive = await sizeOf()
    await browser.fetch('/bff/logout', { method: 'POST' })
    await browser.navigate('/bff/logout/continue', { redirect: 'manual' })
    expect(await inspector.keys('*:o:*')).toEqual([])
    expect(await sizeOf()).toBeLessThan(alive / 2)
    for (const key of await inspector.keys('*'))
      expect([key, await inspector.pttl(key)]).not.toEqual([key, NO_END])
  })

  it('every key ends by itself', async () => {
    await signInAtOnce(whole, whole.browser())
    const keys = await inspector.keys('*')
    expect(keys.length).toBeGreaterThan(1)
    for (const key of keys) expect([key, await inspector.pttl(key)]).not.toEqual([key, NO_END])
  })
})

describe('an anonymous visitor', () => {
  it('writes nothing, whatever is opened, begun or tried', async () => {
    await redis.flush()
    const visitor = whole.browser()
    await visitor.navigate(`${whole.url}/`)
    await visitor.fetch('/bff/session')
    await visitor.fetch('/api/items')
    await visitor.fetch('/bff/logout', { method: 'POST' })
    for (let turn = 0; turn < 6; turn += 1)
      await visitor.navigate(`${whole.url}/bff/login?returnTo=/${turn}`, { redirect: 'manual' })
    await visitor.fetch('/bff/login', { method: 'POST', from: `${whole.url}/` })
    const response = await authorizationResponseFor(whole, visitor)
    response.searchParams.set('iss', 'https://evil.example')
    await visitor.navigate(response.href, { redirect: 'manual' })
    for (const target of [
      `/bff/callback?code=x&state=0n${'a'.repeat(43)}`,
      '/bff/callback?error=x',
      '/bff/logged-out?state=x',
      '/bff/logout/continue',
    ])
      await rawRequest(whole.port, { target, lines: navigation('same-origin') })
    await rawRequest(whole.port, {
      target: '/api/items',
      lines: [`Cookie: __Host-Http-coatcheck-${whole.port}=x`, ...SAME_ORIGIN_FETCH],
    })
    expect(await inspector.keys('*')).toEqual([])
  })
})
