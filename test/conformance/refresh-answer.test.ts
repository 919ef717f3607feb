/** The token endpoint's answers: what a success may look like, and what each failure means for the session. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Provider } from '../../src/oidc/provider.ts'
import { epochMs, seconds, systemClock } from '../../src/time.ts'
import { adapterFor, exchangeAt, type Notice, refreshAt } from '../edges/openid-client/adapter.ts'
import { FakeProvider, type JsonObject, type Reply } from '../support/fake-provider.ts'

/** 0.9 s into a second, so that rounding shows. */
const NOW = epochMs(Math.floor(Date.now() / 1000) * 1000 + 900)
const NOW_SECOND = NOW - 900
const clock = { ...systemClock, now: () => NOW }

let fake: FakeProvider
let provider: Provider & { readonly notices: readonly Notice[] }

beforeAll(async () => {
  fake = await FakeProvider.start()
})
beforeEach(() => {
  fake.answerHonestly()
  fake.forgetRequests()
  provider = adapterFor(fake.issuer, { clock, tokenTimeout: seconds(1) })
  return () => provider.close()
})
afterAll(() => fake.close())

const tokensWith = async (change: JsonObject) => {
  fake.alterTokenAnswer((honest) => ({ ...honest, ...change }))
  const answer = await refreshAt(fake, provider)
  if (answer.kind !== 'tokens') throw new Error(`refresh gave ${JSON.stringify(answer)}`)
  return answer.tokens
}

describe('RFC 6749 §5.1: expires_in', () => {
  test.each<[string, unknown, number]>([
    ['a number', 60, 60],
    ['a number in a string', '90', 90],
    ['a fraction, rounded down', 59.9, 59],
    ['less than a second', 0.2, 1],
    ['missing', undefined, 300],
    ['0', 0, 300],
    ['negative', -5, 300],
    ['a word', 'soon', 300],
    ['null', null, 300],
    ['an object', { s: 60 }, 300],
    ['1e300', 1e300, 86_400],
    ['a month', 2_592_000, 86_400],
    ['thirty digits in a string', '9'.repeat(30), 300],
  ])('%s', async (_, expiresIn, lifetimeSeconds) => {
    expect(await tokensWith({ expires_in: expiresIn })).toMatchObject({
      accessTokenLifetime: lifetimeSeconds,
      accessTokenExpiresAt: NOW_SECOND + lifetimeSeconds * 1000,
    })
  })

  test('unusable is told once', async () => {
    await tokensWith({ expires_in: 60 })
    expect(provider.notices).toEqual([])
    await tokensWith({ expires_in: undefined })
    await tokensWith({ expires_in: -1 })
    expect(provider.notices.map(({ notice }) => notice)).toEqual(['expires_in_unusable'])
  })

  test('missing and without a refresh token, the session does not end within minutes', async () => {
    fake.alterTokenAnswer((honest) => ({
      ...honest,
      expires_in: undefined,
      refresh_token: undefined,
    }))
    expect(await exchangeAt(fake, provider)).toMatchObject({
      kind: 'signed_in',
      signIn: { tokens: { accessTokenLifetime: 3600, refreshToken: undefined } },
    })
  })
})

