/** RFC 9457 and its neighbours: what the gateway refuses, in exact status, fields and words, to code and to people. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ERRORS, type ErrorCode } from '../../src/errors.ts'
import {
  cookieLine,
  navigation,
  type RawAnswer,
  type RawRequest,
  rawRequest,
  SAME_ORIGIN_FETCH,
} from '../hostile/raw-request.ts'
import { authorizationResponseFor, signInAtOnce } from '../hostile/sign-in-steps.ts'
import type { Browser } from '../support/browser.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { freePort } from '../support/free-port.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let provider: FakeProvider
let whole: WholeGateway
let browser: Browser
let endedCookie: string
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  const nobody = await freePort()
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
    file: ({ api }) => ({
      limits: { bodyBytes: '1KiB' },
      routes: [
        { path: '/down', upstream: `http://127.0.0.1:${nobody}` },
        { path: '/slow', upstream: api, timeout: { firstByte: '50ms' } },
        { path: '/read', upstream: api, methods: ['GET', 'HEAD'] },
        { path: '/read', upstream: api, methods: ['DELETE'] },
      ],
    }),
  })
  whole.api.answerWith(async ({ url }, response) => {
    if (!url.startsWith('/slow')) response.end('{}')
  })
  browser = whole.browser()
  await signInAtOnce(whole, browser)
  const leaving = whole.browser()
  await signInAtOnce(whole, leaving)
  endedCookie = cookieLine(leaving)
  await leaving.fetch('/bff/logout', { method: 'POST' })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

/** Comes in with every request, in each place that a careless page or document would repeat. */
const CANARY = 'c4n4ry'
const MARKUP = `${CANARY}'><script>alert(1)</script>`

interface Case {
  readonly code: ErrorCode
  readonly when: string
  readonly request: () => RawRequest | Promise<RawRequest>
  /** Fields beyond those that every refusal has. */
  readonly fields?: Readonly<Record<string, string | RegExp>>
}

const CHALLENGE = { 'www-authenticate': 'Cookie realm="coatcheck"' }

const CASES: readonly Case[] = [
  {
    code: 'session_required',
    when: 'no cookie',
    request: () => ({ target: '/api/x' }),
    fields: CHALLENGE,
  },
  {
    code: 'session_ended',
    when: 'the cookie of an ended session',
    request: () => ({ target: '/api/x', lines: [endedCookie] }),
    fields: CHALLENGE,
  },
  {
    code: 'csrf_rejected',
    when: 'an Origin of another site',
    request: () => ({ target: '/bff/session', lines: ['Origin: https://evil.example'] }),
  },
  {
    code: 'login_failed',
    when: 'an error answer',
    request: () => ({ target: `/bff/callback?error=${CANARY}&error_description=${CANARY}` }),
  },
  {
    code: 'route_not_found',
    when: 'no such endpoint',
    request: () => ({ target: `/bff/${CANARY}` }),
  },
  {
    code: 'logout_token_invalid',
    when: 'a form without a logout token',
    request: () => ({
      method: 'POST',
      target: '/bff/backchannel-logout',
      lines: ['Content-Type: application/x-www-form-urlencoded'],
      body: `x=${CANARY}`,
    }),
  },
  {
    code: 'session_not_found',
    when: 'a handle of nobody',
    request: () => ({
      method: 'DELETE',
      target: `/bff/sessions/${'A'.repeat(22)}`,
      lines: [cookieLine(browser)],
    }),
  },
  { code: 'route_not_found', when: 'no such path', request: () => ({ target: `/${CANARY}` }) },
  {
    code: 'method_not_allowed',
    when: 'an endpoint’s other methods',
    request: () => ({ method: 'PUT', target: '/bff/login' }),
    fields: { allow: 'GET, POST' },
  },
  {
    code: 'method_not_allowed',
    when: 'a route’s other methods',
    request: () => ({ method: 'POST', target: '/read/x' }),
    fields: { allow: /^(?=.*GET)(?=.*HEAD)(?=.*DELETE)/ },
  },
  {
    code: 'request_invalid',
    when: 'a dot segment',
    request: () => ({ target: `/api/${CANARY}/%2e%2e/x` }),
  },
  {
    code: 'request_invalid',
    when: 'a parameter twice',
    request: () => ({ target: `/bff/logged-out?state=${CANARY}&state=x` }),
  },
  {
    code: 'body_too_large',
    when: 'a body beyond the limit',
    request: () => ({
      method: 'POST',
      target: '/api/x',
      lines: [cookieLine(browser)],
      body: CANARY.repeat(1000),
    }),
  },
  {
    code: 'upstream_unreachable',
    when: 'nobody listens there',
    request: () => ({ target: `/down/${CANARY}`, lines: [cookieLine(browser)] }),
  },
  {
    code: 'upstream_timeout',
    when: 'the API is silent',
    request: () => ({ target: `/slow/${CANARY}`, lines: [cookieLine(browser)] }),
  },
  {
    code: 'provider_unavailable',
    when: 'the token endpoint is broken',
    request: async () => {
      const signingIn = whole.browser()
      const response = await authorizationResponseFor(whole, signingIn)
      provider.script('token', { status: 500, body: CANARY })
      return {
        target: `${response.pathname}${response.search}`,
        lines: [`Cookie: ${signingIn.jar.header(new URL(whole.url), 'strict')}`],
      }
    },
    fields: { 'retry-after': /^[1-9]\d*$/ },
  },
]

