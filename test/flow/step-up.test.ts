/** Signing in again while signed in: for more assurance, silently, or as somebody else. On a real provider. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { ONE_TIME_CODE, ONE_TIME_CODE_ACR, PASSWORD_ACR } from '../../src/dev/sign-in.ts'
import { navigation, rawRequest } from '../hostile/raw-request.ts'
import type { Browser, BrowserResponse } from '../support/browser.ts'
import { loginCookies, sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { waitFor } from '../support/wait.ts'
import {
  CLIENT_ID,
  startWholeGateway,
  type WholeGateway,
  type WholeGatewayOptions,
} from '../support/whole-gateway.ts'

let whole: WholeGateway
afterEach(() => whole.close())

const start = async (options: WholeGatewayOptions = {}) => {
  whole = await startWholeGateway({
    ...options,
    env: { COATCHECK_USER_CLAIMS: 'acr,auth_time', ...options.env },
  })
}

const ALICE = { login: 'alice', password: 'alice' }
const loginPath = (parameters: Record<string, string>) =>
  `/bff/login?${new URLSearchParams({ returnTo: '/app', ...parameters })}`

const userOf = async (browser: Browser) => {
  const { user } = (await browser.fetch('/bff/session')).json() as {
    readonly user: Readonly<Record<string, unknown>> | null
  }
  return user
}
const cookieOf = (browser: Browser) => {
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('this browser is not signed in')
  return cookie
}
/** Another browser with the cookie as it was then. */
const withCookie = async ({ name, value }: { name: string; value: string }) => {
  const browser = whole.browser()
  await browser.navigate(whole.url)
  browser.jar.set(`${name}=${value}; Path=/; Secure; HttpOnly; SameSite=Strict`, new URL(whole.url))
  return browser
}
const code = (answer: BrowserResponse) => (answer.json() as { readonly code?: string }).code
const lastFailure = () => whole.log.filter(({ event }) => event === 'login_failed').at(-1)?.reason
const endings = () =>
  whole.log.filter(({ event }) => event === 'session_ended').map(({ reason }) => reason)

