/**
 * Attack: a link to the victim's own application whose `returnTo` leads to the attacker's site, in every spelling
 * that one parser reads as a path and another as a host. The test browser's URL parser stands for the victim's: the
 * gateway's own `Location` must resolve to its own origin, whatever was asked.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { logoutCookie } from '../support/cookies.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { rawRequest } from './raw-request.ts'

let whole: WholeGateway
/** At the provider the user is signed in already, so that each sign-in is one chain of redirects. */
let browser: Browser
beforeAll(async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SPA: 'fixtures/spa' } })
  browser = await whole.signedIn()
})
afterAll(() => whole.close())

const ELSEWHERE = [
  'https://evil.example/',
  'http://evil.example/',
  'HTTPS://evil.example',
  'https:evil.example',
  'https:/evil.example',
  'https:\\\\evil.example',
  '//evil.example/',
  '///evil.example/',
  '////evil.example',
  '/\\evil.example/',
  '/a\\evil.example',
  '\\/evil.example/',
  '\\\\evil.example',
  '/\t/evil.example',
  '/%09/evil.example',
  '/\n/evil.example',
  '/\r\n/evil.example',
  '\t//evil.example',
  ' //evil.example',
  '\u00a0//evil.example',
  '/%2f/evil.example',
  '/%2F%2Fevil.example',
  '/%5cevil.example',
  '/%5C/evil.example',
  '/./\\evil.example',
  '/.//evil.example',
  '/..//evil.example',
  '/a/..//evil.example',
  '/%2e//evil.example',
  '/%2e%2e//evil.example',
  '/a/%2e%2e//evil.example',
  '/\u0000/evil.example',
  '//evil\u3002example',
  '//localhost@evil.example/',
  '@evil.example',
  ':80@evil.example',
  'evil.example',
  '?//evil.example',
  '#//evil.example',
  'javascript:alert(1)',
  'java\tscript:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  'vbscript:x',
  'blob:https://evil.example/1',
  'http://localhost.evil.example/',
  'http://localhost@evil.example/',
  '\ud800',
  `/${'a'.repeat(512)}`,
]

const withOrigin = (origin: string) => [
  `${origin}@evil.example/`,
  `${origin}.evil.example/`,
  `${origin}//evil.example/`,
  `${origin}/\\evil.example/`,
  `${origin.replace('localhost', 'LOCALHOST')}//evil.example`,
  `//localhost@evil.example:80/`,
  `${origin}1/`,
]

/** Its own endpoints are no place to be led to: the chain would go on in the attacker's words. */
const OWN_ENDPOINTS = [
  '/bff',
  '/bff/login?returnTo=/x&prompt=login',
  '/bff/logout?token=x',
  '/bff/logout/continue',
  '/bff/callback?code=x&state=y',
  '/x/../bff/login',
  '/./bff/login',
  '/x/%2e%2e/bff/login',
  '/%62ff/login?prompt=login',
  '/b%66f/login',
  '/%62%66%66/logout',
]

/** Where the gateway itself sends the browser after `start`, having been at the provider. */
const landingAfter = async (start: string): Promise<string> => {
  const landed = await browser.navigate(start)
  const callback = landed.chain.find((step) => new URL(step.url).pathname === '/bff/callback')
  if (callback === undefined) throw new Error(`no callback: ${landed.url} ${landed.status}`)
  expect(callback.status).toBe(303)
  return callback.header('location') ?? ''
}

describe('RFC 9700 §4.11.1 sign-in returns to the application alone', () => {
  it('whatever returnTo says: a path of the public origin or its root', async () => {
    for (const wanted of [...ELSEWHERE, ...withOrigin(whole.url)]) {
      const query = new URLSearchParams({ returnTo: wanted.toWellFormed() })
      const location = await landingAfter(`${whole.url}/bff/login?${query}`)
      expect([wanted, location]).toEqual([wanted, '/'])
    }
  })

  it('never to an endpoint of the gateway, however it is spelt', async () => {
    for (const wanted of OWN_ENDPOINTS) {
      const query = new URLSearchParams({ returnTo: wanted })
      const location = await landingAfter(`${whole.url}/bff/login?${query}`)
      expect([wanted, location]).toEqual([wanted, '/'])
    }
  })

  it('its honest twins arrive unchanged', async () => {
    for (const wanted of [
      '/',
      '/orders?page=2&sort=%2Fa#top',
      '/a//b',
      '/a;b=c/d',
      '/caf%C3%A9',
      '/bffalo',
      '/bf%46/login',
      '/?next=https://evil.example/',
      // Only what an attacker would wish to be a slash: as octets they are part of a name.
      '/%E2%80%A8/evil.example',
      '/%EF%BC%8F%EF%BC%8Fevil.example',
    ]) {
      const query = new URLSearchParams({ returnTo: wanted })
      expect(await landingAfter(`${whole.url}/bff/login?${query}`)).toBe(wanted)
      const full = new URLSearchParams({ returnTo: `${whole.url}${wanted}` })
      expect(await landingAfter(`${whole.url}/bff/login?${full}`)).toBe(wanted)
    }
  })

  it('a foreign Referer is no page to return to', async () => {
    for (const referer of [
      'https://evil.example/x',
      `${whole.url}.evil.example/`,
      '//evil.example',
    ]) {
      const page = await browser.navigate(`${whole.url}/bff/login`, {
        headers: { referer },
        redirect: 'manual',
      })
      expect(page.status).toBe(303)
      expect(await landingAfter(page.header('location') ?? '')).toBe('/')
    }
  })
})

