/**
 * Attack: with a live session, the client adds fields that tell the API who is calling, or nominates the gateway's
 * own fields in `Connection` so that they are dropped on the way. The other files of that name have the tables for
 * the data plane; here the whole gateway is asked, and what counts is that the API sees one credential, the
 * session's, whatever else was sent.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { answerJson } from '../support/upstream-api.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let whole: WholeGateway
let browser: Browser
let bearer: string
beforeAll(async () => {
  whole = await startWholeGateway({
    file: ({ api }) => ({
      routes: [{ path: '/public', upstream: api, accept: ['session', 'anonymous'] }],
    }),
  })
  browser = await whole.signedIn()
  await browser.fetch('/api/items')
  bearer = whole.api.requests[0]?.header('authorization') ?? ''
  expect(bearer).toMatch(/^Bearer ey/)
})
afterAll(() => whole.close())
beforeEach(() => whole.api.forgetRequests())

const seenWith = async (lines: readonly string[], target = '/api/items') => {
  const answer = await rawRequest(whole.port, {
    target,
    lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH, ...lines],
  })
  expect([lines, answer.status]).toEqual([lines, 200])
  const seen = whole.api.requests.at(-1)
  if (seen === undefined) throw new Error('nothing reached the API')
  return seen
}

describe('RFC 10017 §6.1.1 the API sees the session’s credential and no other', () => {
  it.each([
    ['a Bearer token', ['Authorization: Bearer attackers']],
    ['two Bearer tokens', ['Authorization: Bearer one', 'authorization: Bearer two']],
    ['Basic', ['Authorization: Basic YWRtaW46YWRtaW4=']],
    ['DPoP', ['Authorization: DPoP x', 'DPoP: eyJ']],
    ['an underscore', ['Authorization_: Bearer x', '_Authorization: Bearer x']],
    ['a proxy’s', ['Proxy-Authorization: Basic YTpi']],
    ['a key', ['X-API-Key: k', 'Api-Key: k', 'X_API_KEY: k']],
    ['an access token of its own', ['X-Access-Token: x', 'X-Forwarded-Access-Token: x']],
  ])('beside %s', async (_, lines) => {
    const seen = await seenWith(lines)
    expect(seen.headerLines('authorization')).toEqual([bearer])
    const said = seen.rawHeaders.join('\n')
    expect(said).not.toMatch(
      /attackers|Bearer (?:one|two|x)|YWRtaW4|DPoP|YTpi|api.?key|access.token/i,
    )
  })

  it('a client that has only a Bearer token has nothing here: no 200, no call', async () => {
    for (const line of [
      'Authorization: Bearer x',
      'Authorization: Basic YTpi',
      `Authorization: ${bearer}`,
    ]) {
      const answer = await rawRequest(whole.port, { target: '/api/items', lines: [line] })
      expect([answer.status, answer.json().code]).toEqual([401, 'session_required'])
    }
    expect(whole.api.requests).toEqual([])
  })

  it('a route that takes anyone gets no credential that the client made up', async () => {
    const answer = await rawRequest(whole.port, {
      target: '/public/x',
      lines: ['Authorization: Bearer attackers', 'X-User: root', 'Sec-Fetch-Site: cross-site'],
    })
    expect(answer.status).toBe(200)
    expect(whole.api.requests[0]?.headerLines('authorization')).toEqual([])
    expect(whole.api.requests[0]?.headerLines('x-user')).toEqual([])
    expect((await seenWith([], '/public/x')).headerLines('authorization')).toEqual([bearer])
  })
})

describe('RFC 9110 §7.6.1 Connection cannot take away what the gateway says', () => {
  it.each([
    'authorization',
    'Authorization, Cookie',
    'x-forwarded-for, x-forwarded-host, x-forwarded-proto, forwarded',
    'host',
    'via, x-request-id',
    'content-length, transfer-encoding',
    'close, authorization',
    'Authorization;q=1, "authorization"',
    'keep-alive, te, connection, AUTHORIZATION',
  ])('%s', async (nominated) => {
    const seen = await seenWith([`Connection: close, ${nominated}`, 'X-Forwarded-For: 203.0.113.9'])
    expect(seen.headerLines('authorization')).toEqual([bearer])
    expect(seen.header('host')).toBe(new URL(whole.api.url).host)
    expect(seen.header('x-forwarded-for')).toBe('127.0.0.1')
    expect(seen.header('forwarded')).toContain('for=127.0.0.1')
    expect(seen.header('via')).toMatch(/^1\.1 coatcheck/)
    expect(seen.header('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(seen.headerLines('cookie')).toEqual([])
  })

  it('nor does it keep the guard from reading: the nominated field still counts', async () => {
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [
        cookieLine(browser),
        'Sec-Fetch-Site: cross-site',
        'X-CSRF: 1',
        'Connection: close, sec-fetch-site, origin, cookie',
      ],
    })
    expect(answer.status).toBe(403)
    expect(whole.api.requests).toEqual([])
  })
})

describe('RFC 9700 §4.13 who, from where and by which method is not for the client to say', () => {
  it.each([
    'Forwarded: for=203.0.113.9;host=evil.example;proto=https',
    'X-Forwarded-For: 203.0.113.9',
    'X_Forwarded_For: 203.0.113.9',
    'X-Forwarded-Host: evil.example',
    'X-Forwarded-User: root',
    'X-Real-IP: 203.0.113.9',
    'X-Real_IP: 203.0.113.9',
    'True-Client-IP: 203.0.113.9',
    'X-User-Id: root',
    'Remote-User: root',
    'X-Request-Id: forged-1',
    'X-HTTP-Method-Override: DELETE',
    'X-HTTP-Method: DELETE',
    'X-Method-Override: DELETE',
    'X-Original-URL: /admin',
    'X-Forwarded-Uri: /admin',
    'Proxy: http://evil.example',
    'Client-Cert: :AAAA:',
    'X-Forwarded-Client-Cert: By=root',
  ])('%s', async (line) => {
    const seen = await seenWith([line])
    expect(seen.method).toBe('GET')
    expect(seen.rawHeaders.join('\n')).not.toMatch(
      /203\.0\.113\.9|evil|root|forged|DELETE|admin|AAAA/,
    )
  })
})

describe('what the API says is said on the application’s origin', () => {
  it('RFC 6265bis §8.6 its cookies are dropped, ours above all', async () => {
    whole.api.answerWith(
      answerJson({}, 200, {
        'set-cookie': [
          `__Host-Http-coatcheck-${whole.port}=planted; Path=/; Secure; HttpOnly`,
          `__Host-Http-coatcheck-login-0-${whole.port}=planted; Path=/; Secure`,
          'theme=dark; Domain=localhost',
        ],
        'clear-site-data': '"*"',
        'strict-transport-security': 'max-age=1',
        'www-authenticate': 'Basic realm="internal"',
        server: 'internal/1.2',
        'x-powered-by': 'internal',
      }),
    )
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH],
    })
    whole.api.answerWith(answerJson({ ok: true }))
    expect(answer.headerLines('set-cookie')).toEqual([])
    expect(answer.header('cache-control')).toBe('private, no-store')
    expect(answer.whole).not.toMatch(/planted|internal|clear-site-data|max-age/i)
  })
})
