/**
 * Attack: the callback is the one endpoint that answers requests of other sites, so everything is tried on it:
 * parameters twice, too long, too strange; other methods; replays, also twenty at once; transactions that are
 * expired, foreign or missing; and markup in the provider's name. The provider's record says what was spent.
 */

import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { newState, sealTransaction, type Transaction } from '../../src/login/transaction.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createSealer } from '../../src/session/seal.ts'
import { epochMs } from '../../src/time.ts'
import type { Browser } from '../support/browser.ts'
import { loginCookies, sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import {
  CLIENT_ID,
  RING_SECRET,
  startWholeGateway,
  type WholeGateway,
} from '../support/whole-gateway.ts'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { authorizationResponseFor } from './sign-in-steps.ts'

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await start()
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

const start = (env: Readonly<Record<string, string>> = {}) =>
  startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined, ...env },
  })

const tokenCalls = () => provider.requestsTo('token').length

/** A browser whose authorization response has not been followed yet. */
const stopped = async () => {
  const browser = whole.browser()
  const response = await authorizationResponseFor(whole, browser, '/private')
  return { browser, response, cookie: transactionCookie(browser) }
}

const transactionCookie = (browser: Browser) => {
  const [cookie] = loginCookies(browser)
  return `Cookie: ${cookie?.name}=${cookie?.value}`
}

const ask = (url: URL | string, lines: readonly string[], method = 'GET') =>
  rawRequest(whole.port, {
    method,
    target: typeof url === 'string' ? url : `${url.pathname}${url.search}`,
    lines,
  })

const isSession = (line: string) => /^__Host-Http-coatcheck(-\d+)?=[^;]/.test(line)

describe('RFC 6749 §3.1 parameters that come twice, or are no parameters', () => {
  it.each(['code', 'state', 'iss'])('%s twice is refused, whichever is right', async (name) => {
    const { response, cookie } = await stopped()
    const right = response.searchParams.get(name) ?? ''
    const before = tokenCalls()
    for (const [first, second] of [
      [right, right],
      [right, 'x'],
      ['x', right],
    ]) {
      const url = new URL(response)
      url.searchParams.delete(name)
      url.searchParams.append(name, first ?? '')
      url.searchParams.append(name, second ?? '')
      const answer = await ask(url, [cookie, ...navigation('cross-site')])
      expect(answer.status).toBe(400)
      expect(answer.text).toContain('login_failed')
    }
    expect(tokenCalls()).toBe(before)
  })

  it('error twice, or code beside error, is refused', async () => {
    const { response, cookie } = await stopped()
    const before = tokenCalls()
    for (const more of ['&error=x', '&error=x&error=y'])
      expect((await ask(`${response.pathname}${response.search}${more}`, [cookie])).status).toBe(
        400,
      )
    expect(tokenCalls()).toBe(before)
  })

  it.each([
    ['5000 characters of code', 'code', 'c'.repeat(5000)],
    ['a NUL in the code', 'code', 'a\0b'],
    ['line breaks in the code', 'code', 'a\r\nHost: evil.example'],
    ['letters beyond ASCII in the code', 'code', 'é'],
    ['an empty code', 'code', ''],
    ['an empty state', 'state', ''],
    ['a state of another slot', 'state', `9n${'a'.repeat(43)}`],
    ['a state with a path in it', 'state', `0n../${'a'.repeat(40)}`],
    ['a state that is too long', 'state', `0n${'a'.repeat(4000)}`],
  ])('%s is refused without a token call', async (_, name, value) => {
    const { response, cookie } = await stopped()
    const before = tokenCalls()
    response.searchParams.set(name, value)
    const answer = await ask(response, [cookie, ...navigation('cross-site')])
    expect(answer.status).toBe(400)
    expect(tokenCalls()).toBe(before)
  })

  it('a target or head beyond every limit is answered, and the process lives', async () => {
    expect((await ask(`/bff/callback?code=${'c'.repeat(8000)}`, [])).status).toBe(400)
    expect((await ask(`/bff/callback?code=${'c'.repeat(9000)}`, [])).status).toBe(414)
    expect([414, 431]).toContain((await ask(`/bff/callback?code=${'c'.repeat(90_000)}`, [])).status)
    expect((await ask(`/bff/callback?${'a&'.repeat(4000)}state=x`, [])).status).toBe(400)
  })

  it('RFC 6749 §4.1.2 what nobody asked for is ignored', async () => {
    const { browser, response } = await stopped()
    for (const [name, value] of [
      ['session_state', 'x'],
      ['scope', 'openid admin'],
      ['hd', 'evil.example'],
      ['access_token', 'x'],
      ['id_token', 'eyJ'],
      ['returnTo', '//evil.example'],
      ['redirect_uri', 'https://evil.example'],
    ] as const)
      response.searchParams.append(name, value)
    const landed = await browser.navigate(response.href, { redirect: 'manual' })
    expect([landed.status, landed.header('location')]).toEqual([303, '/private'])
    expect(sessionCookie(browser)).toBeDefined()
  })
})

