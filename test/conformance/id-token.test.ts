/**
 * ID tokens that lie (OIDC Core §3.1.3.7, RFC 8725). The fake provider signs each one itself and sends it from
 * its token endpoint, so that only the lie under test can be what the gateway objects to.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../src/oidc/provider.ts'
import { adapterFor, exchangeAt, refreshAt } from '../edges/openid-client/adapter.ts'
import { FakeProvider, type IdTokenLie, type JsonObject } from '../support/fake-provider.ts'

let fake: FakeProvider
let provider: Provider

beforeAll(async () => {
  fake = await FakeProvider.start()
})
beforeEach(() => {
  fake.answerHonestly()
  provider = adapterFor(fake.issuer)
  return () => provider.close()
})
afterAll(() => fake.close())

const nowSeconds = () => Math.floor(Date.now() / 1000)

const signInWith = async (lie: IdTokenLie) => {
  fake.lieInIdTokens(lie)
  return exchangeAt(fake, provider)
}

describe('an honest ID token', () => {
  test('signs in', async () => {
    expect(await signInWith({})).toMatchObject({
      kind: 'signed_in',
      signIn: { subject: 'alice', idTokenClaims: { sub: 'alice', aud: 'coatcheck' } },
    })
  })

  const unusual: Record<string, IdTokenLie> = {
    'without typ': { header: { typ: undefined } },
    'with typ in lower case': { header: { typ: 'jwt' } },
    'without kid, from a provider with one key': { header: { kid: undefined } },
    'with aud as an array of one': { claims: { aud: ['coatcheck'] } },
    'with azp': { claims: { azp: 'coatcheck' } },
    'without at_hash': { claims: { at_hash: undefined } },
    'with a sub of 255 characters': { claims: { sub: 'a'.repeat(255) } },
    'with nbf now': { claims: () => ({ ...honest(), nbf: nowSeconds() }) },
    'with iat a little ahead of us': { claims: () => ({ ...honest(), iat: nowSeconds() + 10 }) },
    'with fractions of a second': { claims: () => ({ ...honest(), iat: nowSeconds() - 0.5 }) },
    'with members that nobody knows': { claims: { 'urn:example:x': { deep: [1] } } },
  }
  test.each(Object.entries(unusual))('%s signs in', async (_, lie) => {
    expect(await signInWith(lie)).toMatchObject({ kind: 'signed_in' })
  })
})

const honest = (): JsonObject => ({
  iss: fake.issuer,
  sub: 'alice',
  aud: 'coatcheck',
  iat: nowSeconds(),
  exp: nowSeconds() + 3600,
  nonce: 'nonce-of-this-sign-in',
})

/** Title, lie, private reason. */
type Row = readonly [string, IdTokenLie, string]
const at = (claim: string, offsetSeconds: number): IdTokenLie => ({
  claims: (claims) => ({ ...claims, [claim]: nowSeconds() + offsetSeconds }),
})

describe('OIDC Core §3.1.3.7(6), RFC 8725 §3.1–3.2 refuses a signature', () => {
  const rows: readonly Row[] = [
    ['of another key under our kid', { signature: 'mallory' }, 'signature_invalid'],
    ['with one bit flipped', { signature: 'flipped' }, 'signature_invalid'],
    [
      'of another key without a kid',
      { signature: 'mallory', header: { kid: undefined } },
      'signature_invalid',
    ],
    [
      'that is missing, alg none',
      { signature: 'none', header: { alg: 'none' } },
      'alg_not_allowed',
    ],
    [
      'that is missing, alg nOnE',
      { signature: 'none', header: { alg: 'nOnE' } },
      'alg_not_allowed',
    ],
    ['that is missing, alg RS256', { signature: 'none' }, 'signature_invalid'],
    [
      'that is missing, no alg',
      { signature: 'none', header: { alg: undefined } },
      'id_token_malformed',
    ],
    [
      'made with HS256 and the public key as its secret',
      { signature: 'hs256_with_public_key' },
      'alg_not_allowed',
    ],
    [
      'of our RS256 key declared as PS256',
      { signature: 'none', header: { alg: 'PS256' } },
      'signing_key_unknown',
    ],
    ['under a kid that the key set lacks', { header: { kid: 'nobody' } }, 'signing_key_unknown'],
    ['under a kid that is a path', { header: { kid: '../../etc/passwd' } }, 'signing_key_unknown'],
    ['under a kid of 10 KB', { header: { kid: 'k'.repeat(10_240) } }, 'signing_key_unknown'],
  ]
  test.each(rows)('%s', async (_, lie, reason) => {
    expect(await signInWith(lie)).toMatchObject({ kind: 'refused', reason })
  })

  test('made with HS256 even where the allow-list names HS256', async () => {
    await provider.close()
    provider = adapterFor(fake.issuer, { idTokenAlgorithms: ['HS256', 'none', 'RS256'] })
    expect(await signInWith({ signature: 'hs256_with_public_key' })).toMatchObject({
      kind: 'refused',
      reason: 'id_token_malformed',
    })
    expect(await signInWith({ signature: 'none', header: { alg: 'none' } })).toMatchObject({
      kind: 'refused',
    })
  })

  test('RFC 8725 §3.10 of a key that the token brings along (jwk, jku, x5u)', async () => {
    const jwk = await fake.malloryJwk()
    fake.forgetRequests()
    for (const header of [
      { jwk },
      { jku: `${fake.issuer}/mallory-jwks` },
      { x5u: `${fake.issuer}/mallory-jwks` },
    ]) {
      expect(await signInWith({ signature: 'mallory', header })).toMatchObject({
        kind: 'refused',
        reason: 'signature_invalid',
      })
    }
    expect(fake.requestsTo('mallory-jwks')).toEqual([])
  })
})

