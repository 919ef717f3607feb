/** The logout token, clause by clause of OIDC Back-Channel Logout 1.0 §2.4 and §2.6. */

import { afterAll, afterEach, beforeAll, describe, expect, it, test } from 'vitest'
import type { Provider } from '../../../src/oidc/provider.ts'
import { seconds } from '../../../src/time.ts'
import { FakeProvider, type IdTokenLie, type JsonObject } from '../../support/fake-provider.ts'
import { adapterFor } from './adapter.ts'

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'

let fake: FakeProvider
let strict: Provider
let compatible: Provider
beforeAll(async () => {
  fake = await FakeProvider.start()
  strict = adapterFor(fake.issuer)
  compatible = adapterFor(fake.issuer, { logoutTokens: 'compatible' })
})
afterAll(async () => {
  await strict.close()
  await compatible.close()
  await fake.close()
})
afterEach(() => fake.answerHonestly())

const answerTo = async (lie: IdTokenLie, provider = strict) =>
  provider.verifyLogoutToken(await fake.logoutToken(lie))

const nowSeconds = () => Math.floor(Date.now() / 1000)

describe('§2.4 an honest logout token', () => {
  it.each<[string, JsonObject, object]>([
    ['sub alone', {}, { subject: 'alice', providerSessionId: undefined }],
    ['sid alone', { sub: undefined, sid: 's1' }, { subject: undefined, providerSessionId: 's1' }],
    ['both', { sid: 's1' }, { subject: 'alice', providerSessionId: 's1' }],
  ])('names whom it means: %s', async (_, claims, expected) => {
    const answer = await answerTo({ claims: { ...claims, jti: 'once' } })
    expect(answer).toMatchObject({ kind: 'logout', tokenId: 'once', ...expected })
  })

  it.each(['logout+jwt', 'application/logout+jwt', 'LOGOUT+JWT'])('has typ %s', async (typ) => {
    expect(await answerTo({ header: { typ } })).toMatchObject({ kind: 'logout' })
  })

  it('may carry more than is asked of it', async () => {
    const claims = { events: { [EVENT]: { more: 1 }, 'urn:other': {} }, other: 'x' }
    expect(await answerTo({ claims })).toMatchObject({ kind: 'logout' })
  })

  it('is remembered no longer than it would be accepted, whatever end it names', async () => {
    const answer = await answerTo({ claims: { exp: nowSeconds() + 10 * 365 * 86_400 } })
    if (answer.kind !== 'logout') throw new Error(answer.kind)
    expect(answer.acceptableUntil).toBeGreaterThan(Date.now() + 600_000)
    expect(answer.acceptableUntil).toBeLessThan(Date.now() + 700_000)
  })
})