describe('step-up', () => {
  test('upgrades the session: new id, old ticket dead at once, and a request in flight comes to its end', async () => {
    await start()
    const browser = await whole.signedIn()
    expect(await userOf(browser)).toMatchObject({ acr: PASSWORD_ACR })
    const before = cookieOf(browser)
    let finish = () => {}
    const answered = new Promise<void>((resolve) => {
      finish = resolve
    })
    whole.api.answerWith(async (_, response) => {
      await answered
      response.end('{"slow":true}')
    })
    const inFlight = browser.fetch('/api/slow')
    await waitFor('the API has the request', () => whole.api.requests.length > 0)

    const page = await browser.navigate(loginPath({ acr_values: ONE_TIME_CODE_ACR }), {
      from: browser.page,
    })
    const fields = { ...ALICE, one_time_code: ONE_TIME_CODE }
    const landed = await browser.submitForm(page, fields)
    expect(new URL(landed.url).pathname).toBe('/app')
    expect(await userOf(browser)).toMatchObject({ acr: ONE_TIME_CODE_ACR })
    expect(cookieOf(browser).value).not.toBe(before.value)
    const old = await withCookie(before)
    expect(code(await old.fetch('/api/items'))).toBe('session_ended')
    expect(endings()).toEqual(['replaced_at_login'])

    finish()
    const slow = await inFlight
    expect([slow.status, slow.text]).toEqual([200, '{"slow":true}'])
  })

  test('RFC 9470 §5 not met: the session that was there goes on, its grant untouched', async () => {
    await start({ provider: { grants: 'per-session', accessTokenLifetimeSeconds: 2 } })
    const browser = await whole.signedIn()
    const before = cookieOf(browser)
    const page = await browser.navigate(loginPath({ acr_values: 'urn:example:never' }), {
      from: browser.page,
    })
    expect([page.status, page.text.includes('login_failed')]).toEqual([400, true])
    expect(lastFailure()).toBe('acr_not_met')
    expect([cookieOf(browser).value, loginCookies(browser)]).toEqual([before.value, []])
    expect(await userOf(browser)).toMatchObject({ acr: PASSWORD_ACR })
    // The sign-in that failed brought a refresh token of the same grant: revoking it would show here.
    await sleep(2_100)
    expect((await browser.fetch('/api/items', { from: whole.url })).status).toBe(200)
    expect(whole.provider.revokedGrants()).toEqual([])
    expect(endings()).toEqual([])
  })

  test('not met, and nobody was signed in: what the provider issued is revoked', async () => {
    await start()
    const browser = whole.browser()
    const page = await browser.navigate(
      `${whole.url}${loginPath({ acr_values: 'urn:example:never' })}`,
    )
    expect((await browser.submitForm(page, ALICE)).status).toBe(400)
    await waitFor('the grant is revoked', () => whole.provider.revokedGrants().length === 1)
  })

  test('OIDC Core §3.1.2.1 max_age=0 asks for the password again, and the session says when', async () => {
    await start()
    const browser = await whole.signedIn()
    const first = Number((await userOf(browser))?.auth_time)
    await sleep(1_100)
    const page = await browser.navigate(loginPath({ max_age: '0' }), { from: browser.page })
    expect(page.text).toContain('name="password"')
    await browser.submitForm(page, ALICE)
    expect(Number((await userOf(browser))?.auth_time)).toBeGreaterThan(first)
  })

  test.each([
    ['an authentication that is too old', { auth_time: 1_700_000_000 }, 'auth_time_past'],
    ['no word of when', { auth_time: undefined }, 'auth_time_missing'],
  ])(
    'OIDC Core §3.1.3.7(13) max_age answered with %s: refused, and the session goes on',
    async (_, claims, reason) => {
      const fake = await FakeProvider.start({ clientId: CLIENT_ID })
      onTestFinished(() => fake.close())
      await start({ env: { COATCHECK_ISSUER: fake.issuer, COATCHECK_RESOURCE: undefined } })
      const browser = whole.browser()
      await browser.navigate(`${whole.url}${loginPath({})}`)
      const before = cookieOf(browser)
      fake.lieInIdTokens({ claims })
      const refused = await browser.navigate(loginPath({ max_age: '60' }), { from: browser.page })
      expect([refused.status, lastFailure()]).toEqual([400, reason])
      expect(cookieOf(browser).value).toBe(before.value)
      expect(await userOf(browser)).not.toBeNull()
      expect(endings()).toEqual([])
    },
  )

  test('during a refresh, at a provider with one grant for both: nothing is revoked, and who waited is served', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    await start({
      provider: {
        grants: 'per-session',
        accessTokenLifetimeSeconds: 2,
        afterTokenRequest: async ({ grantType }) => {
          if (grantType === 'refresh_token') await held
          return 'continue'
        },
      },
    })
    const browser = await whole.signedIn()
    await sleep(2_100)
    const waiting = browser.fetch('/api/items')
    await waitFor('the provider has rotated', () =>
      whole.provider
        .tokenRequests()
        .some(({ grantType, consumed }) => grantType === 'refresh_token' && consumed),
    )
    const { id } = await replaced(browser)
    release()
    expect((await waiting).status).toBe(200)
    expect(cookieOf(browser).value).toBe(id)
    await sleep(2_100)
    expect((await browser.fetch('/api/items')).status).toBe(200)
    expect(whole.provider.revokedGrants()).toEqual([])
  })
})

/** The provider still knows the browser: signing in again takes no form. */
const replaced = async (browser: Browser) => {
  const before = cookieOf(browser).value
  await browser.navigate(loginPath({}), { from: browser.page })
  const id = cookieOf(browser).value
  expect(id).not.toBe(before)
  return { id }
}

