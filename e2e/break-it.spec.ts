/** The “Break it” row of the demo: each button breaks what it says, and the page tells what a user would have noticed. */

import type { Page } from '@playwright/test'
import { expect, test } from './fixtures.ts'

const result = (page: Page) => page.getByRole('group', { name: 'What came of it' })

const breakIt = async (page: Page, button: string): Promise<void> => {
  await page.getByRole('button', { name: button }).click()
  await expect(result(page)).toContainText(button)
}

test.beforeEach(async ({ page, signIn }) => {
  await signIn(page)
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
})

test('tokens that expire or are refused cost the user nothing', async ({ page }) => {
  await expect(page.locator('.count')).toHaveText(/^1access token so far\./)
  await breakIt(page, 'Expire the access token now')
  await expect(result(page)).toContainText('Nothing')
  await expect(result(page)).toContainText('1 refresh, then your call went on')

  await breakIt(page, 'Let the API answer one 401')
  await expect(result(page)).toContainText('refreshed once and asked again')

  await breakIt(page, '50 calls during one refresh')
  await expect(result(page)).toContainText('1 refresh, 50 answers, 0 failures')
})

test('a provider that fails is a pause, and nobody is signed out', async ({ page }) => {
  await breakIt(page, 'Break the provider for 20 s')
  await expect(result(page)).toContainText('provider_unavailable')
  await page.getByRole('button', { name: 'Mend it now' }).click()
  await expect(result(page)).toContainText(/A pause of \d+ seconds/, { timeout: 30_000 })
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()
})

test('another site’s POST is refused, with and without the cookie', async ({ page, context }) => {
  const opened = context.waitForEvent('page')
  await breakIt(page, 'Let another site try a POST')
  const rival = await opened
  await expect(result(page)).toContainText('cookie kept back')
  await expect(result(page)).toContainText('session_required')
  await expect(result(page)).toContainText('cookie sent')
  await expect(result(page)).toContainText('csrf_rejected')
  await expect(result(page)).toContainText('Nothing')
  await expect.poll(() => rival.isClosed()).toBe(true)
  await page.getByRole('button', { name: 'Get items' }).click()
  await expect(page.getByText('Umbrella, black', { exact: true })).toBeVisible()
  await expect(page.getByText('Taken by a stranger', { exact: true })).toHaveCount(0)
})

test('a revoked refresh token signs out, and the page says why', async ({ page }) => {
  await breakIt(page, 'Revoke the refresh token')
  await expect(page.getByText('The identity provider withdrew its permission.')).toBeVisible()
  await expect(result(page)).toContainText('session_ended')
  await expect(result(page)).toContainText('Signed out, with the reason')
})

test('the provider’s end of the session reaches the page without a call', async ({ page }) => {
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  await page.getByRole('button', { name: 'Send' }).click()
  const socket = page.getByRole('list', { name: 'The WebSocket, latest first' })
  await expect(socket).toContainText('heardIs my coat still there?')
  await breakIt(page, 'End the session at the provider')
  await expect(page.getByText('The identity provider signed you out.')).toBeVisible()
  await expect(result(page)).toContainText('backchannel_logout')
  await expect(socket).toContainText('4401The session ended: backchannel_logout')
})

test('a WebSocket ends with 4401 when another window signs out', async ({
  page,
  context,
  demo,
}) => {
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  const socket = page.getByRole('list', { name: 'The WebSocket, latest first' })
  await expect(socket).toContainText('open')
  const second = await context.newPage()
  await second.goto(demo.url)
  await second.getByRole('button', { name: 'Sign out', exact: true }).click()
  await expect(socket).toContainText('4401The session ended: logout')
})

test('the page fits a phone, in every view and with its code shown', async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 })
  await page.getByRole('button', { name: 'Code', exact: true }).click()
  await expect(page.locator('.source[open]')).toHaveCount(await page.locator('.source').count())
  await breakIt(page, 'Expire the access token now')
  await expect(result(page)).toContainText('Nothing')
  const overflow = () =>
    page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
  expect(await overflow()).toBe(0)
  for (const code of await page.locator('.source pre').all())
    expect((await code.textContent())?.split('\n').length).toBeLessThan(20)
  await page.getByRole('button', { name: 'Sign out', exact: true }).click()
  await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible()
  expect(await overflow()).toBe(0)
})
