/**
 * Attack: a flood of session cookies whose seals name a secret of ours and do not verify. Each costs more than a
 * whole good request, so the address they come from is held off; nobody else is, and forwarding headers that no
 * trusted proxy wrote open no way around it. The attacker is 127.0.0.1, another user 127.0.0.2.
 */

import { once } from 'node:events'
import { request } from 'node:http'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { loginCookies, logoutCookie, sessionCookie } from '../support/cookies.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

const FAILURES_MAX = 200

/** One character of the ciphertext is another. */
const corrupted = (seal: string): string => {
  const parts = seal.split('*')
  const cipher = parts[4] ?? ''
  parts[4] = (cipher.startsWith('A') ? 'B' : 'A') + cipher.slice(1)
  return parts.join('*')
}

let whole: WholeGateway
let browser: Browser
let forged: string
const start = async (env: Readonly<Record<string, string>> = {}) => {
  whole = await startWholeGateway({ env })
  browser = await whole.signedIn()
  const { name, value } = sessionCookie(browser) ?? { name: '', value: '' }
  forged = `Cookie: ${name}=${corrupted(value)}`
}
afterEach(() => whole.close())

const flood = async (target: string, count: number, lines: (turn: number) => readonly string[]) => {
  for (let turn = 0; turn < count; turn += 1)
    await rawRequest(whole.port, { target, lines: [forged, ...SAME_ORIGIN_FETCH, ...lines(turn)] })
}

/** From another address than the attacker's. */
const fromElsewhere = async (target: string, cookie: string) => {
  const asking = request({
    host: '127.0.0.1',
    port: whole.port,
    localAddress: '127.0.0.2',
    path: target,
    agent: false,
    headers: {
      host: `localhost:${whole.port}`,
      cookie: cookie.slice('Cookie: '.length),
      'sec-fetch-site': 'same-origin',
    },
  })
  asking.end()
  const [response] = await once(asking, 'response')
  response.resume()
  return response.statusCode as number
}

describe('ASVS 2.4.1 a flood of forged seals', () => {
  beforeEach(() => start())

  it('is held off by address with 429 and Retry-After; who comes from elsewhere notices nothing', async () => {
    await flood('/api/items', FAILURES_MAX, () => [])
    for (const [target, lines] of [
      ['/api/items', [forged, ...SAME_ORIGIN_FETCH]],
      ['/bff/session', [forged, ...SAME_ORIGIN_FETCH]],
      ['/bff/events', [forged, ...SAME_ORIGIN_FETCH]],
      ['/bff/login', [forged, ...navigation('none')]],
      ['/bff/callback?code=x&state=y', [forged]],
    ] as const) {
      const answer = await rawRequest(whole.port, { target, lines })
      expect([target, answer.status]).toEqual([target, 429])
      expect(Number(answer.header('retry-after'))).toBeGreaterThan(0)
      expect(Number(answer.header('retry-after'))).toBeLessThanOrEqual(60)
      expect(answer.text).toContain('rate_limited')
      expect(answer.headerLines('set-cookie')).toEqual([])
    }
    expect(await fromElsewhere('/api/items', cookieLine(browser))).toBe(200)
    expect(await fromElsewhere('/bff/session', cookieLine(browser))).toBe(200)
    expect(whole.api.requests).toHaveLength(1)
  })

  it('counts whichever endpoint it comes to', async () => {
    await flood('/bff/session', FAILURES_MAX / 4, () => [])
    await flood('/bff/events', FAILURES_MAX / 4, () => [])
    for (let turn = 0; turn < FAILURES_MAX / 2; turn += 1)
      await rawRequest(whole.port, { target: '/bff/login', lines: [forged, ...navigation('none')] })
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [forged, ...SAME_ORIGIN_FETCH],
    })
    expect(answer.status).toBe(429)
  })

  it('cookies that cost nothing count nothing: foreign, malformed, dead or refused by the guard', async () => {
    const dead = cookieLine(await whole.signedIn('bob')).replace(
      /\*\d{13}\*/,
      `*${Date.now() - 90_000}*`,
    )
    for (let turn = 0; turn < FAILURES_MAX / 2; turn += 1)
      for (const lines of [
        [forged.replace(/=.*/s, '=x'), ...SAME_ORIGIN_FETCH],
        [forged.replace(/Fe26\.2\*\d+/, 'Fe26.2*1'), ...SAME_ORIGIN_FETCH],
        [dead, ...SAME_ORIGIN_FETCH],
        [forged, 'Sec-Fetch-Site: cross-site'],
      ])
        await rawRequest(whole.port, { target: '/bff/session', lines })
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH],
    })
    expect(answer.status).toBe(200)
  })

  it('RFC 7239 §8.1 forwarding fields of an untrusted peer name nobody else as the attacker', async () => {
    const forwarding = ['X-Forwarded-For: 127.0.0.2', 'Forwarded: for=127.0.0.2']
    await flood('/api/items', FAILURES_MAX, () => forwarding)
    expect(await fromElsewhere('/api/items', cookieLine(browser))).toBe(200)
  })

  it('a block that was earned is not left by sending forwarding fields', async () => {
    await flood('/api/items', FAILURES_MAX, () => [])
    const dressed = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [forged, ...SAME_ORIGIN_FETCH, 'X-Forwarded-For: 127.0.0.2'],
    })
    expect(dressed.status).toBe(429)
  })
})

