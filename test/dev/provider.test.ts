/** The development provider, driven as a relying party and a browser without scripts would. */

import { Agent, createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import * as client from 'openid-client'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import {
  DEVELOPMENT_RESOURCE,
  type DevelopmentProvider,
  type DevelopmentProviderOptions,
  startDevelopmentProvider,
} from '../../src/dev/provider.ts'
import type { DevelopmentClient } from '../../src/dev/provider-configuration.ts'
import { tokenFingerprint } from '../../src/dev/token-fingerprint.ts'
import { type Browser, type BrowserResponse, createBrowser } from '../support/browser.ts'

const SECRET = 'a secret of the tests, long enough'
const SCOPE = 'openid profile email offline_access items:read'

// The application: every address of it answers with an empty page, whose URL is what counts.
const application = createServer((_req, res) => res.end())
let callback: string
let loggedOut: string
let apiClient: DevelopmentClient
let thinClient: DevelopmentClient

beforeAll(async () => {
  await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve))
  const origin = `http://localhost:${(application.address() as AddressInfo).port}`
  callback = `${origin}/bff/callback`
  loggedOut = `${origin}/bff/logged-out`
  apiClient = {
    clientId: 'spa',
    clientSecret: SECRET,
    redirectUris: [callback],
    postLogoutRedirectUris: [loggedOut],
    resource: true,
  }
  thinClient = { ...apiClient, clientId: 'thin', resource: false }
})
afterAll(() => {
  application.close()
  application.closeAllConnections()
})

const running: { close(): unknown }[] = []
afterEach(async () => {
  for (const one of running.splice(0)) await one.close()
})

const start = async (options: DevelopmentProviderOptions = {}): Promise<DevelopmentProvider> => {
  const provider = await startDevelopmentProvider({
    clients: [apiClient, thinClient],
    ...options,
  })
  running.push(provider)
  return provider
}

const relyingParty = (provider: DevelopmentProvider, clientId = 'spa') =>
  client.discovery(new URL(provider.issuer), clientId, SECRET, client.ClientSecretBasic(SECRET), {
    execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
    timeout: 5,
  })

interface SignInAttempt {
  readonly browser?: Browser
  readonly fields?: Record<string, string>
  readonly parameters?: Record<string, string>
}

const requestAuthorization = async (
  config: client.Configuration,
  { browser = createBrowser(), parameters = {} }: SignInAttempt = {},
) => {
  const codeVerifier = client.randomPKCECodeVerifier()
  const url = await client.buildAuthorizationUrlWithPAR(config, {
    redirect_uri: callback,
    scope: SCOPE,
    state: 'the-state',
    nonce: 'the-nonce',
    code_challenge: await client.calculatePKCECodeChallenge(codeVerifier),
    code_challenge_method: 'S256',
    ...parameters,
  })
  const redeem = ({ url }: BrowserResponse) =>
    client.authorizationCodeGrant(config, new URL(url), {
      pkceCodeVerifier: codeVerifier,
      expectedState: 'the-state',
      expectedNonce: 'the-nonce',
      idTokenExpected: true,
    })
  return { browser, redeem, page: await browser.navigate(url.href) }
}

const signIn = async (config: client.Configuration, attempt: SignInAttempt = {}) => {
  const { browser, redeem, page } = await requestAuthorization(config, attempt)
  const fields = attempt.fields ?? { login: 'alice', password: 'alice' }
  const answer = page.url.startsWith(callback) ? page : await browser.submitForm(page, fields)
  return { browser, tokens: await redeem(answer) }
}

const parameters = (page: BrowserResponse) => new URL(page.url).searchParams

const text = (page: BrowserResponse) => page.text.replace(/<style>.*?<\/style>/s, '')

