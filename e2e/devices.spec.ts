/** “My devices” in the demo, and another account in another window of the same browser. */

import { expect, fillSignInPage, test } from './fixtures.ts'

test('one device signs the other out, and the list says what is left', async ({
  demo,
  page,
  signIn,
  browser,
}) => {
  await signIn(page)
  // Those of the tests before this one.
  await page.evaluate(`fetch('/bff/sessions', { method: 'DELETE' })`)
  const other = await browser.newContext()
  const elsewhere = await other.newPage()
  await elsewhere.goto(`${demo.url}/bff/login`)
  await fillSignInPage(elsewhere, 'alice')
  await expect(elsewhere.getByRole('heading', { name: /Alice/ })).toBeVisible()

  await page.reload()
  const devices = page.getByRole('list', { name: 'Devices' }).getByRole('listitem')
  await expect(devices).toHaveCount(2)
  await expect(devices.filter({ hasText: 'this one' })).toHaveCount(1)
  await expect(devices.first()).toContainText(/Chrome on \w+\s*this one\s*127\.0\.0\.1/)

  await page.getByRole('button', { name: /^Sign out Chrome on/ }).click()
  await expect(devices).toHaveCount(1)
  await expect(elsewhere.getByText('Your session is over')).toBeVisible()
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
  await other.close()
})

test('all others are signed out at once', async ({ demo, page, signIn, browser }) => {
  await signIn(page)
  const others = await Promise.all([browser.newContext(), browser.newContext()])
  for (const other of others) {
    const elsewhere = await other.newPage()
    await elsewhere.goto(`${demo.url}/bff/login`)
    await fillSignInPage(elsewhere, 'alice')
    await expect(elsewhere.getByRole('heading', { name: /Alice/ })).toBeVisible()
  }
  await page.reload()
  const devices = page.getByRole('list', { name: 'Devices' }).getByRole('listitem')
  await expect(devices).not.toHaveCount(1)
  const signOutOthers = page.getByRole('button', { name: 'Sign out all others' })
  await signOutOthers.click()
  await expect(devices).toHaveCount(1)
  await expect(signOutOthers).toBeHidden()
  for (const other of others) {
    const answer = await other.request.get(`${demo.url}/api/items`, {
      headers: { 'x-csrf': '1' },
    })
    expect(answer.status()).toBe(401)
    await other.close()
  }
})

test('another account in another window takes the page over, and its tokens are counted anew', async ({
  demo,
  page,
  context,
  signIn,
}) => {
  await signIn(page)
  // The API has seen more tokens of this user than it will have of the other one.
  await page.goto(`${demo.url}/bff/login?prompt=login`)
  await fillSignInPage(page, 'alice')
  const count = page.locator('.count b')
  await expect(count).toHaveText(/^[1-9]/)

  const second = await context.newPage()
  await second.goto(`${demo.url}/bff/login?prompt=login`)
  await fillSignInPage(second, 'bob')
  await expect(second.getByRole('heading', { name: /Bob/ })).toBeVisible()

  await page.bringToFront()
  const asked = await page.waitForResponse(`${demo.url}/api/whoami`)
  const who = (await asked.json()) as { readonly token: { readonly fingerprint: string } }
  await expect(page.locator('.chips li').first()).toHaveText(who.token.fingerprint)
  await expect(count).toHaveText(/^[1-9]/, { timeout: 1 })

  await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`)
  await expect(page.getByRole('heading', { name: /Bob/ })).toBeVisible()
  await expect(count).toHaveText(/^[1-9]/)
})
