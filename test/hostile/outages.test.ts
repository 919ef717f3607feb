/**
 * Attack, or bad luck: the store or the provider is gone. What must not happen is that somebody counts as signed out,
 * is let in without a check, or loses the session: each answer is 503 with Retry-After, each cookie stays, and the
 * very same browsers go on afterwards without a restart of the gateway. Redis is stopped by SIGSTOP, as a machine
 * that hangs, and killed, as one that is gone.
 */

import { afterEach, describe, expect, it } from 'vitest'
import { startDevelopmentProvider } from '../../src/dev/provider.ts'
import type { Browser } from '../support/browser.ts'
import { loginCookies, logoutCookie, sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { freePort } from '../support/free-port.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'
import {
  CLIENT_ID,
  clientOf,
  startWholeGateway,
  type WholeGateway,
} from '../support/whole-gateway.ts'
import {
  cookieLine,
  navigation,
  type RawAnswer,
  rawRequest,
  SAME_ORIGIN_FETCH,
} from './raw-request.ts'
import { authorizationResponseFor, signInAtOnce } from './sign-in-steps.ts'

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const part of open.splice(0).reverse()) await part.close()
})
const keep = <T extends { close(): Promise<void> }>(part: T): T => {
  open.push(part)
  return part
}

const expectUnavailable = (answer: RawAnswer, code: string) => {
  expect([answer.status, Number(answer.header('retry-after'))]).toEqual([503, expect.any(Number)])
  expect(Number(answer.header('retry-after'))).toBeGreaterThan(0)
  expect(answer.headerLines('set-cookie')).toEqual([])
  expect(answer.header('location')).toBeUndefined()
  expect(answer.header('cache-control')).toBe('no-store')
  if (answer.header('content-type') === 'application/problem+json')
    expect(answer.json()).toMatchObject({ code, status: 503, retryable: true })
  else expect(answer.text).toContain(`<dd>${code}</dd>`)
}

