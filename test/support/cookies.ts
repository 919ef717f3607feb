/** Names of the gateway's cookies in a browser, by what they are for. */

import type { Browser } from './browser.ts'

const PREFIX = '__Host-Http-coatcheck'

export const sessionCookie = (browser: Browser) =>
  browser.cookies().find((cookie) => new RegExp(`^${PREFIX}-\\d+$`).test(cookie.name))

/** The same in its plain form, for browsers that drop `Secure` cookies on http. */
export const plainSessionCookie = (browser: Browser) =>
  browser.cookies().find((cookie) => /^coatcheck-\d+$/.test(cookie.name))

export const plainLoginCookies = (browser: Browser) =>
  browser.cookies().filter((cookie) => cookie.name.startsWith('coatcheck-login-'))

export const loginCookies = (browser: Browser) =>
  browser.cookies().filter((cookie) => cookie.name.startsWith(`${PREFIX}-login-`))

export const logoutCookie = (browser: Browser) =>
  browser.cookies().find((cookie) => cookie.name.startsWith(`${PREFIX}-logout`))
