/**
 * What other sites can make a real browser do with our session. `foreign` is another site; `sibling` is another port
 * of localhost, whose requests carry even the Strict cookie.
 */

import type { Page } from '@playwright/test'
import { expect, test } from './fixtures.ts'

const authenticated = async (page: Page, url: string): Promise<boolean> => {
  await page.goto(`${url}/`)
  return page.evaluate(async () => {
    const answer = await fetch('/bff/session')
    return ((await answer.json()) as { authenticated: boolean }).authenticated
  })
}

for (const relation of ['foreign', 'sibling'] as const) {
  test(`${relation}: images, frames, forms and fetches reach neither the API nor the session`, async ({
    demo,
    page,
    signIn,
    foreign,
    sibling,
  }) => {
    await signIn(page)
    const site = { foreign, sibling }[relation]
    // The demo's own page polls; it must be gone before anything is counted.
    await page.goto('about:blank')
    const statuses: number[] = []
    page.on('response', (response) => {
      if (response.url().startsWith(demo.url) && !response.url().endsWith('/favicon.svg'))
        statuses.push(response.status())
    })
    site.serve(
      '/attack',
      `<img src="${demo.url}/bff/logout"><img src="${demo.url}/api/items">
       <iframe src="${demo.url}/bff/login"></iframe><iframe src="${demo.url}/api/whoami"></iframe>
       <script>
         window.done = Promise.allSettled([
           fetch('${demo.url}/api/items', { credentials: 'include' }),
           fetch('${demo.url}/api/items', { method: 'POST', credentials: 'include', mode: 'no-cors', body: '{"name":"x"}' }),
           fetch('${demo.url}/bff/logout', { method: 'POST', credentials: 'include', mode: 'no-cors' }),
           fetch('${demo.url}/bff/login', { method: 'POST', credentials: 'include', mode: 'no-cors' }),
           fetch('${demo.url}/bff/session', { credentials: 'include' }),
           fetch('${demo.url}/api/items', { method: 'PUT', credentials: 'include', headers: { 'x-csrf': '1' } }),
         ]).then((results) => results.map(({ status, value }) => value?.type === 'opaque' ? 'opaque' : status))
       </script>`,
    )
    await page.goto(`${site.url}/attack`)
    const results = await page.evaluate<string[]>('window.done')
    expect(results).toEqual(['rejected', 'opaque', 'opaque', 'opaque', 'rejected', 'rejected'])
    await page.waitForTimeout(300)
    expect(statuses.length).toBeGreaterThanOrEqual(5)
    expect(statuses.every((status) => status >= 400)).toBe(true)
    expect(await authenticated(page, demo.url)).toBe(true)
  })

  test(`${relation}: a link to an API answer or a logout is refused with a page`, async ({
    demo,
    page,
    signIn,
    foreign,
    sibling,
  }) => {
    await signIn(page)
    const site = { foreign, sibling }[relation]
    for (const path of ['/api/whoami', '/bff/logout', '/bff/logout?token=guess']) {
      site.serve('/link', `<a href="${demo.url}${path}">go</a>`)
      await page.goto(`${site.url}/link`)
      const answered = page.waitForResponse((response) => response.url() === `${demo.url}${path}`)
      await page.getByRole('link', { name: 'go' }).click()
      const response = await answered
      expect([401, 403]).toContain(response.status())
      expect(response.headers()['content-type']).toContain('text/html')
    }
    expect(await authenticated(page, demo.url)).toBe(true)
  })
}

test('a sibling’s speculation rules prefetch with the Strict cookie, and get nothing', async ({
  demo,
  page,
  signIn,
  sibling,
}) => {
  await signIn(page)
  const logout = await page.evaluate(async () => {
    const answer = await fetch('/bff/session')
    return ((await answer.json()) as { links: { logout: string } }).links.logout
  })
  await page.goto('about:blank')
  const seen: { path: string; status: number }[] = []
  page.context().on('response', (response) => {
    const url = new URL(response.url())
    if (url.origin === demo.url) seen.push({ path: url.pathname, status: response.status() })
  })
  sibling.serve(
    '/speculate',
    `<script type="speculationrules">${JSON.stringify({
      prefetch: [
        {
          source: 'list',
          urls: [`${demo.url}/api/whoami`, `${demo.url}${logout}`, `${demo.url}/bff/login`],
          eagerness: 'immediate',
        },
      ],
    })}</script>`,
  )
  await page.goto(`${sibling.url}/speculate`)
  await page.waitForTimeout(1_500)
  expect(seen.every(({ status }) => status >= 400)).toBe(true)
  expect(await authenticated(page, demo.url)).toBe(true)
})

test('a prefetch link on our own page neither signs in nor signs out', async ({
  demo,
  page,
  signIn,
}) => {
  await signIn(page)
  // In the page's own words: the types of these tests know no DOM.
  await page.evaluate(`(async () => {
    const { links } = await (await fetch('/bff/session')).json()
    for (const href of [links.logout, links.login])
      document.head.append(Object.assign(document.createElement('link'), { rel: 'prefetch', href }))
  })()`)
  await page.waitForTimeout(800)
  expect(await authenticated(page, demo.url)).toBe(true)
})

test('a link from another site to login passes the small page and ends where it should', async ({
  demo,
  page,
  signIn,
  foreign,
}) => {
  await signIn(page)
  foreign.serve('/mail', `<a href="${demo.url}/bff/login?returnTo=/orders">open</a>`)
  await page.goto(`${foreign.url}/mail`)
  await page.getByRole('link', { name: 'open' }).click()
  await page.waitForURL(`${demo.url}/orders`)
  const ok = await page.evaluate(async () => (await fetch('/api/items')).status)
  expect(ok).toBe(200)
})

test('a foreign WebSocket handshake is refused', async ({ demo, page, signIn, foreign }) => {
  await signIn(page)
  foreign.serve('/socket', '<p>socket</p>')
  await page.goto(`${foreign.url}/socket`)
  const code = await page.evaluate(
    (url) =>
      new Promise<number>((resolve) => {
        const socket = new WebSocket(`${url.replace('http', 'ws')}/api/socket`)
        socket.onclose = (event) => resolve(event.code)
      }),
    demo.url,
  )
  expect(code).toBe(1006)
})