describe('RFC 6749 §6: the refresh token', () => {
  test('is the new one where the answer has one', async () => {
    expect((await tokensWith({ refresh_token: 'rt-2' })).refreshToken).toBe('rt-2')
  })

  test.each([undefined, null, '', 7])('stays where the answer says %s', async (refresh_token) => {
    fake.alterTokenAnswer((honest) => ({ ...honest, refresh_token }))
    const tokens = { refreshToken: fake.issueRefreshToken(), refreshTokenExpiresAt: epochMs(9e12) }
    expect(await refreshAt(fake, provider, { tokens })).toMatchObject({ kind: 'tokens', tokens })
  })

  test.each<[string, JsonObject, number | undefined]>([
    ['refresh_expires_in', { refresh_expires_in: 1800 }, NOW_SECOND + 1_800_000],
    ['refresh_token_expires_in', { refresh_token_expires_in: '600' }, NOW_SECOND + 600_000],
    ['0, as for offline tokens', { refresh_expires_in: 0 }, undefined],
    ['negative', { refresh_expires_in: -1 }, undefined],
    ['1e300', { refresh_expires_in: 1e300 }, undefined],
    ['a word', { refresh_expires_in: 'never' }, undefined],
    ['nothing', {}, undefined],
  ])('has the expiry that is stated: %s', async (_, change, expiresAt) => {
    expect((await tokensWith(change)).refreshTokenExpiresAt).toBe(expiresAt)
  })

  test('is sent with the client’s credentials, and with the resource', async () => {
    await provider.close()
    provider = adapterFor(fake.issuer, { resource: 'urn:example:api' })
    await refreshAt(fake, provider, { tokens: { refreshToken: 'rt+/ =&' } })
    const [request] = fake.requestsTo('token')
    expect(Object.fromEntries(request?.parameters ?? [])).toEqual({
      grant_type: 'refresh_token',
      refresh_token: 'rt+/ =&',
      resource: 'urn:example:api',
    })
    expect(request?.headers.authorization).toMatch(/^Basic /)
  })
})

describe('RFC 6749 §5.1, RFC 9068 §6: the other members', () => {
  test('an access token is opaque: "x" will do', async () => {
    fake.alterTokenAnswer(({ id_token: _, ...honest }) => ({ ...honest, access_token: 'x' }))
    expect(await refreshAt(fake, provider)).toMatchObject({ tokens: { accessToken: 'x' } })
  })

  test.each(['Bearer', 'bearer', 'BEARER'])('token_type %s is accepted', async (token_type) => {
    expect(await tokensWith({ token_type })).toBeDefined()
  })

  test.each<[string, JsonObject, string]>([
    ['token_type DPoP', { token_type: 'DPoP' }, 'token_type_unsupported'],
    ['token_type mac', { token_type: 'mac' }, 'token_type_unsupported'],
    ['no token_type', { token_type: undefined }, 'answer_invalid'],
    ['no access token', { access_token: undefined }, 'answer_invalid'],
    ['an empty access token', { access_token: '' }, 'answer_invalid'],
    ['an access token that is an object', { access_token: {} }, 'answer_invalid'],
    ['an access token with a space', { access_token: 'a b' }, 'access_token_malformed'],
    ['an access token with a line', { access_token: 'a\r\nX: y' }, 'access_token_malformed'],
    ['an access token with a umlaut', { access_token: 'ä' }, 'access_token_malformed'],
  ])('%s signs nobody in and ends no session', async (_, change, reason) => {
    fake.alterTokenAnswer((honest) => ({ ...honest, ...change }))
    expect(await exchangeAt(fake, provider)).toMatchObject({ kind: 'refused', reason })
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason,
      spent: 'unknown',
    })
  })

  test('scope is as granted, or as it was', async () => {
    expect((await tokensWith({ scope: 'openid' })).scope).toBe('openid')
    expect((await tokensWith({ scope: '' })).scope).toBe('')
    expect((await tokensWith({ scope: undefined })).scope).toBe('openid profile')
    expect((await tokensWith({ scope: ['openid'] })).scope).toBe('openid profile')
  })

  test('an answer without an ID token keeps the one that there was', async () => {
    fake.alterTokenAnswer(({ id_token: _, ...honest }) => honest)
    const idToken = String(await fake.idToken({}, 'x'))
    const answer = await refreshAt(fake, provider, { tokens: { idToken } })
    expect(answer).toMatchObject({ kind: 'tokens', tokens: { idToken } })
    expect(answer).toHaveProperty('idTokenClaims', undefined)
  })

  test('members that nobody knows change nothing', async () => {
    const tokens = await tokensWith({ __proto__: { x: 1 }, constructor: 7, session_state: {} })
    expect(tokens.accessToken).toMatch(/^at-/)
  })

  test('a success in another content type is one all the same', async () => {
    const body = { access_token: 'x', token_type: 'Bearer', expires_in: 60 }
    fake.script('token', { headers: { 'content-type': 'text/plain' }, body })
    expect(await refreshAt(fake, provider)).toMatchObject({ kind: 'tokens' })
  })
})

