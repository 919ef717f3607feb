/** The main road of the demo, as a person walks it: sign in, call the API, sign out. */

import { expect, fillSignInPage, test } from './fixtures.ts'

test('a person signs in, calls the API and signs out', async ({ demo, page }) => {
  await page.goto(demo.url)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await expect(page).toHaveURL(/^http:\/\/127\.0\.0\.1:/)
  await fillSignInPage(page, 'alice')

  await expect(page).toHaveURL(`${demo.url}/`)
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
  const items = page.waitForResponse(`${demo.url}/api/items`)
  await page.getByRole('button', { name: 'Get items' }).click()
  expect((await items).status()).toBe(200)

  await page.getByRole('button', { name: 'Sign out', exact: true }).click()
  await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible()
  await expect(page).toHaveURL(`${demo.url}/`)
  expect(
    (await page.request.get(`${demo.url}/api/items`, { headers: { 'x-csrf': '1' } })).status(),
  ).toBe(401)
})

test('the browser holds a cookie that scripts cannot read, and no token', async ({
  demo,
  page,
  context,
  signIn,
}) => {
  await signIn(page)
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
  const [session, ...others] = await context.cookies(demo.url)
  expect(others).toEqual([])
  expect(session).toMatchObject({ httpOnly: true, secure: true, sameSite: 'Strict', path: '/' })
  expect(session?.name).toMatch(/^__Host-Http-coatcheck-\d+$/)
  const kept = await page.evaluate(
    '[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]',
  )
  expect(kept).toEqual(['', '{}', '{}'])
})

test('a foreign site cannot use the session', async ({ demo, page, signIn, foreign }) => {
  await signIn(page)
  foreign.serve(
    '/attack',
    `<form method="post" action="${demo.url}/api/items"><button>win</button></form>`,
  )
  await page.goto(`${foreign.url}/attack`)
  const answered = page.waitForResponse(`${demo.url}/api/items`)
  await page.getByRole('button', { name: 'win' }).click()
  expect([401, 403]).toContain((await answered).status())
})

test('a sibling on another port, whose requests carry the cookie, is refused', async ({
  demo,
  page,
  signIn,
  sibling,
}) => {
  await signIn(page)
  sibling.serve(
    '/attack',
    `<form method="post" action="${demo.url}/api/items"><button>win</button></form>`,
  )
  await page.goto(`${sibling.url}/attack`)
  const answered = page.waitForResponse(`${demo.url}/api/items`)
  await page.getByRole('button', { name: 'win' }).click()
  const response = await answered
  expect((await response.request().allHeaders()).cookie).toContain('__Host-Http-coatcheck')
  expect(response.status()).toBe(403)
})
