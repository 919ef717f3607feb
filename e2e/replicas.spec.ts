/** The panel of `coatcheck demo --replicas`, as a person uses it: kill, watch, restart, stop Redis. */

import { test as base } from '@playwright/test'
import { type Demo, expect, fillSignInPage, startDemo } from './fixtures.ts'

const test = base.extend<object, { readonly fleet: Demo }>({
  fleet: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the dependencies of a fixture from this pattern.
    async ({}, use) => {
      const { demo, close } = await startDemo('--replicas', '2')
      await use(demo)
      await close()
    },
    { scope: 'worker', timeout: 60_000 },
  ],
})

test('a person kills a replica, restarts it and stops Redis, and stays signed in', async ({
  fleet,
  page,
}) => {
  await page.goto(fleet.url)
  const part = (name: string) => page.getByRole('region', { name, exact: true })
  await expect(part('Replica 1')).toContainText('up')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await fillSignInPage(page, 'alice')
  const counter = (name: string) =>
    page.locator('.counters div').filter({ has: page.getByText(name, { exact: true }) })
  await expect(counter('2xx')).not.toContainText(/^0/)

  await part('Replica 1').getByRole('button', { name: 'kill -9' }).click()
  await expect(part('Replica 1')).toContainText('down')
  await expect(page.getByText('Replica 1 was killed with SIGKILL')).toBeVisible()
  const answered = await part('Replica 2').textContent()
  await expect(part('Replica 2')).not.toHaveText(String(answered))
  await part('Replica 1').getByRole('button', { name: 'Restart' }).click()
  await expect(part('Replica 1')).toContainText('up', { timeout: 20_000 })

  await part('Redis').getByRole('button', { name: 'Stop for 3 s' }).click()
  await expect(part('Redis')).toContainText('stopped')
  await expect(part('Redis').getByRole('button')).toBeDisabled()
  await expect(part('Redis')).toContainText('up')
  await expect(page.getByText('Redis goes on')).toBeVisible()

  await expect(counter('sessions lost')).toContainText('0 of 1')
  await expect(counter('401')).toContainText('0')
  await expect(page.getByRole('heading', { name: /Alice/ })).toBeVisible()

  await page.getByRole('button', { name: 'Revoke the refresh token' }).click()
  await expect(page.getByText('A session ended: its refresh token was revoked')).toBeVisible()
  await expect(counter('sessions lost')).toContainText('0 of 1')
})

test('without any replica the balancer’s own page brings one back', async ({ fleet, page }) => {
  await page.goto(fleet.url)
  for (const replica of ['Replica 1', 'Replica 2']) {
    const part = page.getByRole('region', { name: replica, exact: true })
    await part.getByRole('button', { name: 'kill -9' }).click()
    await expect(part).toContainText('down')
  }
  await page.goto(fleet.url)
  await page.getByRole('button', { name: 'Restart replica 2' }).click()
  // It looks again by itself until the app is there.
  await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible({ timeout: 20_000 })
})
