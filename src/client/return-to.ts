/** Where a sign-in or sign-out leads back to: a place in this application, and never one elsewhere. */

import { misuse } from './problem.ts'

/** Path, query and fragment on this origin. */
export type ReturnTo = `/${string}`

/** One slash at the start, and nothing that a browser would drop or read as another slash. */
const SAFE = /^\/(?!\/)[^\x00-\x20\x7f\\]*$/
/** The gateway takes no longer one, and would lead to `/`. */
const LENGTH_MAX = 512

/** Throws `return_to_invalid`. */
export const checkedReturnTo = (returnTo: string): string => {
  if (SAFE.test(returnTo)) return returnTo
  throw misuse('returnTo must be a path of this origin, such as /orders', 'return_to_invalid')
}

/** Where the page is now, as much of it as the gateway takes. */
export const here = (): string => {
  const { pathname, search, hash } = location
  return (
    [pathname + search + hash, pathname + search, pathname].find(
      (place) => place.length <= LENGTH_MAX && SAFE.test(place),
    ) ?? '/'
  )
}

/** An endpoint with the place to return to in its query: at `{returnTo}`, or as `returnTo`. */
export const leadingBack = (endpoint: string, returnTo: string): URL => {
  const url = new URL(
    endpoint.replace('{returnTo}', () => encodeURIComponent(returnTo)),
    location.href,
  )
  if (!endpoint.includes('{returnTo}')) url.searchParams.set('returnTo', returnTo)
  return url
}