describe('OIDC Core §3.1.3.7(3), RFC 8725 §3.11 refuses a token of another kind', () => {
  const rows: readonly Row[] = [
    ['typ at+jwt', { header: { typ: 'at+jwt' } }, 'typ_mismatch'],
    ['typ logout+jwt', { header: { typ: 'logout+jwt' } }, 'typ_mismatch'],
    [
      'a crit extension',
      { header: { crit: ['urn:example:unknown'], 'urn:example:unknown': 1 } },
      'id_token_malformed',
    ],
    ['an encrypted token', { verbatim: 'a.b.c.d.e' }, 'id_token_malformed'],
    ['two segments', { verbatim: 'e30.e30' }, 'id_token_malformed'],
    [
      'a JSON serialisation',
      { verbatim: { payload: 'e30', signatures: [] } },
      'id_token_malformed',
    ],
    ['characters outside base64url', { verbatim: 'e30=.e3 0.e+0' }, 'id_token_malformed'],
    ['a number', { verbatim: 7 }, 'id_token_malformed'],
    ['nothing', { verbatim: undefined }, 'id_token_missing'],
    ['an empty string', { verbatim: '' }, 'id_token_missing'],
    ['null', { verbatim: null }, 'id_token_missing'],
  ]
  test.each(rows)('%s', async (_, lie, reason) => {
    expect(await signInWith(lie)).toMatchObject({ kind: 'refused', reason })
  })
})