describe('signing in', () => {
  test('code with PKCE and PAR gives a JWT for the API and the claims in the ID token', async () => {
    const provider = await start()
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)

    expect(tokens.claims()).toMatchObject({
      sub: 'alice',
      name: 'Alice Archer',
      email: 'alice@example.com',
      email_verified: true,
      groups: ['staff', 'admins'],
      acr: 'urn:coatcheck:password',
      amr: ['pwd'],
    })
    expect(tokens.claims()?.auth_time).toBeTypeOf('number')
    expect(tokens.expires_in).toBe(20)
    expect(tokens.refresh_token).toBeTypeOf('string')
    const { payload, protectedHeader } = await jwtVerify(
      tokens.access_token,
      createRemoteJWKSet(new URL(provider.jwksUri)),
      { issuer: provider.issuer, audience: DEVELOPMENT_RESOURCE, typ: 'at+jwt' },
    )
    expect(protectedHeader.alg).toBe('ES256')
    expect(payload).toMatchObject({ sub: 'alice', client_id: 'spa', scope: 'items:read' })
  })

  test('OIDC Core §5.4: a client without resource has a thin ID token and asks UserInfo', async () => {
    const config = await relyingParty(await start(), 'thin')
    const { tokens } = await signIn(config, { fields: { login: 'bob', password: 'bob' } })

    expect(tokens.claims()).toMatchObject({ sub: 'bob' })
    expect(tokens.claims()).not.toHaveProperty('name')
    expect(await client.fetchUserInfo(config, tokens.access_token, 'bob')).toMatchObject({
      sub: 'bob',
      name: 'Bob Baker',
      email_verified: true,
      groups: ['guests'],
    })
  })

  test('RFC 8707: a client without a default resource gets a JWT only where it names the resource', async () => {
    const config = await relyingParty(await start(), 'thin')
    const { browser, redeem, page } = await requestAuthorization(config, {
      parameters: { resource: DEVELOPMENT_RESOURCE },
    })
    const answer = await browser.submitForm(page, { login: 'alice', password: 'alice' })
    const opaque = await redeem(answer)
    expect(() => decodeJwt(opaque.access_token)).toThrow()

    const refreshed = await client.refreshTokenGrant(config, opaque.refresh_token ?? '', {
      resource: DEVELOPMENT_RESOURCE,
    })
    expect(decodeJwt(refreshed.access_token)).toMatchObject({ aud: DEVELOPMENT_RESOURCE })
    await expect(
      requestAuthorization(config, { parameters: { resource: 'urn:another:api' } }),
    ).rejects.toMatchObject({ error: 'invalid_target' })
  })

  test('a wrong password shows the form again, says so and keeps the login', async () => {
    const config = await relyingParty(await start())
    const { browser, redeem, page } = await requestAuthorization(config)
    const again = await browser.submitForm(page, { login: 'alice', password: 'bob' })

    expect(again.status).toBe(422)
    expect(text(again)).toContain('do not match')
    expect(text(again)).toContain('value="alice"')
    const answer = await browser.submitForm(again, { login: 'alice', password: 'alice' })
    expect((await redeem(answer)).claims()?.sub).toBe('alice')
  })

  test('what a visitor typed comes back as text, never as markup', async () => {
    const config = await relyingParty(await start())
    const { browser, page } = await requestAuthorization(config)
    const hostile = `"><script>alert(1)</script>`
    const again = await browser.submitForm(page, { login: hostile, password: 'x' })

    expect(again.text).not.toContain('<script>alert(1)')
    expect(again.header('content-security-policy')).toContain("default-src 'none'")
  })

  test('the form of one browser is refused in another', async () => {
    const config = await relyingParty(await start())
    const { page } = await requestAuthorization(config)
    const stranger = createBrowser()
    const answer = await stranger.submitForm(page, { login: 'alice', password: 'alice' })

    expect(answer.status).toBe(400)
    expect(text(answer)).toContain('another browser')
  })

  test('cancelling answers access_denied with state and iss', async () => {
    const provider = await start()
    const { browser, page } = await requestAuthorization(await relyingParty(provider))
    const answer = await browser.submitForm(page, {}, { formIndex: 1 })

    expect(Object.fromEntries(parameters(answer))).toMatchObject({
      error: 'access_denied',
      state: 'the-state',
      iss: provider.issuer,
    })
  })

  test('login_hint fills the form in; prompt and max_age are honoured', async () => {
    const config = await relyingParty(await start())
    const { page } = await requestAuthorization(config, { parameters: { login_hint: 'bob' } })
    expect(text(page)).toMatch(/name="login"[^>]*value="bob"/)

    const silent = await requestAuthorization(config, { parameters: { prompt: 'none' } })
    expect(parameters(silent.page).get('error')).toBe('login_required')

    const { browser } = await signIn(config)
    const known = await requestAuthorization(config, { browser })
    expect(parameters(known.page).has('code')).toBe(true)
    const anew = await requestAuthorization(config, { browser, parameters: { prompt: 'login' } })
    expect(text(anew.page)).toContain('name="password"')
    const consent = await requestAuthorization(config, {
      browser,
      parameters: { prompt: 'consent' },
    })
    expect(parameters(consent.page).has('code')).toBe(true)
    expect((await consent.redeem(consent.page)).scope).toBe('items:read')
  })

  test('a stronger acr asks for a one-time code, even of a browser that is signed in', async () => {
    const config = await relyingParty(await start())
    const { browser } = await signIn(config)
    const acr_values = 'urn:coatcheck:one-time-code'
    const { page, redeem } = await requestAuthorization(config, {
      browser,
      parameters: { acr_values },
    })
    const fields = { login: 'alice', password: 'alice' }
    const again = await browser.submitForm(page, { ...fields, one_time_code: '000000' })
    expect(again.status).toBe(422)
    const done = await browser.submitForm(again, { ...fields, one_time_code: '123456' })

    expect((await redeem(done)).claims()).toMatchObject({
      acr: 'urn:coatcheck:one-time-code',
      amr: ['pwd', 'otp'],
    })
  })

  test('RFC 7636 §4.4.1: a request without code_challenge is refused', async () => {
    const config = await relyingParty(await start())
    const parameters = { redirect_uri: callback, scope: 'openid' }
    await expect(client.buildAuthorizationUrlWithPAR(config, parameters)).rejects.toMatchObject({
      error: 'invalid_request',
    })
    const page = await createBrowser().navigate(
      client.buildAuthorizationUrl(config, parameters).href,
    )
    expect(new URL(page.url).searchParams.get('error')).toBe('invalid_request')
  })

  test('a wrong client secret is invalid_client', async () => {
    const provider = await start()
    const config = await client.discovery(
      new URL(provider.issuer),
      'spa',
      {},
      client.ClientSecretBasic('not the secret'),
      { execute: [client.allowInsecureRequests] },
    )
    await expect(client.refreshTokenGrant(config, 'any')).rejects.toMatchObject({
      status: 401,
    })
    expect(provider.tokenRequests()).toMatchObject([{ status: 401, error: 'invalid_client' }])
  })

  test('a client registered later signs in as well', async () => {
    const provider = await start({ clients: [] })
    await provider.registerClient(apiClient)
    const { tokens } = await signIn(await relyingParty(provider))
    expect(tokens.claims()?.sub).toBe('alice')
  })

  test('addresses in answers come from the issuer, whatever Host a request carries', async () => {
    const provider = await start({ issuer: 'https://id.example.com' })
    const url = `http://127.0.0.1:${provider.port}/.well-known/openid-configuration`
    expect(await (await fetch(url)).json()).toMatchObject({
      issuer: 'https://id.example.com',
      token_endpoint: 'https://id.example.com/token',
    })
  })
})

