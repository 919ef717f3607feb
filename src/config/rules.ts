/** Rules between settings, and what is allowed but deserves a warning. Neither ever repeats a value. */

import { isLoopback } from './addresses.ts'
import type { HostPort } from './forms.ts'
import type { RouteAsWritten, Settings } from './schema.ts'
import { looksInvented } from './secrets.ts'

/** Settings as far as they could be read: what has a problem of its own is undefined. */
export type Readable<T> = T extends readonly (infer Item)[]
  ? readonly Readable<Item>[]
  : T extends string | number | boolean | undefined
    ? T | undefined
    : { readonly [K in keyof T]?: Readable<T[K]> | undefined }

export interface BrokenRule {
  readonly setting: string
  readonly rule: string
}

/** Whether something was written for a setting, valid or not: what is invalid is not missing too. */
type IsSet = (path: string) => boolean

type Rule = (settings: Readable<Settings>, isSet: IsSet) => readonly BrokenRule[]

export const brokenRules = (settings: Readable<Settings>, isSet: IsSet): readonly BrokenRule[] =>
  RULES.flatMap((rule) => rule(settings, isSet))

const broken = (setting: string, rule: string): readonly BrokenRule[] => [{ setting, rule }]

const RULES: readonly Rule[] = [
  ({ session }) =>
    session?.idle !== undefined && session.absolute !== undefined && session.idle > session.absolute
      ? broken('session.idle', 'must not be longer than session.absolute')
      : [],

  ({ logout }) =>
    logout?.clearSiteData !== undefined &&
    logout.clearSiteData.length > 1 &&
    logout.clearSiteData.includes('none')
      ? broken('logout.clearSiteData', 'must not have anything beside none')
      : [],

  ({ drain }) =>
    drain?.delay !== undefined && drain.deadline !== undefined && drain.delay >= drain.deadline
      ? broken('drain.delay', 'must be shorter than drain.deadline')
      : [],

  ({ listen, operations }) =>
    listen !== undefined &&
    operations?.listen !== undefined &&
    operations.listen !== 'off' &&
    collide(listen, operations.listen)
      ? broken(
          'operations.listen',
          'must not be the address of listen: operations are never public',
        )
      : [],

  ({ listen, operations, tls }) => {
    const plain = tls?.plainListen
    const others = [listen, operations?.listen].filter((other) => other !== undefined)
    return plain !== undefined && others.some((other) => other !== 'off' && collide(plain, other))
      ? broken('tls.plainListen', 'must not be the address of listen or operations.listen')
      : []
  },

  ({ publicUrl }, isSet) => {
    const first = ['tls.cert', 'tls.plainListen'].find(isSet)
    return first !== undefined && publicUrl?.startsWith('http:')
      ? broken(first, 'needs a publicUrl that begins with https')
      : []
  },

  ({ publicUrl, plainCookies, provider }) => {
    if (plainCookies !== true || publicUrl === undefined) return []
    const { protocol, hostname } = new URL(publicUrl)
    if (protocol !== 'http:' || !isLoopback(hostname))
      return broken('plainCookies', 'needs a publicUrl of http on loopback: it is for development')
    return provider?.responseMode === 'form_post'
      ? broken('plainCookies', 'needs provider.responseMode query: form_post needs Secure cookies')
      : []
  },

  ({ secret, clientSecret }) =>
    clientSecret !== undefined && secret?.includes(clientSecret)
      ? broken('secret', 'must not contain the client secret: each secret has one purpose')
      : [],

  ({ redis }, isSet) => {
    const given = TLS_SETTINGS.filter(isSet)
    const [first] = given
    const urlIsBroken = isSet('redis.url') && redis?.url === undefined
    if (first === undefined || urlIsBroken || redis?.url?.tls === true) return []
    return broken(first, 'needs a redis.url that begins with rediss')
  },

  (_, isSet) =>
    ['tls', 'redis.tls', 'upstreamTls'].flatMap((group) => halfAnIdentity(group, isSet)),

  (settings, isSet) => {
    const given = UPSTREAM_TLS_SETTINGS.filter(isSet)
    const [first] = given
    if (first === undefined) return []
    const hosts = new Set(
      upstreamsOf(settings)
        .filter(isHttps)
        .map(({ host }) => host),
    )
    if (hosts.size === 0) return broken(first, 'needs an upstream that begins with https')
    return hosts.size > 1 && given.includes('upstreamTls.serverName')
      ? broken('upstreamTls.serverName', 'must not be set where https upstreams are several')
      : []
  },

  ({ admin, secret, clientSecret }) =>
    admin?.token?.some(
      (token) =>
        token !== undefined && (token === clientSecret || secret?.includes(token) === true),
    )
      ? broken('admin.token', 'must not be in secret or clientSecret: each secret has one purpose')
      : [],

  ({ admin, operations }) =>
    admin?.token !== undefined && operations?.listen === 'off'
      ? broken('admin.token', 'needs operations.listen, where the admin API is')
      : [],

  ({ spa }) =>
    spa?.directory !== undefined && spa.upstream !== undefined
      ? broken('spa.directory', 'must not be set together with spa.upstream')
      : [],

  ({ spa }, isSet) =>
    spa?.csp !== undefined && !isSet('spa.directory')
      ? broken('spa.csp', 'needs spa.directory: documents of another server keep their own policy')
      : [],

  ({ routes }, isSet) =>
    !isSet('upstream') && routes?.length === 0
      ? broken('upstream', 'is required, unless the file has routes')
      : [],

  ({ upstream, spa, routes = [], ...gateway }) =>
    [
      ['upstream', upstream] as const,
      ['spa.upstream', spa?.upstream] as const,
      ...routes.map((route, index) => [`routes[${index}].upstream`, route.upstream] as const),
    ].flatMap(([setting, target]) =>
      target === undefined ? [] : notTheGateway(setting, new URL(target), gateway),
    ),

  ({ upstream, apiPaths, prefix }) =>
    upstream !== undefined &&
    prefix !== undefined &&
    apiPaths?.some((path) => path !== undefined && isWithin(path, prefix))
      ? broken('apiPaths', 'must not lie under prefix, where the gateway’s own endpoints are')
      : [],

  ({ routes = [], prefix }) =>
    routes.flatMap((route, index) => routeRules(route, `routes[${index}]`, prefix)),

  (settings) => duplicateRoutes(settings),

  ({ routes = [], spa }) => {
    const catchAll = routes.findIndex((route) => route.path === '/' && route.methods === undefined)
    return catchAll >= 0 && (spa?.directory ?? spa?.upstream) !== undefined
      ? broken(
          `routes[${catchAll}].path`,
          'must not be "/" beside spa: nothing would be left for the app',
        )
      : []
  },
]

