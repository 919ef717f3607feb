/** ASVS 7.3 and NIST SP 800-63B §5.2: when a session ends by itself, and what keeps it alive. */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, type TestContext } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

/** Long enough for a slow machine between two steps, short enough to wait for. */
const IDLE_SECONDS = 3
/** The tests wait side by side, each with a gateway of its own. */
const start = async (
  { onTestFinished }: Pick<TestContext, 'onTestFinished'>,
  env: Readonly<Record<string, string>>,
): Promise<{ readonly whole: WholeGateway; readonly browser: Browser }> => {
  const whole = await startWholeGateway({ env })
  onTestFinished(() => whole.close())
  return { whole, browser: await whole.signedIn() }
}

interface SessionBody {
  readonly authenticated: boolean
  readonly session: { readonly expiresIn: number; readonly idleExpiresIn: number } | null
}

const session = async (browser: Browser) =>
  (await browser.fetch('/bff/session')).json() as SessionBody

describe.concurrent('ASVS 7.3.1 the idle lifetime', () => {
  it('is not extended by asking for the session, and its end says so', async (context) => {
    const { whole, browser } = await start(context, {
      COATCHECK_SESSION_IDLE: `${IDLE_SECONDS}s`,
      COATCHECK_SESSION_ABSOLUTE: '1h',
    })
    const startedAt = performance.now()
    const remaining: number[] = []
    for (;;) {
      const body = await session(browser)
      if (!body.authenticated) break
      remaining.push(body.session?.idleExpiresIn ?? -1)
      expect(performance.now() - startedAt).toBeLessThan(IDLE_SECONDS * 1000 + 2_000)
      await sleep(200)
    }
    expect(performance.now() - startedAt).toBeGreaterThan(IDLE_SECONDS * 1000 - 500)
    expect(remaining).toEqual(remaining.toSorted((a, b) => b - a))
    const cookie = sessionCookie(browser)
    const refused = await browser.fetch('/api/items')
    expect([refused.status, (refused.json() as { code: string }).code]).toEqual([
      401,
      'session_expired',
    ])
    expect(whole.api.requests).toEqual([])
    expect(whole.log).toContainEqual(
      expect.objectContaining({ event: 'session_ended', reason: 'idle' }),
    )
    // It stays over, whatever comes now.
    expect(sessionCookie(browser)?.value).toBe(cookie?.value)
    expect((await browser.fetch('/api/items')).status).toBe(401)
  })
})

describe.concurrent('ASVS 7.3.1 calls of the API', () => {
  it('keep the session alive beyond its idle time', async (context) => {
    const { browser } = await start(context, {
      COATCHECK_SESSION_IDLE: '2s',
      COATCHECK_SESSION_ABSOLUTE: '1h',
    })
    const startedAt = performance.now()
    while (performance.now() - startedAt < 3_500) {
      expect((await browser.fetch('/api/items')).status).toBe(200)
      await sleep(250)
    }
    expect((await session(browser)).authenticated).toBe(true)
  })

  it('that the guard refuses do not', async (context) => {
    const { browser } = await start(context, {
      COATCHECK_SESSION_IDLE: '2s',
      COATCHECK_SESSION_ABSOLUTE: '1h',
    })
    const startedAt = performance.now()
    while (performance.now() - startedAt < 2_500) {
      const refused = await browser.fetch('/api/items', {
        headers: { 'sec-fetch-site': 'cross-site' },
      })
      expect(refused.status).toBe(403)
      await sleep(250)
    }
    expect((await session(browser)).authenticated).toBe(false)
  })
})

describe.concurrent('ASVS 7.3.2 the absolute lifetime', () => {
  it('ends the session in the middle of activity, and a new sign-in makes another', async (context) => {
    const { whole, browser } = await start(context, {
      COATCHECK_SESSION_IDLE: '2s',
      COATCHECK_SESSION_ABSOLUTE: '3s',
    })
    const first = await session(browser)
    expect(first.session?.expiresIn).toBeLessThanOrEqual(3)
    expect(first.session?.idleExpiresIn).toBeLessThanOrEqual(2)
    const startedAt = performance.now()
    let answer = await browser.fetch('/api/items')
    while (answer.status === 200) {
      expect(performance.now() - startedAt).toBeLessThan(5_000)
      await sleep(200)
      answer = await browser.fetch('/api/items')
    }
    expect((answer.json() as { code: string }).code).toBe('session_expired')
    expect(whole.log).toContainEqual(
      expect.objectContaining({ event: 'session_ended', reason: 'absolute' }),
    )
    const before = sessionCookie(browser)?.value
    await browser.navigate('/bff/login', { from: `${whole.url}/` })
    expect(sessionCookie(browser)?.value).not.toBe(before)
    expect((await session(browser)).authenticated).toBe(true)
  })
})
