/** Fixtures of the browser tests: the running demo, a signed-in page, and the sites around it. */

import { test as base, type Page } from '@playwright/test'
import { startChild } from '../test/support/child.ts'
import { waitFor } from '../test/support/wait.ts'
import { type Site, startSite } from './site.ts'

export interface Demo {
  /** Origin of the gateway on `localhost`, without a trailing slash; the provider lives on 127.0.0.1. */
  readonly url: string
  /** Output of the demo so far. */
  readonly output: () => string
}

interface TestFixtures {
  /** An attacker: 127.0.0.1 is another site than the demo's `localhost`. */
  readonly foreign: Site
  /** Another port of `localhost`: same site, other origin, the same cookie jar. */
  readonly sibling: Site
  /** Signs in through the provider's own page and ends at `returnTo`. */
  readonly signIn: (page: Page, options?: SignInOptions) => Promise<void>
}

interface SignInOptions {
  readonly login?: string
  readonly returnTo?: string
}

export const test = base.extend<TestFixtures, { readonly demo: Demo }>({
  demo: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the dependencies of a fixture from this pattern.
    async ({}, use) => {
      const { demo, close } = await startDemo()
      await use(demo)
      await close()
    },
    { scope: 'worker', timeout: 60_000 },
  ],
  // biome-ignore lint/correctness/noEmptyPattern: as above.
  foreign: async ({}, use) => useSite('foreign', use),
  // biome-ignore lint/correctness/noEmptyPattern: as above.
  sibling: async ({}, use) => useSite('sibling', use),
  signIn: async ({ demo }, use) => {
    await use(async (page, { login = 'alice', returnTo = '/' } = {}) => {
      await page.goto(`${demo.url}/bff/login?returnTo=${encodeURIComponent(returnTo)}`)
      await fillSignInPage(page, login)
      await page.waitForURL(`${demo.url}${returnTo}`)
    })
  },
})

export { expect } from '@playwright/test'

/** On the development provider's page; the password is the same word. */
export const fillSignInPage = async (page: Page, login: string): Promise<void> => {
  await page.fill('input[name=login]', login)
  await page.fill('input[name=password]', login)
  await page.getByRole('button', { name: 'Sign in' }).click()
}

const useSite = async (
  relation: 'foreign' | 'sibling',
  use: (site: Site) => Promise<void>,
): Promise<void> => {
  const site = await startSite(relation)
  await use(site)
  await site.close()
}

/** `coatcheck demo`, which picks other ports where its own are taken and says which URL to open. */
export const startDemo = async (
  ...options: readonly string[]
): Promise<{ demo: Demo; close: () => Promise<void> }> => {
  const child = await startChild(process.execPath, ['src/main.ts', 'demo', ...options])
  const output = () => [...child.stdout, ...child.stderr].join('\n')
  const close = async () => {
    child.signal('SIGTERM')
    await waitFor('the demo ends by itself', () => child.hasExited(), { timeoutMs: 10_000 }).catch(
      child.kill,
    )
  }
  try {
    const url = await waitFor(
      'the demo prints its URL',
      () =>
        child.hasExited()
          ? 'exited'
          : /open (http:\/\/localhost:\d+)/.exec(child.stdout.join('\n'))?.[1],
      { timeoutMs: 45_000, intervalMs: 100 },
    )
    if (url === 'exited') throw new Error('the demo ended')
    return { demo: { url, output }, close }
  } catch (cause) {
    await child.kill()
    throw new Error(`the demo did not start:\n${output()}`, { cause })
  }
}