const peerTlsSettings = (group: string) =>
  ['ca', 'cert', 'key', 'serverName'].map((name) => `${group}.${name}`)
const TLS_SETTINGS = peerTlsSettings('redis.tls')
const UPSTREAM_TLS_SETTINGS = peerTlsSettings('upstreamTls')

const halfAnIdentity = (group: string, isSet: IsSet): readonly BrokenRule[] => {
  const [cert, key] = [`${group}.cert`, `${group}.key`]
  return isSet(cert) === isSet(key)
    ? []
    : broken(isSet(cert) ? key : cert, 'must be set too: a certificate and its key go together')
}

const upstreamsOf = ({ upstream, spa, routes = [] }: Readable<Settings>): readonly URL[] =>
  [upstream, spa?.upstream, ...routes.map((route) => route.upstream)]
    .filter((written) => written !== undefined)
    .map((written) => new URL(written))

const isHttps = ({ protocol }: URL): boolean => protocol === 'https:'

const routeRules = (
  route: Readable<RouteAsWritten>,
  at: string,
  prefix: string | undefined,
): readonly BrokenRule[] => [
  ...(route.path !== undefined && prefix !== undefined && isWithin(route.path, prefix)
    ? broken(`${at}.path`, 'must not lie under prefix, where the gateway’s own endpoints are')
    : []),
  ...(route.credential === 'user' && route.accept !== undefined && !route.accept.includes('session')
    ? broken(
        `${at}.credential`,
        'must be none where accept has no session: there is no token to send',
      )
    : []),
  ...(route.documents === true && route.accept !== undefined && !route.accept.includes('session')
    ? broken(`${at}.documents`, 'needs session in accept')
    : []),
]

/**
 * Routes of one path must name no method twice, and only one of them may take those that no other names. The
 * routes that `upstream` and `apiPaths` make count too.
 */
const duplicateRoutes = (settings: Readable<Settings>): readonly BrokenRule[] => {
  const taken = new Map<string, Set<string>>()
  const claims = [
    ...(settings.upstream === undefined ? [] : (settings.apiPaths ?? [])).map((path) => ({
      path,
      methods: [ANY_METHOD],
      setting: 'apiPaths',
    })),
    ...(settings.routes ?? []).map((route, index) => ({
      path: route.path,
      methods: route.methods ?? [ANY_METHOD],
      setting: `routes[${index}].path`,
    })),
  ]
  return claims.flatMap(({ path, methods, setting }) => {
    if (path === undefined) return []
    const earlier = taken.get(path) ?? new Set<string>()
    taken.set(path, new Set([...earlier, ...methods.filter((method) => method !== undefined)]))
    const clash = methods.some((method) => method !== undefined && earlier.has(method))
    return clash ? broken(setting, 'must not repeat the path and a method of an earlier route') : []
  })
}

