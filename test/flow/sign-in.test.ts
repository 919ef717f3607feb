/** Signing in, in all the ways it can go, on a real provider and real sockets. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Browser, BrowserResponse } from '../support/browser.ts'
import { loginCookies, logoutCookie, sessionCookie } from '../support/cookies.ts'
import { signIn } from '../support/sign-in.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SPA: 'fixtures/spa' } })
})
afterAll(() => whole.close())

interface SessionBody {
  readonly authenticated: boolean
  readonly user: Record<string, unknown> | null
  readonly session: { createdAt: string; expiresIn: number; idleExpiresIn: number } | null
  readonly links: Record<string, string>
}

const session = async (browser: Browser): Promise<SessionBody> => {
  const answer = await browser.fetch('/bff/session')
  expect(answer.status).toBe(200)
  return answer.json() as SessionBody
}

const problem = (answer: BrowserResponse) => answer.json() as Record<string, unknown>

/** The provider's redirect to our callback, taken out of the chain that followed it. */
const callbackUrl = (landed: BrowserResponse): string => {
  const callback = landed.chain.find((step) => new URL(step.url).pathname === '/bff/callback')
  if (callback === undefined) throw new Error('no callback in the chain')
  return callback.url
}

/** At the provider, signed in, but its redirect to the callback not yet followed. */
const stoppedBeforeCallback = async (browser: Browser, returnTo = '/'): Promise<string> => {
  const page = await browser.navigate(
    `${whole.url}/bff/login?returnTo=${encodeURIComponent(returnTo)}`,
  )
  const answered = await browser.submitForm(
    page,
    { login: 'alice', password: 'alice' },
    { redirect: 'manual' },
  )
  const resumed = await browser.navigate(new URL(answered.header('location')!, answered.url).href, {
    redirect: 'manual',
    from: page,
  })
  return resumed.header('location')!
}

test('a browser signs in, calls the API with a Bearer token, and signs out everywhere', async () => {
  const browser = await whole.signedIn()
  const before = await session(browser)
  expect(before).toMatchObject({
    authenticated: true,
    user: { sub: 'alice', name: 'Alice Archer', email: 'alice@example.com', email_verified: true },
  })
  expect(Object.keys(before)).toEqual(['authenticated', 'user', 'session', 'links'])
  expect(Object.keys(before.links)).toEqual(['login', 'logout', 'events', 'sessions'])
  expect(before.session?.createdAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  expect(before.session?.expiresIn).toBeGreaterThan(28_700)
  expect(before.session?.idleExpiresIn).toBeLessThanOrEqual(1_800)

  const answer = await browser.fetch('/api/items?x=1')
  expect(answer.status).toBe(200)
  const seen = whole.api.requests.at(-1)
  expect(seen?.url).toBe('/api/items?x=1')
  expect(seen?.header('authorization')).toMatch(/^Bearer ey/)
  expect(seen?.header('cookie')).toBeUndefined()
  expect(answer.header('cache-control')).toBe('private, no-store')

  const cookie = sessionCookie(browser)
  const out = await browser.fetch('/bff/logout', { method: 'POST' })
  expect(out.json()).toEqual({ redirectTo: '/bff/logout/continue' })
  const asked = await browser.navigate('/bff/logout/continue', { from: browser.page })
  expect(new URL(asked.url).origin).toBe(whole.provider.issuer)
  expect(new URL(asked.url).searchParams.get('id_token_hint')).toMatch(/^ey/)
  const landed = await browser.submitForm(asked)
  expect(new URL(landed.url).origin).toBe(whole.url)
  expect(await session(browser)).toEqual({
    authenticated: false,
    user: null,
    session: null,
    links: { login: '/bff/login?returnTo=%2F' },
  })
  // The very same cookie opens nothing any more.
  browser.jar.set(
    `${cookie?.name}=${cookie?.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
    new URL(whole.url),
  )
  const replayed = await browser.fetch('/api/items')
  expect(replayed.status).toBe(401)
  expect(problem(replayed)).toMatchObject({ code: 'session_ended', retryable: false })
})

describe('the authorization request', () => {
  const parametersOf = async (query: string) => {
    const started = await whole
      .browser()
      .navigate(`${whole.url}/bff/login${query}`, { redirect: 'manual' })
    expect(started.status).toBe(303)
    expect(started.header('cache-control')).toBe('no-store')
    return new URL(started.header('location')!)
  }

  test('goes to the provider’s endpoint by PAR with nothing but client and reference in the URL', async () => {
    const url = await parametersOf('?login_hint=alice')
    expect(url.origin).toBe(whole.provider.issuer)
    expect([...url.searchParams.keys()].sort()).toEqual(['client_id', 'request_uri'])
    expect(url.searchParams.get('client_id')).toBe(CLIENT_ID)
  })

  test.each([
    ['?prompt=evil', 'prompt'],
    ['?prompt=none%20login', 'prompt'],
    ['?max_age=-1', 'max_age'],
    ['?max_age=1e3', 'max_age'],
    ['?prompt=login&prompt=none', 'prompt'],
    [`?login_hint=${'x'.repeat(300)}`, 'login_hint'],
  ])('with %s is refused, names the parameter and begins nothing', async (query, parameter) => {
    const browser = whole.browser()
    const answer = await browser.navigate(`${whole.url}/bff/login${query}`, { redirect: 'manual' })
    expect(answer.status).toBe(400)
    expect(answer.text).toContain('request_invalid')
    expect(answer.text).toContain(`<dt>Parameter</dt><dd>${parameter}</dd>`)
    expect(loginCookies(browser)).toEqual([])
    await browser.navigate(`${whole.url}/`)
    const members = Object.fromEntries(new URLSearchParams(query))
    if (query.split(`${parameter}=`).length > 2) members[parameter] = '\u0007'
    const called = await browser.fetch('/bff/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(members),
    })
    expect(called.json()).toMatchObject({ code: 'request_invalid', parameter })
  })

  test('by script answers where to go, and leaves a transaction', async () => {
    const browser = whole.browser()
    await browser.navigate(whole.url)
    const answer = await browser.fetch('/bff/login', {
      method: 'POST',
      body: JSON.stringify({ returnTo: '/orders#7', prompt: 'login' }),
      headers: { 'content-type': 'application/json' },
    })
    expect(answer.status).toBe(200)
    const { redirectTo } = answer.json() as { redirectTo: string }
    expect(new URL(redirectTo).origin).toBe(whole.provider.issuer)
    const page = await browser.navigate(redirectTo, { from: browser.page })
    const landed = await browser.submitForm(page, { login: 'alice', password: 'alice' })
    expect(landed.url).toBe(`${whole.url}/orders#7`)
  })
})

