/** The thinnest thread and its thickenings: sign in, one call, sign out, on a real provider and real sockets. */

import { afterAll, beforeAll, expect, test } from 'vitest'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway({ env: { COATCHECK_SPA: 'fixtures/spa' } })
})
afterAll(() => whole.close())

const session = async (browser: ReturnType<WholeGateway['browser']>) => {
  const answer = await browser.fetch('/bff/session')
  return { status: answer.status, body: answer.json() as Record<string, any> }
}

test('a browser signs in, calls the API with a Bearer token, and signs out everywhere', async () => {
  const browser = await whole.signedIn()
  const before = await session(browser)
  expect(before).toMatchObject({
    status: 200,
    body: {
      authenticated: true,
      user: { sub: 'alice', name: 'Alice Archer', email: 'alice@example.com' },
      links: { login: '/bff/login?returnTo=%2F' },
    },
  })
  expect(before.body.session.expiresIn).toBeGreaterThan(28_700)
  expect(before.body.session.idleExpiresIn).toBeLessThanOrEqual(1_800)

  const answer = await browser.fetch('/api/items?x=1')
  expect(answer.status).toBe(200)
  const seen = whole.api.requests.at(-1)
  expect(seen?.url).toBe('/api/items?x=1')
  expect(seen?.header('authorization')).toMatch(/^Bearer ey/)
  expect(seen?.header('cookie')).toBeUndefined()
  expect(answer.header('cache-control')).toBe('private, no-store')

  const out = await browser.fetch('/bff/logout', { method: 'POST' })
  expect(out.json()).toEqual({ redirectTo: '/bff/logout/continue' })
  const asked = await browser.navigate('/bff/logout/continue', { from: browser.page })
  console.log(asked.text.slice(0,1500), asked.chain.map(c=>[c.status,c.url.slice(0,120)]))
  const landed = await browser.submitForm(asked)
  expect(new URL(landed.url).origin).toBe(whole.url)
  expect((await session(browser)).body).toEqual({
    authenticated: false,
    user: null,
    session: null,
    links: { login: '/bff/login?returnTo=%2F' },
  })
  expect((await browser.fetch('/api/items')).status).toBe(401)
})
