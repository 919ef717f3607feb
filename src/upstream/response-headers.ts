/** Headers towards the browser: what an upstream may say on the application's own origin. */

import type { CachePolicy, Route } from '../routing/route-table.ts'
import { isOwnCookieName } from '../session/session-cookie.ts'
import { isHopByHop, nominatedBy, rememberVerdicts, withoutNominated } from './header-names.ts'
import {
  type PublicReferences,
  publicLinks,
  publicReference,
  publicReferences,
  publicRefresh,
} from './public-references.ts'

/** What a route fixes for all its answers, worked out once. */
export interface ResponseHeaderPolicy {
  readonly cache: CachePolicy
  /** Answers depend on who is signed in: a cache that is allowed to keep them must tell users apart. */
  readonly perUser: boolean
  readonly setCookies: ReadonlySet<string>
  readonly references: PublicReferences
  /** Undefined on a public URL without TLS. */
  readonly transportSecurity: string | undefined
}

/** A year, as long as lists of such hosts want it. For the whole origin, so on all its answers (RFC 6797 §7.1). */
const TRANSPORT_SECURITY = 'max-age=31536000; includeSubDomains'

/** `Strict-Transport-Security`: over http it means nothing, and is left out (RFC 6797 §7.2). */
export const transportSecurity = (publicUrl: string): string | undefined =>
  publicUrl.startsWith('https:') ? TRANSPORT_SECURITY : undefined

export interface ResponseHeaderContext {
  readonly policy: ResponseHeaderPolicy
  readonly status: number
  readonly requestId: string
  /**
   * `Set-Cookie` lines of the gateway's own. Whoever got an answer with one out of a cache would be this user
   * (RFC 9111 §3), so none may keep it.
   */
  readonly ownCookies?: readonly string[]
}

export const responseHeaderPolicy = (
  route: Route,
  settings: {
    readonly publicUrl: string
    /** All there are: where one's upstream names another's, that is a place behind the gateway too. */
    readonly routes: readonly Route[]
  },
): ResponseHeaderPolicy => ({
  cache: route.cache,
  perUser: route.credential === 'user',
  setCookies: new Set(route.setCookies),
  references: publicReferences(route, settings.routes, settings.publicUrl),
  transportSecurity: transportSecurity(settings.publicUrl),
})

/** Far more than any answer has; a client would have to read all of them. */
const FIELDS_MAX = 1_000

/**
 * Why an answer cannot be passed on as it was meant, as a private word. What is coded otherwise than `chunked` would
 * lose the name of its coding with the field, which is for one connection only (RFC 9112 §6.1).
 */
export const answerFault = (rawHeaders: readonly string[]): string | undefined => {
  if (rawHeaders.length > FIELDS_MAX * 2) return 'response_headers_too_large'
  let codings = 0
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    if (name.length !== TRANSFER_ENCODING.length || name.toLowerCase() !== TRANSFER_ENCODING)
      continue
    codings += 1
    if (codings > 1 || rawHeaders[i + 1]?.toLowerCase() !== 'chunked') return 'response_coding'
  }
  return undefined
}
const TRANSFER_ENCODING = 'transfer-encoding'

/** Flat name-value list in, flat list out; duplicates keep their order. */
export const downstreamResponseHeaders = (
  rawHeaders: readonly string[],
  context: ResponseHeaderContext,
): string[] => {
  const { policy, status, ownCookies = [] } = context
  const cache = ownCookies.length === 0 ? policy.cache : 'private, no-store'
  const kept: string[] = []
  const nominated: string[] = []
  let noTransform = false
  let challenged = status === 401
  let passedChallenge = false

  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    const value = rawHeaders[i + 1] as string
    switch (verdictOn(name)) {
      case 'pass':
        kept.push(name, value)
        break
      case 'connection':
        nominated.push(...nominatedBy(value))
        break
      case 'set-cookie':
        if (isAllowedSetCookie(value, policy)) kept.push(name, value)
        break
      case 'cache':
        if (cache === 'upstream') kept.push(name, value)
        else noTransform ||= /(?:^|[,\s])no-transform(?:[,\s]|$)/i.test(value)
        break
      case 'location':
        kept.push(name, publicReference(value, policy.references))
        break
      case 'refresh':
        kept.push(name, publicRefresh(value, policy.references))
        break
      case 'link':
        kept.push(name, publicLinks(value, policy.references))
        break
      case 'challenge':
        if (isTokenChallenge(value)) {
          kept.push(name, value)
          passedChallenge = true
        } else challenged = true
        break
      case 'length':
        // RFC 9110 §8.6: no Content-Length with 204.
        if (status !== 204) kept.push(name, value)
        break
      case 'drop':
        break
    }
  }

  const headers = withoutNominated(kept, nominated)
  // Cookies lack the protection that shared caches give to Authorization (RFC 9111 §3.5): we say it ourselves.
  if (cache === 'private, no-store') {
    headers.push('cache-control', noTransform ? `${cache}, no-transform` : cache)
  } else if (policy.perUser) {
    headers.push('vary', 'Cookie')
  }
  // A token challenge says what the page can act on (`insufficient_scope`, RFC 9470 `acr_values`) and passes. Any other
  // would open a password prompt; a 401 needs one all the same (RFC 9110 §15.5.2), with a parameter (RFC 6750 §3).
  if (challenged && !passedChallenge) headers.push('www-authenticate', 'Bearer realm="upstream"')
  if (policy.transportSecurity !== undefined)
    headers.push('strict-transport-security', policy.transportSecurity)
  headers.push('x-content-type-options', 'nosniff', 'x-request-id', context.requestId)
  for (const cookie of ownCookies) headers.push('set-cookie', cookie)
  return headers
}