describe('refreshing', () => {
  test('strict: each refresh token is spent once; RFC 9700 §4.14.2 reuse ends the grant', async () => {
    const provider = await start()
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    const first = tokens.refresh_token ?? ''
    const second = (await client.refreshTokenGrant(config, first)).refresh_token ?? ''
    expect(second).not.toBe(first)

    await expect(client.refreshTokenGrant(config, first)).rejects.toMatchObject({
      error: 'invalid_grant',
    })
    await expect(client.refreshTokenGrant(config, second)).rejects.toMatchObject({
      error: 'invalid_grant',
    })
    const [, refresh, reuse] = provider.tokenRequests()
    expect(refresh).toMatchObject({
      grantType: 'refresh_token',
      clientId: 'spa',
      status: 200,
      consumed: true,
      delivered: true,
      refreshTokenFingerprint: tokenFingerprint(first),
      issuedRefreshTokenFingerprint: tokenFingerprint(second),
    })
    expect(reuse).toMatchObject({ status: 400, error: 'invalid_grant', consumed: false })
    expect(provider.revokedGrants().map(({ grantId }) => grantId)).toEqual([refresh?.grantId])
  })

  test('strict: of parallel refreshes with one token at most one succeeds', async () => {
    const provider = await start()
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    const answers = await Promise.allSettled(
      Array.from({ length: 10 }, () =>
        client.refreshTokenGrant(config, tokens.refresh_token ?? ''),
      ),
    )
    expect(answers.filter(({ status }) => status === 'fulfilled').length).toBeLessThanOrEqual(1)
    expect(provider.revokedGrants()).toHaveLength(1)
  })

  test('tolerant: a token that is used again at once is refreshed again, and both answers are good', async () => {
    const provider = await start({ refreshRotation: 'tolerant' })
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    const refresh = async (token = '') =>
      (await client.refreshTokenGrant(config, token)).refresh_token
    const lost = await refresh(tokens.refresh_token)
    const second = await refresh(tokens.refresh_token)
    expect(new Set([tokens.refresh_token, lost, second]).size).toBe(3)
    expect(await refresh(second)).toBeDefined()
    expect(await refresh(lost)).toBeDefined()
    expect(provider.revokedGrants()).toEqual([])
  })

  test('none: the refresh token stays the same and good', async () => {
    const provider = await start({ refreshRotation: 'none' })
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    const refreshToken = tokens.refresh_token ?? ''
    const answers = await Promise.all(
      Array.from({ length: 3 }, () => client.refreshTokenGrant(config, refreshToken)),
    )
    expect(answers.map((answer) => answer.refresh_token)).toEqual(Array(3).fill(refreshToken))
    expect(provider.tokenRequests().some(({ consumed }) => consumed)).toBe(false)
  })

  test('2,000 later entries push no refresh token out: time alone does', async () => {
    const provider = await start({ refreshRotation: 'none' })
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    for (let index = 0; index < 2_000; index += 1) {
      await provider.registerClient({ ...apiClient, clientId: `client-${index}` })
    }
    const answer = await client.refreshTokenGrant(config, tokens.refresh_token ?? '')
    expect(answer.access_token).toBeTypeOf('string')
  })

  test('grants ended by the provider refuse their refresh tokens', async () => {
    const provider = await start()
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    expect(provider.revokeGrantsOf('bob')).toBe(0)
    expect(provider.revokeGrantsOf('alice')).toBeGreaterThanOrEqual(1)
    await expect(
      client.refreshTokenGrant(config, tokens.refresh_token ?? ''),
    ).rejects.toMatchObject({ error: 'invalid_grant' })
  })

  test.each([
    ['per-authorization', 'fulfilled'],
    ['per-session', 'rejected'],
  ] as const)(
    'grants %s: after revoking the older sign-in the newer refresh is %s',
    async (grants, outcome) => {
      const config = await relyingParty(await start({ grants }))
      const { browser, tokens: older } = await signIn(config)
      const { tokens: newer } = await signIn(config, { browser })
      await client.tokenRevocation(config, older.refresh_token ?? '')

      const [answer] = await Promise.allSettled([
        client.refreshTokenGrant(config, newer.refresh_token ?? ''),
      ])
      expect(answer.status).toBe(outcome)
    },
  )
})

