/** Proxied calls through the whole gateway: routes, credentials, replays, documents. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { PASSWORD_ACR } from '../../src/dev/sign-in.ts'
import { sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { answerJson } from '../support/upstream-api.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
afterEach(() => whole.close())

const invalidToken = { 'www-authenticate': 'Bearer error="invalid_token"' }
const code = (answer: { json(): unknown }) => (answer.json() as { code: string }).code

test('variables alone: several prefixes, path unchanged or stripped', async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_API_PATHS: '/api,/graphql', COATCHECK_UPSTREAM_STRIP_PREFIX: 'true' },
  })
  const browser = await whole.signedIn()
  await browser.fetch('/api/items?x=%20y')
  await browser.fetch('/graphql')
  expect(whole.api.requests.map(({ url }) => url)).toEqual(['/items?x=%20y', '/'])
  expect((await browser.fetch('/apifoo')).status).toBe(404)
})

test('an upstream’s invalid_token forces one refresh and one replay, body included', async () => {
  whole = await startWholeGateway()
  const browser = await whole.signedIn()
  whole.api.answerWith(async (request, response) => {
    const first = whole.api.requests.length === 1
    const answer = first ? answerJson({ error: 'no' }, 401, invalidToken) : answerJson({ ok: 1 })
    await answer(request, response)
  })
  const answer = await browser.fetch('/api/items/7', { method: 'PUT', body: '{"name":"hat"}' })
  expect(answer.status).toBe(200)
  const [one, two] = whole.api.requests
  expect(two?.header('authorization')).not.toBe(one?.header('authorization'))
  expect(two?.body.toString()).toBe('{"name":"hat"}')
  expect(whole.api.requests).toHaveLength(2)
})

test('a token that runs out on its way while the provider is down is an outage, and no 401', async () => {
  whole = await startWholeGateway({ provider: { accessTokenLifetimeSeconds: 2 } })
  const browser = await whole.signedIn()
  whole.provider.setFault({ status: 503, body: 'down' })
  whole.api.answerWith(async (request, response) => {
    await sleep(2_100)
    await answerJson({ error: 'over' }, 401, invalidToken)(request, response)
  })
  const answer = await browser.fetch('/api/items')
  expect([answer.status, code(answer)]).toEqual([503, 'provider_unavailable'])
  expect(answer.header('retry-after')).toMatch(/^\d+$/)
  expect(whole.api.requests).toHaveLength(1)
})

test('tokens that run out before a slow upstream looks at them are no verdict on users or route', async () => {
  whole = await startWholeGateway({ provider: { accessTokenLifetimeSeconds: 2 } })
  const browsers = await Promise.all(Array.from({ length: 5 }, () => whole.signedIn()))
  whole.api.answerWith(async (request, response) => {
    await sleep(2_100)
    await answerJson({ error: 'over' }, 401, invalidToken)(request, response)
  })
  const answers = await Promise.all(browsers.map((browser) => browser.fetch('/api/items')))
  for (const answer of answers) {
    expect([answer.status, code(answer)]).toEqual([503, 'provider_unavailable'])
    expect(answer.header('retry-after')).toMatch(/^\d+$/)
  }
  expect(whole.api.requests).toHaveLength(10)
  expect(whole.logText()).not.toContain('upstream_rejects_tokens')
})

test('RFC 9110 §9.2.2 a POST is never replayed; the upstream’s 401 is passed on as it is', async () => {
  whole = await startWholeGateway()
  const browser = await whole.signedIn()
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  const answer = await browser.fetch('/api/items', { method: 'POST', body: '{}' })
  expect([answer.status, answer.json()]).toEqual([401, { error: 'mine' }])
  expect(whole.api.requests).toHaveLength(1)
})

test('an upstream that rejects a user’s every token costs one refresh, and no other user theirs', async () => {
  whole = await startWholeGateway()
  const [browser, other] = [await whole.signedIn(), await whole.signedIn('bob')]
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  for (let turn = 0; turn < 8; turn += 1) {
    const answer = await browser.fetch('/api/items')
    expect([answer.status, answer.json()]).toEqual([401, { error: 'mine' }])
  }
  expect(whole.api.requests).toHaveLength(9)
  await other.fetch('/api/items')
  expect(whole.api.requests).toHaveLength(11)
  expect(
    whole.provider.tokenRequests().filter(({ grantType }) => grantType === 'refresh_token'),
  ).toHaveLength(2)
  expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })
})

test('RFC 9110 §9.2.2 a POST without a body is not replayed either', async () => {
  whole = await startWholeGateway()
  const browser = await whole.signedIn()
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  expect((await browser.fetch('/api/items', { method: 'POST' })).status).toBe(401)
  expect(whole.api.requests).toHaveLength(1)
})

test('a route that rejects five refreshed tokens in a row stops asking for more', async () => {
  whole = await startWholeGateway()
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  for (let user = 0; user < 6; user += 1) await (await whole.signedIn()).fetch('/api/items')
  expect(whole.api.requests).toHaveLength(11)
  expect(whole.log).toContainEqual(
    expect.objectContaining({ notice: 'upstream_rejects_tokens', detail: '/api' }),
  )
})

test('such a route still gets a newer token where the one it was sent ran out on its way', async () => {
  whole = await startWholeGateway({ provider: { accessTokenLifetimeSeconds: 2 } })
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  for (let user = 0; user < 5; user += 1) await (await whole.signedIn()).fetch('/api/items')
  expect(whole.logText()).toContain('upstream_rejects_tokens')
  const browser = await whole.signedIn()
  const before = whole.api.requests.length
  whole.api.answerWith(async (request, response) => {
    const isFirst = whole.api.requests.length === before + 1
    if (isFirst) await sleep(2_100)
    await (isFirst ? answerJson({}, 401, invalidToken) : answerJson({ ok: 1 }))(request, response)
  })
  expect((await browser.fetch('/api/items')).status).toBe(200)
})

test('a 401 that speaks of something else is no reason to refresh', async () => {
  whole = await startWholeGateway()
  const browser = await whole.signedIn()
  whole.api.answerWith(
    answerJson({}, 401, { 'www-authenticate': 'Bearer error="insufficient_user_authentication"' }),
  )
  expect((await browser.fetch('/api/items')).status).toBe(401)
  expect(whole.api.requests).toHaveLength(1)
})

test('routes of a file: anonymous, methods, credential none, documents', async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: undefined },
    file: ({ api }) => ({
      routes: [
        { path: '/open', upstream: api, accept: ['session', 'anonymous'] },
        { path: '/read', upstream: api, methods: ['GET'] },
        { path: '/plain', upstream: api, credential: 'none' },
        { path: '/pages', upstream: api, documents: true },
      ],
    }),
  })
  const stranger = whole.browser()
  await stranger.navigate(`${whole.url}/`)
  expect((await stranger.fetch('/open/x')).status).toBe(200)
  expect(whole.api.requests.at(-1)?.header('authorization')).toBeUndefined()
  const toLogin = await stranger.navigate(`${whole.url}/pages/7?x=1`, { redirect: 'manual' })
  expect([toLogin.status, toLogin.header('location')]).toEqual([
    303,
    '/bff/login?returnTo=%2Fpages%2F7%3Fx%3D1',
  ])
  expect(code(await stranger.fetch('/pages/7'))).toBe('session_required')

  const browser = await whole.signedIn()
  await browser.fetch('/open/x')
  expect(whole.api.requests.at(-1)?.header('authorization')).toMatch(/^Bearer /)
  await browser.fetch('/plain')
  expect(whole.api.requests.at(-1)?.header('authorization')).toBeUndefined()
  const refused = await browser.fetch('/read', { method: 'POST' })
  expect([refused.status, refused.header('allow')]).toEqual([405, 'GET, HEAD'])
  // A link from another site to a document route: the small page first, then the document.
  const document = await browser.navigate(`${whole.url}/pages/7`, { from: 'http://127.0.0.1:1/' })
  expect(document.status).toBe(200)
  expect(document.chain.map(({ status }) => status)).toEqual([200, 200])
  // A dead session on a route that takes anyone is anyone.
  await browser.fetch('/bff/logout', { method: 'POST', from: whole.url })
  expect((await browser.fetch('/open/x', { from: whole.url })).status).toBe(200)
})

test('the thin ID token: claims come from UserInfo, once', async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_RESOURCE: undefined, COATCHECK_USER_CLAIMS: 'groups' },
    client: { resource: false },
  })
  const browser = await whole.signedIn()
  expect((await browser.fetch('/bff/session')).json()).toMatchObject({
    user: { sub: 'alice', name: 'Alice Archer', groups: ['staff', 'admins'] },
  })
})

test('OIDC Core §11 a switch of account does not end refreshing for everybody after it', async () => {
  whole = await startWholeGateway()
  const browser = await whole.signedIn()
  await browser.navigate(`${whole.url}/bff/login?prompt=login`, { from: `${whole.url}/` })
  await browser.submitForm(browser.page, { login: 'alice', password: 'alice' })
  const later = await whole.signedIn('bob')
  whole.api.answerWith(answerJson({ error: 'mine' }, 401, invalidToken))
  await later.fetch('/api/items')
  // It still has a refresh token: the upstream's refusal brought a second token.
  expect(whole.api.requests).toHaveLength(2)
})

test('who may sign in: the others get a page, no session, and their grant is revoked', async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SIGN_IN_REQUIRE: 'groups=admins' } })
  expect((await (await whole.signedIn('alice')).fetch('/bff/session')).json()).toMatchObject({
    authenticated: true,
  })
  const bob = await whole.signedIn('bob')
  expect(bob.page.status).toBe(403)
  expect(bob.page.text).toContain('sign_in_refused')
  expect(sessionCookie(bob)).toBeUndefined()
  await expect.poll(() => whole.provider.revokedGrants().length).toBe(1)
})

test('login.errors redirect: a failed sign-in ends where the app hears of it', async () => {
  whole = await startWholeGateway({ env: { COATCHECK_LOGIN_ERRORS: 'redirect' } })
  const browser = whole.browser()
  const page = await browser.navigate(
    `${whole.url}/bff/login?returnTo=${encodeURIComponent('/app?x=1#top')}`,
  )
  const refused = await browser.submitForm(page, {}, { formIndex: 1 })
  expect(refused.url).toBe(`${whole.url}/app?x=1&error=login_failed#top`)
})

test('RFC 9470 §5 an answer with a lower acr than asked begins no session', async () => {
  whole = await startWholeGateway()
  const met = whole.browser()
  await met.navigate(`${whole.url}/bff/login?acr_values=${PASSWORD_ACR}`)
  await met.submitForm(met.page, { login: 'alice', password: 'alice' })
  expect((await met.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })

  const unmet = whole.browser()
  await unmet.navigate(`${whole.url}/bff/login?acr_values=urn:example:never`)
  const landed = await unmet.submitForm(unmet.page, { login: 'alice', password: 'alice' })
  expect([landed.status, sessionCookie(unmet)]).toEqual([400, undefined])
  expect(landed.text).toContain('login_failed')
  expect(whole.log.filter(({ event }) => event === 'login_failed').at(-1)).toMatchObject({
    reason: 'acr_not_met',
  })
})

test('login.errors redirect never leads to a page that demands a session: that would not end', async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: undefined, COATCHECK_LOGIN_ERRORS: 'redirect' },
    file: ({ api }) => ({ routes: [{ path: '/app', upstream: api, documents: true }] }),
  })
  const refused = await whole
    .browser()
    .navigate(`${whole.url}/bff/login?prompt=none&returnTo=${encodeURIComponent('/app/x?y=1')}`)
  expect([refused.status, new URL(refused.url).pathname]).toEqual([400, '/bff/callback'])
})

test('an idle end met by a request revokes what the session still held', async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SESSION_IDLE: '1s' } })
  const browser = await whole.signedIn()
  await new Promise((resolve) => setTimeout(resolve, 1_200))
  expect(code(await browser.fetch('/api/items'))).toBe('session_expired')
  await expect.poll(() => whole.provider.revokedGrants().length).toBe(1)
})

test('a developer who opens another host is led to the public one; calls are not', async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SPA: 'fixtures/spa' } })
  const browser = whole.browser()
  const led = await browser.navigate(`http://127.0.0.1:${whole.port}/orders?x=1`, {
    redirect: 'manual',
  })
  expect([led.status, led.header('location')]).toEqual([307, `${whole.url}/orders?x=1`])
})

test.each<[string, number | undefined, string, string | undefined]>([
  ['an authentication of before', -100, 'prompt=login', 'auth_time_past'],
  ['one of just now', 0, 'prompt=login', undefined],
  ['one that the provider does not date', undefined, 'prompt=login', undefined],
  ['one of before, where none was asked for', -100, 'prompt=select_account', undefined],
])('OIDC Core §3.1.2.1 prompt=login, answered by %s', async (_, ageSeconds, asked, reason) => {
  const provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
  })
  const authTime = ageSeconds === undefined ? undefined : Math.floor(Date.now() / 1000) + ageSeconds
  provider.lieInIdTokens({ claims: { auth_time: authTime } })
  const browser = whole.browser()
  const landed = await browser.navigate(`${whole.url}/bff/login?${asked}`)
  expect(landed.status === 400).toBe(reason !== undefined)
  expect((await browser.fetch('/bff/session')).json()).toMatchObject({
    authenticated: reason === undefined,
  })
  expect(whole.log.flatMap((line) => (line.event === 'login_failed' ? [line.reason] : []))).toEqual(
    reason === undefined ? [] : [reason],
  )
  await provider.close()
})
