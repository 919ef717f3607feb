/**
 * Every setting: how it is written, its default and what it does. Types, variables, the JSON Schema and
 * docs/configuration.md all come from here.
 */

import { z } from 'zod'
import {
  addressRange,
  connectAddress,
  foreignCookieName,
  issuer,
  listenAddress,
  listenAddressOrOff,
  origin,
  path,
  publicUrl,
  routePath,
  upstream,
} from './addresses.ts'
import {
  boolean,
  choice,
  durationMilliseconds,
  durationSeconds,
  type Form,
  matching,
  set,
  size,
  wholeNumber,
} from './forms.ts'
import {
  audience,
  authorizationParameters,
  claimPath,
  clientId,
  clientSecret,
  ID_TOKEN_ALGORITHMS,
  idTokenAlgorithm,
  resource,
  scope,
  signInRequirements,
} from './oauth.ts'
import { redisUrl } from './redis-address.ts'
import { adminTokens, secretRing } from './secrets.ts'

/** What the schema's own types cannot say about a setting. */
export interface About {
  readonly form: Form<unknown>
  readonly sentence: string
  readonly required?: true
  /** The default as it would be written; undefined where the setting has none. */
  readonly default?: unknown
  /** In words, where the default is worked out from something else. */
  readonly defaultInWords?: string
}

const about = new Map<z.core.$ZodType, About>()

/** Undefined for groups of settings. */
export const aboutSetting = (schema: z.core.$ZodType): About | undefined => about.get(schema)

const described = <S extends z.ZodType>(schema: S, facts: About): S => {
  const setting = schema.describe(facts.sentence)
  about.set(setting, facts)
  return setting
}

const required = <T>(form: Form<T>, sentence: string) =>
  described(form.schema, { form, sentence, required: true })

const optional = <T>(form: Form<T>, sentence: string, defaultInWords?: string) =>
  described(form.schema.optional(), {
    form,
    sentence,
    ...(defaultInWords === undefined ? {} : { defaultInWords }),
  })

const defaulted = <T>(form: Form<T>, written: unknown, sentence: string) =>
  described(form.schema.prefault(written as never), { form, sentence, default: written })

const group = <S extends z.core.$ZodLooseShape>(shape: S) =>
  z.strictObject(shape, { error: 'must be a map of settings' })

const method = matching(
  'method in capitals',
  'must be a method in capital letters, other than CONNECT and TRACE',
  /^(?!CONNECT$|TRACE$)[A-Z][A-Z-]{0,31}$/,
)

const ACCEPTED_LATER: readonly unknown[] = ['bearer', 'apiKey']

/** Credentials that a route judges. */
const acceptedCredential: Form<'session' | 'anonymous'> = {
  ...choice('session', 'anonymous'),
  schema: z.enum(['session', 'anonymous'], {
    error: (issue) =>
      ACCEPTED_LATER.includes(issue.input)
        ? 'must be session or anonymous: bearer and apiKey come in a later release'
        : 'must be session or anonymous',
  }),
}

const contentSecurityPolicy = matching(
  '`default`, `strict` or a policy',
  "must be default, strict, or a Content-Security-Policy such as default-src 'self'",
  /^(default|strict|[a-z][a-z-]* [\x20-\x7e]{1,4000})$/,
)

const connectTimeout = durationMilliseconds('10ms', '5m')
const firstByteTimeout = durationMilliseconds('10ms', '1h')
const idleTimeout = durationMilliseconds('0s', '1d')
const totalTimeout = durationMilliseconds('0s', '1d')

const webSocketOrigin = choice('keep', 'upstream')
const webSocketTime = durationMilliseconds('0s', '30d')
const bodySize = size('1B', '1024GiB')

const pemFile = matching(
  'file in PEM',
  'must be the path of a file in PEM, not what is in it',
  /^(?!.*-----BEGIN)[^\0\r\n]{1,4096}$/,
)

const hostName = (example: string) =>
  matching(
    'host name',
    `must be a host name, such as ${example}`,
    /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$/,
  )

export const ROUTES_MAX = 500