const reflecting = ({ lines = [], ...rest }: RawRequest, more: readonly string[]): RawRequest => ({
  ...rest,
  lines: [
    ...lines,
    ...more,
    `Referer: ${whole.url}/page`,
    `User-Agent: ${MARKUP}`,
    `X-Request-Id: ${CANARY}`,
    `X-Canary: ${MARKUP}`,
  ],
})

const expectFields = (answer: RawAnswer, { code, fields = {} }: Case) => {
  expect(answer.status).toBe(ERRORS[code].status)
  expect(answer.header('cache-control')).toBe('no-store')
  expect(answer.header('x-content-type-options')).toBe('nosniff')
  expect(answer.header('referrer-policy')).toBe('no-referrer')
  expect(answer.header('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
  for (const [name, value] of Object.entries(fields))
    expect([name, answer.header(name)]).toEqual([
      name,
      typeof value === 'string' ? value : expect.stringMatching(value),
    ])
  for (const name of ['www-authenticate', 'allow', 'retry-after'])
    if (!(name in fields)) expect([name, answer.header(name)]).toEqual([name, undefined])
  expect(answer.whole).not.toContain(CANARY)
  expect(answer.whole).not.toMatch(/<script|node_modules|\.ts:\d|ECONN|Error:/)
}

/** Headers that let the request through the guard, to where the refusal under test is. */
const sameOrigin = (one: Case, lines: readonly string[]) =>
  one.code === 'csrf_rejected' ? [] : lines

describe('RFC 9457 §3.1 code gets a problem document', () => {
  it.each(CASES)('$code: $when', async (one) => {
    const answer = await rawRequest(
      whole.port,
      reflecting(await one.request(), sameOrigin(one, SAME_ORIGIN_FETCH)),
    )
    provider.answerHonestly()
    const { code } = one
    const { status, title, detail, retryable, signIn } = ERRORS[code]
    expectFields(answer, one)
    expect(answer.header('content-type')).toBe('application/problem+json')
    const { login, ...document } = answer.json()
    expect(document).toEqual({
      type: `urn:coatcheck:problem:${code}`,
      title,
      status,
      code,
      detail,
      requestId: answer.header('x-request-id'),
      retryable,
      ...(code === 'csrf_rejected' ? { expectedOrigin: whole.url } : {}),
      ...(one.when === 'a parameter twice' ? { parameter: 'state' } : {}),
    })
    if (!signIn) expect(login).toBeUndefined()
    // It leads back to the page that asked, never to the call.
    else if (code === 'login_failed') expect(login).toBe('/bff/login')
    else expect(login).toBe('/bff/login?returnTo=%2Fpage')
  })

  it('navigation_required, where a page load was needed', async () => {
    const one: Case = {
      code: 'navigation_required',
      when: 'a fetch',
      request: () => ({ target: '/bff/login' }),
    }
    const answer = await rawRequest(whole.port, reflecting(await one.request(), SAME_ORIGIN_FETCH))
    expectFields(answer, one)
    expect(answer.json()).toMatchObject({ code: 'navigation_required', status: 400 })
  })
})

describe('RFC 9110 §12.5.1 a page load gets a page of the same status and code', () => {
  it.each(CASES)('$code: $when', async (one) => {
    const site = sameOrigin(one, navigation('same-origin'))
    const answer = await rawRequest(
      whole.port,
      reflecting(await one.request(), site.length === 0 ? ['Accept: text/html'] : site),
    )
    provider.answerHonestly()
    expectFields(answer, one)
    expect(answer.header('content-type')).toBe('text/html; charset=utf-8')
    const policy = answer.header('content-security-policy') ?? ''
    for (const directive of [
      "default-src 'none'",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "object-src 'none'",
    ])
      expect(policy.split('; ')).toContain(directive)
    expect(policy).not.toMatch(/unsafe|script-src|\*/)
    expect(answer.header('cross-origin-opener-policy')).toBe('same-origin')
    const { code } = one
    expect(answer.text).toContain(`<dd>${code}</dd>`)
    expect(answer.text).toContain(`<dd>${ERRORS[code].status}</dd>`)
    expect(answer.text).toContain(`<dd>${answer.header('x-request-id')}</dd>`)
    expect(answer.text.includes('href="/bff/login')).toBe(ERRORS[code].signIn)
    expect(answer.text).not.toMatch(/<(?:script|form|iframe|img|link)/)
  })
})

describe('the same refusals without a body', () => {
  it('RFC 9110 §9.3.2 HEAD gets status and fields alone', async () => {
    const answer = await rawRequest(whole.port, { method: 'HEAD', target: '/api/x' })
    expect([answer.status, answer.text]).toEqual([401, ''])
    expect(answer.header('www-authenticate')).toBe('Cookie realm="coatcheck"')
    expect(Number(answer.header('content-length'))).toBeGreaterThan(0)
  })
})

it('RFC 9457 §3.1 every public code is reached by a test of the whole gateway', () => {
  /** Where else: they need a life of their own. */
  const ELSEWHERE: readonly ErrorCode[] = [
    'bearer_invalid', // test/flow/administration.test.ts
    'session_expired', // session-lifetimes.test.ts
    'sign_in_refused', // test/flow/proxy.test.ts
    'rate_limited', // test/hostile/forged-seals.test.ts
    'https_required', // https-only.test.ts
    'too_many_web_sockets', // test/flow/web-sockets.test.ts
    'upstream_busy', // test/flow/upstream-limits.test.ts
    'url_too_long', // test/hostile/oversized-requests.test.ts
    'headers_too_large', // the same
    'request_timeout', // test/edges/http/listener.test.ts, like the following
    'expectation_failed',
    'upgrade_required',
    'coding_not_implemented',
    'version_not_supported',
    'gateway_stopping',
    'gateway_not_serving', // test/flow/embedding.test.ts
    'store_unavailable', // test/hostile/outages.test.ts
    'navigation_required', // above
    'internal', // nothing that a client can do leads there
  ]
  const reached = new Set([...CASES.map(({ code }) => code), ...ELSEWHERE])
  expect([...reached].sort()).toEqual(Object.keys(ERRORS).sort())
})

it('RFC 9112 §4 a refused handshake has the status line of any other refusal', async () => {
  const answer = await rawRequest(whole.port, {
    target: '/no-socket',
    lines: [
      ...['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ],
  })
  expect(answer.whole.split('\r\n')[0]).toBe('HTTP/1.1 404 Not Found')
  expect(answer.json()).toMatchObject({ code: 'route_not_found', status: 404 })
})
