/** Headers towards the upstream: what the client may say, and what only the gateway says. */

import { GatewayError } from '../errors.ts'
import type { Route } from '../routing/route-table.ts'
import { isOwnCookieName } from '../session/session-cookie.ts'
import { isHopByHop, nominatedBy, rememberVerdicts, withoutNominated } from './header-names.ts'
import { oneForwardLess } from './max-forwards.ts'

/** What a route fixes for all its requests, worked out once. */
export interface RequestHeaderPolicy {
  readonly host: string
  /** Where `Forwarded` goes on after the client's address. */
  readonly forwardedTail: string
  readonly publicHost: string
  readonly publicScheme: string
  /** Cookies that go upstream; never one of the gateway's own. */
  readonly cookies: ReadonlySet<string>
  /** Our name in `Via` with the process's id as its comment. */
  readonly viaName: string
}

export interface RequestHeaderSettings {
  readonly publicUrl: string
  /** Random for this process: by it a request that comes back is known (RFC 9110 §7.6.3). */
  readonly instanceId: string
}

export interface RequestHeaderContext {
  readonly policy: RequestHeaderPolicy
  readonly accessToken: string | undefined
  /** From routing/client-address.ts. */
  readonly clientAddress: string
  readonly requestId: string
}

export const requestHeaderPolicy = (
  route: Pick<Route, 'upstreamOrigin' | 'preserveHost' | 'cookies'>,
  settings: RequestHeaderSettings,
): RequestHeaderPolicy => {
  const publicUrl = new URL(settings.publicUrl)
  const publicScheme = publicUrl.protocol.slice(0, -1)
  return {
    host: route.preserveHost ? publicUrl.host : new URL(route.upstreamOrigin).host,
    forwardedTail: `;host="${publicUrl.host}";proto=${publicScheme}`,
    publicHost: publicUrl.host,
    publicScheme,
    cookies: new Set(route.cookies),
    viaName: `coatcheck (${settings.instanceId})`,
  }
}

/**
 * Flat name-value list in, flat list out. The order is the defence: what the client's `Connection` nominates
 * goes first, then everything a client must not say, and only then is anything injected, so that no
 * nomination can reach it (RFC 9110 §7.6.1).
 * Throws `upstream_unreachable` (reason `loop`) for a request that this process has forwarded before.
 */
export const upstreamRequestHeaders = (
  rawHeaders: readonly string[],
  context: RequestHeaderContext,
): string[] => {
  const { policy } = context
  const kept: string[] = []
  const nominated: string[] = []
  let cookies = ''
  let via = ''
  let hasTrace = false
  let traceState = ''

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
      case 'max-forwards':
        kept.push(name, oneForwardLess(value))
        break
      case 'cookie':
        if (policy.cookies.size > 0) cookies = joined(cookies, allowedCookies(value, policy), '; ')
        break
      case 'via':
        via = joined(via, value, ', ')
        break
      case 'traceparent':
        // W3C Trace Context §3.2.2: one that does not parse is dropped, and tracestate with it.
        if (!hasTrace && isTraceparent(value)) {
          kept.push('traceparent', value)
          hasTrace = true
        }
        break
      case 'tracestate':
        traceState = joined(traceState, value, ',')
        break
      case 'drop':
        break
    }
  }
  if (via.includes(policy.viaName)) {
    throw new GatewayError('upstream_unreachable', { reason: 'loop' })
  }
  if (hasTrace && traceState !== '') kept.push('tracestate', traceState)
  if (cookies !== '') kept.push('cookie', cookies)

  const headers = withoutNominated(kept, nominated)
  headers.push('host', policy.host)
  if (context.accessToken !== undefined) {
    headers.push('authorization', `Bearer ${context.accessToken}`)
  }
  const { clientAddress } = context
  headers.push(
    'forwarded',
    `for=${clientAddress.includes(':') ? `"[${clientAddress}]"` : clientAddress}${policy.forwardedTail}`,
    'x-forwarded-for',
    clientAddress,
    'x-forwarded-host',
    policy.publicHost,
    'x-forwarded-proto',
    policy.publicScheme,
    'via',
    joined(via, `1.1 ${policy.viaName}`, ', '),
    'x-request-id',
    context.requestId,
  )
  return headers
}

type Verdict =
  | 'pass'
  | 'drop'
  | 'connection'
  | 'cookie'
  | 'via'
  | 'max-forwards'
  | 'traceparent'
  | 'tracestate'