describe('OIDC Core §3.1.2.6 prompt=none that cannot be', () => {
  test('tells the app what is needed, with no page between, and the session goes on', async () => {
    await start()
    const browser = await whole.signedIn()
    const before = cookieOf(browser)
    const landed = await browser.navigate(
      loginPath({ returnTo: '/app?x=1#top', prompt: 'none', acr_values: ONE_TIME_CODE_ACR }),
      { from: browser.page },
    )
    expect(landed.url).toBe(`${whole.url}/app?x=1&error=login_required#top`)
    expect([cookieOf(browser).value, loginCookies(browser)]).toEqual([before.value, []])
    expect(await userOf(browser)).toMatchObject({ sub: 'alice' })
    expect(lastFailure()).toBe('provider_login_required')
  })

  test('is an answer: asking often holds nobody off', async () => {
    await start()
    const browser = whole.browser()
    const started = await browser.navigate(`${whole.url}${loginPath({ prompt: 'none' })}`, {
      redirect: 'manual',
    })
    const answered = await browser.navigate(started.header('location') ?? '', {
      redirect: 'manual',
    })
    const callback = new URL(answered.header('location') ?? '')
    const [transaction] = loginCookies(browser)
    const statuses = new Set<number>()
    // Failures beyond 200 in a minute would be answered with 429.
    for (let turn = 0; turn < 210; turn += 1) {
      const answer = await rawRequest(whole.port, {
        target: `${callback.pathname}${callback.search}`,
        lines: [`Cookie: ${transaction?.name}=${transaction?.value}`, ...navigation('cross-site')],
      })
      expect(answer.header('location')).toBe('/app?error=login_required')
      statuses.add(answer.status)
    }
    expect(statuses).toEqual(new Set([303]))
  })

  test('never leads to a page that demands a session', async () => {
    await start({
      env: { COATCHECK_UPSTREAM: undefined },
      file: ({ api }) => ({ routes: [{ path: '/app', upstream: api, documents: true }] }),
    })
    const refused = await whole.browser().navigate(`${whole.url}${loginPath({ prompt: 'none' })}`)
    expect([refused.status, new URL(refused.url).pathname]).toEqual([400, '/bff/callback'])
  })

  test('an error that no prompt would mend stays a failure', async () => {
    await start()
    const browser = whole.browser()
    const started = await browser.navigate(`${whole.url}${loginPath({ prompt: 'none' })}`, {
      redirect: 'manual',
    })
    const state = new URL(
      (await browser.navigate(started.header('location') ?? '', { redirect: 'manual' })).header(
        'location',
      ) ?? '',
    ).searchParams.get('state')
    const callback = new URLSearchParams({
      error: 'server_error',
      state: state ?? '',
      iss: whole.provider.issuer,
    })
    const failed = await browser.navigate(`${whole.url}/bff/callback?${callback}`)
    expect([failed.status, lastFailure()]).toEqual([400, 'provider_server_error'])
  })
})

/** oidc-provider ends its own session of the former account by a form that submits itself. */
const switchToBob = async (browser: Browser) => {
  const page = await browser.navigate(loginPath({ prompt: 'login' }), { from: browser.page })
  const switching = await browser.submitForm(page, { login: 'bob', password: 'bob' })
  return browser.submitForm(switching)
}

describe('another account', () => {
  test('ends the session of the former, whose tokens are revoked, and begins one of its own', async () => {
    await start()
    const browser = await whole.signedIn()
    const before = cookieOf(browser)
    await switchToBob(browser)
    expect(await userOf(browser)).toMatchObject({ sub: 'bob' })
    const old = await withCookie(before)
    expect(code(await old.fetch('/api/items'))).toBe('session_ended')
    expect(endings()).toEqual(['replaced_at_login'])
    await waitFor('alice’s grant is revoked', () => whole.provider.revokedGrants().length === 1)
  })

  test('that may not sign in leaves the former session as it was', async () => {
    await start({ env: { COATCHECK_SIGN_IN_REQUIRE: 'groups=admins' } })
    const browser = await whole.signedIn()
    const refused = await switchToBob(browser)
    expect([refused.status, refused.text.includes('sign_in_refused')]).toEqual([403, true])
    expect(await userOf(browser)).toMatchObject({ sub: 'alice' })
    // Another subject has another grant: that one is revoked, and alice's is not.
    await waitFor('bob’s grant is revoked', () => whole.provider.revokedGrants().length === 1)
    expect(endings()).toEqual([])
  })
})
