/**
 * Attack: a script of another project on localhost, on whatever port, writes cookies without `Secure` and prefix into
 * the victim's browser: an attacker's session or sign-in, or something that shadows the real ones. Here they stand in
 * the jar before, during and after the victim's sign-in; and where plain cookies are not asked for, nobody reads any.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Browser, createBrowser } from '../support/browser.ts'
import { createCookieJar } from '../support/cookie-jar.ts'
import { plainLoginCookies, plainSessionCookie, sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { authorizationResponseFor, signInAtOnce } from './sign-in-steps.ts'

let provider: FakeProvider
let whole: WholeGateway
let strict: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  const env = { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined }
  whole = await startWholeGateway({ env: { ...env, COATCHECK_PLAIN_COOKIES: 'true' } })
  strict = await startWholeGateway({ env })
})
afterAll(async () => {
  await Promise.all([whole.close(), strict.close()])
  await provider.close()
})

const dropsSecure = () => createBrowser({ jar: createCookieJar(Date.now, 'drops-on-http') })

/** The attacker, whose own browser is told to have plain cookies only. */
const attackerSession = async () => {
  const attacker = dropsSecure()
  await signInAtOnce(whole, attacker)
  return plainSessionCookie(attacker) ?? expect.unreachable()
}

/** What `document.cookie` can do. */
const plant = (browser: Browser, { name, value }: { name: string; value: string }) =>
  browser.jar.set(`${name}=${value}; Path=/`, new URL(whole.url))

const isSignedIn = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated

const statusWith = async (gateway: WholeGateway, cookie: string) =>
  (
    await rawRequest(gateway.port, {
      target: '/api/items',
      lines: [`Cookie: ${cookie}`, ...SAME_ORIGIN_FETCH],
    })
  ).status

describe('where plain cookies are not asked for', () => {
  it('none is sent, and a good ticket under a plain name opens nothing', async () => {
    const browser = dropsSecure()
    const started = await browser.navigate(`${strict.url}/bff/login`, { redirect: 'manual' })
    expect(started.headerLines('set-cookie')).toHaveLength(1)
    expect(browser.cookies()).toEqual([])
    const usual = strict.browser()
    await signInAtOnce(strict, usual)
    const { value } = sessionCookie(usual) ?? expect.unreachable()
    expect(await statusWith(strict, `${sessionCookie(usual)?.name}=${value}`)).toBe(200)
    for (const name of [`coatcheck-${strict.port}`, 'coatcheck'])
      expect(await statusWith(strict, `${name}=${value}`)).toBe(401)
  })

  it('a good transaction under a plain name is none', async () => {
    const usual = strict.browser()
    const response = await authorizationResponseFor(strict, usual)
    const [pending] = usual.cookies()
    const before = provider.requestsTo('token').length
    const answer = await rawRequest(strict.port, {
      target: `${response.pathname}${response.search}`,
      lines: [
        `Cookie: coatcheck-login-0-${strict.port}=${pending?.value}`,
        'Sec-Fetch-Site: same-origin',
        'Sec-Fetch-Mode: navigate',
        'Sec-Fetch-Dest: document',
      ],
    })
    expect(answer.header('location')).toMatch(/^http:\/\/127\.0\.0\.1/)
    expect(provider.requestsTo('token')).toHaveLength(before)
  })
})

describe('a plain session in a browser that keeps prefixed cookies', () => {
  it('shadows no real one, and is not what a sign-out ends', async () => {
    const planted = await attackerSession()
    const victim = whole.browser()
    await signInAtOnce(whole, victim)
    plant(victim, planted)
    const label = whole.log.findLast(({ event }) => event === 'login_succeeded')?.session
    expect(await isSignedIn(victim)).toBe(true)
    await victim.fetch('/bff/logout', { method: 'POST' })
    const ended = whole.log.findLast(({ event }) => event === 'session_ended')
    expect(ended).toMatchObject({ session: label, reason: 'logout' })
    expect(await statusWith(whole, `${planted.name}=${planted.value}`)).toBe(200)
  })

  it('is believed once at most: the answer shows that the browser keeps others', async () => {
    const planted = await attackerSession()
    const victim = whole.browser()
    plant(victim, planted)
    await victim.navigate(`${whole.url}/`)
    await victim.fetch('/bff/session')
    expect(await isSignedIn(victim)).toBe(false)
    expect((await victim.fetch('/api/items')).status).toBe(401)
    expect((await victim.fetch('/bff/logout', { method: 'POST' })).json()).toEqual({
      redirectTo: '/',
    })
    expect(await statusWith(whole, `${planted.name}=${planted.value}`)).toBe(200)
  })

  it('becomes the victim’s by no sign-in', async () => {
    const planted = await attackerSession()
    for (const victim of [whole.browser(), dropsSecure()]) {
      plant(victim, planted)
      await signInAtOnce(whole, victim)
      const own = sessionCookie(victim) ?? plainSessionCookie(victim)
      expect(own?.value).toMatch(/^Fe26/)
      expect(own?.value).not.toBe(planted.value)
      expect(await isSignedIn(victim)).toBe(true)
    }
  })

  it('a ticket of the other form is none, whichever way round', async () => {
    const plain = await attackerSession()
    const usual = whole.browser()
    await signInAtOnce(whole, usual)
    const prefixed = sessionCookie(usual) ?? expect.unreachable()
    expect(await statusWith(whole, `${plain.name}=${plain.value}`)).toBe(200)
    expect(await statusWith(whole, `${prefixed.name}=${prefixed.value}`)).toBe(200)
    // Twice: the second time the seal is remembered.
    for (let turn = 0; turn < 2; turn += 1) {
      expect(await statusWith(whole, `${plain.name}=${prefixed.value}`)).toBe(401)
      expect(await statusWith(whole, `${prefixed.name}=${plain.value}`)).toBe(401)
    }
  })
})

describe('RFC 9700 §4.7 the attacker’s sign-in, planted', () => {
  it('does not end as the victim’s, who begins one of their own', async () => {
    const attacker = dropsSecure()
    const response = await authorizationResponseFor(whole, attacker)
    const victim = whole.browser()
    for (const cookie of plainLoginCookies(attacker)) plant(victim, cookie)
    const before = provider.requestsTo('token').length
    const landed = await victim.navigate(response.href, {
      from: `${provider.issuer}/x`,
      redirect: 'manual',
    })
    expect(landed.header('location')).toMatch(/^http:\/\/127\.0\.0\.1/)
    expect(provider.requestsTo('token')).toHaveLength(before)
    expect(sessionCookie(victim)).toBeUndefined()
    expect(plainSessionCookie(victim)).toBeUndefined()
  })

  it('a garbage transaction in plain form does not spoil the victim’s own', async () => {
    const victim = whole.browser()
    for (const slot of '0123')
      plant(victim, { name: `coatcheck-login-${slot}-${whole.port}`, value: 'x' })
    await signInAtOnce(whole, victim)
    expect(sessionCookie(victim)?.value).toMatch(/^Fe26/)
  })
})

describe('an upstream', () => {
  it('neither sees a plain cookie nor sets one, listed or not', async () => {
    const planted = await attackerSession()
    await statusWith(whole, `${planted.name}=${planted.value}; theme=dark`)
    expect(whole.api.requests.at(-1)?.headerLines('cookie')).toEqual([])
  })
})
