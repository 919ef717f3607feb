/** The cookie jar of the test browser: RFC 6265bis as far as a gateway on loopback can tell. */

import { isIP } from 'node:net'

export type SameSite = 'strict' | 'lax' | 'none' | 'unstated'

export interface Cookie {
  readonly name: string
  readonly value: string
  /** Ports do not matter: every server of a host shares its cookies. */
  readonly host: string
  readonly hostOnly: boolean
  readonly path: string
  readonly secure: boolean
  readonly httpOnly: boolean
  /** Without the attribute, or with an unknown value, a cookie is nearly Lax: see `CookieContext`. */
  readonly sameSite: SameSite
  /** Undefined for a cookie that ends with the browser. */
  readonly expiresAt: number | undefined
  readonly setAt: number
}

/**
 * How a request stands to the site of the page that causes it: `strict` sends every cookie, `lax` is a
 * cross-site navigation by a safe method, `lax-unsafe` one by POST, which still gets cookies without
 * `SameSite` for two minutes; `none` leaves only `SameSite=None`.
 */
export type CookieContext = 'strict' | 'lax' | 'lax-unsafe' | 'none'

export interface CookieJar {
  /** Applies one `Set-Cookie` line; false when a browser would refuse it. */
  set(line: string, url: URL, context?: CookieContext): boolean
  /** Value of the `Cookie` request header, undefined when no cookie goes along. */
  header(url: URL, context: CookieContext): string | undefined
  /** Cookies that have not expired, in the order of their creation. */
  all(): readonly Cookie[]
  clear(): void
}

const PAIR_BYTES_MAX = 4096
const LAX_UNSAFE_MS = 120_000

/** `drops-on-http` stands for WebKit, to which only https is secure enough for a `Secure` cookie, loopback or not. */
export const createCookieJar = (
  now: () => number = Date.now,
  secureCookies: 'kept-on-loopback' | 'drops-on-http' = 'kept-on-loopback',
): CookieJar => {
  const cookies = new Map<string, Cookie>()
  const live = () => {
    for (const [key, cookie] of cookies) {
      if (cookie.expiresAt !== undefined && cookie.expiresAt <= now()) cookies.delete(key)
    }
    return [...cookies.values()]
  }
  return {
    set(line, url, context = 'strict') {
      const cookie = parseSetCookie(line, url, now())
      if (cookie === undefined || !mayBeSet(cookie, url, context)) return false
      if (secureCookies === 'drops-on-http' && cookie.secure && url.protocol === 'http:')
        return false
      // A replaced cookie keeps its place, as a browser keeps its creation time.
      cookies.set([cookie.host, cookie.hostOnly, cookie.path, cookie.name].join(';'), cookie)
      return true
    },
    header(url, context) {
      const sent = live().filter((cookie) => isSent(cookie, url, context, now()))
      // Longer paths first; among equals the older cookie first (RFC 6265bis §5.8.3).
      sent.sort((left, right) => right.path.length - left.path.length)
      if (sent.length === 0) return undefined
      return sent.map(({ name, value }) => (name === '' ? value : `${name}=${value}`)).join('; ')
    },
    all: live,
    clear: () => cookies.clear(),
  }
}

/** Browsers treat plain http to loopback as trustworthy: `Secure` cookies are set and sent there. */
export const isTrustworthy = (url: URL): boolean =>
  url.protocol === 'https:' ||
  url.hostname === 'localhost' ||
  url.hostname.endsWith('.localhost') ||
  url.hostname === '[::1]' ||
  (isIP(url.hostname) === 4 && url.hostname.startsWith('127.'))