const route = group({
  path: required(
    routePath,
    'Prefix on segment boundaries: `/api` takes `/api` and `/api/…`, never `/apifoo`; the longest wins.',
  ),
  methods: optional(
    set(method, { itemsMin: 1 }),
    'Methods that this route takes, `HEAD` with `GET`; others get 405, or another route of the same path.',
    'all but CONNECT and TRACE',
  ),
  upstream: required(upstream, 'Origin, and optional base path, that gets the requests.'),
  stripPrefix: defaulted(boolean, false, 'Removes the route’s path before forwarding.'),
  accept: defaulted(
    set(acceptedCredential, { itemsMin: 1 }),
    ['session'],
    'Which credentials this route judges; `anonymous` lets requests without any pass.',
  ),
  credential: optional(
    choice('user', 'none'),
    'What the upstream gets: the access token of the session’s user, or nothing.',
    '`user`, or `none` on a route that only accepts `anonymous`',
  ),
  documents: defaulted(
    boolean,
    false,
    'Pages live here: a signed-out navigation is sent to sign in instead of getting an error.',
  ),
  webSocket: defaulted(
    boolean,
    false,
    'Lets WebSocket handshakes pass, of the application’s own pages alone.',
  ),
  webSockets: group({
    origin: optional(
      webSocketOrigin,
      '`Origin` that the upstream gets with a handshake.',
      '`webSockets.origin`',
    ),
    idle: optional(webSocketTime, 'Longest silence of a WebSocket.', '`webSockets.idle`'),
    lifetime: optional(webSocketTime, 'Longest life of a WebSocket.', '`webSockets.lifetime`'),
  }).prefault({}),
  eventSource: defaulted(
    boolean,
    false,
    'Server-sent events live here: no `X-CSRF` header is demanded when `csrf` is `header`, and an open stream may be silent.',
  ),
  encodedSlash: defaulted(boolean, false, 'Lets one layer of `%2F` pass in the path.'),
  preserveHost: defaulted(
    boolean,
    false,
    'Sends the public host in `Host` instead of the upstream’s own.',
  ),
  cookies: defaulted(
    set(foreignCookieName),
    [],
    'Request cookies that the upstream gets; never the gateway’s own.',
  ),
  setCookies: defaulted(
    set(foreignCookieName),
    [],
    'Cookies that the upstream may set in the browser; never the gateway’s own.',
  ),
  bodyBytesMax: optional(
    bodySize,
    'Largest request body; a larger one gets 413.',
    '`limits.bodyBytes`',
  ),
  timeout: group({
    connect: optional(connectTimeout, 'Time to connect.', '`upstreamTimeout.connect`'),
    firstByte: optional(
      firstByteTimeout,
      'Time until the answer begins, from the end of the request.',
      '`upstreamTimeout.firstByte`',
    ),
    idle: optional(
      idleTimeout,
      'Longest silence inside an answer; `0s` means no limit.',
      '`upstreamTimeout.idle`, or no limit where `eventSource` is true',
    ),
    total: optional(
      totalTimeout,
      'Time for the whole of it, from the sending to the end of the answer; `0s` means no limit.',
      '`upstreamTimeout.total`, or no limit where `eventSource` is true',
    ),
  }).prefault({}),
  cache: defaulted(
    choice('private, no-store', 'upstream'),
    'private, no-store',
    '`Cache-Control` of the answers: replaced by `private, no-store`, or left as the upstream sent it.',
  ),
})