describe('OIDC Core §2, §3.1.3.7 refuses a claim', () => {
  const claim = (name: string, value: unknown): IdTokenLie => ({ claims: { [name]: value } })
  const rows: readonly Row[] = [
    ['iss of another issuer', claim('iss', 'https://evil.example'), 'iss_mismatch'],
    ['iss missing', claim('iss', undefined), 'iss_missing'],
    ['iss as an array', { claims: (c) => ({ ...c, iss: [c.iss] }) }, 'iss_mismatch'],
    ['iss with a final slash', { claims: (c) => ({ ...c, iss: `${c.iss}/` }) }, 'iss_mismatch'],
    [
      'iss in capitals',
      { claims: (c) => ({ ...c, iss: String(c.iss).toUpperCase() }) },
      'iss_mismatch',
    ],
    ['aud of another client', claim('aud', 'mallory'), 'aud_mismatch'],
    ['aud missing', claim('aud', undefined), 'aud_missing'],
    ['aud empty', claim('aud', []), 'aud_mismatch'],
    ['aud that starts like ours', claim('aud', 'coatcheck-2'), 'aud_mismatch'],
    ['aud with another audience besides', claim('aud', ['coatcheck', 'mallory']), 'aud_untrusted'],
    ['azp of another client', claim('azp', 'mallory'), 'azp_mismatch'],
    [
      'azp of another client beside two audiences',
      { claims: { aud: ['coatcheck', 'x'], azp: 'x' } },
      'aud_untrusted',
    ],
    ['azp as an array', claim('azp', ['coatcheck']), 'azp_mismatch'],
    ['sub missing', claim('sub', undefined), 'sub_missing'],
    ['sub empty', claim('sub', ''), 'sub_missing'],
    ['sub as a number', claim('sub', 42), 'sub_missing'],
    ['sub of 256 characters', claim('sub', 'a'.repeat(256)), 'sub_too_long'],
    ['nonce of another sign-in', claim('nonce', 'another'), 'nonce_mismatch'],
    ['nonce missing', claim('nonce', undefined), 'nonce_mismatch'],
    ['nonce in an array', claim('nonce', ['nonce-of-this-sign-in']), 'nonce_mismatch'],
    [
      'at_hash of another access token',
      claim('at_hash', 'AAAAAAAAAAAAAAAAAAAAAA'),
      'at_hash_mismatch',
    ],
    ['at_hash as a number', claim('at_hash', 1), 'at_hash_mismatch'],
    ['exp missing', claim('exp', undefined), 'exp_missing'],
    ['exp past', at('exp', -120), 'exp_past'],
    ['exp as a string', { claims: (c) => ({ ...c, exp: String(c.exp) }) }, 'exp_malformed'],
    ['exp of 1e300', claim('exp', 1e300), 'exp_malformed'],
    [
      'exp in milliseconds',
      { claims: (c) => ({ ...c, exp: Number(c.exp) * 1000 }) },
      'exp_malformed',
    ],
    ['exp negative', claim('exp', -1), 'exp_past'],
    ['exp null', claim('exp', null), 'exp_malformed'],
    ['iat missing', claim('iat', undefined), 'iat_missing'],
    ['iat in the future', at('iat', 120), 'iat_future'],
    ['iat long past', at('iat', -3600), 'iat_past'],
    ['iat as a string', { claims: (c) => ({ ...c, iat: String(c.iat) }) }, 'iat_malformed'],
    ['iat of -1e300', claim('iat', -1e300), 'iat_malformed'],
    ['nbf in the future', at('nbf', 120), 'nbf_mismatch'],
    ['nbf as a string', claim('nbf', '0'), 'nbf_malformed'],
    ['nbf negative', claim('nbf', -5), 'nbf_malformed'],
    [
      'auth_time as a string',
      { claims: (c) => ({ ...c, auth_time: String(c.auth_time) }) },
      'auth_time_malformed',
    ],
    ['auth_time in the future', at('auth_time', 3600), 'auth_time_future'],
  ]
  test.each(rows)('%s', async (_, lie, reason) => {
    expect(await signInWith(lie)).toMatchObject({ kind: 'refused', reason })
  })
})

describe('OIDC Core §3.1.3.7(13): with max_age', () => {
  const signInWithMaxAge = (maxAgeSeconds: number, lie: IdTokenLie) => {
    fake.lieInIdTokens(lie)
    return exchangeAt(fake, provider, { maxAgeSeconds })
  }
  test('a recent auth_time signs in', async () => {
    expect(await signInWithMaxAge(600, at('auth_time', -500))).toMatchObject({ kind: 'signed_in' })
  })
  test('max_age 0 signs in with an authentication of this moment', async () => {
    expect(await signInWithMaxAge(0, at('auth_time', -1))).toMatchObject({ kind: 'signed_in' })
  })
  test.each<[string, number, IdTokenLie, string]>([
    ['an old auth_time', 600, at('auth_time', -900), 'auth_time_past'],
    ['an old auth_time with max_age 0', 0, at('auth_time', -90), 'auth_time_past'],
    ['no auth_time', 600, { claims: { auth_time: undefined } }, 'auth_time_missing'],
  ])('%s is refused', async (_, maxAgeSeconds, lie, reason) => {
    expect(await signInWithMaxAge(maxAgeSeconds, lie)).toMatchObject({ kind: 'refused', reason })
  })
})

