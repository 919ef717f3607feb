/**
 * Attack: a page of another site signs the victim out, by an image, a form, a frame or a link, with and without a
 * token; or a page of our own is made to by a prefetch. After each the same cookie still opens the session.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let whole: WholeGateway
let victim: Browser
let own: string
let foreign: string
beforeAll(async () => {
  whole = await startWholeGateway()
  victim = await whole.signedIn()
  own = await tokenOf(victim)
  foreign = await tokenOf(await whole.signedIn('bob'))
})
afterAll(() => whole.close())

const tokenOf = async (browser: Browser): Promise<string> => {
  const { links } = (await browser.fetch('/bff/session')).json() as { links: { logout: string } }
  return new URL(links.logout, whole.url).searchParams.get('token') ?? ''
}

const expectAlive = async () =>
  expect((await victim.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })

const ask = (method: string, target: string, lines: readonly string[], body?: string) =>
  rawRequest(whole.port, {
    method,
    target,
    lines: [cookieLine(victim), ...lines],
    ...(body === undefined ? {} : { body }),
  })

describe('RFC 10017 §6.1.2.1 another site cannot sign a user out', () => {
  it.each([
    [
      'an image',
      'GET',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'],
    ],
    [
      'a frame',
      'GET',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    ['a link', 'GET', navigation('cross-site')],
    ['a sibling’s link', 'GET', navigation('same-site')],
    ['a form', 'POST', [...navigation('cross-site'), 'Origin: https://evil.example']],
    ['a sandboxed form', 'POST', [...navigation('cross-site'), 'Origin: null']],
    ['a fetch', 'POST', ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Origin: null']],
    ['an old browser’s form', 'POST', ['Origin: https://evil.example', 'Accept: text/html']],
    ['an old browser’s image', 'GET', []],
    ['an old browser’s link', 'GET', ['Accept: text/html']],
  ])('by %s, even with the right token', async (_, method, lines) => {
    for (const target of ['/bff/logout', `/bff/logout?token=${own}`]) {
      const answer = await ask(method, target, lines)
      expect(answer.status).toBe(403)
      expect(answer.headerLines('set-cookie')).toEqual([])
    }
    await expectAlive()
  })

  it('OIDC RP-Initiated Logout §3 the landing and the way to the provider end nothing', async () => {
    for (const target of ['/bff/logged-out', '/bff/logged-out?state=x']) {
      const answer = await ask('GET', target, navigation('cross-site'))
      expect([answer.status, answer.headerLines('set-cookie')]).toEqual([303, []])
    }
    expect((await ask('GET', '/bff/logout/continue', navigation('cross-site'))).status).toBe(403)
    await expectAlive()
  })
})

describe('the link from /session', () => {
  it.each([
    ['no token', ''],
    ['an empty token', '?token='],
    ['a guess', '?token=AAAA'],
    ['a token of the right length', `?token=${'A'.repeat(43)}`],
  ])('with %s ends nothing', async (_, query) => {
    for (const site of ['none', 'same-origin'] as const) {
      const answer = await ask('GET', `/bff/logout${query}`, navigation(site))
      expect(answer.status).toBe(403)
      expect(answer.text).toContain('csrf_rejected')
    }
    await expectAlive()
  })

  it('with the token of another session, or with two tokens, ends nothing', async () => {
    expect((await ask('GET', `/bff/logout?token=${foreign}`, navigation('none'))).status).toBe(403)
    const twice = await ask('GET', `/bff/logout?token=${own}&token=${own}`, navigation('none'))
    expect(twice.status).toBe(400)
    await expectAlive()
  })

  it.each([
    ['fetched', SAME_ORIGIN_FETCH],
    ['prefetched by <link rel=prefetch>', [...SAME_ORIGIN_FETCH, 'Sec-Purpose: prefetch']],
    ['prefetched by speculation rules', [...navigation('same-origin'), 'Sec-Purpose: prefetch']],
    [
      'framed',
      ['Sec-Fetch-Site: same-origin', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    [
      'an image',
      ['Sec-Fetch-Site: same-origin', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'],
    ],
  ])('with the right token, %s, ends nothing', async (_, lines) => {
    const answer = await ask('GET', `/bff/logout?token=${own}`, lines)
    expect([answer.status, answer.json().code]).toEqual([400, 'navigation_required'])
    await expectAlive()
  })

  it('with HEAD, or a method in a header, ends nothing', async () => {
    expect((await ask('HEAD', `/bff/logout?token=${own}`, navigation('none'))).status).toBe(405)
    const override = await ask('GET', '/bff/session', [
      ...SAME_ORIGIN_FETCH,
      'X-HTTP-Method-Override: DELETE',
      'X-HTTP-Method: POST',
      'X-Original-URL: /bff/logout',
    ])
    expect(override.json()).toMatchObject({ authenticated: true })
    await expectAlive()
  })

  it.each(['text/plain', 'multipart/form-data; boundary=x'])(
    'a POST of our own page ends it, and a body of type %s has no say in where it leads',
    async (type) => {
      const browser = await whole.signedIn()
      const answer = await rawRequest(whole.port, {
        method: 'POST',
        target: '/bff/logout',
        lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH, `Content-Type: ${type}`],
        body: '{"returnTo":"/x"}',
      })
      expect([answer.status, answer.json()]).toEqual([200, { redirectTo: '/bff/logout/continue' }])
    },
  )
})