describe('RFC 6749 §5.2: a refresh that the provider denies', () => {
  const error = (code: string, status = 400, headers = {}): Reply => ({
    status,
    headers,
    body: { error: code, error_description: 'x' },
  })
  const challenge = { 'www-authenticate': 'Basic realm="provider", charset="UTF-8"' }

  test.each<[string, Reply, object]>([
    ['invalid_grant', error('invalid_grant'), { kind: 'rejected' }],
    ['invalid_grant with 401', error('invalid_grant', 401, challenge), { kind: 'rejected' }],
    ['interaction_required', error('interaction_required'), { kind: 'rejected' }],
    [
      'invalid_client',
      error('invalid_client', 401),
      { kind: 'misconfigured', reason: 'invalid_client' },
    ],
    [
      'invalid_client, challenged',
      error('invalid_client', 401, challenge),
      { kind: 'misconfigured', reason: 'invalid_client' },
    ],
    ['unauthorized_client', error('unauthorized_client'), { kind: 'misconfigured' }],
    ['unsupported_grant_type', error('unsupported_grant_type'), { kind: 'misconfigured' }],
    ['invalid_scope', error('invalid_scope'), { kind: 'misconfigured' }],
    ['invalid_target', error('invalid_target'), { kind: 'misconfigured' }],
    ['invalid_request', error('invalid_request'), { kind: 'misconfigured' }],
    [
      'a code of its own',
      error('no_such_code'),
      { kind: 'misconfigured', reason: 'oauth_error_unknown' },
    ],
    [
      'a code named like a method',
      error('toString'),
      { kind: 'misconfigured', reason: 'oauth_error_unknown' },
    ],
    [
      '401 without a body',
      { status: 401, body: '' },
      { kind: 'misconfigured', reason: 'status_401' },
    ],
  ])('%s', async (_, reply, expected) => {
    fake.script('token', reply)
    expect(await refreshAt(fake, provider)).toMatchObject(expected)
  })

  test.each<[string, Reply, string, 'no' | 'unknown', number?]>([
    ['temporarily_unavailable', error('temporarily_unavailable'), 'temporarily_unavailable', 'no'],
    ['429', { status: 429, headers: { 'retry-after': '7' }, body: '' }, 'status_429', 'no', 7],
    ['429 with invalid_grant', error('invalid_grant', 429), 'status_429', 'no'],
    ['503', { status: 503, headers: { 'retry-after': '3' } }, 'status_503', 'no', 3],
    [
      '503 for a week',
      { status: 503, headers: { 'retry-after': '604800' } },
      'status_503',
      'no',
      300,
    ],
    [
      '503 until a date',
      { status: 503, headers: { 'retry-after': new Date(NOW + 20_000).toUTCString() } },
      'status_503',
      'no',
      20,
    ],
    [
      '503 until yesterday',
      { status: 503, headers: { 'retry-after': new Date(0).toUTCString() } },
      'status_503',
      'no',
      0,
    ],
    ['503 with nonsense', { status: 503, headers: { 'retry-after': 'soon' } }, 'status_503', 'no'],
    ['500', { status: 500, body: '' }, 'status_500', 'unknown'],
    ['500 with invalid_grant', error('invalid_grant', 500), 'status_500', 'unknown'],
    ['502', { status: 502, body: '<html>' }, 'status_502', 'unknown'],
    ['599', { status: 599, body: '' }, 'status_599', 'unknown'],
    ['a status that HTTP has not', { status: 999, body: '' }, 'unexpected', 'unknown'],
    ['a redirect', { status: 302, headers: { location: '/token' }, body: '' }, 'status_302', 'no'],
    [
      'a permanent redirect',
      { status: 308, headers: { location: '/token' }, body: '' },
      'status_308',
      'no',
    ],
    [
      '403 in HTML',
      { status: 403, headers: { 'content-type': 'text/html' }, body: '<html>' },
      'status_403',
      'no',
    ],
    ['404', { status: 404, body: '' }, 'status_404', 'no'],
    [
      '400 in HTML',
      { status: 400, headers: { 'content-type': 'text/html' }, body: '<html>' },
      'status_400',
      'no',
    ],
    ['204', { status: 204, headers: { 'content-length': '0' }, body: '' }, 'status_204', 'unknown'],
    [
      '200 in HTML',
      { headers: { 'content-type': 'text/html' }, body: '<html>' },
      'answer_malformed',
      'unknown',
    ],
    ['200 and nothing', { body: '' }, 'answer_malformed', 'unknown'],
    ['200 with an array', { body: [] }, 'answer_invalid', 'unknown'],
    [
      '200 with 2 MB',
      { body: { access_token: 'x'.repeat(2_000_000) } },
      'answer_too_large',
      'unknown',
    ],
    [
      'a truncated body',
      { fate: 'truncate', body: { access_token: 'x', token_type: 'Bearer' } },
      'network',
      'unknown',
    ],
    ['a reset', { fate: 'reset' }, 'network', 'unknown'],
    ['silence', { fate: 'silence' }, 'timeout', 'unknown'],
    ['an answer that comes too late', { delayMs: 1_500, body: '{}' }, 'timeout', 'unknown'],
  ])('%s keeps the session', async (_, reply, reason, spent, retryAfter) => {
    fake.script('token', reply)
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason,
      spent,
      retryAfter,
    })
    expect(fake.requestsTo('token')).toHaveLength(1)
  })

  test('the operator gets the provider’s words for a fault of configuration, without what it repeats', async () => {
    const error_description =
      'AADSTS7000215: Invalid secret\u00a0\n a-secret-of-the-client rt-0123456789abcdef'
    fake.script('token', { status: 401, body: { error: 'invalid_client', error_description } })
    const answer = await refreshAt(fake, provider)
    expect(answer).toMatchObject({ kind: 'misconfigured' })
    expect('cause' in answer && String(answer.cause)).toBe(
      "Error: the provider's answer: invalid_client (AADSTS7000215: Invalid secret  ... ...)",
    )
  })

  test('a refused connection spends nothing', async () => {
    await provider.facts()
    await refreshAt(fake, provider)
    const gone = await FakeProvider.start()
    fake.metadata.token_endpoint = new URL('/token', gone.issuer).href
    await gone.close()
    const another = adapterFor(fake.issuer)
    expect(await refreshAt(fake, another)).toMatchObject({
      kind: 'unavailable',
      reason: 'connection_refused',
      spent: 'no',
    })
    await another.close()
    fake.metadata.token_endpoint = new URL('/token', fake.issuer).href
  })

  test('a name that does not resolve spends nothing', async () => {
    // No label of a name has 64 characters (RFC 1035 §2.3.4), so no resolver is asked.
    fake.metadata.token_endpoint = `https://${'a'.repeat(64)}.example/token`
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: 'name_not_resolved',
      spent: 'no',
    })
    fake.metadata.token_endpoint = new URL('/token', fake.issuer).href
  })
})