describe('other ways to call it', () => {
  it.each(['POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'QUERY'])(
    '%s is no authorization response in query mode, and spends nothing',
    async (method) => {
      const { browser, response, cookie } = await stopped()
      const before = tokenCalls()
      const answer = await ask(response, [cookie, ...navigation('cross-site')], method)
      expect([answer.status, answer.header('allow')]).toEqual([405, 'GET'])
      expect(answer.headerLines('set-cookie')).toEqual([])
      expect(tokenCalls()).toBe(before)
      await browser.navigate(response.href, { redirect: 'manual' })
      expect(sessionCookie(browser)).toBeDefined()
    },
  )

  it.each([
    ['a fetch', SAME_ORIGIN_FETCH],
    [
      'a frame',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    [
      'an image',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'],
    ],
    ['a prefetch', [...navigation('none'), 'Sec-Purpose: prefetch']],
    ['a tool', []],
  ])('without a transaction %s begins no sign-in by it', async (_, lines) => {
    const answer = await ask(`/bff/callback?code=x&state=0n${'a'.repeat(43)}`, lines)
    expect([answer.status, answer.json().code]).toEqual([400, 'login_failed'])
    expect(answer.headerLines('set-cookie')).toEqual([])
  })

  it('RFC 9700 §4.2.4 its answer leaves no trace of the code behind', async () => {
    const { response, cookie } = await stopped()
    const answer = await ask(response, [cookie, ...navigation('cross-site')])
    expect([answer.status, answer.header('location')]).toEqual([303, '/private'])
    expect(answer.header('referrer-policy')).toBe('no-referrer')
    expect(answer.header('cache-control')).toBe('no-store')
    expect(answer.text).toBe('')
  })
})

describe('RFC 9700 §4.2.4 an authorization response counts once', () => {
  it('twenty at once make one token call and one session', async () => {
    const { response, cookie } = await stopped()
    const before = tokenCalls()
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => ask(response, [cookie, ...navigation('cross-site')])),
    )
    expect(tokenCalls()).toBe(before + 1)
    const sessions = answers.filter((answer) => answer.headerLines('set-cookie').some(isSession))
    expect(sessions).toHaveLength(1)
    for (const answer of answers) expect([200, 303]).toContain(answer.status)
  })

  it('later it heals, and where the browser brings no cookie it says so instead of going round', async () => {
    const { response, cookie } = await stopped()
    await ask(response, [cookie, ...navigation('cross-site')])
    const before = tokenCalls()
    const again = await ask(response, [cookie, ...navigation('same-origin')])
    expect(again.status).toBe(303)
    expect(new URL(again.header('location') ?? '', whole.url).origin).toBe(provider.issuer)
    expect(again.headerLines('set-cookie').some(isSession)).toBe(false)
    const restarted = new URL(response)
    restarted.searchParams.set(
      'state',
      response.searchParams.get('state')?.replace(/^(.)n/, '$1r') ?? '',
    )
    const stuck = await ask(restarted, navigation('same-origin'))
    expect(stuck.status).toBe(400)
    expect(stuck.text).toContain('cookies are allowed')
    expect(tokenCalls()).toBe(before)
  })
})

