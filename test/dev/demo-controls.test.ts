/** The demo's controls as its page presses them: each breaks what it says, for this session, and for nobody from elsewhere. */

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Browser, createBrowser } from '../support/browser.ts'
import { type Child, startChild } from '../support/child.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))

let child: Child
let url: string

beforeAll(async () => {
  await promisify(execFile)(process.execPath, ['scripts/build-demo-spa.ts'], { cwd: repository })
  child = await startChild(process.execPath, ['src/main.ts', 'demo'], { cwd: repository })
  url = await waitFor(
    'the demo prints its URL',
    () => /open (http:\/\/localhost:\d+) /.exec(child.stdout.join('\n'))?.[1],
    { timeoutMs: 20_000 },
  )
}, 60_000)
afterAll(() => child?.kill())

interface Probe {
  readonly token: string
  readonly refreshes: number
}

const signedIn = async (): Promise<Browser> => {
  const browser = createBrowser()
  await signIn(browser, url)
  return browser
}
const probe = (browser: Browser) => browser.fetch('/api/demo/probe')
const probed = async (browser: Browser) => (await probe(browser)).json() as Probe
const press = async (browser: Browser, button: string) => {
  const answer = await browser.fetch(`/api/demo/${button}`, { method: 'POST' })
  expect(answer.status).toBe(200)
  return answer.json()
}

describe('tokens', () => {
  test('an access token that expires now is refreshed before the next call', async () => {
    const browser = await signedIn()
    const before = await probed(browser)
    expect(await press(browser, 'expire')).toEqual({ waitMs: 0, refreshes: before.refreshes })
    const after = await probed(browser)
    expect(after.token).not.toBe(before.token)
    expect(after.refreshes).toBe(before.refreshes + 1)
  })

  test('one 401 of the API costs a refresh and no failed call', async () => {
    const browser = await signedIn()
    const before = await probed(browser)
    await press(browser, 'refuse-once')
    const answer = await probe(browser)
    expect(answer.status).toBe(200)
    expect(answer.json()).toEqual({
      token: expect.not.stringMatching(before.token),
      refreshes: before.refreshes + 1,
    })
  })

  test('a second 401 within a minute is the API’s own, and is passed on', async () => {
    const browser = await signedIn()
    for (const status of [200, 401]) {
      await press(browser, 'refuse-once')
      const answer = await probe(browser)
      expect(answer.status).toBe(status)
      if (status === 401) expect(answer.json()).toMatchObject({ error: 'invalid_token' })
    }
    expect((await probe(browser)).status).toBe(200)
  })

  test('fifty calls during a refresh share it', async () => {
    const browser = await signedIn()
    const before = await probed(browser)
    await press(browser, 'slow-refresh')
    const volley = await browser.fetch('/demo/volley', { method: 'POST' })
    expect(volley.json()).toEqual({
      calls: 50,
      ok: 50,
      failed: 0,
      tokens: 1,
      refreshes: before.refreshes + 1,
    })
    expect((await probed(browser)).refreshes).toBe(before.refreshes + 1)
  })
})

describe('the provider', () => {
  test('while it answers 500 calls hear 503, the session stays, and afterwards they go on', async () => {
    const browser = await signedIn()
    await press(browser, 'provider-down')
    const answer = await probe(browser)
    expect(answer.status).toBe(503)
    expect(answer.json()).toMatchObject({ code: 'provider_unavailable', retryable: true })
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })
    expect((await browser.fetch('/demo/mend', { method: 'POST' })).status).toBe(200)
    await waitFor('calls go on', async () => (await probe(browser)).status === 200, {
      timeoutMs: 15_000,
      intervalMs: 500,
    })
  }, 30_000)

  test('a revoked refresh token ends this session alone, and says why', async () => {
    const [browser, other] = [await signedIn(), await signedIn()]
    expect(await press(browser, 'revoke')).toEqual({ revoked: true, waitMs: 0 })
    const answer = await probe(browser)
    expect(answer.status).toBe(401)
    expect(answer.json()).toMatchObject({ code: 'session_ended' })
    expect((await probe(other)).status).toBe(200)
  })

  test('a session that ends there ends here, by back-channel logout', async () => {
    const [browser, other] = [await signedIn(), await signedIn()]
    await press(browser, 'end-session')
    expect((await probe(browser)).json()).toMatchObject({ code: 'session_ended' })
    expect((await probe(other)).status).toBe(200)
  })
})

describe('who may press', () => {
  test.each([
    '/api/demo/expire',
    '/api/demo/provider-down',
    '/api/demo/end-session',
    '/api/demo/revoke',
  ])('%s: no other origin', async (path) => {
    const browser = await signedIn()
    const answer = await browser.fetch(path, {
      method: 'POST',
      headers: { 'sec-fetch-site': 'same-site', origin: 'http://localhost:1' },
    })
    expect(answer.json()).toMatchObject({ code: 'csrf_rejected' })
  })

  test.each<[string, Record<string, string>]>([
    ['from another origin', { origin: 'http://localhost:1' }],
    ['under another host name', { origin: 'http://localhost', host: 'evil.example' }],
  ])('/demo/volley: not %s', async (_title, headers) => {
    const browser = await signedIn()
    const answer = await browser.fetch('/demo/volley', {
      method: 'POST',
      headers,
    })
    expect(answer.status).toBe(403)
  })

  test('without a session a control is refused', async () => {
    const answer = await fetch(`${url}/api/demo/expire`, {
      method: 'POST',
      headers: { 'x-csrf': '1' },
    })
    expect(answer.status).toBe(401)
  })
})

test('Ctrl-C ends the demo also while something is broken', async () => {
  await press(await signedIn(), 'provider-down')
  child.signal('SIGINT')
  await waitFor('the demo ends', () => child.hasExited(), { timeoutMs: 10_000 })
})
