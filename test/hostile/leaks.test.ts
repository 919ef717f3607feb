/**
 * Attack: read along. Everything a browser, a log reader or a collector of error pages gets to see is collected over
 * a whole life of sessions, with good and broken sign-ins, refreshes, outages and sign-outs, and searched for what must
 * never be there. The provider hands out every secret and records it; it also puts them into its error answers,
 * as careless providers do. Logs are written at level debug.
 */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createSealer } from '../../src/session/seal.ts'
import { seconds } from '../../src/time.ts'
import type { Browser, BrowserResponse } from '../support/browser.ts'
import { loginCookies, logoutCookie, sessionCookie } from '../support/cookies.ts'
import { FakeProvider, type JsonObject } from '../support/fake-provider.ts'
import { waitFor } from '../support/wait.ts'
import {
  CLIENT_ID,
  CLIENT_SECRET,
  RING_SECRET,
  startWholeGateway,
  type WholeGateway,
} from '../support/whole-gateway.ts'
import { authorizationResponseFor, signInAtOnce } from './sign-in-steps.ts'

let provider: FakeProvider
let whole: WholeGateway
/** Secret by what it is; parts of a JWT count for themselves. */
const secrets = new Map<string, string>()
const answers: BrowserResponse[] = []
const consoleLines: string[] = []

const secret = (what: string, value: unknown) => {
  if (typeof value === 'string' && value.length >= 8) secrets.set(value, what)
}

const keepTokens = (honest: JsonObject) => {
  secret('access token', honest.access_token)
  secret('refresh token', honest.refresh_token)
  secret('ID token', honest.id_token)
  const [, payload, signature] = String(honest.id_token).split('.')
  secret('ID token’s payload', payload)
  secret('ID token’s signature', signature)
  return honest
}

const keepCookies = (browser: Browser) => {
  for (const cookie of [sessionCookie(browser), logoutCookie(browser), ...loginCookies(browser)])
    secret(`cookie ${cookie?.name}`, cookie?.value)
}

const keepRequests = () => {
  for (const { parameters, headers } of [
    ...provider.requestsTo('token'),
    ...provider.requestsTo('revoke'),
  ]) {
    secret('authorization code', parameters.get('code'))
    secret('code verifier', parameters.get('code_verifier'))
    secret('refresh token sent', parameters.get('refresh_token'))
    secret('token revoked', parameters.get('token'))
    secret('client authentication', headers.authorization?.slice('Basic '.length))
  }
}

/** Records what the browser sees of the gateway. */
const seen = <T extends BrowserResponse>(answer: T): T => {
  answers.push(...answer.chain.filter(({ url }) => url.startsWith(whole.url)))
  return answer
}

beforeAll(async () => {
  for (const level of ['log', 'info', 'warn', 'error'] as const)
    vi.spyOn(console, level).mockImplementation(
      (...parts) => void consoleLines.push(parts.join(' ')),
    )
  provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 1 })
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
  })
  await live()
})
afterAll(async () => {
  vi.restoreAllMocks()
  await whole.close()
  await provider.close()
})

const answerHonestly = () => {
  provider.answerHonestly()
  provider.alterTokenAnswer(keepTokens)
  // The fake says `auth_time` anew in each token, which at a refresh would be another sign-in (OIDC Core §12.2).
  provider.lieInIdTokens({ claims: { auth_time: undefined } })
}