const REFUSED: readonly (readonly [string, IdTokenLie, string])[] = [
  ['(3) another key', { signature: 'mallory' }, 'signature_invalid'],
  ['(3) a flipped bit', { signature: 'flipped' }, 'signature_invalid'],
  ['(3) alg none', { header: { alg: 'none' }, signature: 'none' }, 'alg_not_allowed'],
  ['(3) a MAC with the public key', { signature: 'hs256_with_public_key' }, 'alg_not_allowed'],
  ['(4) another issuer', { claims: { iss: 'https://evil.example' } }, 'iss_mismatch'],
  ['(4) no issuer', { claims: { iss: undefined } }, 'iss_missing'],
  ['(4) another audience', { claims: { aud: 'other' } }, 'aud_mismatch'],
  ['(4) a further audience', { claims: { aud: ['coatcheck', 'other'] } }, 'aud_untrusted'],
  ['(4) no audience', { claims: { aud: undefined } }, 'aud_missing'],
  ['(4) no iat', { claims: { iat: undefined } }, 'iat_missing'],
  ['(4) an iat that is text', { claims: { iat: 'now' } }, 'iat_malformed'],
  ['(4) an iat to come', { claims: { iat: 4_000_000_000 } }, 'iat_future'],
  ['(4) an iat long past', { claims: { iat: 1_700_000_000 } }, 'iat_past'],
  ['(4) no exp', { claims: { exp: undefined } }, 'exp_missing'],
  ['(4) an exp past', { claims: { exp: 1_700_000_000 } }, 'exp_past'],
  ['(5) neither sub nor sid', { claims: { sub: undefined } }, 'sub_and_sid_missing'],
  ['(5) an empty sub', { claims: { sub: '' } }, 'sub_missing'],
  ['(5) a sub that is no text', { claims: { sub: 7, sid: 's' } }, 'sub_missing'],
  ['(5) an empty sid', { claims: { sid: '' } }, 'sid_malformed'],
  ['(5) a sid that is no text', { claims: { sid: ['s'] } }, 'sid_malformed'],
  ['(6) no events', { claims: { events: undefined } }, 'events_malformed'],
  ['(6) events that are a list', { claims: { events: [EVENT] } }, 'events_malformed'],
  ['(6) events that are text', { claims: { events: EVENT } }, 'events_malformed'],
  ['(6) events null', { claims: { events: null } }, 'events_malformed'],
  ['(6) another event', { claims: { events: { 'urn:other': {} } } }, 'event_missing'],
  ['(6) the event true', { claims: { events: { [EVENT]: true } } }, 'event_malformed'],
  ['(6) the event null', { claims: { events: { [EVENT]: null } } }, 'event_malformed'],
  ['(6) the event a list', { claims: { events: { [EVENT]: [] } } }, 'event_malformed'],
  ['(7) a nonce', { claims: { nonce: 'n' } }, 'nonce_present'],
  ['(7) an empty nonce', { claims: { nonce: '' } }, 'nonce_present'],
  ['(7) a nonce null', { claims: { nonce: null } }, 'nonce_present'],
  ['(8) no jti', { claims: { jti: undefined } }, 'jti_missing'],
  ['(8) an empty jti', { claims: { jti: '' } }, 'jti_malformed'],
  ['(8) an endless jti', { claims: { jti: 'j'.repeat(1025) } }, 'jti_malformed'],
  ['another type', { header: { typ: 'at+jwt' } }, 'typ_mismatch'],
]

describe('§2.6 is refused for', () => {
  it.each(REFUSED)('%s', async (_, lie, reason) => {
    expect(await answerTo(lie)).toMatchObject({ kind: 'refused', reason })
  })

  it.each([
    ['no typ', { header: { typ: undefined } }],
    ['typ JWT', { header: { typ: 'JWT' } }],
  ])('%s (§2.4, RFC 8725 §3.11)', async (_, lie) => {
    expect(await answerTo(lie)).toMatchObject({ kind: 'refused', reason: 'typ_mismatch' })
  })

  it('an ID token in its place', async () => {
    const idToken = String(await fake.idToken({ nonce: 'n' }, 'access'))
    for (const provider of [strict, compatible])
      expect((await provider.verifyLogoutToken(idToken)).kind).toBe('refused')
  })

  it.each(['', 'x', 'a.b.c', 'a.b.c.d.e', '..', 'é', 'eyJhbGciOiJSUzI1NiJ9.e30.'])(
    'no JWT at all: "%s"',
    async (text) => {
      expect((await strict.verifyLogoutToken(text)).kind).toBe('refused')
    },
  )

  it('an unknown key, which is looked for once and not for each', async () => {
    fake.forgetRequests()
    for (let count = 0; count < 20; count += 1)
      expect(await answerTo({ header: { kid: `unknown-${count}` } })).toMatchObject({
        kind: 'refused',
        reason: 'signing_key_unknown',
      })
    expect(fake.requestsTo('jwks').length).toBeLessThanOrEqual(1)
  })
})

describe('providers from before the specification was final', () => {
  it.each<[string, IdTokenLie]>([
    ['no typ', { header: { typ: undefined } }],
    ['typ JWT', { header: { typ: 'JWT' } }],
    ['no exp', { claims: { exp: undefined } }],
  ])('are understood where the operator says so: %s', async (_, lie) => {
    expect(await answerTo(lie, compatible)).toMatchObject({ kind: 'logout' })
  })

  it('nothing else is let off', async () => {
    for (const [, lie, reason] of REFUSED)
      if (reason !== 'exp_missing') expect((await answerTo(lie, compatible)).kind).toBe('refused')
  })
})

test('without keys nothing is decided: unavailable, and no refusal', async () => {
  fake.script('jwks', { status: 503 })
  const fresh = adapterFor(fake.issuer, { timeout: seconds(1) })
  expect(await fresh.verifyLogoutToken(await fake.logoutToken())).toMatchObject({
    kind: 'unavailable',
    reason: 'signing_keys_status_503',
  })
  await fresh.close()
})
