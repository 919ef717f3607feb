/**
 * Attack: with `response_mode=form_post` the callback takes POST requests of other sites, by design. Everything else
 * must stay closed to them, the query must not count, and a form without the browser's own transaction is worth
 * nothing.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { loginCookies } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { navigation, rawRequest } from './raw-request.ts'

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await startWholeGateway({
    env: {
      COATCHECK_ISSUER: provider.issuer,
      COATCHECK_RESOURCE: undefined,
      COATCHECK_PROVIDER_RESPONSE_MODE: 'form_post',
    },
  })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

const tokenCalls = () => provider.requestsTo('token').length

const begin = async (browser: Browser = whole.browser()) => {
  const started = await browser.navigate(`${whole.url}/bff/login?returnTo=/private`, {
    redirect: 'manual',
  })
  const asked = new URL(started.header('location') ?? '').searchParams
  expect(asked.get('response_mode')).toBe('form_post')
  const form = new URLSearchParams({
    code: provider.issueCode({
      nonce: asked.get('nonce') ?? undefined,
      codeChallenge: asked.get('code_challenge') ?? undefined,
    }),
    state: asked.get('state') ?? '',
    iss: provider.issuer,
  })
  const [cookie] = loginCookies(browser)
  return { form, cookie, line: `Cookie: ${cookie?.name}=${cookie?.value}` }
}

/** As the browser sends the provider's form. */
const post = (
  body: string,
  lines: readonly string[],
  {
    target = '/bff/callback',
    type = 'application/x-www-form-urlencoded',
  }: { readonly target?: string; readonly type?: string } = {},
) =>
  rawRequest(whole.port, {
    method: 'POST',
    target,
    lines: [
      ...navigation('cross-site'),
      `Origin: ${provider.issuer}`,
      `Content-Type: ${type}`,
      ...lines,
    ],
    body,
  })

const hasSession = (answer: { headerLines(name: string): readonly string[] }) =>
  answer.headerLines('set-cookie').some((line) => /^__Host-Http-coatcheck-\d+=[^;]/.test(line))

describe('RFC 6265bis §8.8.6 the provider’s form', () => {
  it('carries the transaction, which is SameSite=None; Secure, and signs in by 303', async () => {
    const { form, cookie, line } = await begin()
    expect(cookie).toMatchObject({ sameSite: 'none', secure: true, httpOnly: true, path: '/' })
    const answer = await post(form.toString(), [line])
    expect([answer.status, answer.header('location')]).toEqual([303, '/private'])
    expect(hasSession(answer)).toBe(true)
    expect(answer.headerLines('set-cookie').find((set) => /coatcheck-\d+=/.test(set))).toMatch(
      /SameSite=Strict$/,
    )
  })

  it('without the browser’s own transaction makes no token call and no session', async () => {
    const { form } = await begin()
    const victim = await begin()
    const before = tokenCalls()
    for (const lines of [[], [victim.line]]) {
      const answer = await post(form.toString(), lines)
      expect(hasSession(answer)).toBe(false)
    }
    expect(tokenCalls()).toBe(before)
  })

  it('with a parameter twice, or another state or issuer, is refused', async () => {
    const { form, line } = await begin()
    const before = tokenCalls()
    for (const change of [
      (changed: URLSearchParams) => changed.append('state', 'x'),
      (changed: URLSearchParams) => changed.append('code', 'x'),
      (changed: URLSearchParams) => changed.set('iss', 'https://evil.example'),
      (changed: URLSearchParams) => changed.delete('iss'),
      (changed: URLSearchParams) => changed.delete('code'),
    ]) {
      const changed = new URLSearchParams(form)
      change(changed)
      expect((await post(changed.toString(), [line])).status).toBe(400)
    }
    expect(tokenCalls()).toBe(before)
  })
})

describe('OIDC Form Post Response Mode §2 what is no form counts nothing', () => {
  it('neither parameters in the query, nor a GET, nor HEAD', async () => {
    const { form, line } = await begin()
    const before = tokenCalls()
    expect((await post('', [line], { target: `/bff/callback?${form}` })).status).toBe(400)
    for (const method of ['GET', 'HEAD']) {
      const answer = await rawRequest(whole.port, {
        method,
        target: `/bff/callback?${form}`,
        lines: [...navigation('cross-site'), line],
      })
      expect([answer.status, answer.header('allow')]).toEqual([405, 'POST'])
    }
    expect(tokenCalls()).toBe(before)
  })

  it('nor JSON, nor a body beyond its limit', async () => {
    const { form, line } = await begin()
    const before = tokenCalls()
    const json = JSON.stringify(Object.fromEntries(form))
    expect((await post(json, [line], { type: 'application/json' })).status).toBe(400)
    const large = await post(`${form}&x=${'x'.repeat(20_000)}`, [line])
    expect(large.status).toBe(413)
    expect(large.text).toContain('body_too_large')
    expect(tokenCalls()).toBe(before)
  })
})

it('RFC 10017 §6.1.3.3 every other endpoint stays closed to forms of other sites', async () => {
  const { line } = await begin()
  for (const target of [
    '/bff/login',
    '/bff/logout',
    '/bff/session',
    '/bff/callback/',
    '/bff/%63allback/x',
  ])
    expect((await post('returnTo=/x', [line], { target })).status).toBeGreaterThanOrEqual(403)
})