describe('ASVS 16.5.3 the store is gone', () => {
  let provider: FakeProvider
  let redis: RedisServer
  let whole: WholeGateway
  let browser: Browser
  let logoutLink: string
  let leaving: Browser
  let pendingCallback: URL
  let returning: Browser

  const start = async () => {
    provider = keep(await FakeProvider.start({ clientId: CLIENT_ID }))
    redis = keep(await startRedis())
    whole = keep(
      await startWholeGateway({
        env: {
          COATCHECK_ISSUER: provider.issuer,
          COATCHECK_RESOURCE: undefined,
          COATCHECK_REDIS_URL: redis.url,
        },
        file: ({ api }) => ({
          routes: [
            { path: '/pages', upstream: api, documents: true },
            { path: '/public', upstream: api, accept: ['session', 'anonymous'] },
          ],
        }),
      }),
    )
    browser = whole.browser()
    await signInAtOnce(whole, browser)
    const { links } = (await browser.fetch('/bff/session')).json() as { links: { logout: string } }
    logoutLink = links.logout
    leaving = whole.browser()
    await signInAtOnce(whole, leaving)
    await leaving.fetch('/bff/logout', { method: 'POST' })
    returning = whole.browser()
    pendingCallback = await authorizationResponseFor(whole, returning, '/after')
  }

  const ask = (target: string, lines: readonly string[], method = 'GET') =>
    rawRequest(whole.port, { method, target, lines: [cookieLine(browser), ...lines] })

  /** What memory had is served until the silence of the store is noticed, within a second. */
  const notServedFromMemory = () =>
    waitFor(
      'memory serves no longer',
      async () => (await ask('/bff/session', SAME_ORIGIN_FETCH)).status === 503,
    )

  const expectAllUnavailable = async () => {
    const calls = provider.requestsTo('token').length
    whole.api.forgetRequests()
    const [login] = loginCookies(returning)
    const logout = logoutCookie(leaving)
    const answers = await Promise.all([
      ask('/api/items', SAME_ORIGIN_FETCH),
      ask('/api/items', SAME_ORIGIN_FETCH, 'POST'),
      ask('/api/items', navigation('none')),
      ask('/pages/one', navigation('same-origin')),
      ask('/public/x', SAME_ORIGIN_FETCH),
      ask('/bff/session', SAME_ORIGIN_FETCH),
      ask('/bff/logout', SAME_ORIGIN_FETCH, 'POST'),
      ask('/bff/logout', navigation('same-origin'), 'POST'),
      ask(logoutLink, navigation('none')),
      ask('/bff/login', navigation('none')),
      ask('/bff/login', SAME_ORIGIN_FETCH, 'POST'),
      rawRequest(whole.port, {
        target: `${pendingCallback.pathname}${pendingCallback.search}`,
        lines: [`Cookie: ${login?.name}=${login?.value}`, ...navigation('cross-site')],
      }),
      rawRequest(whole.port, {
        target: '/bff/logout/continue',
        lines: [`Cookie: ${logout?.name}=${logout?.value}`, ...navigation('same-origin')],
      }),
    ])
    for (const answer of answers) expectUnavailable(answer, 'store_unavailable')
    expect(whole.api.requests).toEqual([])
    // Nothing was spent that could not be spent again.
    expect(provider.requestsTo('token')).toHaveLength(calls)
  }

  it('and hangs: 503 everywhere, and afterwards everything goes on, sign-in and sign-out under way included', async () => {
    await start()
    const staying = whole.browser()
    await signInAtOnce(whole, staying)
    redis.pause()
    try {
      await notServedFromMemory()
      await expectAllUnavailable()
      // Who carries nothing needs no store.
      const visitor = { target: '/bff/session', lines: SAME_ORIGIN_FETCH }
      expect((await rawRequest(whole.port, visitor)).json()).toMatchObject({ authenticated: false })
      expect((await rawRequest(whole.port, { target: '/public/x' })).status).toBe(200)
      expect((await rawRequest(whole.port, { target: '/api/x' })).status).toBe(401)
    } finally {
      redis.resume()
    }
    await waitFor(
      'the store is back',
      async () => (await staying.fetch('/api/items')).status === 200,
    )
    // The claim may have been written when the store woke up, its answer unheard: then the sign-in heals.
    expect((await returning.navigate(pendingCallback.href)).url).toBe(`${whole.url}/after`)
    expect(sessionCookie(returning)).toBeDefined()
    // Who asked to be signed out was told 503, and is signed out all the same.
    const codeNow = async () => {
      const answer = await ask('/api/items', SAME_ORIGIN_FETCH)
      return answer.status === 401 ? answer.json().code : undefined
    }
    expect(await waitFor('the end that was asked for', codeNow)).toBe('session_ended')
    const out = await staying.fetch('/bff/logout', { method: 'POST' })
    expect([out.status, out.json()]).toEqual([200, { redirectTo: '/bff/logout/continue' }])
  })

  it('RFC 9700 §4.5.3.2 and hangs after the exchange: what nobody holds is revoked', async () => {
    await start()
    const stranger = whole.browser()
    const response = await authorizationResponseFor(whole, stranger)
    provider.alterTokenAnswer((honest) => {
      redis.pause()
      return honest
    })
    try {
      const answer = await stranger.navigate(response.href, { redirect: 'manual' })
      expect([answer.status, sessionCookie(stranger)]).toEqual([503, undefined])
    } finally {
      redis.resume()
    }
    await waitFor('it is revoked', () => provider.requestsTo('revoke').length === 2)
  })

  it('and dies: 503 everywhere at once', async () => {
    await start()
    const staying = whole.browser()
    await signInAtOnce(whole, staying)
    await redis.kill()
    await expectAllUnavailable()
    const startedAt = performance.now()
    expectUnavailable(await ask('/bff/session', SAME_ORIGIN_FETCH), 'store_unavailable')
    expect(performance.now() - startedAt).toBeLessThan(2_000)
    await redis.restart()
    // It came back empty, and a session that began just before is written again: it was never called signed out.
    await waitFor('the store is back', async () => {
      const answer = await staying.fetch('/bff/session')
      return answer.status === 200 && (answer.json() as { authenticated: boolean }).authenticated
    })
  })

  it('from the start: the gateway serves, and takes sign-ins as soon as it comes', async () => {
    provider = keep(await FakeProvider.start({ clientId: CLIENT_ID }))
    const port = await freePort()
    whole = keep(
      await startWholeGateway({
        env: {
          COATCHECK_ISSUER: provider.issuer,
          COATCHECK_RESOURCE: undefined,
          COATCHECK_REDIS_URL: `redis://127.0.0.1:${port}`,
        },
      }),
    )
    returning = whole.browser()
    const early = await returning.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
    expect([early.status, loginCookies(returning)]).toEqual([503, []])
    expect(provider.requestsTo('authorize')).toEqual([])
    keep(await startRedis({ port }))
    await waitFor('a sign-in begins', async () => {
      const begun = await returning.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
      return begun.status === 303
    })
    await signInAtOnce(whole, returning)
    expect(sessionCookie(returning)).toBeDefined()
  })
})