/** Everything that can happen to a session, and several things that should not. */
const live = async () => {
  answerHonestly()
  secret('client secret', CLIENT_SECRET)
  secret('ring secret', RING_SECRET)

  const browser = whole.browser()
  const response = await authorizationResponseFor(whole, browser, '/')
  keepCookies(browser)
  secret('authorization code', response.searchParams.get('code'))
  seen(await browser.navigate(response.href, { redirect: 'manual' }))
  keepCookies(browser)
  await keepTicket(browser)
  // Replayed, and by another browser.
  seen(await browser.navigate(response.href, { redirect: 'manual' }))
  seen(await whole.browser().navigate(response.href, { redirect: 'manual' }))

  await browser.navigate(`${whole.url}/`)
  seen(await browser.fetch('/bff/session'))
  for (let turn = 0; turn < 3; turn += 1) {
    seen(await browser.fetch('/api/items'))
    await new Promise((resolve) => setTimeout(resolve, 400))
  }
  await waitFor('a refresh', () =>
    provider.requestsTo('token').some(({ parameters }) => parameters.has('refresh_token')),
  )
  seen(await browser.fetch('/api/items', { method: 'POST', body: '{}' }))
  seen(await browser.fetch('/api/items', { headers: { 'sec-fetch-site': 'cross-site' } }))
  seen(await browser.fetch('/nothing/here'))
  whole.api.answerWith((_, answer) => void answer.socket?.destroy())
  seen(await browser.fetch('/api/items', { method: 'POST', body: '{}' }))

  await brokenSignIns()
  await brokenRefreshes()

  answerHonestly()
  const leaving = whole.browser()
  await signInAtOnce(whole, leaving)
  keepCookies(leaving)
  const { links } = seen(await leaving.fetch('/bff/session')).json() as {
    links: { logout: string }
  }
  secret('logout link’s token', new URL(links.logout, whole.url).searchParams.get('token'))
  seen(await leaving.fetch('/bff/logout', { method: 'POST' }))
  keepCookies(leaving)
  seen(await leaving.navigate(`${whole.url}/bff/logout/continue`, { redirect: 'manual' }))
  seen(await leaving.navigate(`${whole.url}/bff/logout/continue`, { redirect: 'manual' }))
  seen(await leaving.navigate(`${whole.url}/bff/logged-out?state=x`, { redirect: 'manual' }))
  await waitFor('a revocation', () => provider.requestsTo('revoke').length > 0)
  keepRequests()
}

/** Id and key as only the gateway's secret shows them. */
const keepTicket = async (browser: Browser) => {
  const sealer = createSealer({ current: createKeyRing([RING_SECRET]) })
  const value = sessionCookie(browser)?.value ?? ''
  const opened = await sealer.unseal('ticket', value, seconds(28_800), (ticket) => ticket)
  if (opened.kind !== 'opened') throw new Error('the cookie is sealed by this secret')
  secret('session id', opened.opened.value.id)
  secret('session key', opened.opened.value.key)
}

/** Everything it was sent, in the words of an error. */
const echo = ({ parameters, headers }: { parameters: URLSearchParams; headers: object }) =>
  `${parameters} ${JSON.stringify(headers)}`

const brokenSignIns = async () => {
  for (const prepare of [
    () => provider.lieInIdTokens({ signature: 'mallory' }),
    () => provider.lieInIdTokens({ claims: { nonce: 'other' } }),
    () => provider.alterTokenAnswer((honest) => ({ ...keepTokens(honest), token_type: 'mac' })),
    () => provider.alterTokenAnswer((honest) => ({ ...keepTokens(honest), access_token: 7 })),
    () => provider.alterTokenAnswer((honest) => `<pre>${JSON.stringify(keepTokens(honest))}`),
    () =>
      provider.script('token', (request) => ({
        status: 400,
        body: {
          error: 'invalid_grant',
          error_description: echo(request),
          error_uri: echo(request),
        },
      })),
    () =>
      provider.script('token', (request) => ({
        status: 401,
        body: { error: 'invalid_client', error_description: echo(request) },
      })),
    () => provider.script('token', (request) => ({ status: 500, body: echo(request) })),
    () => provider.script('token', { fate: 'reset' }),
    () => provider.script('token', (request) => ({ fate: 'truncate', body: echo(request) })),
    () => provider.script('userinfo', (request) => ({ status: 500, body: echo(request) })),
    () =>
      provider.script('userinfo', (request) => ({
        status: 401,
        headers: {
          'www-authenticate': `Bearer error="invalid_token", error_description=${JSON.stringify(echo(request).replace(/"/g, "'"))}`,
        },
      })),
  ]) {
    answerHonestly()
    prepare()
    const browser = whole.browser()
    const response = await authorizationResponseFor(whole, browser)
    secret('authorization code', response.searchParams.get('code'))
    keepCookies(browser)
    seen(await browser.navigate(response.href, { redirect: 'manual' }))
    seen(await browser.navigate(response.href, { redirect: 'manual', headers: { accept: '*/*' } }))
    keepCookies(browser)
  }
}