describe('OIDC Core §12.2: a refreshed ID token', () => {
  const firstIdToken = async () => {
    fake.answerHonestly()
    return String(await fake.idToken({ nonce: 'n-1' }, 'at-before'))
  }

  test('without a nonce is accepted, and its claims are given', async () => {
    const idToken = await firstIdToken()
    fake.lieInIdTokens({ claims: { name: 'Alice the Second' } })
    const answer = await refreshAt(fake, provider, { tokens: { idToken } })
    expect(answer).toMatchObject({
      kind: 'tokens',
      idTokenClaims: { sub: 'alice', name: 'Alice the Second' },
    })
    if (answer.kind === 'tokens') expect(answer.tokens.idToken).not.toBe(idToken)
  })

  test('with the nonce of the first one is accepted', async () => {
    const idToken = await firstIdToken()
    fake.lieInIdTokens({ claims: { nonce: 'n-1' } })
    expect(await refreshAt(fake, provider, { tokens: { idToken } })).toMatchObject({
      kind: 'tokens',
    })
  })

  test('with the same auth_time is accepted', async () => {
    const authTime = nowSeconds() - 1000
    fake.lieInIdTokens({ claims: { auth_time: authTime } })
    expect(await refreshAt(fake, provider, { authTime })).toMatchObject({ kind: 'tokens' })
  })

  test.each<[string, IdTokenLie, string]>([
    ['of another user', { claims: { sub: 'bob' } }, 'sub_mismatch'],
    ['of another issuer', { claims: { iss: 'https://evil.example' } }, 'iss_mismatch'],
    ['for another client', { claims: { aud: 'mallory' } }, 'aud_mismatch'],
    ['for another client too', { claims: { aud: ['coatcheck', 'm'] } }, 'aud_untrusted'],
    ['with another nonce', { claims: { nonce: 'n-2' } }, 'nonce_mismatch'],
    ['that has expired long ago', at('exp', -7200), 'exp_past'],
    ['with a forged signature', { signature: 'mallory' }, 'signature_invalid'],
    ['with alg none', { signature: 'none', header: { alg: 'none' } }, 'alg_not_allowed'],
    ['that is a logout token', { header: { typ: 'logout+jwt' } }, 'typ_mismatch'],
    ['that is no token', { verbatim: 42 }, 'id_token_malformed'],
    ['under an unknown kid', { header: { kid: 'nobody' } }, 'signing_key_unknown'],
  ])('%s changes the identity', async (_, lie, reason) => {
    const idToken = await firstIdToken()
    fake.lieInIdTokens(lie)
    expect(await refreshAt(fake, provider, { tokens: { idToken } })).toMatchObject({
      kind: 'identity_changed',
      reason,
    })
  })

  test.each([
    ['that expired a minute ago', at('exp', -120)],
    ['from a minute ahead', at('iat', 60)],
  ])('%s is a clock that drifts, and no reason to sign anybody out', async (_, lie) => {
    fake.lieInIdTokens(lie)
    expect(await refreshAt(fake, provider)).toMatchObject({ kind: 'tokens' })
  })

  test('with a later auth_time changes the identity', async () => {
    fake.lieInIdTokens(at('auth_time', 0))
    const authTime = nowSeconds() - 1000
    expect(await refreshAt(fake, provider, { authTime })).toMatchObject({
      kind: 'identity_changed',
      reason: 'auth_time_mismatch',
    })
  })

  test('whose session began at another issuer is not asked for', async () => {
    fake.forgetRequests()
    expect(await refreshAt(fake, provider, { issuer: 'https://old.example' })).toMatchObject({
      kind: 'identity_changed',
      reason: 'iss_mismatch',
    })
    expect(fake.requestsTo('token')).toEqual([])
  })
})