describe('RFC 6749 §5.2: a code exchange that fails', () => {
  test.each<[string, Reply, object]>([
    [
      'invalid_grant',
      { status: 400, body: { error: 'invalid_grant' } },
      { kind: 'refused', reason: 'invalid_grant' },
    ],
    [
      'invalid_client',
      { status: 401, body: { error: 'invalid_client' } },
      { kind: 'unavailable', reason: 'invalid_client' },
    ],
    [
      'invalid_target',
      { status: 400, body: { error: 'invalid_target' } },
      { kind: 'unavailable', reason: 'invalid_target' },
    ],
    ['500', { status: 500, body: '' }, { kind: 'unavailable', reason: 'status_500' }],
    ['429', { status: 429, body: '' }, { kind: 'unavailable', reason: 'status_429' }],
    [
      'a redirect',
      { status: 302, headers: { location: '/' } },
      { kind: 'unavailable', reason: 'status_302' },
    ],
    ['HTML', { body: '<html>' }, { kind: 'unavailable', reason: 'answer_malformed' }],
    ['silence', { fate: 'silence' }, { kind: 'unavailable', reason: 'timeout' }],
    ['a reset', { fate: 'reset' }, { kind: 'unavailable', reason: 'network' }],
  ])('%s', async (_, reply, expected) => {
    fake.script('token', reply)
    expect(await exchangeAt(fake, provider)).toMatchObject(expected)
  })
})