describe('seals of a sign-in or sign-out under way', () => {
  beforeEach(() => start())

  it.each(['/bff/callback', '/bff/logged-out', '/bff/logout/continue'])(
    'count at %s as those of a session do',
    async (path) => {
      const visitor = whole.browser()
      await visitor.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
      const leaving = await whole.signedIn('bob')
      await leaving.fetch('/bff/logout', { method: 'POST' })
      const cookie = path === '/bff/callback' ? loginCookies(visitor)[0] : logoutCookie(leaving)
      const target = `${path}?code=x&state=0n${'a'.repeat(43)}`
      const ask = () =>
        rawRequest(whole.port, {
          target,
          lines: [
            `Cookie: ${cookie?.name}=${corrupted(cookie?.value ?? '')}`,
            ...navigation('same-origin'),
          ],
        })
      for (let turn = 0; turn < FAILURES_MAX; turn += 1) expect((await ask()).status).not.toBe(429)
      expect((await ask()).status).toBe(429)
      expect(await fromElsewhere('/api/items', cookieLine(browser))).toBe(200)
    },
  )

  it('answers that lead nowhere are held off as well: guessing states is no pastime', async () => {
    const ask = () =>
      rawRequest(whole.port, { target: `/bff/callback?code=x&state=0n${'a'.repeat(43)}` })
    for (let turn = 0; turn < FAILURES_MAX; turn += 1) expect((await ask()).status).toBe(400)
    expect((await ask()).status).toBe(429)
    expect(await fromElsewhere('/api/items', cookieLine(browser))).toBe(200)
  })
})

describe('behind a trusted proxy', () => {
  beforeEach(() => start({ COATCHECK_TRUSTED_PROXIES: '127.0.0.1' }))

  it('the address it names is the one held off, and what a client wrote left of it counts nothing', async () => {
    await flood('/api/items', FAILURES_MAX, (turn) => [
      `X-Forwarded-For: 198.51.100.${turn}, 203.0.113.9`,
    ])
    const ask = (forwardedFor: string) =>
      rawRequest(whole.port, {
        target: '/api/items',
        lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH, `X-Forwarded-For: ${forwardedFor}`],
      })
    expect((await ask('203.0.113.9')).status).toBe(429)
    expect((await ask('192.0.2.1, 203.0.113.9')).status).toBe(429)
    expect((await ask('203.0.113.10')).status).toBe(200)
    expect((await ask('203.0.113.9, 203.0.113.10')).status).toBe(200)
  })
})