describe('RFC 9110 §15.6.4 the provider is gone', () => {
  it('from the start: the gateway serves, sign-in gets 503, and works without a restart once it is there', async () => {
    const port = await freePort()
    const issuer = `http://127.0.0.1:${port}`
    const whole = keep(await startWholeGateway({ env: { COATCHECK_ISSUER: issuer } }))
    const ask = (target: string, lines: readonly string[], method = 'GET') =>
      rawRequest(whole.port, { method, target, lines })

    expect((await ask('/bff/session', SAME_ORIGIN_FETCH)).json()).toMatchObject({
      authenticated: false,
      links: { login: '/bff/login' },
    })
    expect((await ask('/api/items', SAME_ORIGIN_FETCH)).status).toBe(401)
    const page = await ask('/bff/login', navigation('none'))
    expectUnavailable(page, 'provider_unavailable')
    expect(page.header('content-type')).toBe('text/html; charset=utf-8')
    expectUnavailable(await ask('/bff/login', SAME_ORIGIN_FETCH, 'POST'), 'provider_unavailable')
    expect(page.text).not.toMatch(/ECONNREFUSED|127\.0\.0\.1/)

    keep(await startDevelopmentProvider({ port, clients: [clientOf(whole.url)] }))
    await waitFor(
      'sign-ins begin',
      async () => (await ask('/bff/login', navigation('none'))).status === 303,
      { timeoutMs: 10_000 },
    )
    const browser = whole.browser()
    await signIn(browser, whole.url)
    expect((await browser.fetch('/api/items')).status).toBe(200)
  })

  it('in the middle of a sign-in: 503, no session, and a new one can follow', async () => {
    const provider = keep(await FakeProvider.start({ clientId: CLIENT_ID }))
    const whole = keep(
      await startWholeGateway({
        env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
      }),
    )
    const browser = whole.browser()
    const response = await authorizationResponseFor(whole, browser)
    provider.script('token', { status: 503, headers: { 'retry-after': '7' } })
    const answer = await browser.navigate(response.href, { redirect: 'manual' })
    expect(answer.status).toBe(503)
    expect(answer.text).toContain('provider_unavailable')
    expect(sessionCookie(browser)).toBeUndefined()
    provider.answerHonestly()
    await signInAtOnce(whole, browser)
    expect(sessionCookie(browser)).toBeDefined()
  })

  it('at sign-out: the session here ends all the same, and the user is not left at a dead page', async () => {
    const provider = await FakeProvider.start({ clientId: CLIENT_ID })
    const whole = keep(
      await startWholeGateway({
        env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
      }),
    )
    const browser = whole.browser()
    await signInAtOnce(whole, browser)
    const cookie = cookieLine(browser)
    await provider.close()
    const out = await browser.fetch('/bff/logout', { method: 'POST' })
    expect(out.status).toBe(200)
    const onwards = await browser.navigate(`${whole.url}/bff/logout/continue`, {
      redirect: 'manual',
    })
    expect(onwards.status).toBe(303)
    const dead = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [cookie, ...SAME_ORIGIN_FETCH],
    })
    expect(dead.json()).toMatchObject({ code: 'session_ended' })
  })
})
