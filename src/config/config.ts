/** The configuration that the gateway is made from: valid, complete and frozen. */

import { type Milliseconds, milliseconds, type Seconds, seconds } from '../time.ts'
import { PRIVATE_RANGES } from './addresses.ts'
import type { RedisAddress } from './redis-address.ts'
import type { RouteAsWritten, Settings } from './schema.ts'
import type { ServerIdentity } from './server-identity.ts'
import type { Watched } from './watched.ts'

export interface RouteSettings
  extends Readonly<
    Required<
      Omit<RouteAsWritten, 'methods' | 'credential' | 'bodyBytesMax' | 'timeout' | 'webSockets'>
    >
  > {
  /** Undefined: all but CONNECT and TRACE. */
  readonly methods: readonly string[] | undefined
  readonly credential: 'user' | 'none'
  readonly bodyBytesMax: number
  readonly webSockets: {
    readonly origin: 'keep' | 'upstream'
    /** 0: no limit. */
    readonly idle: Milliseconds
    /** 0: no limit. */
    readonly lifetime: Milliseconds
  }
  readonly timeout: {
    readonly connect: Milliseconds
    readonly firstByte: Milliseconds
    /** 0: no limit. */
    readonly idle: Milliseconds
    /** 0: no limit. */
    readonly total: Milliseconds
  }
}

export type SpaSettings =
  | { readonly kind: 'directory'; readonly directory: string; readonly csp: string }
  | { readonly kind: 'upstream'; readonly origin: string }

type Complete<T> = { readonly [K in keyof T]-?: T[K] }

type Derived =
  | 'clientSecret'
  | 'secret'
  | 'tls'
  | 'redis'
  | 'upstreamTls'
  | 'admin'
  | 'spa'
  | 'session'
  | 'routes'

export interface Config extends Complete<Omit<Settings, Derived>> {
  readonly clientSecret: Watched<string>
  /** Undefined only in the profiles `demo` and `dev`. */
  readonly secret: Watched<readonly string[]> | undefined
  readonly tls: Complete<Omit<Settings['tls'], 'cert' | 'key'>> & {
    /** Undefined: `listen` speaks plain HTTP. */
    readonly identity: Watched<ServerIdentity> | undefined
  }
  readonly redis: Complete<Omit<Settings['redis'], 'url' | 'tls'>> & {
    readonly url: Watched<RedisAddress> | undefined
    readonly tls: PeerTls
  }
  readonly upstreamTls: PeerTls
  readonly admin: { readonly token: Watched<readonly string[]> | undefined }
  readonly spa: SpaSettings | undefined
  readonly session: Complete<Omit<Settings['session'], 'idle'>> & { readonly idle: Seconds }
  /** Those of the file, and those that `upstream` and `apiPaths` make. At least one. */
  readonly routes: readonly RouteSettings[]
}

export interface WatchedSettings {
  readonly clientSecret: Watched<string>
  readonly secret: Watched<readonly string[]> | undefined
  readonly tlsIdentity: Watched<ServerIdentity> | undefined
  readonly redisUrl: Watched<RedisAddress> | undefined
  readonly redisTls: WatchedPems
  readonly upstreamTls: WatchedPems
  readonly adminToken: Watched<readonly string[]> | undefined
}

/** Contents of the files, in PEM. */
export interface WatchedPems {
  readonly ca: Watched<string> | undefined
  readonly cert: Watched<string> | undefined
  readonly key: Watched<string> | undefined
}

/** Towards a server: whom to believe, as whom to come, and what name it must have. */
export type PeerTls = WatchedPems & { readonly serverName: string | undefined }

const IDLE_DEFAULT = seconds(1800)
const NO_LIMIT = milliseconds(0)

/** `spaDirectory` is the absolute path of `spa.directory`. */
export const configFrom = (
  settings: Settings,
  watched: WatchedSettings,
  spaDirectory: string | undefined,
): Config => {
  const { session, redis } = settings
  return deepFreeze({
    ...settings,
    upstream: settings.upstream,
    scope: settings.scope,
    resource: settings.resource,
    audience: settings.audience,
    dev: { ...settings.dev, users: settings.dev.users },
    clientSecret: watched.clientSecret,
    secret: watched.secret,
    tls: {
      identity: watched.tlsIdentity,
      minVersion: settings.tls.minVersion,
      plainListen: settings.tls.plainListen,
    },
    redis: {
      ...redis,
      namespace: redis.namespace,
      url: watched.redisUrl,
      tls: { ...watched.redisTls, serverName: redis.tls.serverName },
    },
    upstreamTls: { ...watched.upstreamTls, serverName: settings.upstreamTls.serverName },
    admin: { token: watched.adminToken },
    provider: { ...settings.provider, connectTo: settings.provider.connectTo },
    session: {
      ...session,
      maxPerUser: session.maxPerUser,
      idle: session.idle ?? seconds(Math.min(IDLE_DEFAULT, session.absolute)),
    },
    spa: spaFrom(settings.spa, spaDirectory),
    trustedProxies: expandRanges(settings.trustedProxies),
    routes: [...apiRoutes(settings), ...settings.routes.map((route) => routeFrom(route, settings))],
  })
}

const spaFrom = (spa: Settings['spa'], directory: string | undefined): SpaSettings | undefined => {
  if (directory !== undefined) return { kind: 'directory', directory, csp: spa.csp ?? 'default' }
  return spa.upstream === undefined ? undefined : { kind: 'upstream', origin: spa.upstream }
}

const expandRanges = (ranges: readonly string[]): readonly string[] => [
  ...new Set(ranges.flatMap((range) => (range === 'private' ? PRIVATE_RANGES : [range]))),
]

const routeFrom = (route: RouteAsWritten, settings: Settings): RouteSettings => {
  const { upstreamTimeout, webSockets, limits } = settings
  return {
    ...route,
    methods: route.methods,
    credential: route.credential ?? (route.accept.includes('session') ? 'user' : 'none'),
    bodyBytesMax: route.bodyBytesMax ?? limits.bodyBytes,
    webSockets: {
      origin: route.webSockets.origin ?? webSockets.origin,
      idle: route.webSockets.idle ?? webSockets.idle,
      lifetime: route.webSockets.lifetime ?? webSockets.lifetime,
    },
    timeout: {
      connect: route.timeout.connect ?? upstreamTimeout.connect,
      firstByte: route.timeout.firstByte ?? upstreamTimeout.firstByte,
      idle: route.timeout.idle ?? (route.eventSource ? NO_LIMIT : upstreamTimeout.idle),
      total: route.timeout.total ?? (route.eventSource ? NO_LIMIT : upstreamTimeout.total),
    },
  }
}

/** The smallest sidecar's routes, with the defaults of a route in the file, and WebSocket. */
const apiRoutes = (settings: Settings): readonly RouteSettings[] =>
  settings.upstream === undefined
    ? []
    : settings.apiPaths.map((path) =>
        routeFrom(
          {
            path,
            upstream: settings.upstream as string,
            stripPrefix: settings.upstreamStripPrefix,
            accept: ['session'],
            documents: false,
            webSocket: true,
            webSockets: {},
            eventSource: false,
            encodedSlash: false,
            preserveHost: false,
            cookies: [],
            setCookies: [],
            timeout: {},
            cache: 'private, no-store',
          },
          settings,
        ),
      )

/** Plain objects and arrays, all the way down. A Watched is frozen already. */
const deepFreeze = <T extends object>(value: T): T => {
  for (const inner of Object.values(value))
    if (typeof inner === 'object' && inner !== null && !Object.isFrozen(inner)) deepFreeze(inner)
  return Object.freeze(value)
}