describe('OIDC RP-Initiated Logout §3 sign-out returns to the application alone', () => {
  const signOut = async (returnTo: string, type: 'json' | 'form' | 'query') => {
    const victim = await whole.signedIn()
    const encoded = new URLSearchParams({ returnTo: returnTo.toWellFormed() }).toString()
    const answer = await victim.fetch(`/bff/logout${type === 'query' ? `?${encoded}` : ''}`, {
      method: 'POST',
      ...(type === 'json'
        ? {
            body: JSON.stringify({ returnTo: returnTo.toWellFormed() }),
            headers: { 'content-type': 'application/json' },
          }
        : {}),
      ...(type === 'form'
        ? { body: encoded, headers: { 'content-type': 'application/x-www-form-urlencoded' } }
        : {}),
    })
    expect(answer.json()).toEqual({ redirectTo: '/bff/logout/continue' })
    const asked = await victim.navigate('/bff/logout/continue', { from: victim.page })
    const landed = await victim.submitForm(asked)
    const back = landed.chain.find((step) => new URL(step.url).pathname === '/bff/logged-out')
    return back?.header('location')
  }

  it.each([
    ['//evil.example', 'json'],
    ['/\\evil.example', 'form'],
    ['https://evil.example/', 'query'],
    ['/..//evil.example', 'json'],
    ['/bff/login', 'form'],
    ['/%62ff/login', 'query'],
  ] as const)('%s in the %s leads to the root', async (wanted, type) => {
    expect(await signOut(wanted, type)).toBe('/')
  })

  it('and to the page that was asked for where that is our own', async () => {
    expect(await signOut('/bye?x=1#y', 'form')).toBe('/bye?x=1#y')
  })

  it('without a session the answer names no other place either', async () => {
    const stranger = whole.browser()
    await stranger.navigate(whole.url)
    for (const wanted of [...ELSEWHERE, ...withOrigin(whole.url)]) {
      const answer = await stranger.fetch('/bff/logout', {
        method: 'POST',
        body: JSON.stringify({ returnTo: wanted.toWellFormed() }),
        headers: { 'content-type': 'application/json' },
      })
      expect([wanted, answer.json()]).toEqual([wanted, { redirectTo: '/' }])
    }
  })

  it('the landing believes no returnTo, no foreign state and no state twice', async () => {
    const victim = await whole.signedIn()
    await victim.fetch('/bff/logout', {
      method: 'POST',
      body: JSON.stringify({ returnTo: '/private' }),
      headers: { 'content-type': 'application/json' },
    })
    const cookie = logoutCookie(victim)
    const asked = await victim.navigate('/bff/logout/continue', {
      from: victim.page,
      redirect: 'manual',
    })
    const state = new URL(asked.header('location') ?? '').searchParams.get('state')
    const land = (query: string) =>
      rawRequest(whole.port, {
        target: `/bff/logged-out${query}`,
        lines: [`Cookie: ${cookie?.name}=${cookie?.value}`, 'Accept: text/html'],
      })
    for (const query of ['', '?returnTo=//evil.example', '?state=x&returnTo=//evil.example']) {
      const answer = await land(query)
      expect([answer.status, answer.header('location')]).toEqual([303, '/'])
    }
    expect((await land(`?state=${state}&state=${state}`)).status).toBe(400)
    expect((await land(`?state=${state}&returnTo=//evil.example`)).header('location')).toBe(
      '/private',
    )
  })
})

describe('what a failed callback offers', () => {
  it.each(['//evil.example', 'https://evil.example', '/%62ff/login'])(
    'its sign-in button never leads to %s',
    async (returnTo) => {
      const answer = await rawRequest(whole.port, {
        target: `/bff/callback?error=access_denied&state=0n${'a'.repeat(43)}&returnTo=${returnTo}`,
        lines: ['Accept: text/html', `Referer: ${whole.url}${returnTo}`],
      })
      expect(answer.status).toBe(400)
      expect(answer.text).toContain('href="/bff/login')
      expect(answer.text).not.toMatch(/evil|%62ff|%2562ff/)
    },
  )
})
