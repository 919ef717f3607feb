/**
 * A provider that ties all sign-ins of one browser to one grant, as oidc-provider does by default and Keycloak does with
 * its sessions: revoking what one of them got ends the others too. So what is revoked must be nobody else's.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { signIn } from '../support/sign-in.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const TOKEN_SECONDS = 2

let whole: WholeGateway
afterEach(() => whole.close())

const start = async (env: Readonly<Record<string, string>> = {}) => {
  whole = await startWholeGateway({
    provider: { grants: 'per-session', accessTokenLifetimeSeconds: TOKEN_SECONDS },
    env,
  })
}

/** Gives one browser the session of another; the cookie's name. */
const carry = async (to: Browser, from: Browser) => {
  const cookie = sessionCookie(from)
  if (cookie === undefined) throw new Error('it is signed in')
  await to.navigate(whole.url)
  to.jar.set(
    `${cookie.name}=${cookie.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
    new URL(whole.url),
  )
  return cookie.name
}

/** With a token that has run out, so that the call needs a refresh. */
const callAfterRefresh = async (browser: Browser) => {
  await sleep(TOKEN_SECONDS * 1_000 + 200)
  return (await browser.fetch('/api/items')).status
}

describe('a sign-in that comes to nothing leaves the session that there was', () => {
  it('RFC 9470 §5 a step-up that the provider did not meet', async () => {
    await start()
    const browser = await whole.signedIn()
    const landed = await browser.navigate(`${whole.url}/bff/login?acr_values=urn:example:never`, {
      from: `${whole.url}/`,
    })
    expect(landed.text).toContain('login_failed')
    expect(await callAfterRefresh(browser)).toBe(200)
    expect(whole.provider.revokedGrants()).toEqual([])
  })

  it('another account that may not sign in, whose own grant is revoked', async () => {
    await start({ COATCHECK_SIGN_IN_REQUIRE: 'groups=admins' })
    const browser = whole.browser()
    await carry(browser, await whole.signedIn())
    const landed = await signIn(browser, whole.url, { login: 'bob' })
    expect(landed.text).toContain('sign_in_refused')
    await expect.poll(() => whole.provider.revokedGrants().length).toBe(1)
    expect(await callAfterRefresh(browser)).toBe(200)
  })
})

it('the idle end of a session that another tab has signed in over', async () => {
  await start({ COATCHECK_SESSION_IDLE: '4s' })
  const browser = await whole.signedIn()
  const old = whole.browser()
  const orphan = await carry(old, browser)
  // The other tab began to sign in before this one was done.
  browser.jar.set(
    `${orphan}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0`,
    new URL(whole.url),
  )
  await browser.navigate(`${whole.url}/bff/login`)
  for (let call = 0; call < 5; call += 1) {
    await sleep(1_000)
    expect((await browser.fetch('/api/items')).status).toBe(200)
  }
  expect((await old.fetch('/api/items')).json()).toMatchObject({ code: 'session_expired' })
  expect(await callAfterRefresh(browser)).toBe(200)
  expect(whole.provider.revokedGrants()).toEqual([])
}, 20_000)
