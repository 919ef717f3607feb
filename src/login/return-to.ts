/** Where to go after sign-in or sign-out: the only open-redirect check (RFC 9700 §4.11.1, OIDC Core §4). */

import { parseTarget } from '../routing/path.ts'

export const RETURN_TO_BYTES_MAX = 512
export const DEFAULT_RETURN_TO = '/'

export interface ReturnToRules {
  /** Own origin, from configuration. */
  readonly publicOrigin: string
  /** The gateway's own endpoints are no place to return to: a login that leads to a login never ends. */
  readonly prefix: string
}

/** Characters that URL parsers strip, normalise or read as slashes, and everything that is not printable ASCII. */
const SAFE_PATH = /^\/(?![/\\])[\x21-\x7e]*$/

/**
 * A path, query and fragment on the public origin, or undefined. A full URL of the public origin is reduced to
 * those. What is accepted means the same to every parser: it starts with exactly one slash, holds no backslash
 * and no byte a browser would drop, and resolves to our own origin.
 */
export const safeReturnTo = (
  value: string | undefined,
  { publicOrigin, prefix }: ReturnToRules,
): string | undefined => {
  if (value === undefined || value === '') return undefined
  const path = value.startsWith(`${publicOrigin}/`) ? value.slice(publicOrigin.length) : value
  const encoded = encodeNonAscii(path)
  if (encoded === undefined || encoded.length > RETURN_TO_BYTES_MAX) return undefined
  if (!SAFE_PATH.test(encoded) || encoded.includes('\\')) return undefined
  if (!URL.canParse(encoded, publicOrigin)) return undefined
  const resolved = new URL(encoded, publicOrigin)
  if (resolved.origin !== publicOrigin) return undefined
  // Read as the listener will read it: `/%62ff/login` is `/bff/login`, and what it refuses is no page, two slashes
  // at the start, encoded or not, among them.
  const target = parseTarget(resolved.pathname, { encodedSlash: true })
  if (target.kind === 'invalid') return undefined
  if (target.path === prefix || target.path.startsWith(`${prefix}/`)) return undefined
  return `${resolved.pathname}${resolved.search}${resolved.hash}`
}

/** Non-ASCII letters become what a browser would send; lone surrogates have no encoding and are refused. */
const encodeNonAscii = (value: string): string | undefined =>
  value.isWellFormed() ? value.replace(/[^\x00-\x7f]+/g, encodeURIComponent) : undefined

/** Path and query of a same-origin `Referer`: a page, never the API call that noticed. */
export const returnToFromReferer = (
  referer: string | undefined,
  rules: ReturnToRules,
): string | undefined => {
  if (referer === undefined || !URL.canParse(referer)) return undefined
  const url = new URL(referer)
  return url.origin === rules.publicOrigin
    ? safeReturnTo(`${url.pathname}${url.search}`, rules)
    : undefined
}

/** Shorter forms for a cookie that would grow too large: the path alone, then the root. */
export const shorterReturnTo = (returnTo: string): string => {
  const end = returnTo.search(/[?#]/)
  return end === -1 ? DEFAULT_RETURN_TO : returnTo.slice(0, end)
}

/** The login URL that leads back to a page; without one it leads to wherever the browser then is. */
export const loginUrl = (
  prefix: string,
  returnTo: string | undefined,
  parameters: Readonly<Record<string, string>> = {},
): string => {
  const query = new URLSearchParams({
    ...(returnTo === undefined ? {} : { returnTo }),
    ...parameters,
  }).toString()
  return `${prefix}/login${query === '' ? '' : `?${query}`}`
}