describe('signing out', () => {
  const endSession = async (provider: DevelopmentProvider, config: client.Configuration) => {
    const { browser, tokens } = await signIn(config)
    const url = client.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token ?? '',
      post_logout_redirect_uri: loggedOut,
      state: 'out',
    })
    const page = await browser.navigate(url.href)
    return { browser, page, provider }
  }

  test('with an id_token_hint one form leads back to the client', async () => {
    const provider = await start()
    const config = await relyingParty(provider)
    const { browser, page } = await endSession(provider, config)
    expect(text(page)).toContain('Signing you out')
    expect(page.header('content-security-policy')).toContain('script-src')

    const back = await browser.submitForm(page)
    expect(parameters(back).get('state')).toBe('out')
    const next = await requestAuthorization(config, { browser })
    expect(text(next.page)).toContain('name="password"')
  })

  test('without a hint the page asks first', async () => {
    const provider = await start()
    const { browser } = await signIn(await relyingParty(provider))
    const page = await browser.navigate(`${provider.issuer}/session/end`)
    expect(text(page)).toContain('Do you want to sign out')
    expect(page.header('content-security-policy')).not.toContain('script-src')
  })

  test('Back-Channel Logout 1.0 §2.5 reaches a client on loopback with its sid', async () => {
    const logoutTokens: string[] = []
    const receiver = createServer(async (req, res) => {
      let body = ''
      for await (const chunk of req) body += chunk
      logoutTokens.push(new URLSearchParams(body).get('logout_token') ?? '')
      res.end()
    })
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
    running.push({ close: () => receiver.closeAllConnections() }, receiver)
    const { port } = receiver.address() as AddressInfo
    const provider = await start({
      clients: [{ ...apiClient, backchannelLogoutUri: `http://localhost:${port}/logout` }],
    })
    const config = await relyingParty(provider)
    const { browser, tokens } = await signIn(config)
    const sid = tokens.claims()?.sid
    expect(sid).toBeTypeOf('string')
    const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token ?? '')
    expect(refreshed.claims()?.sid).toBe(sid)

    const url = client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token ?? '' })
    const page = await browser.navigate(url.href)
    await browser.submitForm(page)
    expect(logoutTokens).toHaveLength(1)
    expect(decodeJwt(logoutTokens[0] ?? '')).toMatchObject({ sub: 'alice', sid, aud: 'spa' })
  })
})

