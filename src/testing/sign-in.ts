/** Signing a test user in without the login page, at the development identity provider and nowhere else. */

import type { BrowserContext } from '@playwright/test'

export interface SignInOptions {
  /** Origin that the browser sees, such as http://localhost:3000. */
  readonly baseURL: string
  /** Path of the gateway's own endpoints. */
  readonly prefix?: string
}

/** The development provider reads it on its sign-in page; pages of other sites cannot send it (no CORS there). */
const TEST_USER_HEADER = 'coatcheck-test-user'
const CALL_MS = 10_000

/**
 * Signs `login` in: all pages of this context are theirs from then on, whoever was signed in before. Throws an Error
 * that says what to do where the gateway does not answer, has another provider, or the provider has no such user.
 */
export const signInAs = async (
  context: BrowserContext,
  login: string,
  { baseURL, prefix = '/bff' }: SignInOptions,
): Promise<void> => {
  const { origin } = new URL(baseURL)
  await demandDevelopmentProvider(await providerOf(origin, prefix))
  const isApp = (url: URL) => url.origin === origin && !url.pathname.startsWith(`${prefix}/`)
  const page = await context.newPage()
  try {
    await page.setExtraHTTPHeaders({ [TEST_USER_HEADER]: login })
    const started = new URL(`${origin}${prefix}/login`)
    // Otherwise whoever is signed in at the provider would be signed in here.
    started.search = new URLSearchParams({ prompt: 'login', returnTo: '/' }).toString()
    const answer = await page.goto(started.href, { waitUntil: 'commit', timeout: CALL_MS })
    const refusal = async (cause?: unknown) =>
      new Error(
        `coatcheck/testing: "${login}" could not sign in: ${await firstLines(page.locator('body'))}`,
        { cause },
      )
    if (answer !== null && answer.status() >= 400 && !isApp(new URL(page.url())))
      throw await refusal()
    // There may be small pages on the way: of the provider where somebody else was signed in, of the gateway for a
    // browser that keeps no Secure cookies on http.
    await page
      .waitForURL(isApp, { waitUntil: 'commit', timeout: CALL_MS })
      .catch(async (cause: unknown) => {
        throw await refusal(cause)
      })
  } finally {
    await page.close()
  }
}

const firstLines = async (text: { innerText(): Promise<string> }): Promise<string> =>
  (await text.innerText()).replace(/\s+/g, ' ').slice(0, 300)

/** Origin that this gateway's sign-in leads to. */
const providerOf = async (origin: string, prefix: string): Promise<string> => {
  const what = `coatcheck/testing: POST ${origin}${prefix}/login`
  const answer = await fetch(`${origin}${prefix}/login`, {
    method: 'POST',
    headers: { 'x-csrf': '1' },
    redirect: 'manual',
    signal: AbortSignal.timeout(CALL_MS),
  }).catch((cause: unknown) => {
    throw new Error(
      `${what} got no answer. Start the gateway (coatcheck dev), or correct baseURL.`,
      {
        cause,
      },
    )
  })
  const body = (await answer.json().catch(() => undefined)) as
    | { readonly redirectTo?: unknown; readonly code?: unknown }
    | undefined
  if (typeof body?.redirectTo === 'string') return new URL(body.redirectTo).origin
  throw new Error(
    `${what} answered ${answer.status}${typeof body?.code === 'string' ? ` (${body.code})` : ''} and no redirectTo. Is baseURL the gateway's?`,
  )
}

const demandDevelopmentProvider = async (origin: string): Promise<void> => {
  if (isLoopback(new URL(origin).hostname) && (await saysSo(origin))) return
  throw new Error(
    `coatcheck/testing signs in at the development provider of \`coatcheck dev\` and \`coatcheck demo\` only, and this gateway's sign-in leads to ${origin}. Start \`coatcheck dev\` without COATCHECK_ISSUER, or sign in on the provider's own page and keep Playwright's storageState.`,
  )
}

const saysSo = async (origin: string): Promise<boolean> => {
  try {
    const answer = await fetch(`${origin}/.well-known/openid-configuration`, {
      redirect: 'manual',
      signal: AbortSignal.timeout(CALL_MS),
    })
    const metadata = (await answer.json()) as { coatcheck_development_provider?: unknown }
    return metadata.coatcheck_development_provider === true
  } catch {
    // Whatever answers so is no development provider; the caller says it.
    return false
  }
}

const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)
