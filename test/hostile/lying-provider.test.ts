/**
 * Attack: the token endpoint's answer was tampered with, or the provider itself lies: a forged or transplanted ID
 * token, other tokens than were asked for, another user's claims. test/edges/openid-client has the whole table; here
 * each kind goes through the whole gateway, and what must not exist afterwards is looked for: a session, a record, a
 * call to the API with what came.
 */

import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { sessionCookie } from '../support/cookies.ts'
import { FakeProvider, type IdTokenLie, type JsonObject } from '../support/fake-provider.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { waitFor } from '../support/wait.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { authorizationResponseFor, signInAtOnce } from './sign-in-steps.ts'

let provider: FakeProvider
let redis: RedisServer
let inspector: Redis
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  redis = await startRedis()
  inspector = new Redis(redis.url)
  whole = await startWholeGateway({
    env: {
      COATCHECK_ISSUER: provider.issuer,
      COATCHECK_RESOURCE: undefined,
      COATCHECK_REDIS_URL: redis.url,
    },
  })
})
afterAll(async () => {
  inspector.disconnect()
  await whole.close()
  await redis.close()
  await provider.close()
})
afterEach(async () => {
  provider.answerHonestly()
  await redis.flush()
})

const sessionsInStore = async () =>
  (await inspector.keys('*')).filter((key) => /:[sx]:\{/.test(key))

const expectNoSession = async () => {
  const browser = whole.browser()
  const response = await authorizationResponseFor(whole, browser)
  const answer = await browser.navigate(response.href, { redirect: 'manual' })
  expect(answer.status).toBe(400)
  expect(answer.text).toContain('login_failed')
  expect(sessionCookie(browser)).toBeUndefined()
  expect(await sessionsInStore()).toEqual([])
  // The response is spent: trying it again does not come back to the token endpoint.
  const calls = provider.requestsTo('token').length
  await browser.navigate(response.href, { redirect: 'manual' })
  expect(provider.requestsTo('token')).toHaveLength(calls)
  expect(whole.api.requests).toEqual([])
}

const LIES: readonly (readonly [string, IdTokenLie])[] = [
  ['§3.1.3.7(6) a forged signature', { signature: 'mallory' }],
  ['§3.1.3.7(6) a flipped bit', { signature: 'flipped' }],
  ['§3.1.3.7(7) no signature', { header: { alg: 'none' }, signature: 'none' }],
  ['§3.1.3.7(8) a MAC with the public key', { signature: 'hs256_with_public_key' }],
  ['§3.1.3.7(11) another nonce', { claims: { nonce: 'other' } }],
  ['§3.1.3.7(11) no nonce', { claims: { nonce: undefined } }],
  ['§3.1.3.7(3) another audience', { claims: { aud: 'other' } }],
  ['§3.1.3.7(3) a further audience', { claims: { aud: [CLIENT_ID, 'other'] } }],
  ['§3.1.3.7(2) another issuer', { claims: { iss: 'https://evil.example' } }],
  ['§3.1.3.7(9) an end in the past', { claims: { exp: 1_700_000_000 } }],
  ['§3.1.3.8 another access token’s hash', { claims: { at_hash: 'AAAAAAAAAAAAAAAAAAAAAA' } }],
  ['§2 an empty subject', { claims: { sub: '' } }],
  ['§2 no subject', { claims: { sub: undefined } }],
  ['no token at all', { verbatim: undefined }],
  ['something else', { verbatim: 'alice' }],
]

describe('OIDC Core an ID token that is not believed makes no session', () => {
  it.each(LIES)('%s', async (_, lie) => {
    provider.lieInIdTokens(lie)
    const revoked = provider.requestsTo('revoke').length
    await expectNoSession()
    // What came with it is of no use to anybody any more.
    await waitFor(
      'the refresh token is revoked',
      () => provider.requestsTo('revoke').length === revoked + 1,
    )
  })
})

describe('RFC 6749 §5.1 a token answer that is not believed makes no session', () => {
  const WITHOUT = (name: string) => (honest: JsonObject) =>
    Object.fromEntries(Object.entries(honest).filter(([member]) => member !== name))
  it.each([
    ['no access token', WITHOUT('access_token')],
    ['an access token that is no text', (honest: JsonObject) => ({ ...honest, access_token: {} })],
    [
      'line breaks in the access token',
      (honest: JsonObject) => ({ ...honest, access_token: 'a\r\nX-User: root' }),
    ],
    [
      'a type of token that nobody asked for',
      (honest: JsonObject) => ({ ...honest, token_type: 'mac' }),
    ],
    ['no type of token', WITHOUT('token_type')],
    ['a list', (honest: JsonObject) => [honest]],
  ])('%s', async (_, alter) => {
    provider.alterTokenAnswer(alter)
    await expectNoSession()
  })
})

it('OIDC Core §5.3.2 UserInfo of another subject is discarded, and the sign-in stands', async () => {
  provider.script('userinfo', {
    body: { sub: 'mallory', name: 'Mallory', email: 'm@evil.example' },
  })
  const browser = whole.browser()
  await signInAtOnce(whole, browser)
  const { user } = (await browser.fetch('/bff/session')).json() as { user: object }
  expect(user).toEqual({ sub: 'alice' })
})

it('RFC 10017 §6.1.2.2 an honest provider’s tokens do make one, and only its token goes to the API', async () => {
  const browser = whole.browser()
  await signInAtOnce(whole, browser)
  expect(await sessionsInStore()).not.toEqual([])
  expect((await browser.fetch('/api/items')).status).toBe(200)
  expect(whole.api.requests.at(-1)?.header('authorization')).toMatch(/^Bearer at-/)
})