describe('faults', () => {
  const signedIn = async (options: DevelopmentProviderOptions = {}) => {
    const provider = await start(options)
    const config = await relyingParty(provider)
    const { tokens } = await signIn(config)
    return { provider, config, refreshToken: tokens.refresh_token ?? '' }
  }

  test('a status before the provider spends nothing', async () => {
    const { provider, config, refreshToken } = await signedIn()
    provider.setFault({
      status: 429,
      headers: { 'Retry-After': '7' },
      body: { error: 'slow_down' },
    })
    await expect(client.refreshTokenGrant(config, refreshToken)).rejects.toMatchObject({
      status: 429,
    })
    provider.setFault('continue')
    await client.refreshTokenGrant(config, refreshToken)
    expect(provider.tokenRequests().slice(1)).toMatchObject([
      { status: 429, consumed: false, delivered: false },
      { status: 200, consumed: true, delivered: true },
    ])
  })

  test('a reset before the provider spends nothing, a reset after it spends the token', async () => {
    const { provider, config, refreshToken } = await signedIn()
    provider.setFault('reset')
    await expect(client.refreshTokenGrant(config, refreshToken)).rejects.toThrow('fetch failed')
    provider.setFault('continue')
    provider.setFault('reset', 'after')
    await expect(client.refreshTokenGrant(config, refreshToken)).rejects.toThrow('fetch failed')
    provider.setFault('continue', 'after')
    await expect(client.refreshTokenGrant(config, refreshToken)).rejects.toMatchObject({
      error: 'invalid_grant',
    })
    expect(provider.tokenRequests().slice(1)).toMatchObject([
      { status: undefined, consumed: false },
      { status: 200, consumed: true, delivered: false },
      { status: 400, consumed: false },
    ])
  })

  test('hooks see the request, and may delay it', async () => {
    const seen: string[] = []
    const { provider, config, refreshToken } = await signedIn({
      onTokenRequest: async ({ grantType, body }) => {
        seen.push(`${grantType} ${body.has('code') ? 'code' : 'no code'}`)
        return { delayMs: 60 }
      },
      afterTokenRequest: async (_request, { status }) => {
        seen.push(`answered ${status}`)
        return 'continue'
      },
    })
    const from = performance.now()
    await client.refreshTokenGrant(config, refreshToken)
    expect(performance.now() - from).toBeGreaterThan(55)
    expect(seen).toEqual([
      'authorization_code code',
      'answered 200',
      'refresh_token no code',
      'answered 200',
    ])
    expect(provider.tokenRequests().every(({ delivered }) => delivered)).toBe(true)
  })

  test('the log knows which requests shared a connection, and when their caller was gone', async () => {
    const { provider } = await signedIn()
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const post = () =>
      new Promise<void>((resolve, reject) => {
        request(`${provider.issuer}/token`, { method: 'POST', agent }, (response) =>
          response.resume().once('end', resolve),
        )
          .once('error', reject)
          .end()
      })
    await post()
    await post()
    const [, first, second] = provider.tokenRequests()
    expect(second?.connection).toBe(first?.connection)
    expect(first?.connection.closedAt).toBeUndefined()
    agent.destroy()
    await expect.poll(() => first?.connection.closedAt).toBeGreaterThanOrEqual(first?.at ?? 0)
  })

  test('a hanging request ends with the provider, which closes at once', async () => {
    const { provider, config, refreshToken } = await signedIn()
    provider.setFault('hang')
    const waiting = expect(client.refreshTokenGrant(config, refreshToken)).rejects.toThrow()
    await expect.poll(() => provider.tokenRequests().length).toBe(2)
    const from = performance.now()
    await provider.close()
    expect(performance.now() - from).toBeLessThan(1_000)
    await waiting
  })
})