/**
 * Names by which frameworks, proxies and clouds tell an API who is calling, over what, or by which method.
 * An API behind a gateway believes them, so no client may send one (RFC 9700 §4.13).
 */
const ASSERTED = new Set([
  // Credentials: a route's own kinds are read before the headers come here, all others never count.
  'authorization',
  'api-key',
  'apikey',
  'x-api-key',
  'x-apikey',
  'dpop',
  'x-access-token',
  'x-id-token',
  'x-csrf',
  // Who.
  'x-userinfo',
  'x-user',
  'x-username',
  'x-email',
  'x-groups',
  'x-roles',
  'x-jwt-assertion',
  'x-proxy-user',
  'x-client-dn',
  'x-client-verify',
  'client-cert',
  'client-cert-chain',
  // From where.
  'forwarded',
  'x-forwarded',
  'fly-client-ip',
  'remote-addr',
  'client-ip',
  'true-client-ip',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
  'x-original-forwarded-for',
  'x-original-host',
  'x-host',
  'x-azure-clientip',
  'x-azure-socketip',
  'fastly-client-ip',
  'cf-connecting-ip',
  'cf-connecting-ipv6',
  // What: routes decide on the target and method of the request line, so nothing may override them later.
  'x-original-url',
  'x-original-uri',
  'x-original-method',
  'x-rewrite-url',
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  // CGI would make it HTTP_PROXY, and the API would send its own calls there.
  'proxy',
  // Said by the gateway alone.
  'host',
  'x-request-id',
  // The gateway's listener has answered it already (RFC 9110 §10.1.1).
  'expect',
])
const ASSERTED_PREFIXES = [
  'remote-',
  'oidc-',
  'impersonate-',
  'x-authentik-',
  'x-appengine-',
  'x-consumer-',
  // Envoy takes these for its own of whoever is beside it: repeat this, wait so long, send it there.
  'x-envoy-',
  'l5d-',
  'x-jwt-',
  'x-endpoint-api-',
  'x-ms-token-',
  'x-pomerium-',
  'x-scope-',
  'x-vercel-',
  'x-vouch-',
  'x-forwarded-',
  'x-user-',
  'x-auth-',
  'x-authenticated-',
  'x-remote-',
  'x-webauth-',
  'x-client-cert',
  'x-ssl-',
  'ssl-client-',
  'x-amzn-oidc-',
  'x-ms-client-principal',
  'x-goog-authenticated-user-',
  'x-goog-iap-',
  'cf-access-',
  'tailscale-user-',
]

/** Names with a meaning of their own, which only their one correct spelling has. */
const SPECIAL: ReadonlyMap<string, Verdict> = new Map([
  ['connection', 'connection'],
  ['cookie', 'cookie'],
  ['via', 'via'],
  ['max-forwards', 'max-forwards'],
  ['traceparent', 'traceparent'],
  ['tracestate', 'tracestate'],
  ['content-length', 'pass'],
  ['content-type', 'pass'],
])

const judge = (lowerCaseName: string): Verdict => {
  // CGI, WSGI and PHP see `X_Forwarded_For` and `X.Forwarded.For` as the same variable as `X-Forwarded-For`.
  const plain = lowerCaseName.replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '')
  if (ASSERTED.has(plain) || ASSERTED_PREFIXES.some((prefix) => plain.startsWith(prefix))) {
    return 'drop'
  }
  const special = SPECIAL.get(plain)
  if (special !== undefined) return plain === lowerCaseName ? special : 'drop'
  return isHopByHop(plain) ? 'drop' : 'pass'
}

const verdictOn = rememberVerdicts(judge)

/** RFC 6265 §5.4 pairs of one line that the route lists, in their order, duplicates included. */
const allowedCookies = (line: string, policy: RequestHeaderPolicy): string => {
  let allowed = ''
  for (const part of line.split(';')) {
    const pair = part.trim()
    const equals = pair.indexOf('=')
    const name = pair.slice(0, Math.max(equals, 0)).trimEnd()
    if (!policy.cookies.has(name) || isOwnCookieName(name)) continue
    allowed = joined(allowed, pair, '; ')
  }
  return allowed
}

const joined = (before: string, next: string, separator: string): string => {
  if (before === '' || next === '') return before + next
  return before + separator + next
}

/** W3C Trace Context §3.2: version 00 exactly, later ones may go on; ids of zeros only are invalid. */
const isTraceparent = (value: string): boolean =>
  /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/.test(
    value,
  ) &&
  (value.length === 55 || !value.startsWith('00'))