export const settingsSchema = group({
  publicUrl: required(publicUrl, 'Origin that the browser sees.'),
  issuer: required(
    issuer,
    'Issuer of the OpenID Provider; its metadata must name exactly the same.',
  ),
  clientId: required(clientId, 'Client that is registered at the provider, a confidential one.'),
  clientSecret: required(
    clientSecret,
    'Secret of that client; read again while running when it comes from a file.',
  ),
  upstream: optional(
    upstream,
    'Origin, and optional base path, that gets the requests of `apiPaths`.',
    'required, unless the file has `routes`',
  ),
  apiPaths: defaulted(
    set(path, { itemsMin: 1 }),
    ['/api'],
    'Prefixes that go to `upstream`, path unchanged.',
  ),
  upstreamStripPrefix: defaulted(
    boolean,
    false,
    'Removes the prefix of `apiPaths` before forwarding.',
  ),
  secret: optional(
    secretRing,
    'Key ring that seals cookies and sessions: the first seals, all open. Read again while running when it comes from a file.',
    'required, except in `demo` and `dev`',
  ),
  redis: group({
    url: optional(
      redisUrl,
      'Redis or Valkey that keeps the sessions; without it they live in this process and end with it. Read again while running when it comes from a file.',
    ),
    tls: group({
      ca: optional(
        pemFile,
        'File with the certificate authorities that sign Redis’s certificate, instead of those of the system; followed while running, like the two below.',
      ),
      cert: optional(pemFile, 'File with the certificate that the gateway shows to Redis.'),
      key: optional(pemFile, 'File with the private key of `redis.tls.cert`.'),
      serverName: optional(
        hostName('redis.example.com'),
        'Name that the certificate must have, where it is not the host that is connected to.',
      ),
    }).prefault({}),
    namespace: optional(
      matching('text', 'must be 1 to 32 letters, digits, _ or -', /^[A-Za-z0-9_-]{1,32}$/),
      'Part of every key, which keeps deployments on one Redis apart.',
      'derived from issuer and client id',
    ),
    commandTimeout: defaulted(
      durationMilliseconds('10ms', '10s'),
      '1s',
      'Time for one command; after it the store counts as unavailable.',
    ),
    connectTimeout: defaulted(durationMilliseconds('10ms', '30s'), '1s', 'Time to connect.'),
    confirm: defaulted(
      wholeNumber(0, 5),
      0,
      'Replicas that must have a sign-in, refresh or end before it counts, within half of `redis.commandTimeout`; otherwise 503. Each master needs that many replicas. `0`: the master’s word is enough, and what a failover loses is written again.',
    ),
  }).prefault({}),
  spa: group({
    directory: optional(
      matching('directory', 'must be the path of a directory', /^[^\0]{1,4096}$/),
      'Directory of the built single-page app, relative to the file that says so (in a variable: to the working directory).',
    ),
    upstream: optional(origin, 'Server that has the single-page app, instead of a directory.'),
    csp: optional(
      contentSecurityPolicy,
      'Content-Security-Policy of the app’s documents, for a directory only: `default` breaks no ordinary build, `strict` allows the app’s own origin alone.',
      '`default`',
    ),
  }).prefault({}),
  listen: defaulted(
    listenAddress,
    '127.0.0.1:3000',
    'Address that browsers, or the proxy before the gateway, connect to.',
  ),
  tls: group({
    cert: optional(
      pemFile,
      'File with the certificate that browsers see, its chain behind it; `listen` then speaks TLS. Followed while running, like its key.',
    ),
    key: optional(pemFile, 'File with the private key of `tls.cert`.'),
    minVersion: defaulted(
      choice('TLSv1.2', 'TLSv1.3'),
      'TLSv1.2',
      'Oldest version of TLS that `listen` speaks.',
    ),
    plainListen: optional(
      listenAddress,
      'Address for plain HTTP beside it: navigations are sent to the public URL, everything else is refused.',
    ),
  }).prefault({}),
  operations: group({
    listen: defaulted(
      listenAddressOrOff,
      '127.0.0.1:9090',
      'Address of `/livez`, `/readyz` and `/metrics`; never a public one.',
    ),
    readiness: defaulted(
      set(choice('store', 'provider')),
      [],
      'Dependencies whose outage makes `/readyz` answer 503; others only make it say `degraded`.',
    ),
  }).prefault({}),
  admin: group({
    token: optional(
      adminTokens,
      'Opens `/admin/sessions` on the operations listener; without it there is no such thing. Read again while running when it comes from a file.',
    ),
  }).prefault({}),
  plainCookies: defaulted(
    boolean,
    false,
    'For development with a browser that drops `Secure` cookies on `http://localhost` (Safari): it gets the cookies without prefix and `Secure`. Only with a public URL of http on loopback.',
  ),
  prefix: defaulted(path, '/bff', 'Path under which the gateway’s own endpoints live.'),
  scope: optional(
    scope,
    'Scope of the authorization request.',
    '`openid profile email`, and `offline_access` where the provider offers it and needs it',
  ),
  resource: optional(
    resource,
    'RFC 8707 `resource` of the authorization request, the code exchange and every refresh.',
  ),
  audience: optional(audience, '`audience` of the authorization request, as Auth0 wants it.'),
  authorizationParams: defaulted(
    authorizationParameters,
    {},
    'More parameters of the authorization request, for example `access_type=offline&prompt=consent` for Google.',
  ),
  provider: group({
    connectTo: optional(
      connectAddress,
      'Connections to the issuer’s origin go to this address, while URL, `Host`, TLS name and expected issuer stay the issuer’s.',
    ),
    clientAuthentication: defaulted(
      choice('client_secret_basic', 'client_secret_post'),
      'client_secret_basic',
      'How the client authenticates at the token endpoint.',
    ),
    timeout: defaulted(
      durationSeconds('100ms', '1m'),
      '5s',
      'Time for one call to the provider, other than the token endpoint.',
    ),
    tokenTimeout: defaulted(
      durationSeconds('100ms', '1m'),
      '5s',
      'Time for one call to the token endpoint; what a refresh may hold is derived from it. Keep it above what the provider needs on a bad day: an answer that comes later is lost, and with it the session where refresh tokens rotate.',
    ),
    responseMode: defaulted(
      choice('query', 'form_post'),
      'query',
      'How the provider sends its answer to the callback.',
    ),
    concurrency: defaulted(
      wholeNumber(1, 1000),
      32,
      'Most refreshes that one process has in flight at the provider.',
    ),
    idTokenAlgorithms: defaulted(
      set(idTokenAlgorithm, { itemsMin: 1 }),
      [...ID_TOKEN_ALGORITHMS],
      'Signature algorithms that ID tokens may have.',
    ),
    logoutTokens: defaulted(
      choice('strict', 'compatible'),
      'strict',
      'Logout tokens that are accepted: as the specification has them, or also without `typ` or `exp`, as older providers send them.',
    ),
    trustedAudiences: defaulted(
      set(clientId),
      [],
      'Audiences beside this client that ID tokens and logout tokens may name; any other makes a token unacceptable.',
    ),
  }).prefault({}),
  signIn: group({
    require: defaulted(
      signInRequirements,
      {},
      'Who may sign in: every claim named must have one of its values; `email_domain` looks at verified addresses only.',
    ),
  }).prefault({}),
  user: group({
    claims: defaulted(
      set(claimPath),
      [],
      'Claims that `/bff/session` shows beside the usual ones.',
    ),
  }).prefault({}),
  login: group({
    errors: defaulted(
      choice('page', 'redirect'),
      'page',
      'Where a failed sign-in ends: on a page of the gateway, or at `returnTo` with `error=login_failed` in its query.',
    ),
  }).prefault({}),
  logout: group({
    clearSiteData: defaulted(
      set(choice('none', 'cache', 'cookies', 'storage', 'executionContexts'), { itemsMin: 1 }),
      ['cache', 'storage'],
      '`Clear-Site-Data` of the answers that sign a browser out: what it forgets of the app’s origin. `storage` takes local storage, databases and service workers; `none` sends no such header.',
    ),
  }).prefault({}),
  session: group({
    idle: optional(
      durationSeconds('1s', '30d'),
      'A session ends after this time without an API call.',
      '`30m`, or `session.absolute` where that is shorter',
    ),
    absolute: defaulted(
      durationSeconds('1s', '30d'),
      '8h',
      'A session ends after this time however active it is. Keep it below the lifetime of the provider’s refresh tokens.',
    ),
    persistent: defaulted(
      boolean,
      false,
      'Keeps the session cookie when the browser closes, for at most `session.absolute`.',
    ),
    sameSite: defaulted(
      choice('strict', 'lax'),
      'strict',
      '`SameSite` of the session cookie; `lax` is weaker and warns.',
    ),
    maxPerUser: optional(
      wholeNumber(1, 1000),
      'Most sessions that one user has at a time.',
      'no limit',
    ),
    beyondMax: defaulted(
      choice('evict-oldest', 'deny'),
      'evict-oldest',
      'What a sign-in beyond `session.maxPerUser` does: it ends the user’s oldest session, or is refused.',
    ),
    memoryMax: defaulted(
      wholeNumber(1, 10_000_000),
      100_000,
      'Most sessions kept without Redis; beyond it the least active one falls out.',
    ),
  }).prefault({}),
  csrf: defaulted(
    choice('fetch-metadata', 'header'),
    'fetch-metadata',
    'How same-origin calls prove themselves: by the browser’s own headers, or by those and `X-CSRF: 1`.',
  ),
  trustedProxies: defaulted(
    set(addressRange),
    [],
    'Proxies before the gateway whose `X-Forwarded-For` counts; `private` stands for loopback, private and link-local ranges.',
  ),
  upstreamTimeout: group({
    connect: defaulted(connectTimeout, '2s', 'Time to connect to an upstream.'),
    firstByte: defaulted(
      firstByteTimeout,
      '30s',
      'Time until an upstream’s answer begins, from the end of the request.',
    ),
    idle: defaulted(
      idleTimeout,
      '60s',
      'Longest silence inside an upstream’s answer; `0s` means no limit.',
    ),
    total: defaulted(
      totalTimeout,
      '0s',
      'Time for the whole of it, from the sending to the end of the answer; `0s` means no limit.',
    ),
  }).prefault({}),
  upstreamTls: group({
    ca: optional(
      pemFile,
      'File with the certificate authorities that sign the certificates of https upstreams, instead of those of the system; followed while running, like the two below.',
    ),
    cert: optional(pemFile, 'File with the certificate that the gateway shows to upstreams.'),
    key: optional(pemFile, 'File with the private key of `upstreamTls.cert`.'),
    serverName: optional(
      hostName('api.example.com'),
      'Name that the upstream’s certificate must have, where it is not the host that is connected to; for a single https upstream.',
    ),
  }).prefault({}),
  upstreamLimits: group({
    connections: defaulted(
      wholeNumber(1, 65_535),
      4096,
      'Most calls that one process has at one upstream at a time, open event streams included; more wait.',
    ),
    queue: defaulted(
      wholeNumber(0, 65_535),
      1024,
      'Most calls that wait for a place at one upstream, each no longer than it may take to connect; beyond either the answer is 503.',
    ),
  }).prefault({}),
  webSockets: group({
    origin: defaulted(
      webSocketOrigin,
      'keep',
      '`Origin` that upstreams get with a WebSocket handshake: the public one, as the browser sent it, or the upstream’s own, for servers that compare it with their host.',
    ),
    idle: defaulted(
      webSocketTime,
      '1h',
      'A WebSocket on which neither end sends anything for this time, not even a ping, is closed with 1001; `0s` means no limit.',
    ),
    lifetime: defaulted(
      webSocketTime,
      '1d',
      'A WebSocket is closed with 1001 after this time; `0s` means no limit. With its session it is closed at once, with 4401.',
    ),
    perSession: defaulted(
      wholeNumber(1, 10_000),
      100,
      'Most WebSockets that one session has open at a time in one process; a further one gets 429.',
    ),
  }).prefault({}),
  limits: group({
    urlBytes: defaulted(
      size('256B', '64KiB'),
      '8KiB',
      'Longest path and query of a request; a longer one gets 414.',
    ),
    headerBytes: defaulted(
      size('4KiB', '256KiB'),
      '32KiB',
      'Largest sum of a request’s header lines, cookies included; a larger one gets 431.',
    ),
    stalledClient: defaulted(
      durationMilliseconds('1s', '1h'),
      '60s',
      'A client that takes nothing of its answer for this time is cut off.',
    ),
    connectionsPerClient: optional(
      wholeNumber(1, 65_535),
      'Most connections that one address has open at a time, an IPv6 /64 counting as one; a further one gets 429 (under TLS: is closed) at once. Trusted proxies have no limit.',
      'no limit',
    ),
    requestsPerClient: optional(
      wholeNumber(1, 10_000_000),
      'Most calls to APIs in a minute from one client address, as the trusted proxies tell it; a further one gets 429.',
      'no limit',
    ),
    bodyBytes: defaulted(bodySize, '10MiB', 'Largest request body; a larger one gets 413.'),
  }).prefault({}),
  drain: group({
    delay: defaulted(
      durationSeconds('0s', '1m'),
      '2s',
      'After SIGTERM `/readyz` fails for this time before the listener closes, so that load balancers notice.',
    ),
    deadline: defaulted(
      durationSeconds('1s', '10m'),
      '25s',
      'After this time from SIGTERM the process has ended, whatever still hung (connections are cut up to 2 s before); keep it below the grace period of the platform.',
    ),
  }).prefault({}),
  logging: group({
    level: defaulted(
      choice('debug', 'info', 'warn', 'error'),
      'info',
      'Least important level that is logged.',
    ),
  }).prefault({}),
  dev: group({
    providerListen: defaulted(
      listenAddress,
      '127.0.0.1:3100',
      'Address of the development identity provider that `coatcheck dev` and the Vite plugin start; nothing else reads it.',
    ),
    users: optional(
      matching('file', 'must be the path of a file', /^[^\0]{1,4096}$/),
      'File with the users of that provider and their claims, relative to the file that says so (in a variable: to the working directory).',
      '`coatcheck.users.yaml` if it is there, else alice and bob',
    ),
  }).prefault({}),
  routes: z
    .array(route, { error: 'must be a list of routes' })
    .max(ROUTES_MAX, { error: `must have at most ${ROUTES_MAX} routes` })
    .prefault([]),
})

/** Settings as written, before what depends on one another is worked out. */
export type Settings = z.output<typeof settingsSchema>
export type RouteAsWritten = Settings['routes'][number]
