/** Signing in through the provider's real page, without scripts, as the test browser can. */

import type { Browser, BrowserResponse } from './browser.ts'
import { formsOf } from './html.ts'

interface SignInOptions {
  readonly login?: string
  readonly password?: string
  readonly returnTo?: string
  /** Start of the gateway's own paths. */
  readonly prefix?: string
}

// The sign-in page, and at most two more (a consent, a notice) whose form only needs its button.
const PAGES_MAX = 3

/**
 * Starts at the gateway's login endpoint, fills the provider's form in and follows it to the end.
 * Returns the final response, which is the gateway's: the app, or its page about a failed sign-in.
 */
export const signIn = async (
  browser: Browser,
  gatewayUrl: string,
  { login = 'alice', password = login, returnTo = '/', prefix = '/bff' }: SignInOptions = {},
): Promise<BrowserResponse> => {
  const start = new URL(`${prefix}/login`, gatewayUrl)
  start.searchParams.set('returnTo', returnTo)
  let page = await browser.navigate(start.href)
  for (let pages = 0; pages < PAGES_MAX && !isAt(page, gatewayUrl); pages += 1) {
    const [form] = formsOf(page.text)
    if (form === undefined) break
    const asksForLogin = form.fields.some(([name]) => name === 'login')
    page = await browser.submitForm(page, asksForLogin ? { login, password } : {})
  }
  if (!isAt(page, gatewayUrl)) {
    throw new Error(`signing in ended at ${page.url} (${page.status}):\n${page.text}`)
  }
  return page
}

const isAt = (page: BrowserResponse, gatewayUrl: string): boolean =>
  new URL(page.url).origin === new URL(gatewayUrl).origin
