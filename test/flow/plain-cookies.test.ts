/** A browser that drops `Secure` cookies on http, as Safari does on localhost, with `plainCookies` on. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rawRequest } from '../hostile/raw-request.ts'
import { type Browser, createBrowser } from '../support/browser.ts'
import { createCookieJar } from '../support/cookie-jar.ts'
import { plainLoginCookies, plainSessionCookie, sessionCookie } from '../support/cookies.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'
import { openPageSocket, startWebSocketApi, type WebSocketApi } from '../support/web-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let api: WebSocketApi
let whole: WholeGateway
beforeAll(async () => {
  api = await startWebSocketApi()
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: api.url, COATCHECK_PLAIN_COOKIES: 'true' },
  })
})
afterAll(async () => {
  await whole.close()
  await api.close()
})

const safari = () => createBrowser({ jar: createCookieJar(Date.now, 'drops-on-http') })

const signedIn = async (): Promise<Browser> => {
  const browser = safari()
  await signIn(browser, whole.url)
  return browser
}

const ownCookies = (browser: Browser) =>
  browser.cookies().filter(({ name }) => name.includes('coatcheck'))

const stateOf = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json() as {
    authenticated: boolean
    links: { logout: string; events: string }
  }

describe('a browser that drops Secure cookies', () => {
  it('signs in and keeps plain cookies alone, HttpOnly and SameSite as ever', async () => {
    const beginner = safari()
    await beginner.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
    expect(plainLoginCookies(beginner)).toMatchObject([
      { name: `coatcheck-login-0-${whole.port}`, httpOnly: true, sameSite: 'lax', secure: false },
    ])
    const browser = safari()
    const landed = await signIn(browser, whole.url, { returnTo: '/orders?x=1' })
    expect(landed.url).toBe(`${whole.url}/orders?x=1`)
    expect(ownCookies(browser)).toMatchObject([
      { name: `coatcheck-${whole.port}`, httpOnly: true, sameSite: 'strict', path: '/' },
    ])
    expect((await stateOf(browser)).authenticated).toBe(true)
    expect((await browser.fetch('/api/items')).status).toBe(200)
  })

  it('signs out by call, by link and at the provider', async () => {
    const browser = await signedIn()
    const { redirectTo } = (await browser.fetch('/bff/logout', { method: 'POST' })).json() as {
      redirectTo: string
    }
    expect(plainSessionCookie(browser)).toBeUndefined()
    const page = await browser.navigate(redirectTo)
    expect(new URL(page.url).origin).toBe(new URL(whole.provider.issuer).origin)
    const back = await browser.submitForm(page)
    expect(back.url).toBe(`${whole.url}/`)
    expect(ownCookies(browser)).toEqual([])

    const other = await signedIn()
    const { links } = await stateOf(other)
    await other.navigate(links.logout, { from: other.page, redirect: 'manual' })
    expect(plainSessionCookie(other)).toBeUndefined()
    expect((await stateOf(other)).authenticated).toBe(false)
  })

  it('is signed out by back- and front-channel', async () => {
    const browser = await signedIn()
    const cookie = plainSessionCookie(browser)
    const frame = await rawRequest(whole.port, {
      target: '/bff/frontchannel-logout',
      lines: [
        `Cookie: ${cookie?.name}=${cookie?.value}`,
        'Sec-Fetch-Site: same-site',
        'Sec-Fetch-Mode: navigate',
        'Sec-Fetch-Dest: iframe',
      ],
    })
    expect(frame.headerLines('set-cookie')).toEqual([
      `${cookie?.name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`,
    ])
    expect((await stateOf(browser)).authenticated).toBe(false)
  })

  it('opens WebSockets, which close with its session', async () => {
    const browser = await signedIn()
    const cookie = plainSessionCookie(browser)
    const page = await openPageSocket({
      port: whole.port,
      origin: whole.url,
      cookie: `${cookie?.name}=${cookie?.value}`,
    })
    page.socket.send('hello')
    await waitFor('the echo', () => page.messages.length === 1)
    let code = 0
    page.socket.once('close', (closed) => {
      code = closed
    })
    await browser.fetch('/bff/logout', { method: 'POST' })
    await waitFor('its end', () => code !== 0)
    expect(code).toBe(4401)
  })

  it('lists its sessions and signs in anew, the former cookie dead', async () => {
    const browser = await signedIn()
    const former = plainSessionCookie(browser)?.value
    expect((await browser.fetch('/bff/sessions')).json()).toMatchObject({
      sessions: expect.arrayContaining([expect.objectContaining({ current: true })]),
    })
    await browser.navigate('/bff/login', { from: browser.page })
    expect(plainSessionCookie(browser)?.value).not.toBe(former)
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [`Cookie: ${plainSessionCookie(browser)?.name}=${former}`, 'X-CSRF: 1'],
    })
    expect(answer.json().code).toBe('session_ended')
  })
})

describe('a browser that keeps them', () => {
  it('has prefixed cookies alone, in the same gateway', async () => {
    const browser = await whole.signedIn()
    expect(sessionCookie(browser)?.secure).toBe(true)
    expect(ownCookies(browser).map(({ name }) => name)).toEqual([
      `__Host-Http-coatcheck-${whole.port}`,
    ])
  })
})
