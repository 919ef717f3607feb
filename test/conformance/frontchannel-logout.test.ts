/** OIDC Front-Channel Logout 1.0: a frame on the provider's page ends the session here, and nothing else anywhere. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { cookieLine, rawRequest } from '../hostile/raw-request.ts'
import { signInAtOnce } from '../hostile/sign-in-steps.ts'
import type { Browser } from '../support/browser.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
  })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})
afterEach(() => {
  provider.answerHonestly()
  provider.forgetRequests()
})

const FRAME = [
  'Sec-Fetch-Site: cross-site',
  'Sec-Fetch-Mode: navigate',
  'Sec-Fetch-Dest: iframe',
  'Accept: text/html',
]

const frame = (query: Record<string, string>, lines: readonly string[] = []) =>
  rawRequest(whole.port, {
    target: `/bff/frontchannel-logout?${new URLSearchParams(query)}`,
    lines: [...FRAME, ...lines],
  })

const signedIn = async (sid?: string): Promise<Browser> => {
  provider.lieInIdTokens({ claims: { sid } })
  const browser = whole.browser()
  await signInAtOnce(whole, browser)
  return browser
}
const isAlive = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated

describe('§2 with iss and sid', () => {
  it('the session of that sid ends without its cookie, and no token is revoked', async () => {
    const [named, other] = [await signedIn('one'), await signedIn('two')]
    expect((await frame({ iss: provider.issuer, sid: 'one' })).status).toBe(200)
    expect(await Promise.all([named, other].map(isAlive))).toEqual([false, true])
    expect(provider.requestsTo('revoke')).toEqual([])
    expect(whole.log.some(({ reason }) => reason === 'frontchannel_logout')).toBe(true)
  })

  it('a frame that brings the cookie has it cleared', async () => {
    const browser = await signedIn('three')
    const answer = await frame({ iss: provider.issuer, sid: 'three' }, [cookieLine(browser)])
    expect(answer.header('set-cookie')).toMatch(/^__Host-Http-coatcheck\S*=; .*Max-Age=0$/)
  })

  it.each<[string, () => Record<string, string>]>([
    ['another issuer', () => ({ iss: 'https://evil.example', sid: 'kept' })],
    ['iss alone', () => ({ iss: provider.issuer })],
    ['sid alone', () => ({ sid: 'kept' })],
    ['another sid', () => ({ iss: provider.issuer, sid: 'guess' })],
    ['neither', () => ({})],
  ])('%s ends nothing, cookie or not', async (_, query) => {
    const browser = await signedIn('kept')
    for (const lines of [[], [cookieLine(browser)]]) {
      const answer = await frame(query(), lines)
      expect([answer.status, answer.headerLines('set-cookie')]).toEqual([200, []])
    }
    expect(await isAlive(browser)).toBe(true)
  })
})

it('§2 without both, a session to which the provider gave no sid ends by its cookie', async () => {
  const browser = await signedIn(undefined)
  const answer = await frame({}, [cookieLine(browser)])
  expect(answer.headerLines('set-cookie')).toHaveLength(1)
  expect(await isAlive(browser)).toBe(false)
  expect(provider.requestsTo('revoke')).toEqual([])
})

it('§2 one without the other is ignored, also for a session that ends by its cookie', async () => {
  const browser = await signedIn(undefined)
  for (const query of [{ iss: provider.issuer }, { sid: 'x' }])
    expect((await frame(query, [cookieLine(browser)])).headerLines('set-cookie')).toEqual([])
  expect(await isAlive(browser)).toBe(true)
})

it('§2 is not stored, and shows on the provider’s page alone', async () => {
  const answer = await frame({ iss: provider.issuer, sid: 'nobody' })
  expect(answer.header('cache-control')).toBe('no-store')
  expect(answer.header('content-type')).toBe('text/html; charset=utf-8')
  expect(answer.header('x-frame-options')).toBeUndefined()
  const policy = (answer.header('content-security-policy') ?? '').split('; ')
  expect(policy).toContain(`frame-ancestors ${new URL(provider.issuer).origin}`)
  expect(policy).toContain("default-src 'none'")
})

it('a parameter that comes twice is refused', async () => {
  const answer = await rawRequest(whole.port, {
    target: '/bff/frontchannel-logout?iss=a&iss=b&sid=s',
    lines: FRAME,
  })
  expect(answer.status).toBe(400)
})
