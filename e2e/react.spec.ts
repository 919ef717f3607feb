/** `coatcheck/react` in StrictMode: no view is ever shown that is not true. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import { bundle } from '../test/support/bundle.ts'
import { startWholeGateway, type WholeGateway } from '../test/support/whole-gateway.ts'
import { expect, fillSignInPage, test } from './fixtures.ts'

let gateway: WholeGateway
let directory: string
test.beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'coatcheck-app-'))
  await writeFile(
    join(directory, 'index.html'),
    '<!doctype html><title>app</title><div id="app"></div><script type="module" src="/app.js"></script>',
  )
  await writeFile(join(directory, 'app.js'), await bundle('test/client/react-app.tsx'))
  gateway = await startWholeGateway({ env: { COATCHECK_SPA: directory } })
})
test.afterAll(async () => {
  await gateway.close()
  await rm(directory, { recursive: true })
})

const shown = (page: Page) => page.evaluate('shown')

test('each view is shown when it is true, and no other before', async ({ context, page }) => {
  const errors: string[] = []
  page.on('pageerror', ({ message }) => errors.push(message))
  page.on('console', (message) => {
    // React's own warnings; that there is no favicon is none of them.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load'))
      errors.push(message.text())
  })
  await page.goto(`${gateway.url}/orders#total`)
  await expect(page.getByText('Nobody is here')).toBeVisible()
  expect(await shown(page)).toEqual(['Nobody is here'])

  await page.getByRole('button', { name: 'Sign in' }).click()
  await fillSignInPage(page, 'alice')
  await page.waitForURL(`${gateway.url}/orders#total`)
  await expect(page.getByText('Hello Alice')).toBeVisible()
  expect(await shown(page)).toEqual(['Hello Alice Archer'])

  const other = await context.newPage()
  await other.goto(gateway.url)
  await expect(other.getByText('Hello Alice')).toBeVisible()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await expect(other.getByText('Nobody is here')).toBeVisible()
  expect(await shown(other)).toEqual(['Hello Alice Archer', 'Nobody is here'])
  expect(errors).toEqual([])
})

test('while the gateway is down no view takes the place of another', async ({ page }) => {
  await page.goto(`${gateway.url}/bff/login?returnTo=/`)
  await fillSignInPage(page, 'alice')
  await expect(page.getByText('Hello Alice')).toBeVisible()
  await page.route('**/bff/session', (route) => route.abort())
  const status = page.getByRole('status')
  // Nothing else makes this page ask now.
  await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`)
  await expect(status).toHaveText('unavailable')
  expect(await shown(page)).toEqual(['Hello Alice Archer'])

  await page.reload()
  await expect(status).toHaveText('unavailable')
  expect(await shown(page)).toEqual([])
  await page.unroute('**/bff/session')
  await expect(page.getByText('Hello Alice')).toBeVisible()
  expect(await shown(page)).toEqual(['Hello Alice Archer'])
})