describe('nothing but a document navigation starts a sign-in', () => {
  test.each([
    ['a fetch', {}],
    ['an image', { mode: 'no-cors', destination: 'image' }],
    ['a frame', { mode: 'navigate', destination: 'iframe' }],
    [
      'a prefetch',
      { mode: 'navigate', destination: 'document', headers: { 'sec-purpose': 'prefetch' } },
    ],
  ] as const)('%s gets navigation_required and no cookie', async (_, init) => {
    const browser = whole.browser()
    await browser.navigate(whole.url)
    const answer = await browser.fetch('/bff/login', { ...init, redirect: 'manual' })
    expect(answer.status).toBe(400)
    expect(problem(answer)).toMatchObject({ code: 'navigation_required' })
    expect(answer.headerLines('set-cookie')).toEqual([])
    expect(loginCookies(browser)).toEqual([])
  })
})

describe('parallel tabs', () => {
  test('both finish, whichever is first', async () => {
    const browser = whole.browser()
    const one = await stoppedBeforeCallback(browser, '/one')
    const other = browser.openTab()
    const two = await other.navigate(`${whole.url}/bff/login?returnTo=/two`, {})
    // The provider has its own session by now, so the second tab arrives without a form.
    expect(two.url).toBe(`${whole.url}/two`)
    const first = await browser.navigate(one, { from: `${whole.provider.issuer}/` })
    expect(first.url).toBe(`${whole.url}/one`)
    expect((await session(browser)).authenticated).toBe(true)
    expect(loginCookies(browser)).toEqual([])
  })

  test('twenty abandoned sign-ins leave four small cookies', async () => {
    const browser = whole.browser()
    for (let turn = 0; turn < 20; turn += 1)
      await browser.navigate(`${whole.url}/bff/login?returnTo=/${'x'.repeat(500)}`, {
        redirect: 'manual',
      })
    const cookies = loginCookies(browser)
    expect(cookies).toHaveLength(4)
    for (const cookie of cookies) {
      expect(cookie.value.length).toBeLessThanOrEqual(1536)
      expect(cookie).toMatchObject({ sameSite: 'lax', httpOnly: true, secure: true, path: '/' })
    }
    await signIn(browser, whole.url)
    expect((await session(browser)).authenticated).toBe(true)
  })
})