const parseSetCookie = (line: string, url: URL, now: number): Cookie | undefined => {
  if (hasControlCharacter(line)) return undefined
  const [pair = '', ...attributeTexts] = line.split(';')
  const { key: name, value } = splitPair(pair, 'value')
  if (name === '' && value === '') return undefined
  if (Buffer.byteLength(name) + Buffer.byteLength(value) > PAIR_BYTES_MAX) return undefined

  let host = url.hostname
  let hostOnly = true
  let domainStated = false
  let path = defaultPath(url)
  let secure = false
  let httpOnly = false
  let sameSite: SameSite = 'unstated'
  let expires: number | undefined
  let maxAge: number | undefined
  for (const text of attributeTexts) {
    const attribute = splitPair(text, 'key')
    switch (attribute.key.toLowerCase()) {
      case 'domain': {
        const domain = attribute.value.replace(/^\./, '').toLowerCase()
        if (domain === '') break
        if (!domainMatches(url.hostname, domain)) return undefined
        host = domain
        domainStated = true
        // A single label is a public suffix: the cookie stays with its host (RFC 6265bis §5.7 step 9).
        hostOnly = !domain.includes('.')
        break
      }
      case 'path':
        path = attribute.value.startsWith('/') ? attribute.value : defaultPath(url)
        break
      case 'secure':
        secure = true
        break
      case 'httponly':
        httpOnly = true
        break
      case 'samesite': {
        const stated = attribute.value.toLowerCase()
        sameSite =
          stated === 'strict' || stated === 'lax' || stated === 'none' ? stated : 'unstated'
        break
      }
      case 'expires': {
        const instant = Date.parse(attribute.value)
        if (!Number.isNaN(instant)) expires = instant
        break
      }
      case 'max-age':
        if (/^-?\d+$/.test(attribute.value)) maxAge = Number(attribute.value)
        break
    }
  }
  const expiresAt = maxAge === undefined ? expires : maxAge <= 0 ? 0 : now + maxAge * 1000
  const cookie = {
    name,
    value,
    host,
    hostOnly,
    path,
    secure,
    httpOnly,
    sameSite,
    expiresAt,
    setAt: now,
  }
  return fulfilsPrefix(cookie, domainStated) ? cookie : undefined
}

const fulfilsPrefix = (cookie: Cookie, domainStated: boolean): boolean => {
  // A nameless cookie whose value looks like a prefixed pair would read as one on the wire.
  if (cookie.name === '') return !/^__(secure|host|http)-/i.test(cookie.value)
  const hasPrefix = (prefix: string) => cookie.name.toLowerCase().startsWith(prefix)
  const boundToHost = cookie.secure && !domainStated && cookie.path === '/'
  if (hasPrefix('__host-http-')) return boundToHost && cookie.httpOnly
  if (hasPrefix('__host-')) return boundToHost
  if (hasPrefix('__http-')) return cookie.secure && cookie.httpOnly
  return !hasPrefix('__secure-') || cookie.secure
}

const mayBeSet = (cookie: Cookie, url: URL, context: CookieContext): boolean => {
  if (cookie.secure && !isTrustworthy(url)) return false
  if (cookie.sameSite === 'none' && !cookie.secure) return false
  return cookie.sameSite === 'none' || context !== 'none'
}

const isSent = (cookie: Cookie, url: URL, context: CookieContext, now: number): boolean => {
  const hostMatches = cookie.hostOnly
    ? url.hostname === cookie.host
    : domainMatches(url.hostname, cookie.host)
  if (!hostMatches || !pathMatches(url.pathname, cookie.path)) return false
  if (cookie.secure && !isTrustworthy(url)) return false
  if (context === 'strict' || cookie.sameSite === 'none') return true
  if (context === 'lax') return cookie.sameSite !== 'strict'
  return (
    context === 'lax-unsafe' && cookie.sameSite === 'unstated' && now - cookie.setAt < LAX_UNSAFE_MS
  )
}

const domainMatches = (host: string, domain: string): boolean =>
  host === domain || (host.endsWith(`.${domain}`) && isIP(host) === 0)

/** RFC 6265 §5.1.4: the path up to its last slash. */
const defaultPath = (url: URL): string => {
  const lastSlash = url.pathname.lastIndexOf('/')
  return lastSlash <= 0 ? '/' : url.pathname.slice(0, lastSlash)
}

const pathMatches = (requested: string, path: string): boolean =>
  requested === path ||
  (requested.startsWith(path) && (path.endsWith('/') || requested[path.length] === '/'))

/** `lone` says what a text without an equals sign is: an attribute's key, or a cookie's value. */
const splitPair = (text: string, lone: 'key' | 'value'): { key: string; value: string } => {
  const equals = text.indexOf('=')
  if (equals >= 0)
    return { key: text.slice(0, equals).trim(), value: text.slice(equals + 1).trim() }
  return lone === 'key' ? { key: text.trim(), value: '' } : { key: '', value: text.trim() }
}

const hasControlCharacter = (line: string): boolean => /[\x00-\x08\x0a-\x1f\x7f]/.test(line)
