/**
 * Attack: make the victim's browser sign in, unseen or as somebody else: by forms and images of another site, by
 * speculative loads, by the attacker's own authorization response, or by an authorization request in the attacker's
 * words. The provider's records show whether anything was begun or spent.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { loginCookies, sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { authorizationResponseFor } from './sign-in-steps.ts'

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
  })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

describe('RFC 10017 §6.1.2.1 what is no page load begins no sign-in', () => {
  it.each([
    [
      'an image',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'],
    ],
    [
      'a frame',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    [
      'an object',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: object'],
    ],
    [
      'a script',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: script'],
    ],
    ['a fetch', SAME_ORIGIN_FETCH],
    [
      'a service worker’s navigation preload',
      ['Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: empty'],
    ],
    ['a prefetch', [...navigation('same-origin'), 'Sec-Purpose: prefetch']],
    ['a prerendering', [...navigation('none'), 'Sec-Purpose: prefetch;prerender']],
    ['an old prefetch', [...navigation('none'), 'Purpose: prefetch']],
    ['a tool that asks for anything', ['Accept: */*']],
    ['a tool that says nothing', []],
    ['a page load by half', ['Sec-Fetch-Mode: navigate', 'Accept: text/html']],
  ])('%s', async (_, lines) => {
    const answer = await rawRequest(whole.port, { target: '/bff/login', lines })
    expect(answer.status).toBe(400)
    expect(answer.json()).toMatchObject({ code: 'navigation_required', status: 400 })
    expect(answer.headerLines('set-cookie')).toEqual([])
    expect(answer.header('location')).toBeUndefined()
  })

  it('HEAD begins none either', async () => {
    const answer = await rawRequest(whole.port, {
      method: 'HEAD',
      target: '/bff/login',
      lines: navigation('none'),
    })
    expect([answer.status, answer.header('allow')]).toEqual([405, 'GET, POST'])
    expect(answer.headerLines('set-cookie')).toEqual([])
  })
})

describe('a sign-in begun by another site', () => {
  it('by a form is refused, whatever its body looks like', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/json',
    ]) {
      const answer = await rawRequest(whole.port, {
        method: 'POST',
        target: '/bff/login',
        lines: [
          ...navigation('cross-site'),
          'Origin: https://evil.example',
          `Content-Type: ${type}`,
        ],
        body: '{"returnTo":"/x","a":"="}',
      })
      expect(answer.status).toBe(403)
      expect(answer.headerLines('set-cookie')).toEqual([])
    }
  })

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'application/jsonx', ''])(
    'even on our own origin a body of type “%s” is no JSON',
    async (type) => {
      const answer = await rawRequest(whole.port, {
        method: 'POST',
        target: '/bff/login',
        lines: [...SAME_ORIGIN_FETCH, ...(type === '' ? [] : [`Content-Type: ${type}`])],
        body: '{"returnTo":"/x","a":"="}',
      })
      expect(answer.status).toBe(400)
      expect(answer.json()).toMatchObject({ code: 'request_invalid' })
    },
  )

  it.each(['cross-site', 'same-site'] as const)(
    'by a %s link meets our own page first, and nothing is begun by it',
    async (site) => {
      const answer = await rawRequest(whole.port, {
        target: '/bff/login?returnTo=/x',
        lines: navigation(site),
      })
      expect(answer.status).toBe(200)
      expect(answer.text).toContain('content="0;url=/bff/login?returnTo=/x"')
      expect(answer.headerLines('set-cookie')).toEqual([])
    },
  )

  it('the page on the way reflects nothing that a browser would run', async () => {
    const answer = await rawRequest(whole.port, {
      target: "/bff/login?x='><script>alert(1)</script>&<",
      lines: navigation('cross-site'),
    })
    expect(answer.status).toBe(200)
    expect(answer.text).toContain('?x=&#39;&gt;&lt;script&gt;')
    expect(answer.text).not.toContain('<script')
    expect(answer.header('content-security-policy')).toContain("default-src 'none'")
  })
})