const brokenRefreshes = async () => {
  for (const prepare of [
    () => provider.script('token', (request) => ({ status: 500, body: echo(request) })),
    () =>
      provider.script('token', (request) => ({
        status: 401,
        body: { error: 'invalid_client', error_description: echo(request) },
      })),
    () => provider.lieInIdTokens({ claims: { sub: 'mallory' } }),
    () =>
      provider.script('token', (request) => ({
        status: 400,
        body: { error: 'invalid_grant', error_description: echo(request) },
      })),
  ]) {
    answerHonestly()
    const browser = whole.browser()
    await signInAtOnce(whole, browser)
    keepCookies(browser)
    prepare()
    await new Promise((resolve) => setTimeout(resolve, 1_050))
    seen(await browser.fetch(`${whole.url}/api/items`))
    seen(await browser.fetch(`${whole.url}/bff/session`))
  }
}

/** Long values leak in parts too: 36 characters of one hold at least one of these. All seals begin alike. */
const partsOf = (value: string): readonly string[] =>
  value.length <= 60
    ? [value]
    : Array.from({ length: Math.floor(value.length / 24) - 1 }, (_, at) =>
        value.slice((at + 1) * 24).slice(0, 12),
      )

const found = (text: string, allowed: (what: string) => boolean = () => false) =>
  [...secrets]
    .filter(([value, what]) => !allowed(what) && partsOf(value).some((part) => text.includes(part)))
    .map(([, what]) => what)

describe('RFC 6749 §10.4 what must stay inside', () => {
  it('is known to this test: tokens of several sign-ins and refreshes, codes, verifiers, cookies, secrets', () => {
    const kinds = new Set(secrets.values())
    for (const what of [
      'access token',
      'refresh token',
      'refresh token sent',
      'ID token',
      'authorization code',
      'code verifier',
      'client authentication',
      'session id',
      'session key',
      'token revoked',
      'logout link’s token',
    ])
      expect([...kinds]).toContain(what)
    expect(secrets.size).toBeGreaterThan(80)
    expect(answers.length).toBeGreaterThan(40)
    expect(new Set(answers.map(({ status }) => status))).toEqual(
      new Set([200, 303, 400, 401, 403, 404, 502, 503]),
    )
  })

  it('is in no log line, not at level debug either', () => {
    const text = whole.logText()
    expect(text).toContain('"level":"debug"')
    expect(text).toContain('login_failed')
    expect(text).toContain('token_refreshed')
    expect(found(text)).toEqual([])
    expect(text).not.toMatch(/alice|Alice Archer/)
  })

  it('is in nothing that a library wrote on its own', () => {
    expect(found(consoleLines.join('\n'))).toEqual([])
    expect(consoleLines).toEqual([])
  })

  it('is in no body', () => {
    for (const { url, status, text } of answers) {
      // The page's own link carries its token, to itself.
      const isOwnLink = (what: string) =>
        what.startsWith('logout link') && url.endsWith('/bff/session')
      expect([url, status, found(text, isOwnLink)]).toEqual([url, status, []])
    }
  })

  it('OIDC Core §2 no ID token is in any JSON', () => {
    for (const { text, header } of answers)
      if (header('content-type')?.includes('json')) expect(text).not.toMatch(/eyJ[\w-]+\.eyJ/)
  })

  it('is in no header, but for each cookie in its own Set-Cookie and the ID token on its way to the provider', () => {
    for (const { url, rawHeaders } of answers)
      for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
        const name = rawHeaders[at]?.toLowerCase() ?? ''
        const value = rawHeaders[at + 1] ?? ''
        const isHint =
          name === 'location' &&
          new URL(url).pathname === '/bff/logout/continue' &&
          value.startsWith(`${provider.issuer}/end-session?`)
        const isAllowed = (what: string) =>
          (name === 'set-cookie' && what === `cookie ${value.split('=', 1)[0]}`) ||
          (isHint && what.startsWith('ID token'))
        expect([url, name, found(value, isAllowed)]).toEqual([url, name, []])
      }
  })

  it('ASVS 16.5.1 no answer shows a stack, a file or a library', () => {
    for (const { text, rawHeaders } of answers)
      expect(`${text}${rawHeaders}`).not.toMatch(
        /node_modules|\.ts:\d|\bat .+:\d+:\d+|Error:|oauth4webapi|openid-client|undici|hono|iron/i,
      )
  })
})