const ANY_METHOD = '*'

const isWithin = (path: string, prefix: string): boolean =>
  path === prefix || path.startsWith(`${prefix}/`)

const notTheGateway = (
  setting: string,
  target: URL,
  {
    publicUrl,
    listen,
    operations,
    tls,
  }: Readable<Pick<Settings, 'publicUrl' | 'listen' | 'operations' | 'tls'>>,
): readonly BrokenRule[] => {
  if (target.origin === publicUrl)
    return broken(setting, 'must not be the public URL: the gateway would call itself')
  if (listen !== undefined && isReachedBy(target, listen))
    return broken(setting, 'must not be the address of listen: the gateway would call itself')
  if (tls?.plainListen !== undefined && isReachedBy(target, tls.plainListen))
    return broken(
      setting,
      'must not be the address of tls.plainListen: the gateway would call itself',
    )
  return operations?.listen !== undefined &&
    operations.listen !== 'off' &&
    isReachedBy(target, operations.listen)
    ? broken(setting, 'must not be the address of operations.listen: operations are never public')
    : []
}

/** As far as it can be told without a resolver: the same address, or this machine by another of its names. */
const isReachedBy = (target: URL, { host, port }: Readable<HostPort>): boolean => {
  if (Number(target.port || DEFAULT_PORTS[target.protocol]) !== port) return false
  const called = target.hostname.replace(/^\[(.*)\]$/, '$1')
  if (called === host) return true
  if (isWildcard(host)) return isLoopback(target.hostname)
  const names = [called, host ?? '']
  return names.includes('localhost') && names.every((name) => LOOPBACK_NAMES.has(name))
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'http:': 80, 'https:': 443 }
const LOOPBACK_NAMES: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '::1'])

/** The same port, and addresses of which one contains the other. */
const collide = (one: Readable<HostPort>, other: Readable<HostPort>): boolean =>
  one.port === other.port &&
  one.port !== 0 &&
  (one.host === other.host || isWildcard(one.host) || isWildcard(other.host))

const isWildcard = (host: string | undefined): boolean => host === '0.0.0.0' || host === '::'

/** What a valid configuration should still make its operator think about. */
export const warningsFor = (settings: Settings): readonly string[] => [
  ...(settings.redis.url === undefined
    ? [
        'Sessions live in the memory of this process: a restart signs everyone out, and a second process does not know them. Set COATCHECK_REDIS_URL to keep them.',
      ]
    : []),
  ...(settings.session.sameSite === 'lax'
    ? [
        'session.sameSite is lax: other sites can make the browser send the session cookie with a navigation. Keep strict unless something needs this.',
      ]
    : []),
  ...(settings.logout.clearSiteData.includes('cookies')
    ? [
        'logout.clearSiteData has cookies: signing out then clears the cookies of every host under the same registrable domain, the provider’s among them. The gateway clears its own without it.',
      ]
    : []),
  ...(mayLackRefreshToken(settings)
    ? [
        'scope names no offline_access: many providers then give no refresh token, and sessions end with their first access token.',
      ]
    : []),
  ...(settings.provider.connectTo !== undefined &&
  settings.issuer.startsWith('http:') &&
  !isLoopback(settings.provider.connectTo.host)
    ? [
        'The issuer is http and provider.connectTo leads to another machine: the client secret and all tokens travel unencrypted. For development only.',
      ]
    : []),
  ...(settings.trustedProxies.some((range) => range.endsWith('/0'))
    ? [
        'trustedProxies trusts every address: any client can invent the address that limits and logs see.',
      ]
    : []),
  ...(settings.secret?.some(looksInvented)
    ? [
        'secret has an entry that looks invented rather than generated. Make one with: openssl rand -base64 48',
      ]
    : []),
  ...(upstreamsWithUserToken(settings).size > 1
    ? [
        'Routes send the user’s access token to more than one upstream: each of them could use it at the others (RFC 10017 §9.1).',
      ]
    : []),
]

const mayLackRefreshToken = ({ scope, authorizationParams }: Settings): boolean =>
  scope !== undefined &&
  !scope.split(' ').includes('offline_access') &&
  authorizationParams.access_type !== 'offline'

const upstreamsWithUserToken = ({ upstream, routes }: Settings): ReadonlySet<string> =>
  new Set([
    ...(upstream === undefined ? [] : [new URL(upstream).origin]),
    ...routes
      .filter((route) => route.credential !== 'none' && route.accept.includes('session'))
      .map((route) => new URL(route.upstream).origin),
  ])