describe('OIDC Core §4 the caller cannot put words into the authorization request', () => {
  it('only the listed parameters pass, and ours win', async () => {
    const hostile = new URLSearchParams({
      returnTo: '/x',
      login_hint: 'alice',
      scope: 'openid admin',
      redirect_uri: 'https://evil.example/cb',
      client_id: 'evil',
      response_type: 'token',
      response_mode: 'fragment',
      state: 'chosen',
      nonce: 'chosen',
      code_challenge: 'chosen',
      code_challenge_method: 'plain',
      request: 'eyJ',
      request_uri: 'https://evil.example/r',
      resource: 'urn:evil',
      audience: 'urn:evil',
      claims: '{}',
      registration: '{}',
      iss: 'https://evil.example',
      target_link_uri: 'https://evil.example/',
      authorization_details: '[]',
      ['__proto__']: 'x',
      constructor: 'x',
    })
    const answer = await rawRequest(whole.port, {
      target: `/bff/login?${hostile}`,
      lines: navigation('none'),
    })
    const url = new URL(answer.header('location') ?? '')
    expect(Object.fromEntries(url.searchParams)).toEqual({
      client_id: CLIENT_ID,
      response_type: 'code',
      redirect_uri: `${whole.url}/bff/callback`,
      scope: 'openid profile email offline_access',
      state: expect.stringMatching(/^0n[\w-]{43}$/),
      nonce: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      code_challenge_method: 'S256',
      login_hint: 'alice',
    })
  })

  it('RFC 9700 §2.1.1 state, nonce and challenge are new in every one of 50', async () => {
    const seen = { state: new Set(), nonce: new Set(), code_challenge: new Set() }
    for (let turn = 0; turn < 50; turn += 1) {
      const answer = await rawRequest(whole.port, {
        target: '/bff/login',
        lines: navigation('none'),
      })
      const { searchParams } = new URL(answer.header('location') ?? '')
      for (const [name, values] of Object.entries(seen)) values.add(searchParams.get(name))
    }
    for (const values of Object.values(seen)) expect(values.size).toBe(50)
  })
})

describe('RFC 9700 §4.5 the attacker’s authorization response in the victim’s browser', () => {
  const tokenRequests = () => provider.requestsTo('token').length
  /** Goes there as by a link on the attacker's page, to the end of all redirects. */
  const lure = (victim: Browser, url: string) =>
    victim.navigate(url, { from: 'http://127.0.0.1:1/', redirect: 'manual' })

  it('makes no token call and no session, whatever else the victim has begun', async () => {
    const attackers = await authorizationResponseFor(whole, whole.browser())
    const victim = whole.browser()
    await authorizationResponseFor(whole, victim)
    const before = tokenRequests()
    await lure(victim, attackers.href)
    expect(tokenRequests()).toBe(before)
    expect(sessionCookie(victim)).toBeUndefined()
  })

  it('RFC 7636 §4.6 its code under the victim’s own state fails at the provider', async () => {
    const attackers = await authorizationResponseFor(whole, whole.browser())
    const victim = whole.browser()
    const own = await authorizationResponseFor(whole, victim)
    own.searchParams.set('code', attackers.searchParams.get('code') ?? '')
    const answer = await lure(victim, own.href)
    expect(answer.status).toBe(400)
    expect(answer.text).toContain('login_failed')
    expect(sessionCookie(victim)).toBeUndefined()
    // The transaction is spent: the victim's own code cannot follow it.
    expect(loginCookies(victim)).toEqual([])
  })

  it('the attacker’s transaction under another name, or beside the victim’s, opens nothing', async () => {
    const attacker = whole.browser()
    const attackers = await authorizationResponseFor(whole, attacker)
    const planted = loginCookies(attacker)[0]
    const victim = whole.browser()
    const victims = await authorizationResponseFor(whole, victim)
    const own = loginCookies(victim)[0]
    const before = tokenRequests()
    for (const cookies of [
      `${own?.name}=${planted?.value}`,
      `${own?.name}=${own?.value}; ${own?.name}=${planted?.value}`,
      `${own?.name}=${planted?.value}; ${own?.name}=${own?.value}`,
    ]) {
      const answer = await rawRequest(whole.port, {
        target: `${victims.pathname}${victims.search}`,
        lines: [...navigation('same-origin'), `Cookie: ${cookies}`],
      })
      // Begun anew, by a transaction of its own.
      expect([answer.status, new URL(answer.header('location') ?? '').origin]).toEqual([
        303,
        provider.issuer,
      ])
    }
    expect(attackers.searchParams.get('state')).not.toBe(victims.searchParams.get('state'))
    expect(tokenRequests()).toBe(before)
  })
})