describe('the callback heals itself', () => {
  test('a finished callback replayed leads the signed-in user on, without a token call', async () => {
    const browser = whole.browser()
    const landed = await signIn(browser, whole.url, { returnTo: '/orders' })
    const calls = whole.provider.tokenRequests().length
    const again = await browser.navigate(callbackUrl(landed), { from: `${whole.provider.issuer}/` })
    expect(again.url).toBe(`${whole.url}/`)
    expect((await session(browser)).authenticated).toBe(true)
    expect(whole.provider.tokenRequests()).toHaveLength(calls)
  })

  test('RFC 9700 §4.5 another browser’s callback makes no token call; that browser signs in itself', async () => {
    const stolen = await stoppedBeforeCallback(whole.browser())
    const calls = whole.provider.tokenRequests().length
    const victim = whole.browser()
    const answer = await victim.navigate(stolen, { from: `${whole.provider.issuer}/` })
    // Restarted: the victim stands before the provider's own page, signed in as nobody.
    expect(new URL(answer.url).origin).toBe(whole.provider.issuer)
    expect(whole.provider.tokenRequests()).toHaveLength(calls)
    expect(sessionCookie(victim)).toBeUndefined()
  })

  test('a browser that keeps no cookies gets a page that says why, not a loop', async () => {
    const first = await stoppedBeforeCallback(whole.browser())
    const forgetful = whole.browser()
    const restarted = await forgetful.navigate(first, { redirect: 'manual' })
    expect(restarted.status).toBe(303)
    const page = await forgetful.navigate(restarted.header('location')!)
    forgetful.jar.clear()
    void page
    const marked = await (async () => {
      const browser = whole.browser()
      const restart = await browser.navigate(first, { redirect: 'manual' })
      const login = await browser.navigate(restart.header('location')!)
      const answered = await browser.submitForm(
        login,
        { login: 'alice', password: 'alice' },
        { redirect: 'manual' },
      )
      const resumed = await browser.navigate(
        new URL(answered.header('location')!, answered.url).href,
        { redirect: 'manual' },
      )
      return resumed.header('location')!
    })()
    const stuck = await forgetful.navigate(marked)
    expect(stuck.status).toBe(400)
    expect(stuck.text).toContain('login_failed')
    expect(stuck.text).toContain('cookies are allowed')
  })

  test.each([
    ['no state', (url: URL) => url.searchParams.delete('state')],
    ['two states', (url: URL) => url.searchParams.append('state', 'x')],
    ['a malformed state', (url: URL) => url.searchParams.set('state', 'garbage')],
    ['two codes', (url: URL) => url.searchParams.append('code', 'x')],
    [
      'RFC 9207 §2.4 another issuer',
      (url: URL) => url.searchParams.set('iss', 'https://evil.example'),
    ],
    [
      'RFC 9207 §3 no issuer though the provider announces it',
      (url: URL) => url.searchParams.delete('iss'),
    ],
    ['neither code nor error', (url: URL) => url.searchParams.delete('code')],
  ])('%s ends in login_failed without a token call', async (_, change) => {
    const browser = whole.browser()
    const url = new URL(await stoppedBeforeCallback(browser))
    change(url)
    const calls = whole.provider.tokenRequests().length
    const answer = await browser.navigate(url.href, { from: `${whole.provider.issuer}/` })
    expect(answer.status).toBe(400)
    expect(answer.text).toContain('login_failed')
    expect(answer.header('referrer-policy')).toBe('no-referrer')
    expect(whole.provider.tokenRequests()).toHaveLength(calls)
    expect(sessionCookie(browser)).toBeUndefined()
  })

  test('an error answer ends in a page that does not echo the provider, and spends the transaction', async () => {
    const browser = whole.browser()
    const url = new URL(await stoppedBeforeCallback(browser))
    url.searchParams.delete('code')
    url.searchParams.set('error', 'access_denied')
    url.searchParams.set('error_description', '<script>alert(1)</script>')
    const answer = await browser.navigate(url.href, { from: `${whole.provider.issuer}/` })
    expect(answer.status).toBe(400)
    expect(answer.text).toContain('login_failed')
    expect(answer.text).not.toContain('script')
    expect(answer.header('content-security-policy')).toContain("default-src 'none'")
    expect(loginCookies(browser)).toEqual([])
  })

  test('a wrong code is refused by the provider and ends in login_failed, its transaction spent', async () => {
    const browser = whole.browser()
    const url = new URL(await stoppedBeforeCallback(browser))
    const good = url.searchParams.get('code')!
    url.searchParams.set('code', `${good.slice(0, -2)}zz`)
    const answer = await browser.navigate(url.href, { from: `${whole.provider.issuer}/` })
    expect(answer.status).toBe(400)
    expect(loginCookies(browser)).toEqual([])
    expect(whole.log.at(-1)).toMatchObject({ event: 'login_failed' })
  })
})

