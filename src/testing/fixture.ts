/** `coatcheck/testing`: Playwright's `test` with a fixture that signs a user of the development provider in. */

import { test as base } from '@playwright/test'
import { signInAs } from './sign-in.ts'

export { type SignInOptions, signInAs } from './sign-in.ts'

export interface CoatcheckFixtures {
  /** Signs this user in, in the test's own browser context: `await signInAs('alice')`, then `page.goto('/')`. */
  readonly signInAs: (login: string) => Promise<void>
  /** Option: path of the gateway's own endpoints; `/bff` unless it was configured otherwise. */
  readonly coatcheckPrefix: string
}

/** Where `coatcheck dev` listens, for configurations without a `baseURL`. */
const DEFAULT_BASE_URL = 'http://localhost:3000'

export const test = base.extend<CoatcheckFixtures>({
  coatcheckPrefix: ['/bff', { option: true }],
  signInAs: async ({ context, baseURL, coatcheckPrefix }, use) => {
    await use((login) =>
      signInAs(context, login, { baseURL: baseURL ?? DEFAULT_BASE_URL, prefix: coatcheckPrefix }),
    )
  },
})

export { expect } from '@playwright/test'
