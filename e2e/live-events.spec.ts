/** What one window does to the session, the others know at once, and say why in words. */

import { expect, fillSignInPage, test } from './fixtures.ts'

test('who signs out in one window is told so in the other', async ({
  page,
  context,
  signIn,
  demo,
}) => {
  await signIn(page)
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
  const second = await context.newPage()
  await second.goto(demo.url)
  await second.getByRole('button', { name: 'Sign out', exact: true }).click()
  await expect(second.getByRole('button', { name: 'Sign in' })).toBeVisible()
  await expect(page.getByText('You signed out in another window.')).toBeVisible()
})

test('a device that another one signs out says so', async ({ page, signIn, demo, browser }) => {
  await signIn(page)
  const other = await browser.newContext()
  const elsewhere = await other.newPage()
  await elsewhere.goto(`${demo.url}/bff/login`)
  await fillSignInPage(elsewhere, 'alice')
  await expect(elsewhere.getByRole('heading', { name: /Alice/ })).toBeVisible()
  await elsewhere.getByRole('button', { name: 'Sign out all others' }).click()
  await expect(page.getByText('You ended it from another of your devices.')).toBeVisible()
  await other.close()
})

test('another account in another window takes the page over by itself', async ({
  page,
  context,
  signIn,
  demo,
}) => {
  await signIn(page)
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
  const second = await context.newPage()
  await second.goto(`${demo.url}/bff/login?prompt=login`)
  await fillSignInPage(second, 'bob')
  await expect(second.getByRole('heading', { name: /Bob/ })).toBeVisible()
  await expect(page.getByRole('heading', { name: /Bob/ })).toBeVisible()
})

test('ahead of an idle end the page offers to stay, and any call of the API does it', async ({
  page,
  signIn,
}) => {
  // The page's half alone: the demo's own idle time is half an hour.
  await page.route('**/bff/events', (route) =>
    route.fulfill({
      contentType: 'text/event-stream',
      body: 'retry: 600000\nevent: expiring\ndata: {"reason":"idle","expiresIn":60}\n\n',
    }),
  )
  await signIn(page)
  const bar = page.getByRole('status').filter({ hasText: 'You will be signed out in' })
  await expect(bar).toContainText('Nothing happened here for a while.')
  await expect(bar.getByRole('button', { name: 'Sign in again' })).toBeHidden()
  const call = page.waitForRequest('**/api/whoami')
  await bar.getByRole('button', { name: 'Stay signed in' }).click()
  await call
  await expect(bar).toBeHidden()
})