describe('a transaction that is not this gateway’s, or no longer', () => {
  const sealed = async (secret: string, change: Partial<Transaction> = {}) => {
    const transaction: Transaction = {
      state: newState({ slot: '0', restarted: false }),
      codeVerifier: 'v'.repeat(43),
      nonce: 'n'.repeat(43),
      returnTo: '/private',
      issuer: provider.issuer,
      asked: { acrValues: undefined, maxAgeSeconds: undefined, consent: false, silent: false },
      signInStartedAt: epochMs(Date.now()),
      former: undefined,
      ...change,
    }
    const sealer = createSealer({ current: createKeyRing([secret]) })
    const code = provider.issueCode({
      nonce: transaction.nonce,
      codeChallenge: createHash('sha256').update(transaction.codeVerifier).digest('base64url'),
    })
    const query = new URLSearchParams({ code, state: transaction.state, iss: provider.issuer })
    const name = `__Host-Http-coatcheck-login-0-${whole.port}`
    return {
      target: `/bff/callback?${query}`,
      cookie: `Cookie: ${name}=${await sealTransaction(sealer, transaction)}`,
    }
  }

  /** Tool headers: nothing restarts, so what is not believed shows as a plain failure. */
  const outcome = async ({ target, cookie }: { target: string; cookie: string }) => {
    const before = tokenCalls()
    const answer = await ask(target, [cookie])
    return {
      status: answer.status,
      session: answer.headerLines('set-cookie').some(isSession),
      tokenCalls: tokenCalls() - before,
    }
  }
  const REFUSED = { status: 400, session: false, tokenCalls: 0 }

  it('one of our own, as its honest twin, signs in', async () => {
    expect(await outcome(await sealed(RING_SECRET))).toEqual({
      status: 303,
      session: true,
      tokenCalls: 1,
    })
  })

  it('sealed by another gateway, it opens nothing', async () => {
    expect(await outcome(await sealed('another-gateways-ring-secret-of-32-characters'))).toEqual(
      REFUSED,
    )
  })

  it('of another issuer, RFC 9207 §4, it is spent nowhere', async () => {
    const issuer = 'https://other-provider.example'
    expect(await outcome(await sealed(RING_SECRET, { issuer }))).toEqual(REFUSED)
  })

  it('after its ten minutes it is over, whatever its cookie’s Max-Age said', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 700_000 })
    const expired = await sealed(RING_SECRET).finally(() => vi.useRealTimers())
    expect(await outcome(expired)).toEqual(REFUSED)
  })

  it('under another slot’s name it is not found', async () => {
    const { target, cookie } = await sealed(RING_SECRET)
    expect(await outcome({ target, cookie: cookie.replace('-login-0-', '-login-1-') })).toEqual(
      REFUSED,
    )
  })
})

describe('RFC 6749 §4.1.2.1 an error answer', () => {
  const MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(1)>'

  it.each([
    ['error', { error: MARKUP }],
    ['error_description', { error: 'access_denied', error_description: MARKUP }],
    ['error_uri', { error: 'access_denied', error_uri: 'javascript:alert(1)//evil.example' }],
    [
      'line breaks',
      { error: 'a\r\nSet-Cookie: x=y', error_description: '\u001b[31m\r\n{"level":"fake"}' },
    ],
    ['a name of Object', { error: '__proto__' }],
  ])('is never echoed: %s', async (_, parameters) => {
    for (const lines of [navigation('cross-site'), []]) {
      const { response, cookie } = await stopped()
      response.searchParams.delete('code')
      for (const [name, value] of Object.entries(parameters)) response.searchParams.set(name, value)
      const logged = whole.logText().length
      const answer = await ask(response, [cookie, ...lines])
      expect(answer.status).toBe(400)
      expect(answer.text).toContain('login_failed')
      const said = answer.whole + whole.logText().slice(logged)
      expect(said).not.toMatch(/script|onerror|evil\.example|Set-Cookie: x|__proto__|fake/)
      // Spent: its cookie is taken back.
      expect(answer.headerLines('set-cookie')).toEqual([
        expect.stringMatching(/^__Host-Http-coatcheck-login-0-\d+=; .*Max-Age=0$/),
      ])
    }
  })

  it('RFC 9207 §2.4 under another issuer’s name is not believed to be the provider’s', async () => {
    const { response, cookie } = await stopped()
    response.searchParams.delete('code')
    response.searchParams.set('error', 'access_denied')
    response.searchParams.set('iss', 'https://evil.example')
    const answer = await ask(response, [cookie, ...navigation('cross-site')])
    expect(answer.text).not.toContain('access was denied')
    expect(whole.log.at(-1)).toMatchObject({ event: 'login_failed', reason: 'iss_mismatch' })
  })

  it('without a transaction neither restarts nor clears anything', async () => {
    const answer = await ask(
      `/bff/callback?error=login_required&state=0n${'a'.repeat(43)}`,
      navigation('same-origin'),
    )
    expect([answer.status, answer.headerLines('set-cookie')]).toEqual([400, []])
    expect((await ask('/bff/callback?error=x', navigation('same-origin'))).status).toBe(400)
  })

  it('with login.errors: redirect goes home with our word for it alone', async () => {
    const redirecting = await start({ COATCHECK_LOGIN_ERRORS: 'redirect' })
    try {
      const browser = redirecting.browser()
      const response = await authorizationResponseFor(
        redirecting,
        browser,
        '/page?error=old&x=1#top',
      )
      response.searchParams.delete('code')
      response.searchParams.set('error', MARKUP)
      const answer = await browser.navigate(response.href, { redirect: 'manual' })
      expect(answer.header('location')).toBe('/page?error=login_failed&x=1#top')
      const stranger = await redirecting.browser().navigate(response.href, { redirect: 'manual' })
      expect([stranger.status, stranger.header('location')]).toEqual([400, undefined])
    } finally {
      await redirecting.close()
    }
  })
})
