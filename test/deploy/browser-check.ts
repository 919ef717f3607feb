/** The whole way in Chromium: sign in on the provider's own page, call the API through refreshes, sign out. */

import { deepEqual, equal, match, ok } from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Browser, chromium, type Page } from '@playwright/test'
import { findExecutable } from '../support/executable.ts'
import type { Forwarder } from './forwarder.ts'
import type { Check } from './provider-check.ts'

interface DeploymentUnderCheck {
  readonly page: Page
  readonly publicUrl: string
  readonly issuer: string
  readonly audience: string
  readonly accessTokenSeconds: number
  /** What the browser reaches the provider through; the gateway must not need it. */
  readonly forwarder: Forwarder
  /** Sessions that the provider itself counts for a user. */
  readonly providerSessions: (username: string) => Promise<number>
  /** Signs a user out at the provider, as an operator does there. */
  readonly signOutAtProvider: (username: string) => Promise<void>
}

const NAVIGATION_TIMEOUT_MS = 20_000
const BACKCHANNEL_TIMEOUT_MS = 10_000
const REFRESHES = 2
// The checks of the provider itself leave a session of alice's behind.
const USERNAME = 'bob'

export const startChromium = (): Promise<Browser> => {
  const executablePath = findExecutable('chromium', 'chromium-browser', 'google-chrome')
  return chromium.launch({
    ...(executablePath && { executablePath }),
    // Chromium's sandbox refuses to run as root.
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  })
}

export const browserChecks = (deployment: DeploymentUnderCheck): readonly Check[] => {
  const { page, publicUrl, issuer, audience, forwarder, providerSessions } = deployment
  page.setDefaultTimeout(NAVIGATION_TIMEOUT_MS)
  const whoami = async () => answerOf(page, 'GET', '/api/whoami')
  const openSignIn = async () => {
    await page.goto(`${publicUrl}/bff/login?returnTo=/`)
    await page.locator('#password').waitFor()
    ok(page.url().startsWith(`${issuer}/`), `the sign-in page is at ${page.url()}`)
  }

  const signIn = async () => {
    await page.locator('#username').fill(USERNAME)
    await page.locator('#password').fill(USERNAME)
    await page.locator('#kc-login').click()
    await page.waitForURL(`${publicUrl}/`)
    const { body } = await answerOf(page, 'GET', '/bff/session')
    equal(body.authenticated, true)
    return body
  }

  return [
    {
      promise: 'bob signs in on Keycloak’s own page and comes back to the application',
      async holds() {
        await openSignIn()
        const body = await signIn()
        equal((body.user as { preferred_username?: string }).preferred_username, USERNAME)
        equal(await providerSessions(USERNAME), 1)
      },
    },
    {
      promise: 'the gateway reaches the provider by COATCHECK_PROVIDER_CONNECT_TO alone',
      async holds() {
        const seen = forwarder.requests.map((request) => request.split('?')[0] ?? '')
        match(seen.join('\n'), /^POST \S+\/login-actions\/authenticate$/m)
        deepEqual(
          seen.filter((request) =>
            /openid-configuration|\/token$|\/certs$|\/ext\/par/.test(request),
          ),
          [],
        )
      },
    },
    {
      promise: 'the API accepts the token: its issuer and audience are right',
      async holds() {
        const { status, body } = await whoami()
        equal(status, 200)
        const claims = body.claims as { iss: string; aud: unknown; preferred_username: string }
        equal(claims.iss, issuer)
        deepEqual([claims.aud].flat(), [audience])
        equal(claims.preferred_username, USERNAME)
      },
    },
    {
      promise: `no call fails through ${REFRESHES} refreshes, each of which spends the refresh token`,
      async holds() {
        const tokens = new Set<unknown>()
        const deadline = performance.now() + (REFRESHES + 1) * deployment.accessTokenSeconds * 1_000
        while (tokens.size <= REFRESHES) {
          ok(performance.now() < deadline, `the API saw ${tokens.size} tokens in too long a time`)
          const { status, body } = await whoami()
          equal(status, 200, JSON.stringify(body))
          tokens.add((body.token as { fingerprint: string }).fingerprint)
          await sleep(500)
        }
      },
    },
    {
      promise: 'signing out ends at the application',
      async holds() {
        const { status, body } = await answerOf(page, 'POST', '/bff/logout')
        equal(status, 200, JSON.stringify(body))
        await page.goto(new URL(String(body.redirectTo), publicUrl).href)
        await page.waitForURL(`${publicUrl}/`)
      },
    },
    {
      promise: 'the session is gone at the gateway: 401 to the API, nobody signed in',
      async holds() {
        const { body: session } = await answerOf(page, 'GET', '/bff/session')
        equal(session.authenticated, false)
        const { status, body } = await whoami()
        equal(status, 401)
        match(String(body.code), /^session_(required|ended)$/)
      },
    },
    {
      promise:
        'the session is gone at the provider: it counts none, and asks for the password again',
      async holds() {
        equal(await providerSessions(USERNAME), 0)
        await openSignIn()
      },
    },
    {
      promise: 'who is signed out in Keycloak’s console is signed out here (back-channel logout)',
      async holds() {
        await signIn()
        await deployment.signOutAtProvider(USERNAME)
        const deadline = performance.now() + BACKCHANNEL_TIMEOUT_MS
        while ((await answerOf(page, 'GET', '/bff/session')).body.authenticated !== false) {
          ok(performance.now() < deadline, 'the gateway was not told')
          await sleep(200)
        }
        equal((await whoami()).body.code, 'session_ended')
      },
    },
  ]
}

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

/** The request is the page's own, so cookies and fetch metadata are the browser's. */
const answerOf = (page: Page, method: string, path: string): Promise<Answer> =>
  page.evaluate(
    async ([requestMethod, url]) => {
      const response = await fetch(url, { method: requestMethod })
      return { status: response.status, body: (await response.json()) as Answer['body'] }
    },
    [method, path] as const,
  )
