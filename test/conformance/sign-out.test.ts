/** What signing out leaves in the browser: Clear Site Data, and which answers may clear the session cookie. */

import { afterEach, describe, expect, it } from 'vitest'
import {
  cookieLine,
  navigation,
  type RawAnswer,
  rawRequest,
  SAME_ORIGIN_FETCH,
} from '../hostile/raw-request.ts'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
afterEach(() => whole.close())

const start = async (env: Readonly<Record<string, string>> = {}) => {
  whole = await startWholeGateway({ env })
}

interface State {
  readonly authenticated: boolean
  readonly links: { readonly logout: string }
}
const stateOf = async (browser: Browser) => (await browser.fetch('/bff/session')).json() as State
const request = (browser: Browser, method: string, target: string, lines: readonly string[]) =>
  rawRequest(whole.port, { method, target, lines: [cookieLine(browser), ...lines] })
const clearSiteData = (answer: Pick<RawAnswer, 'headerLines'>) =>
  answer.headerLines('clear-site-data')
const BOTH = ['"cache", "storage"']

/** Every answer that signs a browser out, each with a browser of its own. */
const SIGN_OUTS: readonly (readonly [string, (browser: Browser) => Promise<RawAnswer>])[] = [
  ['by script', (browser) => request(browser, 'POST', '/bff/logout', SAME_ORIGIN_FETCH)],
  ['by a form', (browser) => request(browser, 'POST', '/bff/logout', navigation('same-origin'))],
  [
    'by the link',
    async (browser) =>
      request(browser, 'GET', (await stateOf(browser)).links.logout, navigation('same-origin')),
  ],
  [
    'as one of my devices',
    async (browser) => {
      const { sessions } = (await browser.fetch('/bff/sessions')).json() as {
        readonly sessions: readonly { readonly handle: string; readonly current: boolean }[]
      }
      const handle = sessions.find(({ current }) => current)?.handle
      return request(browser, 'DELETE', `/bff/sessions/${handle}`, SAME_ORIGIN_FETCH)
    },
  ],
]

describe('Clear Site Data §3.1', () => {
  it.each(SIGN_OUTS)(
    'signing out %s makes the browser forget cache and storage, not cookies',
    async (_, signOut) => {
      await start()
      const answer = await signOut(await whole.signedIn())
      expect([200, 303]).toContain(answer.status)
      expect(clearSiteData(answer)).toEqual(BOTH)
    },
  )

  it('a browser whose session was over already is signed out all the same', async () => {
    await start()
    const browser = await whole.signedIn()
    const line = cookieLine(browser)
    await browser.fetch('/bff/logout', { method: 'POST' })
    const again = await rawRequest(whole.port, {
      method: 'POST',
      target: '/bff/logout',
      lines: [line, ...SAME_ORIGIN_FETCH],
    })
    expect([again.status, clearSiteData(again)]).toEqual([200, BOTH])
  })

  it('coming back from the provider counts with the right state alone: any site can send the browser here', async () => {
    await start()
    const browser = await whole.signedIn()
    await browser.fetch('/bff/logout', { method: 'POST' })
    const page = await browser.navigate(`${whole.url}/bff/logout/continue`, {
      from: `${whole.url}/`,
    })
    const wrong = await browser.navigate(`${whole.url}/bff/logged-out?state=guessed`, {
      from: page,
      redirect: 'manual',
    })
    expect([wrong.status, clearSiteData(wrong)]).toEqual([303, []])
    const back = await browser.submitForm(page)
    const landing = back.chain.find(({ url }) => new URL(url).pathname === '/bff/logged-out')
    expect(landing && clearSiteData(landing)).toEqual(BOTH)
    const stranger = await whole.browser().navigate(`${whole.url}/bff/logged-out`, {
      redirect: 'manual',
    })
    expect(clearSiteData(stranger)).toEqual([])
  })

  it.each([
    ['a sign-out from another origin', 'POST', '/bff/logout', ['Sec-Fetch-Site: cross-site'], 403],
    ['a link without its token', 'GET', '/bff/logout', navigation('same-origin'), 403],
    ['reading the session', 'GET', '/bff/session', SAME_ORIGIN_FETCH, 200],
    ['signing out the other devices', 'DELETE', '/bff/sessions', SAME_ORIGIN_FETCH, 200],
  ])('%s clears nothing', async (_, method, target, lines, status) => {
    await start()
    const browser = await whole.signedIn()
    const answer = await request(browser, method, target, lines)
    expect([answer.status, clearSiteData(answer)]).toEqual([status, []])
    expect((await stateOf(browser)).authenticated).toBe(true)
  })

  it('a frame on the provider’s page ends the session and clears its cookie, no more: nobody vouches for who asks', async () => {
    await start()
    const browser = await whole.signedIn()
    const frame = await request(browser, 'GET', '/bff/frontchannel-logout', [
      'Sec-Fetch-Site: cross-site',
      'Sec-Fetch-Mode: navigate',
      'Sec-Fetch-Dest: iframe',
    ])
    expect([frame.status, clearSiteData(frame)]).toEqual([200, []])
    expect(frame.headerLines('set-cookie')).toHaveLength(1)
    expect((await stateOf(browser)).authenticated).toBe(false)
  })

  it('is a setting: what it names, or nothing at all', async () => {
    await start({ COATCHECK_LOGOUT_CLEAR_SITE_DATA: 'storage,executionContexts' })
    const [, byScript] = SIGN_OUTS[0]!
    expect(clearSiteData(await byScript(await whole.signedIn()))).toEqual([
      '"storage", "executionContexts"',
    ])
    await whole.close()
    await start({ COATCHECK_LOGOUT_CLEAR_SITE_DATA: 'none' })
    expect(clearSiteData(await byScript(await whole.signedIn()))).toEqual([])
  })
})

describe('a cookie is cleared only in answers to requests that carried it', () => {
  const METHODS = ['GET', 'POST', 'DELETE', 'HEAD']
  const PATHS = [
    '/bff/login',
    '/bff/callback',
    '/bff/callback?code=c&state=s',
    '/bff/session',
    '/bff/logout',
    '/bff/logout?token=t',
    '/bff/logout/continue',
    '/bff/logged-out',
    '/bff/logged-out?state=s',
    '/bff/backchannel-logout',
    '/bff/frontchannel-logout',
    '/bff/frontchannel-logout?iss=i&sid=s',
    '/bff/events',
    '/bff/sessions',
    '/bff/sessions/AAAAAAAAAAAAAAAAAAAAAA',
    '/bff/none',
    '/api/items',
    '/',
  ]

  it('whatever cookie, endpoint, method and kind of request', async () => {
    await start()
    const clearing: string[] = []
    for (const target of PATHS)
      for (const method of METHODS)
        for (const lines of [
          SAME_ORIGIN_FETCH,
          navigation('same-origin'),
          navigation('cross-site'),
        ]) {
          const answer = await rawRequest(whole.port, { method, target, lines })
          if (answer.headerLines('set-cookie').some((line) => /^[^=]+=;/.test(line)))
            clearing.push(`${method} ${target}`)
        }
    expect(clearing).toEqual([])
  })

  it.each(SIGN_OUTS)(
    'and there it is, with the name and attributes it was set with: %s',
    async (_, signOut) => {
      await start()
      const browser = await whole.signedIn()
      const name = sessionCookie(browser)?.name
      const cleared = (await signOut(browser)).headerLines('set-cookie')
      expect(cleared).toContain(`${name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0`)
    },
  )
})