describe('what Strict means', () => {
  test('signed in, a link from another site to login first meets the small page', async () => {
    const browser = await whole.signedIn()
    const met = await browser.navigate(`${whole.url}/bff/login`, {
      from: 'http://127.0.0.1:1/',
      metaRefresh: 'stay',
    })
    expect(met.status).toBe(200)
    expect(met.text).toContain('http-equiv="refresh"')
    expect(met.headerLines('set-cookie')).toEqual([])
  })

  test('the cookie stays away from the callback and its document, and comes with the document’s fetch', async () => {
    const browser = whole.browser()
    const landed = await signIn(browser, whole.url)
    expect(landed.request.headers.cookie).toBeUndefined()
    const answer = await browser.fetch('/bff/session')
    expect(answer.request.headers.cookie).toContain('__Host-Http-coatcheck')
    expect((answer.json() as SessionBody).authenticated).toBe(true)
  })
})

describe('a new sign-in replaces the session', () => {
  test('new id, and the old ticket is dead at once', async () => {
    const browser = await whole.signedIn()
    const before = sessionCookie(browser)!
    await browser.navigate('/bff/login?returnTo=/again', { from: browser.page })
    expect(sessionCookie(browser)?.value).not.toBe(before.value)
    const thief = whole.browser()
    await thief.navigate(whole.url)
    thief.jar.set(
      `${before.name}=${before.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
      new URL(whole.url),
    )
    expect(problem(await thief.fetch('/api/items'))).toMatchObject({ code: 'session_ended' })
    expect((await session(browser)).authenticated).toBe(true)
    expect((await browser.fetch('/api/items')).status).toBe(200)
  })

  test('a provider that ties all sign-ins of a browser to one grant: the new session still refreshes', async () => {
    const shared = await startWholeGateway({
      provider: { grants: 'per-session', accessTokenLifetimeSeconds: 2 },
    })
    try {
      const browser = await shared.signedIn()
      await browser.navigate(`${shared.url}/bff/login`)
      await new Promise((resolve) => setTimeout(resolve, 2_200))
      expect((await browser.fetch('/api/items')).status).toBe(200)
      expect(shared.provider.revokedGrants()).toEqual([])
    } finally {
      await shared.close()
    }
  })

  test('another account in the same browser: the former grant is revoked', async () => {
    const bobs = sessionCookie(await whole.signedIn('bob'))
    const browser = whole.browser()
    await browser.navigate(whole.url)
    browser.jar.set(
      `${bobs?.name}=${bobs?.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
      new URL(whole.url),
    )
    const before = whole.provider.revokedGrants().length
    await signIn(browser, whole.url)
    expect((await session(browser)).user).toMatchObject({ sub: 'alice' })
    await expect.poll(() => whole.provider.revokedGrants().length).toBe(before + 1)
  })

  test('fixation: a cookie planted before sign-in is not the session afterwards', async () => {
    const attacker = await whole.signedIn('bob')
    const planted = sessionCookie(attacker)!
    const victim = whole.browser()
    await victim.navigate(whole.url)
    victim.jar.set(
      `${planted.name}=${planted.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
      new URL(whole.url),
    )
    await signIn(victim, whole.url)
    expect((await session(victim)).user).toMatchObject({ sub: 'alice' })
    const bobs = await attacker.fetch('/bff/session')
    expect((bobs.json() as SessionBody).user).not.toMatchObject({ sub: 'alice' })
  })
})

describe('signing out', () => {
  test('by the link from /session: a navigation with the session’s own token', async () => {
    const browser = await whole.signedIn()
    const { links } = await session(browser)
    const other = await whole.signedIn()
    const foreign = (await session(other)).links.logout!
    const refused = await browser.navigate(foreign, { from: browser.page })
    expect(refused.status).toBe(403)
    expect((await browser.fetch('/bff/session', { from: whole.url })).json()).toMatchObject({
      authenticated: true,
    })
    const asked = await browser.navigate(new URL(links.logout!, whole.url).href, {
      from: `${whole.url}/`,
    })
    expect(new URL(asked.url).pathname).toBe('/session/end')
    expect(sessionCookie(browser)).toBeUndefined()
  })

  test('the link cannot be fetched, framed or prefetched', async () => {
    const browser = await whole.signedIn()
    const { links } = await session(browser)
    for (const init of [
      {},
      { mode: 'navigate', destination: 'iframe' },
      { mode: 'navigate', destination: 'document', headers: { 'sec-purpose': 'prefetch' } },
    ] as const) {
      const answer = await browser.fetch(links.logout!, { ...init, redirect: 'manual' })
      expect(problem(answer)).toMatchObject({ code: 'navigation_required' })
    }
    expect((await session(browser)).authenticated).toBe(true)
  })

  test('OIDC RP-Initiated Logout §2 the landing goes where the user wanted only with the right state', async () => {
    const browser = await whole.signedIn()
    await browser.fetch('/bff/logout', {
      method: 'POST',
      body: JSON.stringify({ returnTo: '/goodbye' }),
      headers: { 'content-type': 'application/json' },
    })
    const forged = await browser.navigate(`${whole.url}/bff/logged-out?state=guess`)
    expect(forged.url).toBe(`${whole.url}/`)
    const asked = await browser.navigate('/bff/logout/continue', { from: browser.page })
    const landed = await browser.submitForm(asked)
    expect(landed.url).toBe(`${whole.url}/goodbye`)
    expect(logoutCookie(browser)).toBeUndefined()
  })

  test('continue works once', async () => {
    const browser = await whole.signedIn()
    await browser.fetch('/bff/logout', { method: 'POST' })
    const first = await browser.navigate('/bff/logout/continue', { from: browser.page })
    expect(first.url).toContain('/session/end')
    const second = await browser.navigate(`${whole.url}/bff/logout/continue`)
    expect(second.url).toBe(`${whole.url}/`)
  })

  test('signing out twice is no error, and a stranger’s cookie is not cleared', async () => {
    const browser = await whole.signedIn()
    await browser.fetch('/bff/logout', { method: 'POST' })
    const again = await browser.fetch('/bff/logout', { method: 'POST' })
    expect(again.status).toBe(200)
    expect(again.json()).toEqual({ redirectTo: '/' })
    expect(again.headerLines('set-cookie')).toEqual([])
  })

  test('a cookie of an unknown secret is not cleared: another replica may know it', async () => {
    const browser = await whole.signedIn()
    const cookie = sessionCookie(browser)
    const foreign = cookie?.value.replace(/^Fe26\.2\*\d+\*/, 'Fe26.2*1*')
    browser.jar.set(
      `${cookie?.name}=${foreign}; Path=/; Secure; HttpOnly; SameSite=Strict`,
      new URL(whole.url),
    )
    const out = await browser.fetch('/bff/logout', { method: 'POST' })
    expect([out.status, out.headerLines('set-cookie')]).toEqual([200, []])
  })

  test('the refresh token is revoked at the provider', async () => {
    const browser = await whole.signedIn()
    const before = whole.provider.revokedGrants().length
    await browser.fetch('/bff/logout', { method: 'POST' })
    await expect.poll(() => whole.provider.revokedGrants().length).toBe(before + 1)
  })
})

test('signed out, the session is known without the store, and an API call says how to sign in', async () => {
  const browser = whole.browser()
  await browser.navigate(`${whole.url}/orders?page=2`)
  expect((await session(browser)).links).toEqual({
    login: '/bff/login?returnTo=%2Forders%3Fpage%3D2',
  })
  const answer = await browser.fetch('/api/items')
  expect(answer.status).toBe(401)
  expect(answer.header('content-type')).toBe('application/problem+json')
  expect(answer.header('www-authenticate')).toBe('Cookie realm="coatcheck"')
  expect(problem(answer)).toEqual({
    type: 'urn:coatcheck:problem:session_required',
    title: 'Sign in to continue',
    status: 401,
    code: 'session_required',
    detail: expect.any(String),
    requestId: answer.header('x-request-id'),
    retryable: false,
    login: '/bff/login?returnTo=%2Forders%3Fpage%3D2',
  })
})

test('no token, code, cookie or secret is in any log line', async () => {
  const browser = await whole.signedIn()
  await browser.fetch('/api/items')
  const bearer = whole.api.requests.at(-1)?.header('authorization')?.slice(7) ?? ''
  const text = whole.logText()
  for (const secret of [
    bearer,
    bearer.split('.')[2] ?? '',
    sessionCookie(browser)?.value.slice(10, 60) ?? '',
    'spa-client-secret',
    'a-test-ring-secret',
    'alice@example.com',
  ]) {
    expect(secret.length).toBeGreaterThan(8)
    expect(text).not.toContain(secret)
  }
  expect(text).not.toMatch(/code=|eyJ|request_uri/)
})
