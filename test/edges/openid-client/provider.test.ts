/** The adapter's own behaviour: what it sends, what it may take, and that it ends. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { OpenIdProviderOptions } from '../../../src/edges/openid-client/provider.ts'
import type { AuthorizationRequest } from '../../../src/oidc/provider.ts'
import { seconds } from '../../../src/time.ts'
import { FakeProvider, type FakeProviderOptions } from '../../support/fake-provider.ts'
import {
  adapterFor,
  CODE_VERIFIER,
  exchangeAt,
  NONCE,
  REDIRECT_URI,
  refreshAt,
  validatedResponse,
} from './adapter.ts'

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const part of open.splice(0)) await part.close()
})

const start = async (
  options: Partial<OpenIdProviderOptions> = {},
  fakeOptions: FakeProviderOptions = {},
) => {
  const fake = await FakeProvider.start(fakeOptions)
  const provider = adapterFor(fake.issuer, options)
  open.push(provider, fake)
  return { fake, provider }
}

const authorizationRequest: AuthorizationRequest = {
  redirectUri: REDIRECT_URI,
  scope: 'openid profile',
  state: 'the-state',
  nonce: NONCE,
  codeVerifier: CODE_VERIFIER,
  responseMode: 'query',
  parameters: {},
}
const CODE_CHALLENGE = createHash('sha256').update(CODE_VERIFIER).digest('base64url')

describe('the authorization request', () => {
  test('RFC 7636 §4.3 has an S256 challenge, state and nonce, and no more than was asked', async () => {
    const { fake, provider } = await start()
    const url = await provider.authorizationUrl(authorizationRequest)
    expect(url.origin + url.pathname).toBe(`${fake.issuer}/authorize`)
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: 'coatcheck',
      response_type: 'code',
      redirect_uri: REDIRECT_URI,
      scope: 'openid profile',
      state: 'the-state',
      nonce: NONCE,
      code_challenge: CODE_CHALLENGE,
      code_challenge_method: 'S256',
    })
  })

  test('carries the merged parameters and the resource, which cannot change what protects it', async () => {
    const { fake, provider } = await start({ resource: 'urn:example:api' })
    fake.metadata.authorization_endpoint = `${fake.issuer}/authorize?tenant=one`
    const url = await provider.authorizationUrl({
      ...authorizationRequest,
      responseMode: 'form_post',
      parameters: {
        prompt: 'login',
        audience: 'https://api.example.com',
        code_challenge_method: 'plain',
        response_type: 'token',
        state: 'chosen',
      },
    })
    expect([...url.searchParams.keys()].length).toBe(new Set(url.searchParams.keys()).size)
    expect(Object.fromEntries(url.searchParams)).toMatchObject({
      tenant: 'one',
      resource: 'urn:example:api',
      prompt: 'login',
      audience: 'https://api.example.com',
      response_mode: 'form_post',
      response_type: 'code',
      code_challenge_method: 'S256',
      state: 'the-state',
    })
  })

  test('RFC 6749 §4.1.3 names the same redirect_uri as the code exchange, octet by octet', async () => {
    const { fake, provider } = await start()
    const redirectUri = 'HTTPS://App.example.com:443/bff/callback'
    const url = await provider.authorizationUrl({ ...authorizationRequest, redirectUri })
    await exchangeAt(fake, provider, { redirectUri })
    const [request] = fake.requestsTo('token')
    expect(request?.parameters.get('redirect_uri')).toBe(url.searchParams.get('redirect_uri'))
  })

  test.each(['supported', 'required'])(
    'RFC 9126 §4 is pushed where the provider says %s: the browser sees two parameters',
    async (support) => {
      const { fake, provider } = await start()
      fake.metadata.pushed_authorization_request_endpoint = `${fake.issuer}/par`
      fake.metadata.require_pushed_authorization_requests = support === 'required'
      const url = await provider.authorizationUrl(authorizationRequest)
      expect(Object.fromEntries(url.searchParams)).toEqual({
        client_id: 'coatcheck',
        request_uri: expect.stringMatching(/^urn:example:/),
      })
      const [pushed] = fake.requestsTo('par')
      expect(pushed?.headers.authorization).toMatch(/^Basic /)
      expect(Object.fromEntries(pushed?.parameters ?? [])).toMatchObject({
        code_challenge: CODE_CHALLENGE,
        redirect_uri: REDIRECT_URI,
        state: 'the-state',
      })
    },
  )

  test.each([
    [{ status: 400, body: { error: 'invalid_request' } }, 'par_invalid_request'],
    [
      {
        status: 401,
        headers: { 'www-authenticate': 'Basic realm="provider"' },
        body: { error: 'invalid_client' },
      },
      'par_invalid_client',
    ],
    [{ status: 401, headers: { 'www-authenticate': 'Basic' }, body: '' }, 'par_status_401'],
    [{ status: 500, body: '' }, 'par_status_500'],
    [{ status: 201, body: { expires_in: 60 } }, 'par_answer_invalid'],
    [{ fate: 'reset' as const }, 'par_network'],
    [{ fate: 'silence' as const }, 'par_timeout'],
  ])('RFC 9126 §5 whose push fails is no request at all (%j)', async (reply, reason) => {
    const { fake, provider } = await start({ timeout: seconds(0.5) })
    fake.metadata.pushed_authorization_request_endpoint = `${fake.issuer}/par`
    fake.script('par', reply)
    await expect(provider.authorizationUrl(authorizationRequest)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason,
    })
  })
})

describe('RFC 6749 §2.3 client authentication', () => {
  const SECRET = 's+:% /é=&'
  const credentialsOf = (authorization: string | undefined) => {
    const text = Buffer.from(authorization?.slice('Basic '.length) ?? '', 'base64').toString('utf8')
    const [id = '', secret = ''] = text.split(':')
    return [id, secret].map((part) => new URLSearchParams(`x=${part}`).get('x'))
  }

  test('client_secret_basic encodes id and secret as a form, and sends no other credentials', async () => {
    const { fake, provider } = await start(
      { clientId: 'my-app_1.é', clientSecret: { current: SECRET } },
      { clientId: 'my-app_1.é' },
    )
    expect(await exchangeAt(fake, provider)).toMatchObject({ kind: 'signed_in' })
    const [request] = fake.requestsTo('token')
    expect(credentialsOf(request?.headers.authorization)).toEqual(['my-app_1.é', SECRET])
    expect(request?.parameters.has('client_secret')).toBe(false)
    expect(request?.parameters.has('client_id')).toBe(false)
  })

  test('an id of unreserved characters goes out as it is, for providers that do not decode', async () => {
    const { fake, provider } = await start(
      { clientId: 'my-app_1.x', clientSecret: { current: 'abc-DEF_1.2' } },
      { clientId: 'my-app_1.x' },
    )
    await exchangeAt(fake, provider)
    expect(fake.requestsTo('token')[0]?.headers.authorization).toBe(
      `Basic ${Buffer.from('my-app_1.x:abc-DEF_1.2').toString('base64')}`,
    )
  })

  test('client_secret_post has both in the form, and no Authorization header', async () => {
    const { fake, provider } = await start({
      clientAuthentication: 'client_secret_post',
      clientSecret: { current: SECRET },
    })
    await refreshAt(fake, provider)
    const [request] = fake.requestsTo('token')
    expect(request?.headers.authorization).toBeUndefined()
    expect(Object.fromEntries(request?.parameters ?? [])).toMatchObject({
      client_id: 'coatcheck',
      client_secret: SECRET,
    })
  })

  test('a secret that was replaced is used from the next call on', async () => {
    const clientSecret = { current: 'first-secret' }
    const { fake, provider } = await start({ clientSecret })
    await refreshAt(fake, provider)
    clientSecret.current = 'second-secret'
    await refreshAt(fake, provider)
    await provider.revoke('rt')
    const sent = [...fake.requestsTo('token'), ...fake.requestsTo('revoke')]
    expect(sent.map(({ headers }) => credentialsOf(headers.authorization)[1])).toEqual([
      'first-secret',
      'second-secret',
      'second-secret',
    ])
  })
})

describe('the code exchange', () => {
  test('sends code, verifier, redirect_uri and resource once, and gives what was granted', async () => {
    const { fake, provider } = await start({ resource: 'urn:example:api' })
    const url = await provider.authorizationUrl(authorizationRequest)
    const approved = await fetch(url, { redirect: 'manual' })
    const callback = new URL(approved.headers.get('location') ?? '')
    const code = callback.searchParams.get('code') ?? ''
    const answer = await provider.exchangeCode({
      response: validatedResponse(code, fake.issuer),
      redirectUri: REDIRECT_URI,
      codeVerifier: CODE_VERIFIER,
      nonce: NONCE,
      maxAgeSeconds: undefined,
      scope: 'openid profile',
    })
    expect(answer).toMatchObject({
      kind: 'signed_in',
      signIn: { subject: 'alice', tokens: { scope: 'openid profile' } },
    })
    const [request, ...more] = fake.requestsTo('token')
    expect(more).toEqual([])
    expect(Object.fromEntries(request?.parameters ?? [])).toEqual({
      grant_type: 'authorization_code',
      code,
      code_verifier: CODE_VERIFIER,
      redirect_uri: REDIRECT_URI,
      resource: 'urn:example:api',
    })
  })

  test('with another code verifier is refused by the provider', async () => {
    const { fake, provider } = await start()
    const code = fake.issueCode({ nonce: NONCE, codeChallenge: CODE_CHALLENGE })
    const response = validatedResponse(code, fake.issuer)
    const codeVerifier = `${CODE_VERIFIER}-x`
    expect(await exchangeAt(fake, provider, { response, codeVerifier })).toMatchObject({
      kind: 'refused',
      reason: 'invalid_grant',
    })
  })
})

describe('RFC 7009 revocation', () => {
  test('sends the refresh token with the client’s credentials', async () => {
    const { fake, provider } = await start()
    expect(await provider.revoke('the-token')).toBe('revoked')
    const [request] = fake.requestsTo('revoke')
    expect(Object.fromEntries(request?.parameters ?? [])).toEqual({
      token: 'the-token',
      token_type_hint: 'refresh_token',
    })
    expect(request?.headers.authorization).toMatch(/^Basic /)
  })

  test.each([
    [
      '400 unsupported_token_type',
      { status: 400, body: { error: 'unsupported_token_type' } },
      'unsupported',
      1,
    ],
    ['400 invalid_client', { status: 400, body: { error: 'invalid_client' } }, 'failed', 1],
    ['500', { status: 500, body: '' }, 'failed', 1],
    ['silence', { fate: 'silence' as const }, 'failed', 1],
    ['503 twice', { status: 503, headers: { 'retry-after': '0' }, body: '' }, 'failed', 2],
  ])('%s', async (_, reply, outcome, requests) => {
    const { fake, provider } = await start({ timeout: seconds(0.5) })
    fake.script('revoke', reply)
    expect(await provider.revoke('rt')).toBe(outcome)
    expect(fake.requestsTo('revoke')).toHaveLength(requests)
  })

  test('§2.2.1 a 503 is tried once more, after the time that it names', async () => {
    const { fake, provider } = await start()
    let calls = 0
    fake.script('revoke', () => {
      calls += 1
      return calls === 1 ? { status: 503, headers: { 'retry-after': '1' } } : { status: 200 }
    })
    const startedAt = performance.now()
    expect(await provider.revoke('rt')).toBe('revoked')
    expect(performance.now() - startedAt).toBeGreaterThan(900)
  })
})

describe('OIDC Core §5.3 UserInfo', () => {
  test('gives the claims of the same subject, asked for with the access token', async () => {
    const { fake, provider } = await start()
    expect(await provider.userInfo('the-at', 'alice')).toEqual({
      kind: 'claims',
      claims: { sub: 'alice', name: 'Alice Archer' },
    })
    expect(fake.requestsTo('userinfo')[0]?.headers.authorization).toBe('Bearer the-at')
  })

  test.each([
    ['another subject', { body: { sub: 'bob' } }, 'sub_mismatch'],
    ['no subject', { body: { name: 'Alice' } }, 'answer_invalid'],
    ['an array', { body: [{ sub: 'alice' }] }, 'answer_invalid'],
    ['HTML', { body: '<html>' }, 'answer_malformed'],
    [
      '401',
      { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token"' } },
      'status_401',
    ],
    ['403', { status: 403, body: '' }, 'status_403'],
    ['500', { status: 500, body: '' }, 'status_500'],
    ['a redirect', { status: 302, headers: { location: '/' } }, 'status_302'],
    ['silence', { fate: 'silence' as const }, 'timeout'],
    [
      'a token that is not signed',
      {
        headers: { 'content-type': 'application/jwt' },
        body: 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.',
      },
      undefined,
    ],
  ])('%s is not used', async (_, reply, reason = expect.any(String)) => {
    const { fake, provider } = await start({ timeout: seconds(0.5) })
    fake.script('userinfo', reply)
    expect(await provider.userInfo('at', 'alice')).toMatchObject({ kind: 'unusable', reason })
  })

  test('a signed answer is verified', async () => {
    const { fake, provider } = await start()
    fake.metadata.userinfo_signing_alg_values_supported = ['RS256']
    const headers = { 'content-type': 'application/jwt' }
    fake.script('userinfo', async () => ({ headers, body: await fake.idToken({}, 'at') }))
    expect(await provider.userInfo('at', 'alice')).toMatchObject({ kind: 'claims' })
    fake.lieInIdTokens({ signature: 'mallory' })
    expect(await provider.userInfo('at', 'alice')).toMatchObject({ kind: 'unusable' })
  })
})

test('OIDC RP-Initiated Logout §2 names client, hint, state and where to return', async () => {
  const { fake, provider } = await start()
  const request = { postLogoutRedirectUri: 'https://app.example.com/bff/logged-out', state: 's' }
  const url = await provider.endSessionUrl({ ...request, idTokenHint: 'the-id-token' })
  expect(url?.href.startsWith(`${fake.issuer}/end-session?`)).toBe(true)
  expect(Object.fromEntries(url?.searchParams ?? [])).toEqual({
    client_id: 'coatcheck',
    id_token_hint: 'the-id-token',
    post_logout_redirect_uri: 'https://app.example.com/bff/logged-out',
    state: 's',
  })
  const withoutHint = await provider.endSessionUrl({ ...request, idTokenHint: undefined })
  expect(withoutHint?.searchParams.has('id_token_hint')).toBe(false)
})

describe('connectTo', () => {
  test('diverts connections to the issuer’s origin only: URL, Host and issuer stay', async () => {
    const elsewhere = await FakeProvider.start()
    // Nobody listens on port 8 of this machine.
    const fake = await FakeProvider.start({ issuer: 'http://localhost:8' })
    fake.metadata.userinfo_endpoint = `${elsewhere.issuer}/userinfo`
    const provider = adapterFor(fake.issuer, { connectTo: { host: '127.0.0.1', port: fake.port } })
    open.push(provider, fake, elsewhere)
    expect(await exchangeAt(fake, provider)).toMatchObject({ kind: 'signed_in' })
    expect(fake.requestsTo('token')[0]?.headers.host).toBe('localhost:8')
    expect(await provider.userInfo('at', 'alice')).toMatchObject({ kind: 'claims' })
    expect(elsewhere.requestsTo('userinfo')).toHaveLength(1)
    expect(fake.requestsTo('userinfo')).toEqual([])
  })

  test('RFC 6066 §3 asks for the issuer’s own name in TLS', async () => {
    const hello = Promise.withResolvers<string>()
    const server = createServer((socket: Socket) => {
      socket.once('data', (bytes) => {
        hello.resolve(bytes.toString('latin1'))
        socket.destroy()
      })
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const provider = adapterFor('https://id.example.com', {
      connectTo: { host: '127.0.0.1', port },
    })
    await expect(provider.facts()).rejects.toMatchObject({ code: 'provider_unavailable' })
    expect(await hello.promise).toContain('id.example.com')
    await provider.close()
    server.close()
  })
})

describe('time', () => {
  const elapsed = async (promise: Promise<unknown>) => {
    const startedAt = performance.now()
    await promise
    return performance.now() - startedAt
  }

  test('a refresh takes no longer than the token timeout, whatever it waits for', async () => {
    const slow = { delayMs: 700, body: {} }
    const { fake, provider } = await start({ timeout: seconds(5), tokenTimeout: seconds(1) })
    fake.script('discovery', { delayMs: 700, body: fake.metadata })
    fake.script('jwks', { delayMs: 700, body: fake.jwks })
    fake.script('token', slow)
    expect(await elapsed(refreshAt(fake, provider))).toBeLessThan(2_500)
    expect(fake.requestsTo('token')).toEqual([])
  })

  test('who waits for metadata too long leaves; the others still get it', async () => {
    const { fake, provider } = await start({ timeout: seconds(3), tokenTimeout: seconds(0.3) })
    fake.script('discovery', { delayMs: 800, body: fake.metadata })
    const facts = provider.facts()
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: 'timeout',
      spent: 'no',
    })
    await expect(exchangeAt(fake, provider)).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: 'discovery_timeout',
    })
    expect(await facts).toMatchObject({ issuer: fake.issuer })
    expect(fake.requestsTo('discovery')).toHaveLength(1)
  })
})

describe('close', () => {
  test('ends waiting calls at once, and what comes later fails', async () => {
    const { fake, provider } = await start({ timeout: seconds(10), tokenTimeout: seconds(10) })
    await refreshAt(fake, provider)
    fake.script('token', { fate: 'silence' })
    fake.script('revoke', { status: 503, headers: { 'retry-after': '5' } })
    const refreshing = refreshAt(fake, provider)
    const revoking = provider.revoke('rt')
    await sleep(100)
    const startedAt = performance.now()
    await provider.close()
    expect(await refreshing).toMatchObject({ kind: 'unavailable', spent: 'unknown' })
    expect(await revoking).toBe('failed')
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    expect(await refreshAt(fake, provider)).toMatchObject({ kind: 'unavailable' })
    await provider.close()
  })

  test('of a provider that was never used is nothing', async () => {
    await adapterFor('https://id.example.com').close()
  })
})
