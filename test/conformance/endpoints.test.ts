/** docs/endpoints.md and the gateway name the same endpoints, methods, login parameters and cookies. */

import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { LOGIN_SLOTS } from '../../src/session/session-cookie.ts'
import { tableRows } from '../architecture/markdown.ts'
import { rawRequest } from '../hostile/raw-request.ts'
import { signInAtOnce } from '../hostile/sign-in-steps.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
const page = text('docs/endpoints.md')
const rows = tableRows(page, 'endpoint')

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  const env = { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined }
  whole = await startWholeGateway({ env })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

test('every endpoint has a row, and every row is an endpoint', () => {
  const source = text('src/edges/http/endpoints.ts')
  const paths = [...source.matchAll(/^ {4}'(\/[a-z/:-]+)': \{/gm)].map(([, path]) => `/bff${path}`)
  expect(paths.length).toBeGreaterThan(8)
  // The event streams are on Node's own answer, beside the others.
  expect(rows.map(([path]) => path).toSorted()).toEqual([...paths, '/bff/events'].toSorted())
})

test.each(rows.map(([path = '', methods = '']) => [path, methods] as const))(
  'RFC 9110 §15.5.6 %s takes %s and says so',
  async (path, methods) => {
    const answer = await rawRequest(whole.port, { method: 'PUT', target: path.replace(':', '') })
    expect({ status: answer.status, allow: answer.header('allow') }).toEqual({
      status: 405,
      allow: path.endsWith('/backchannel-logout') ? 'POST, GET' : methods,
    })
  },
)

describe('login parameters', () => {
  const parameters = tableRows(page, 'parameter').map(([name = '']) => name)

  test('are those of the source', () => {
    const source = text('src/login/start.ts')
    const declared = /interface LoginParameters \{(.*?)^\}/ms.exec(source)?.[1] ?? ''
    const names = [...declared.matchAll(/readonly (\w+)\?/g)].map(([, name]) => name)
    expect(parameters).toEqual(['returnTo', ...names])
  })

  test('reach the provider, and no other does', async () => {
    const given: Record<string, string> = {
      returnTo: '/orders',
      prompt: 'login',
      login_hint: 'alice',
      acr_values: 'urn:mace:incommon:iap:silver',
      max_age: '60',
      ui_locales: 'de en',
    }
    expect(Object.keys(given)).toEqual(parameters)
    const answer = await rawRequest(whole.port, {
      target: `/bff/login?${new URLSearchParams({ ...given, response_type: 'token', evil: '1' })}`,
      lines: ['Accept: text/html'],
    })
    const { searchParams } = new URL(answer.header('location') ?? '')
    const { returnTo, ...sent } = given
    expect(Object.fromEntries(searchParams)).toMatchObject({ ...sent, response_type: 'code' })
    expect(searchParams.has('evil')).toBe(false)
  })
})

test('the cookies are those that a sign-in and a sign-out set', async () => {
  const [session, login, logout] = tableRows(page, 'cookie').map(([name]) => name)
  const browser = whole.browser()
  const named = () => browser.cookies().map(({ name }) => name.replace(`-${whole.port}`, ''))
  await signInAtOnce(whole, browser)
  expect(named()).toEqual([session])
  expect(login).toBe(`${session}-login-0\` … \`-${LOGIN_SLOTS.at(-1)}`)
  await browser.fetch('/bff/logout', { method: 'POST' })
  expect(named()).toEqual([logout])
})
