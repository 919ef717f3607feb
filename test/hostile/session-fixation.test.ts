/**
 * Attack: the victim's browser is given a session id that the attacker knows, and signs in under it; or a session
 * survives what should have ended it. Here the attacker's own cookies are planted before, during and after sign-in,
 * and old cookies are replayed after every change of identity.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { loginCookies, sessionCookie } from '../support/cookies.ts'
import { signIn } from '../support/sign-in.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let whole: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway()
})
afterAll(() => whole.close())
beforeEach(() => whole.api.forgetRequests())

const plant = (browser: Browser, name: string, value: string) =>
  browser.jar.set(`${name}=${value}; Path=/; Secure; HttpOnly; SameSite=Lax`, new URL(whole.url))

/** What a cookie opens, from anywhere. */
const opens = async (name: string, value: string) => {
  const answer = await rawRequest(whole.port, {
    target: '/api/items',
    lines: [`Cookie: ${name}=${value}`, ...SAME_ORIGIN_FETCH],
  })
  return answer.status === 200 ? 'a session' : answer.json().code
}

const userOf = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { user: { sub: string } | null }).user?.sub

describe('ASVS 7.2.4 the session is new at every sign-in', () => {
  it('a cookie of the attacker’s live session becomes the victim’s by no sign-in', async () => {
    const attacker = await whole.signedIn('bob')
    const planted = sessionCookie(attacker)
    const victim = whole.browser()
    plant(victim, planted?.name ?? '', planted?.value ?? '')
    await signIn(victim, whole.url)
    expect(await userOf(victim)).toBe('alice')
    expect(sessionCookie(victim)?.value).not.toBe(planted?.value)
    // What the victim replaced is over for the attacker too, and was never the victim's.
    expect(await opens(planted?.name ?? '', planted?.value ?? '')).toBe('session_ended')
  })

  it('a made-up cookie is adopted by none', async () => {
    const victim = whole.browser()
    const name = `__Host-Http-coatcheck-${whole.port}`
    plant(victim, name, 'A'.repeat(43))
    await signIn(victim, whole.url)
    expect(sessionCookie(victim)?.value).toMatch(/^Fe26\.2\*/)
    expect(await opens(name, 'A'.repeat(43))).toBe('session_required')
  })

  it('an account switch and a renewed sign-in each leave the former cookie dead at once', async () => {
    const browser = await whole.signedIn()
    const seen: { name: string; value: string }[] = []
    for (let turn = 0; turn < 3; turn += 1) {
      const cookie = sessionCookie(browser)
      if (cookie !== undefined) seen.push(cookie)
      await browser.navigate('/bff/login?returnTo=/again', { from: `${whole.url}/` })
    }
    expect(new Set(seen.map(({ value }) => value)).size).toBe(3)
    for (const { name, value } of seen) expect(await opens(name, value)).toBe('session_ended')
    expect(await userOf(browser)).toBe('alice')
  })

  it('the attacker’s pending sign-in, planted, does not end as the victim’s', async () => {
    const attacker = whole.browser()
    await attacker.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
    const pending = loginCookies(attacker)[0]
    const victim = whole.browser()
    plant(victim, pending?.name ?? '', pending?.value ?? '')
    await signIn(victim, whole.url)
    const cookie = sessionCookie(victim)
    expect(await userOf(victim)).toBe('alice')
    // The attacker's browser got nothing of it.
    expect(sessionCookie(attacker)).toBeUndefined()
    expect(await opens(cookie?.name ?? '', cookie?.value ?? '')).toBe('a session')
  })
})

describe('ASVS 7.4.1 after sign-out the same cookie opens nothing', () => {
  it('at the API, at the session endpoint, and for a further sign-out', async () => {
    const browser = await whole.signedIn()
    const { name, value } = sessionCookie(browser) ?? { name: '', value: '' }
    const out = await browser.fetch('/bff/logout', { method: 'POST' })
    const cleared = out.headerLines('set-cookie').find((line) => line.startsWith(`${name}=`))
    expect(cleared).toBe(`${name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0`)
    expect(await opens(name, value)).toBe('session_ended')
    for (const [method, target] of [
      ['GET', '/bff/session'],
      ['POST', '/bff/logout'],
    ] as const) {
      const answer = await rawRequest(whole.port, {
        method,
        target,
        lines: [`Cookie: ${name}=${value}`, ...SAME_ORIGIN_FETCH],
      })
      expect(answer.status).toBe(200)
      if (method === 'GET') expect(answer.json()).toMatchObject({ authenticated: false })
      else expect(answer.json()).toEqual({ redirectTo: '/' })
    }
    expect(whole.api.requests).toEqual([])
  })
})

describe('ASVS 7.2.3 the cookie tells nothing', () => {
  it('twenty are all different, and none names its user', async () => {
    const values = new Set<string>()
    const browser = await whole.signedIn()
    for (let turn = 0; turn < 20; turn += 1) {
      await browser.navigate('/bff/login', { from: `${whole.url}/` })
      values.add(sessionCookie(browser)?.value ?? '')
    }
    expect(values.size).toBe(20)
    for (const value of values) {
      expect(value.length).toBeLessThanOrEqual(1024)
      expect(Buffer.from(value, 'base64url').toString('latin1')).not.toMatch(/alice/)
    }
  })
})