type Verdict =
  | 'pass'
  | 'drop'
  | 'connection'
  | 'set-cookie'
  | 'cache'
  | 'location'
  | 'refresh'
  | 'link'
  | 'challenge'
  | 'length'

const SPECIAL: ReadonlyMap<string, Verdict> = new Map([
  ['connection', 'connection'],
  ['set-cookie', 'set-cookie'],
  ['cache-control', 'cache'],
  ['expires', 'cache'],
  ['pragma', 'cache'],
  ['age', 'cache'],
  ['surrogate-control', 'cache'],
  // To nginx, LiteSpeed and Akamai these count for more than Cache-Control.
  ['x-accel-expires', 'cache'],
  ['x-litespeed-cache-control', 'cache'],
  ['edge-control', 'cache'],
  ['location', 'location'],
  ['content-location', 'location'],
  ['refresh', 'refresh'],
  ['link', 'link'],
  ['www-authenticate', 'challenge'],
  ['content-length', 'length'],
])

/** Bearer and DPoP alone: browsers ask nobody for those. Two challenges in one line are not taken apart. */
const isTokenChallenge = (value: string): boolean =>
  /^\s*(?:bearer|dpop)(?:\s|$)/i.test(value) &&
  !/,\s*(?:basic|digest|negotiate|ntlm|kerberos|hoba|mutual|scram[\w-]*|vapid)\b/i.test(value)

const DROPPED = new Set([
  // What runs behind the gateway is nobody's business.
  'server',
  'via',
  'x-powered-by',
  'x-powered-cms',
  'x-aspnet-version',
  'x-aspnetmvc-version',
  'x-sourcefiles',
  'x-generator',
  'x-runtime',
  'x-served-by',
  'x-backend',
  'x-backend-server',
  'proxy-status',
  // Answers to the credential that the gateway sent, not to the browser's.
  'authentication-info',
  'dpop-nonce',
  // Obsolete (RFC 6265 §1), and no way around the list of cookies that may be set.
  'set-cookie2',
  // These speak for a whole origin, and the origin is the application's, not one API's: transport, other servers for
  // it, error reporting, client hints, sign-out of everything, sessions bound to a device, and service workers
  // outside the route.
  'strict-transport-security',
  'public-key-pins',
  'expect-ct',
  'alt-svc',
  'nel',
  'report-to',
  'reporting-endpoints',
  'accept-ch',
  'critical-ch',
  'set-login',
  'clear-site-data',
  'service-worker-allowed',
  // Other origins get nothing: RFC 10017 §6.1.3.3.2 counts on CORS staying closed.
  'timing-allow-origin',
  // Commands to a proxy in front of the gateway, which would serve its own files for them.
  'x-accel-redirect',
  'x-sendfile',
  'x-sendfile2',
  'x-lighttpd-send-file',
  'x-litespeed-location',
  'x-reproxy-url',
  // Set by the gateway.
  'x-content-type-options',
  'x-request-id',
])

const DROPPED_PREFIXES = [
  'access-control-',
  'x-debug-',
  'x-envoy-',
  'x-kong-',
  'sec-session-',
  'secure-session-',
]

const judge = (lowerCaseName: string): Verdict => {
  const special = SPECIAL.get(lowerCaseName)
  if (special !== undefined) return special
  // Targeted cache control (RFC 9213): CDN-Cache-Control and the vendors' forms of it.
  if (lowerCaseName.endsWith('cdn-cache-control')) return 'cache'
  if (DROPPED_PREFIXES.some((prefix) => lowerCaseName.startsWith(prefix))) return 'drop'
  return DROPPED.has(lowerCaseName) || isHopByHop(lowerCaseName) ? 'drop' : 'pass'
}

const verdictOn = rememberVerdicts(judge)

/** Listed, not one of ours, and for this host alone: `Domain` would hand it to every sibling subdomain. */
const isAllowedSetCookie = (value: string, policy: ResponseHeaderPolicy): boolean => {
  if (policy.setCookies.size === 0) return false
  const [pair = '', ...attributes] = value.split(';')
  const name = pair.slice(0, Math.max(pair.indexOf('='), 0)).trim()
  // A nameless cookie is sent back as its bare value, which may look like another cookie's name and value.
  if (name === '' || !policy.setCookies.has(name)) return false
  if (isOwnCookieName(name)) return false
  return !attributes.some((attribute) => /^\s*domain\s*(?:=|$)/i.test(attribute))
}
