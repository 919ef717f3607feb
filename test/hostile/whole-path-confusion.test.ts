/**
 * Attack: a path that the gateway reads as harmless and somebody behind it as something else, or the reverse: its own
 * endpoints in other spellings, so that a guard is missed or a route catches them; targets and Host fields that name
 * other hosts. path-confusion.test.ts has the table for the data plane; here the whole gateway answers, with a live
 * session, a catch-all route and raw request lines.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let whole: WholeGateway
let browser: Browser
beforeAll(async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: undefined },
    file: ({ api }) => ({ routes: ['/', '/api', '/x'].map((path) => ({ path, upstream: api })) }),
  })
  browser = await whole.signedIn()
})
afterAll(() => whole.close())
beforeEach(() => whole.api.forgetRequests())

const ask = (target: string, lines: readonly string[] = SAME_ORIGIN_FETCH, method = 'GET') =>
  rawRequest(whole.port, { method, target, lines: [cookieLine(browser), ...lines] })

describe('RFC 10017 §6.1.3.6 a target that two parsers could read differently', () => {
  it.each([
    '/api/../bff/session',
    '/bff/../api/items',
    '/bff/..;/api/items',
    '/api/..;x=y/bff/session',
    '/api/%2e%2e/bff/session',
    '/api/.%2e/bff/session',
    '/api/%252e%252e/bff/session',
    '/api/%25252e%25252e/bff/session',
    '/api/..%2fbff/session',
    '/api/..%5cbff/session',
    '/api\\..\\bff/session',
    '/api/%5c..%5cbff',
    '/bff%2fsession',
    '/bff%2Flogout',
    '/bff%252fsession',
    '/bff%5csession',
    '/bff\\session',
    '/bff/session%00',
    '/bff/session%0d%0aX: y',
    '/bff/session%0a',
    '/bff/%c0%ae%c0%ae/api',
    '/bff/%e0%80%af',
    '//bff/session',
    '//evil.example/bff/session',
    '/\\evil.example',
    '/.//evil.example',
    '/./bff/session',
    '/bff/./session',
    '/bff/session#fragment',
    '/bff/%',
    '/bff/%zz',
    '/bff/session\tx',
    'bff/session',
    '*',
    '?x',
    'localhost:80',
    'http://localhost@evil.example/bff/session',
    'http://evil.example\\@localhost/bff/session',
    'http:///bff/session',
    'http:/bff/session',
    'https:evil.example/api',
    'ftp://localhost/bff/session',
    'file:///etc/passwd',
    'javascript:alert(1)',
  ])('%s is refused and goes nowhere', async (target) => {
    for (const method of ['GET', 'POST', 'OPTIONS']) {
      const answer = await ask(target, SAME_ORIGIN_FETCH, method)
      expect([method, answer.status]).toEqual([method, 400])
      expect(answer.headerLines('set-cookie')).toEqual([])
      expect(answer.header('location')).toBeUndefined()
    }
    expect(whole.api.requests).toEqual([])
  })
})

describe('RFC 3986 §6.2.2.2 the gateway’s endpoints in other spellings', () => {
  it.each(['/%62ff/session', '/b%66%66/session', '/bff/%73ession', '/%62%66%66/%73%65%73sion'])(
    '%s is the endpoint itself, its guard included',
    async (target) => {
      expect((await ask(target)).json()).toMatchObject({ authenticated: true })
      const refused = await ask(target, ['Sec-Fetch-Site: cross-site'])
      expect([refused.status, refused.json().code]).toEqual([403, 'csrf_rejected'])
      expect(whole.api.requests).toEqual([])
    },
  )

  it.each([
    '/bff',
    '/bff/',
    '/bff/session/',
    '/bff//session',
    '/bff/session;x=y',
    '/bff/session/x',
    '/bff/SESSION',
    '/bff/sessions/',
    '/bff/sessions/x/y',
    '/bff/SESSIONS',
    '/bff/events/',
    '/bff/EVENTS',
    '/bff/admin',
    '/bff/callbackx',
    '/bff/%73ession%2541',
    '/%62ff/nothing',
    '/bff/*',
    '/bff/:path',
    '/bff/__proto__',
    '/bff/constructor',
    '/bff/session%20',
    '/bff/session%3f',
    '/bff/session.json',
  ])('%s is no endpoint and no route of the catch-all either', async (target) => {
    for (const method of ['GET', 'POST', 'DELETE']) {
      const answer = await ask(target, SAME_ORIGIN_FETCH, method)
      expect([method, answer.status, answer.json().code]).toEqual([method, 404, 'route_not_found'])
    }
    expect(whole.api.requests).toEqual([])
  })

  it.each(['/BFF/session', '/Bff/logout', '/bffx/session', '/bff;x/session', '/bff%3bx/session'])(
    '%s belongs to the route, with a guard of its own',
    async (target) => {
      const refused = await ask(target, ['Sec-Fetch-Site: cross-site'])
      expect(refused.status).toBe(403)
      expect(whole.api.requests).toEqual([])
    },
  )
})

describe('routes that lie in one another', () => {
  it.each(['/x;y/items', '/X/items', '/API/items', '/Api', '/api;v=1/items', '/%61pi;/x'])(
    '%s, which another parser would give to a route below, is served by none',
    async (target) => {
      const answer = await ask(target)
      expect([answer.status, answer.json().code]).toEqual([404, 'route_not_found'])
      expect(whole.api.requests).toEqual([])
    },
  )

  it('RFC 9110 §7.7 what is accepted reaches the API byte for byte', async () => {
    for (const target of [
      '/api/a%20b?x=%2F..%2F&y=//evil&z=%00',
      '/api/%7Euser/%c3%a9',
      '/%61pi/items',
      '/api?',
      '/api/caf%25C3',
      '/api/a:b@c',
    ]) {
      whole.api.forgetRequests()
      expect([target, (await ask(target)).status]).toEqual([target, 200])
      expect(whole.api.requests[0]?.url).toBe(target)
    }
  })
})

describe('RFC 9112 §3.2.2 the authority of an absolute-form target', () => {
  it.each([
    'http://evil.example',
    'https://evil.example:444',
    'HTTP://evil.example',
    'http://[::1]',
  ])('%s chooses nothing: not the upstream, not a redirect', async (authority) => {
    const proxied = await ask(`${authority}/api/items?x=1`)
    expect(proxied.status).toBe(200)
    expect(whole.api.requests[0]?.url).toBe('/api/items?x=1')
    expect(whole.api.requests[0]?.header('host')).toBe(new URL(whole.api.url).host)
    const login = await ask(`${authority}/bff/login`, navigation('none'))
    expect(new URL(login.header('location') ?? '').origin).toBe(whole.provider.issuer)
    expect((await ask(`${authority}/bff/session`)).json()).toMatchObject({ authenticated: true })
  })
})

describe('nothing is built from Host or what speaks for it', () => {
  const FORGED = [
    ['Host: evil.example'],
    ['Host: evil.example:80'],
    ['Host: localhost.evil.example'],
    ['Host: localhost:99999'],
    ['Host: [:::::]'],
    ['Host: ..'],
    ['X-Forwarded-Host: evil.example', 'X-Forwarded-Proto: https', 'X-Forwarded-Port: 1'],
    ['Forwarded: host=evil.example;proto=https'],
    ['X-Original-URL: /bff/logout', 'X-Rewrite-URL: /admin'],
    ['X-Forwarded-Prefix: //evil.example', 'X-Forwarded-Uri: /x'],
  ]

  it.each(FORGED)('%s …', async (...lines) => {
    const login = await ask('/bff/login', [...navigation('none'), ...lines])
    expect(new URL(login.header('location') ?? '').origin).toBe(whole.provider.issuer)
    const session = await ask('/bff/session', [...SAME_ORIGIN_FETCH, ...lines])
    expect(session.json()).toMatchObject({ authenticated: true })
    const proxied = await ask('/api/items', [...SAME_ORIGIN_FETCH, ...lines])
    expect(proxied.status).toBe(200)
    const seen = whole.api.requests[0]
    expect(seen?.url).toBe('/api/items')
    expect(seen?.header('x-forwarded-host')).toBe(new URL(whole.url).host)
    expect(seen?.header('x-forwarded-proto')).toBe('http')
    const unknown = await ask('/bff/nothing', [...navigation('none'), ...lines])
    for (const answer of [login, session, proxied, unknown])
      expect(answer.whole).not.toContain('evil.example')
  })

  it.each([
    ['two Host fields', ['Host: localhost', 'Host: evil.example']],
    ['a Host with a path', ['Host: localhost/x']],
    ['a Host with user information', ['Host: x@localhost']],
    ['a Host with a space', ['Host: local host']],
    ['a Host in percent encoding', ['Host: localhost%2f.evil.example']],
    ['an empty Host', ['Host:']],
  ])('RFC 9112 §3.2 %s is refused', async (_, lines) => {
    for (const target of ['/bff/session', '/api/items', 'http://localhost/api/items'])
      expect([target, (await ask(target, [...SAME_ORIGIN_FETCH, ...lines])).status]).toEqual([
        target,
        400,
      ])
    expect(whole.api.requests).toEqual([])
  })
})

describe('RFC 9110 §9.3 methods that are never forwarded', () => {
  it.each(['TRACE', 'CONNECT'])('%s', async (method) => {
    const answer = await ask('/api/items', SAME_ORIGIN_FETCH, method)
    expect(answer.status).toBe(405)
    expect(answer.whole).not.toContain(cookieLine(browser).slice(-40))
    expect(whole.api.requests).toEqual([])
  })
})
