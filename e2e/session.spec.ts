/** A session as a person has it: reloads, tabs, tokens that run out, the back button. */

import type { Page } from '@playwright/test'
import { expect, fillSignInPage, test } from './fixtures.ts'

interface Whoami {
  readonly status: number
  readonly body: { readonly sub?: string; readonly code?: string }
}

/** What script on the page gets; never through Playwright's own client, which is no page. */
const call = (page: Page, path: string, init: { method?: string } = {}): Promise<Whoami> =>
  page.evaluate(
    async ([target, options]) => {
      const answer = await fetch(target, options)
      return { status: answer.status, body: (await answer.json().catch(() => ({}))) as object }
    },
    [path, init] as const,
  )

const authenticated = (page: Page): Promise<boolean> =>
  page.evaluate(async () => {
    const answer = await fetch('/bff/session')
    return ((await answer.json()) as { authenticated: boolean }).authenticated
  })

test('the first document, its reload and a typed address are all signed in', async ({
  demo,
  page,
  signIn,
}) => {
  await signIn(page)
  expect(await authenticated(page)).toBe(true)
  // The document after the provider's redirect came without the Strict cookie, and so does its reload.
  await page.reload()
  expect(await authenticated(page)).toBe(true)
  await page.goto(`${demo.url}/`)
  expect(await authenticated(page)).toBe(true)
})

test('a deep link survives signing in, query and fragment included', async ({ demo, page }) => {
  const returnTo = '/orders?page=2&sort=a%20b#line-7'
  await page.goto(`${demo.url}/bff/login?returnTo=${encodeURIComponent(returnTo)}`)
  await fillSignInPage(page, 'alice')
  await page.waitForURL(`${demo.url}${returnTo}`)
  expect(page.url()).not.toMatch(/[?&](code|state|iss)=/)
})

test('two tabs sign in side by side, and both end signed in', async ({ demo, context }) => {
  const [one, two] = [await context.newPage(), await context.newPage()]
  await one.goto(`${demo.url}/bff/login?returnTo=/one`)
  await two.goto(`${demo.url}/bff/login?returnTo=/two`)
  await fillSignInPage(one, 'alice')
  await one.waitForURL(`${demo.url}/one`)
  await fillSignInPage(two, 'alice')
  await two.waitForURL(`${demo.url}/two`)
  expect(await authenticated(one)).toBe(true)
  expect(await authenticated(two)).toBe(true)
  expect((await call(two, '/api/items')).status).toBe(200)
})

test('tokens run out and are replaced while two tabs keep calling; nobody notices', async ({
  context,
  signIn,
}) => {
  const page = await context.newPage()
  await signIn(page)
  const other = await context.newPage()
  await other.goto(page.url())
  const seen = new Set<string>()
  const endsAt = Date.now() + 26_000
  while (Date.now() < endsAt && seen.size < 2) {
    for (const tab of [page, other]) {
      const whoami = await tab.evaluate(async () => {
        const answer = await fetch('/api/whoami')
        return { status: answer.status, text: await answer.text() }
      })
      expect(whoami.status).toBe(200)
      seen.add(/"fingerprint":"([^"]+)"/.exec(whoami.text)?.[1] ?? whoami.text)
    }
    await page.waitForTimeout(500)
  }
  expect(seen.size).toBeGreaterThanOrEqual(2)
})

test('after signing out the back button shows nothing that works', async ({
  demo,
  page,
  signIn,
}) => {
  await signIn(page)
  await page.goto(`${demo.url}/orders`)
  const { redirectTo } = await page.evaluate(async () => {
    const answer = await fetch('/bff/logout', { method: 'POST' })
    return (await answer.json()) as { redirectTo: string }
  })
  await page.goto(`${demo.url}${redirectTo}`)
  await page
    .getByRole('button', { name: /sign out/i })
    .click({ timeout: 3_000 })
    .catch(() => {
      // The provider asked nothing.
    })
  await page.waitForURL((url) => url.origin === demo.url)
  await page.goBack().catch(() => null)
  await page.goto(`${demo.url}/orders`)
  expect(await authenticated(page)).toBe(false)
  expect(await call(page, '/api/items')).toMatchObject({
    status: 401,
    body: { code: 'session_required' },
  })
})

test('signing out takes what the app stored, and no cookie but the session’s', async ({
  demo,
  page,
  context,
  signIn,
}) => {
  await signIn(page)
  await page.evaluate(() => localStorage.setItem('draft', 'a letter'))
  await context.addCookies([{ name: 'theme', value: 'dark', url: demo.url }])
  await page.evaluate(() => fetch('/bff/logout', { method: 'POST' }))
  await expect.poll(() => page.evaluate(() => localStorage.getItem('draft'))).toBeNull()
  const names = (await context.cookies()).map(({ name }) => name)
  expect(names).toContain('theme')
  expect(names.some((name) => name.startsWith('development-provider-'))).toBe(true)
  expect(names.some((name) => /^__Host-Http-coatcheck-\d+$/.test(name))).toBe(false)
  expect(await authenticated(page)).toBe(false)
})

test('the callback opened once more leads on, signed in, without a second code exchange', async ({
  demo,
  page,
}) => {
  let callback = ''
  page.on('request', (request) => {
    if (new URL(request.url()).pathname === '/bff/callback') callback = request.url()
  })
  await page.goto(`${demo.url}/bff/login?returnTo=/`)
  await fillSignInPage(page, 'alice')
  await page.waitForURL(`${demo.url}/`)
  await page.goto(callback)
  await page.waitForURL(`${demo.url}/`)
  expect(await authenticated(page)).toBe(true)
})