describe('OIDC Core §10.1.1: keys', () => {
  test('a new key works within one further fetch', async () => {
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    await fake.rotateKey()
    fake.forgetRequests()
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    expect(fake.requestsTo('jwks')).toHaveLength(1)
  })

  test('a new key works for a provider that names no kid', async () => {
    const unnamed = { header: { kid: undefined } }
    expect(await signInWith(unnamed)).toMatchObject({ kind: 'signed_in' })
    await fake.rotateKey()
    expect(await signInWith(unnamed)).toMatchObject({ kind: 'signed_in' })
  })

  test('a flood of unknown kids fetches the key set once, and signs nobody in', async () => {
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    fake.forgetRequests()
    const answers = []
    for (let round = 0; round < 5; round += 1) {
      fake.lieInIdTokens({ header: { kid: `nobody-${round}` } })
      answers.push(
        ...(await Promise.all(Array.from({ length: 8 }, () => exchangeAt(fake, provider)))),
      )
    }
    expect(new Set(answers.map(({ kind }) => kind))).toEqual(new Set(['refused']))
    expect(fake.requestsTo('jwks')).toHaveLength(1)
  })

  test('an unknown kid that may not be looked up just now ends no session', async () => {
    await signInWith({ header: { kid: 'nobody' } })
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: 'signing_key_unknown',
      spent: 'unknown',
    })
  })

  test('forty first sign-ins at once share one metadata and one key set request', async () => {
    fake.forgetRequests()
    await Promise.all(Array.from({ length: 40 }, () => exchangeAt(fake, provider)))
    expect(fake.requestsTo('discovery')).toHaveLength(1)
    expect(fake.requestsTo('jwks')).toHaveLength(1)
  })

  test.each<[string, object]>([
    ['500', { status: 500, body: {} }],
    ['HTML', { body: '<html></html>' }],
    ['a redirect', { status: 302, headers: { location: '/other' }, body: '' }],
    ['a reset', { fate: 'reset' }],
    ['an array', { body: [] }],
    ['2 MB', { body: { keys: ['x'.repeat(2_000_000)] } }],
  ])('unreachable keys (%s) are nobody’s fault, and the code is not spent', async (_, reply) => {
    fake.script('jwks', reply)
    fake.forgetRequests()
    expect(await exchangeAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: expect.stringMatching(/^signing_keys_/),
    })
    expect(await refreshAt(fake, provider)).toMatchObject({ kind: 'unavailable', spent: 'no' })
    expect(fake.requestsTo('token')).toEqual([])
  })

  test('keys at hand still verify while the key set is unreachable', async () => {
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    fake.script('jwks', { status: 500 })
    expect(await exchangeAt(fake, provider)).toMatchObject({ kind: 'signed_in' })
  })

  test('a new key while the key set is unreachable: unavailable, never refused', async () => {
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    await fake.rotateKey()
    fake.script('jwks', { status: 500 })
    expect(await exchangeAt(fake, provider)).toMatchObject({ kind: 'unavailable' })
  })

  test('the same at a refresh: unavailable, and the refresh token may be spent', async () => {
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    await fake.rotateKey()
    fake.script('jwks', { status: 500 })
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: 'signing_keys_status_500',
      spent: 'unknown',
    })
  })

  test('members that are no usable keys do not spoil the rest', async () => {
    fake.jwks = { keys: [null, 7, { kty: 7 }, { kty: 'oct', k: 'AAAA' }, ...fake.jwks.keys] }
    expect(await signInWith({})).toMatchObject({ kind: 'signed_in' })
    await fake.rotateKey()
  })

  test.each(['enc', 'private', 'alg'])(
    'Discovery §3, RFC 8725 §3.1 never verifies with a key that is not for that: %s',
    async (flaw) => {
      const [jwk] = fake.jwks.keys as [JsonObject]
      if (flaw === 'enc') fake.jwks = { keys: [{ ...jwk, use: 'enc' }] }
      if (flaw === 'alg') fake.jwks = { keys: [{ ...jwk, alg: 'PS256' }] }
      if (flaw === 'private') fake.jwks = { keys: [await fake.privateJwk()] }
      expect(await signInWith({})).toMatchObject({ kind: 'refused' })
      await fake.rotateKey()
    },
  )
})

test('no cause of a refusal carries a token, a code or a secret', async () => {
  const texts: string[] = []
  for (const lie of [{ signature: 'mallory' }, { claims: { nonce: 'x' } }] as const) {
    const answer = await signInWith(lie)
    expect(answer.kind).toBe('refused')
    texts.push(inspectDeep(answer))
  }
  fake.alterTokenAnswer((body) => ({ ...body, access_token: '' }))
  texts.push(inspectDeep(await exchangeAt(fake, provider)))
  fake.alterTokenAnswer((body) => ({
    error: 'invalid_grant',
    error_description: JSON.stringify(body),
  }))
  texts.push(inspectDeep(await refreshAt(fake, provider)))
  const all = texts.join('\n')
  expect(all).not.toMatch(/at-|eyJ|a-secret-of-the-client|verifier-/)
})

const inspectDeep = (value: unknown): string => {
  const seen = new Set<unknown>()
  const walk = (part: unknown): string => {
    if (typeof part !== 'object' || part === null || seen.has(part)) return String(part)
    seen.add(part)
    return Reflect.ownKeys(part)
      .filter((key) => key !== 'stack')
      .map((key) => walk(Reflect.get(part, key)))
      .join('\n')
  }
  return walk(value)
}
