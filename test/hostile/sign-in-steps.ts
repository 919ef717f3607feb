/** A sign-in taken apart: stopped where an attacker would step in. */

import type { Browser } from '../support/browser.ts'
import type { WholeGateway } from '../support/whole-gateway.ts'

/**
 * Starts a sign-in and gives the provider's redirect to the callback, not yet followed. The provider is one that
 * approves at once (support/fake-provider.ts).
 */
export const authorizationResponseFor = async (
  whole: Pick<WholeGateway, 'url'>,
  browser: Browser,
  returnTo = '/',
): Promise<URL> => {
  const login = new URL(`${whole.url}/bff/login`)
  login.searchParams.set('returnTo', returnTo)
  const started = await browser.navigate(login.href, { redirect: 'manual' })
  const approved = await browser.navigate(started.header('location') ?? '', { redirect: 'manual' })
  const location = approved.header('location')
  if (location === undefined) throw new Error(`no redirect from ${approved.url}:\n${approved.text}`)
  return new URL(location)
}

/** The whole way, at a provider that approves at once. */
export const signInAtOnce = async (
  whole: Pick<WholeGateway, 'url'>,
  browser: Browser,
): Promise<void> => {
  const url = await authorizationResponseFor(whole, browser)
  await browser.navigate(url.href)
}
