/** The composition root: names every adapter once and hands each room the few settings it needs. */

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener } from 'node:http'
import type { Duplex } from 'node:stream'
import { isLoopback } from './config/addresses.ts'
import type { Config } from './config/config.ts'
import { constant } from './config/watched.ts'
import { createProviderSlots } from './credential/provider-slots.ts'
import { createRefreshMachine, type JudgedAt, refreshTimes } from './credential/refresh.ts'
import type { RefreshLease } from './credential/refresh-lease.ts'
import { createRejectionWatch } from './credential/rejection-watch.ts'
import { createAdmin } from './edges/http/admin.ts'
import { createApp, type Door, type SpaServer } from './edges/http/app.ts'
import { createDoorWhile } from './edges/http/guarded-door.ts'
import { LISTENER_LIMITS, type ListenerLimits } from './edges/http/listener.ts'
import { createOperations } from './edges/http/operations.ts'
import { createSpaFiles } from './edges/http/spa-files.ts'
import { createSpaUpstream, type SpaUpstreamOptions } from './edges/http/spa-upstream.ts'
import { createMemoryStores } from './edges/memory/stores.ts'
import { createOpenIdProvider } from './edges/openid-client/provider.ts'
import { storeNamespace } from './edges/redis/keys.ts'
import { createRedisStores } from './edges/redis/stores.ts'
import { createLogger, type Logger } from './edges/telemetry/logger.ts'
import { createMetrics } from './edges/telemetry/metrics.ts'
import { createUpstreamDispatch } from './edges/upstream/dispatcher.ts'
import { createUpstreamTls } from './edges/upstream/tls.ts'
import { createShakeHands } from './edges/upstream/upgrade.ts'
import type { ErrorCode } from './errors.ts'
import type { Emit } from './events.ts'
import {
  createAdmission,
  createCallAdmission,
  createConnectionAdmission,
  createSignInAdmission,
} from './guard/admission.ts'
import { createSessionReader } from './guard/by-session.ts'
import { createSameOriginGuard } from './guard/same-origin.ts'
import { createTransportGuard } from './guard/transport.ts'
import { createHandshake } from './handshake.ts'
import { createCallback } from './login/callback.ts'
import { allowedClaims, DEFAULT_CLAIMS } from './login/claims.ts'
import { createSessionLimit } from './login/session-limit.ts'
import { type ConsentMemory, createLoginStarter } from './login/start.ts'
import { createAdministration } from './logout/administration.ts'
import { createBackchannelLogout } from './logout/backchannel-logout.ts'
import { createDevices } from './logout/devices.ts'
import { createFrontchannelLogout } from './logout/frontchannel-logout.ts'
import { createLogout } from './logout/logout.ts'
import type { Provider } from './oidc/provider.ts'
import { createRevoke } from './oidc/revocation.ts'
import { createProxy } from './proxy.ts'
import { createClientAddress, createTrustedProxies } from './routing/client-address.ts'
import { compileRoutes, type Route } from './routing/route-table.ts'
import { createKeyRingRotation } from './session/key-ring-rotation.ts'
import { createRecordSealer } from './session/record.ts'
import { createRoster } from './session/roster.ts'
import { createSealer } from './session/seal.ts'
import { createSessionCache } from './session/session-cache.ts'
import type { SessionChanges } from './session/session-changes.ts'
import { createCookieForms, type SameSite } from './session/session-cookie.ts'
import type {
  OneTimeStore,
  SessionDirectory,
  SessionStore,
  StoreHealth,
} from './session/session-store.ts'
import { createSessionWatch } from './session/session-watch.ts'
import { createTicketSealer, sessionLabel } from './session/ticket.ts'
import { createTicketRenewal } from './session/ticket-renewal.ts'
import { createVault } from './session/vault.ts'
import { type Clock, milliseconds, systemClock } from './time.ts'
import type { UpstreamDispatch } from './upstream/forward.ts'
import { createHeldStreams } from './upstream/held-streams.ts'
import { createOpenSockets } from './upstream/open-sockets.ts'
import { requestHeaderPolicy } from './upstream/request-headers.ts'
import { responseHeaderPolicy } from './upstream/response-headers.ts'

export interface Gateway {
  /**
   * Serves browsers: the gateway's endpoints, the routes and the SPA. Before `ready()` and after `close()` it answers 503
   * `gateway_not_serving`.
   */
  readonly listener: RequestListener
  /** WebSocket handshakes of the same server. */
  readonly upgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** For the address of plain HTTP beside TLS: navigations are sent to https, everything else is refused. */
  readonly plain: Door
  /** `/livez`, `/readyz`, `/metrics`: for a listener that the public cannot reach. */
  readonly operations: RequestListener
  /** What the listener that serves browsers must hold its clients to. */
  readonly limits: ListenerLimits
  /** For faults of the server that belong to no exchange: they are logged. */
  readonly onError: (error: unknown) => void
  /** For requests that the listener refuses by itself, with this status: they are logged and counted. */
  readonly onRefused: (code: ErrorCode) => void
  /** Resolves when requests can be taken; provider and store may still be down. Throws once the gateway is closed. */
  ready(): Promise<void>
  /** From now on `/readyz` answers 503. */
  drain(): void
  /** Ends what has no end of its own, event streams and WebSockets; to be called once no new connection comes. */
  endStreams(): void
  /** Waits for refreshes and unwritten results, then ends every connection of the gateway's own. Again: the same end. */
  close(): Promise<void>
}

export interface GatewayOptions {
  readonly clock?: Clock
  readonly logger?: Logger
  /** Jitter of pauses; between 0 and 1. */
  readonly random?: () => number
  /** Stands between the gateway and its upstreams: `coatcheck dev` watches there what the app's API answers. */
  readonly watchUpstream?: (
    dispatch: UpstreamDispatch,
    towards: 'routes' | 'app',
  ) => UpstreamDispatch
  /** Lets an access token be old before its time, as the demo does at the press of a button. */
  readonly judgedAt?: JudgedAt
}

interface Stores {
  readonly sessions: SessionStore
  readonly changes: SessionChanges
  readonly directory: SessionDirectory
  readonly once: OneTimeStore
  readonly lease: RefreshLease
  readonly health: StoreHealth
  close(): Promise<void>
}

type Notice = (notice: string, detail: string) => void

const SAME_SITE: Readonly<Record<Config['session']['sameSite'], SameSite>> = {
  strict: 'Strict',
  lax: 'Lax',
}

export const createGateway = (config: Config, options: GatewayOptions = {}): Gateway => {
  const clock = options.clock ?? systemClock
  const random = options.random ?? Math.random
  const logger = options.logger ?? createLogger({ level: config.logging.level })
  const metrics = createMetrics()
  const emit: Emit = (event) => {
    logger.emit(event)
    metrics.emit(event)
  }
  const { notice } = logger
  const instanceId = randomUUID()

  const { publicUrl, prefix, session } = config
  const loopback = isLoopback(new URL(publicUrl).hostname)
  const returnTo = { publicOrigin: publicUrl, prefix }
  const cookies = createCookieForms(publicUrl, loopback, config.plainCookies ? 'plain' : undefined)
  const sessionSameSite = SAME_SITE[session.sameSite]
  const cookieMaxAge = session.persistent ? session.absolute : undefined
  const claimPaths = [...DEFAULT_CLAIMS, ...config.user.claims]

  const ring = createKeyRingRotation({
    secrets: config.secret ?? constant([randomUUID() + randomUUID()]),
    clock,
    changed: ({ sealing, ids }) =>
      emit({ type: 'key_ring_changed', seals: sealing.id, opens: ids }),
  })

  const stores: Stores =
    redisStoresOf(config, clock, emit) ??
    createMemoryStores({ clock, sessionsMax: session.memoryMax, notice })
  const home = config.redis.url === undefined ? instanceId : undefined

  const provider = providerOf(config, clock, notice)
  const revoke = createRevoke(provider, emit)

  const sealer = createSealer(ring)
  const tickets = createTicketSealer(sealer, ring, session.absolute, clock)
  const records = createRecordSealer(ring)
  const cache = createSessionCache({
    changes: stores.changes,
    records,
    ring,
    clock,
    idle: session.idle,
  })
  const store = cache.over(stores.sessions)
  metrics.observeLookups(() => ({
    fromMemory: cache.counts.found,
    fromStore: cache.counts.notFound,
    changesAreTold: stores.changes.areTold(),
  }))
  const vault = createVault({
    store,
    cache,
    directory: stores.directory,
    records,
    ring,
    clock,
    lifetimes: { idle: session.idle, absolute: session.absolute },
    emit,
    revoke: (refreshToken, digest) => revoke(refreshToken, sessionLabel(digest)),
    home,
  })
  const watch = createSessionWatch({
    vault,
    changes: stores.changes,
    clock,
    lifetimes: { idle: session.idle, absolute: session.absolute },
    random,
  })
  const roster = createRoster({
    store,
    directory: stores.directory,
    records,
    clock,
    emit,
    idle: session.idle,
  })
  const renewal = createTicketRenewal(ring, tickets, vault, emit, {
    forms: cookies,
    sameSite: sessionSameSite,
    maxAge: cookieMaxAge,
  })
  const sessions = createSessionReader(cookies, tickets, vault, home, notice)
  const slots = createProviderSlots(clock, config.provider.concurrency, random)
  const machine = createRefreshMachine({
    vault,
    lease: stores.lease,
    provider,
    revoke,
    slots,
    clock,
    judgedAt: options.judgedAt,
    times: refreshTimes(config.provider.tokenTimeout),
    emit,
    notice,
    random,
    claimsFrom: (claims) => allowedClaims(claims, claimPaths),
  })

  const consent: ConsentMemory = { verdict: 'unknown' }
  const redirectUri = `${publicUrl}${prefix}/callback`
  const { responseMode } = config.provider
  const starter = createLoginStarter({
    admit: createSignInAdmission(clock),
    once: stores.once,
    provider,
    sealer,
    cookies,
    clock,
    consent,
    emit,
    settings: {
      redirectUri,
      responseMode,
      scope: config.scope,
      audience: config.audience,
      authorizationParams: config.authorizationParams,
    },
  })
  const callback = createCallback({
    provider,
    sealer,
    tickets,
    vault,
    limit: createSessionLimit({
      roster,
      vault,
      clock,
      max: session.maxPerUser,
      beyondMax: session.beyondMax,
    }),
    once: stores.once,
    starter,
    cookies,
    emit,
    revoke,
    consent,
    notice,
    settings: {
      redirectUri,
      responseMode,
      scope: config.scope,
      claims: claimPaths,
      requirements: config.signIn.require,
      sessionSameSite,
      cookieMaxAge,
    },
  })
  const logout = createLogout({
    provider,
    vault,
    once: stores.once,
    records,
    sealer,
    cookies,
    revoke,
    settings: {
      prefix,
      postLogoutRedirectUri: `${publicUrl}${prefix}/logged-out`,
      sessionSameSite,
    },
  })

  const { issuer } = config
  const backchannelLogout = createBackchannelLogout({
    provider,
    roster,
    once: stores.once,
    clock,
    emit,
    issuer,
  })
  const frontchannelLogout = createFrontchannelLogout({ vault, roster, emit, issuer })
  const devices = createDevices({ roster, vault })

  const admission = createAdmission(clock)
  const guard = createSameOriginGuard({ publicOrigin: publicUrl, mode: config.csrf })
  const upstreamTls = createUpstreamTls(config.upstreamTls, () =>
    notice(
      'upstream_tls_unusable',
      'the files of upstreamTls do not fit together; connections to upstreams go on with those of before',
    ),
  )
  const dispatch = createUpstreamDispatch({ limits: config.upstreamLimits, tls: upstreamTls })
  metrics.observeUpstreams(dispatch.counts)
  const watched = (towards: 'routes' | 'app') =>
    options.watchUpstream?.(dispatch, towards) ?? dispatch
  const shakeHands = createShakeHands(upstreamTls)
  const streams = createHeldStreams(watch, random)
  const routes = compileRoutes(config.routes)
  const headerSettings = { publicUrl, instanceId }
  const way = {
    guard,
    admission,
    admitCall: createCallAdmission(clock, config.limits.requestsPerClient),
    sessions,
    vault,
    renewal,
    machine,
    rejections: createRejectionWatch(clock, notice),
    requestPolicy: perRoute(routes.routes, (route) => requestHeaderPolicy(route, headerSettings)),
    responsePolicy: perRoute(routes.routes, (route) =>
      responseHeaderPolicy(route, { ...headerSettings, routes: routes.routes }),
    ),
  }
  const proxy = createProxy({ ...way, dispatch: watched('routes'), streams, clock })
  const sockets = createOpenSockets({
    vault,
    watch,
    clock,
    idle: session.idle,
    perSessionMax: config.webSockets.perSession,
    emit,
  })
  const handshake = createHandshake({ ...way, sockets, shakeHands })

  const clientAddressOf = createClientAddress(config.trustedProxies)
  const isTrustedProxy = createTrustedProxies(config.trustedProxies)
  const connections = createConnectionAdmission(config.limits.connectionsPerClient, isTrustedProxy)
  const admitConnection = (peerAddress: string) => {
    const release = connections(peerAddress)
    if (release === undefined)
      emit({
        type: 'request_refused',
        requestId: randomUUID(),
        code: 'rate_limited',
        reason: 'too_many_connections',
      })
    return release
  }
  const app = createApp({
    admission,
    pageAdmission: createAdmission(clock),
    guard,
    sessions,
    tickets,
    renewal,
    starter,
    callback,
    logout,
    backchannelLogout,
    frontchannelLogout,
    devices,
    watch,
    cookies,
    clock,
    random,
    emit,
    routes,
    proxy,
    handshake,
    sockets,
    spa: spaFrom(config, { headerSettings, dispatch: watched('app'), shakeHands, sockets }),
    transport: createTransportGuard({
      publicUrl,
      loopback,
      onContradiction: () =>
        notice(
          'forwarded_proto',
          'a trusted proxy says X-Forwarded-Proto: http of requests that browsers sent by https; they are served. Let the proxies behind the one that ends TLS pass its value on',
        ),
    }),
    fromTrustedProxy: (req) => isTrustedProxy(req.socket.remoteAddress ?? ''),
    observe: metrics.observeExchange,
    observeStreams: metrics.observeStreams,
    clientAddress: (req) => {
      const peer = req.socket.remoteAddress ?? ''
      const forwardedFor = req.headers['x-forwarded-for']
      const joined = Array.isArray(forwardedFor) ? forwardedFor.join(',') : forwardedFor
      const address = clientAddressOf(peer, joined)
      const shared = joined !== undefined && address === clientAddressOf(peer, undefined)
      if (shared)
        notice(
          'untrusted_forwarding',
          'forwarding headers come from a peer outside COATCHECK_TRUSTED_PROXIES and are ignored',
        )
      return { address, shared }
    },
    settings: {
      prefix,
      returnTo,
      responseMode,
      loginErrors: config.login.errors,
      idle: session.idle,
      absolute: session.absolute,
      sessionSameSite,
      clearSiteData: clearSiteDataFrom(config.logout.clearSiteData),
      issuer,
      publicOrigin: publicUrl,
      loopback,
      head: config.limits,
    },
  })

  const endStreams = () => {
    app.endStreams()
    streams.end()
  }

  let state: 'starting' | 'serving' | 'draining' = 'starting'
  const operations = createOperations({
    state: () => state,
    store: () =>
      stores.health.ping().then(
        () => 'ok' as const,
        () => 'unavailable' as const,
      ),
    provider: () => (slots.isClosed() ? 'unavailable' : provider.health()),
    readiness: config.operations.readiness,
    admin:
      config.admin.token === undefined
        ? undefined
        : createAdmin({
            administration: createAdministration({ roster, emit, issuer }),
            tokens: config.admin.token,
            admission: createAdmission(clock),
          }),
    emit,
    metrics,
  })

  let closing: Promise<void> | undefined
  const notServing = () =>
    closing !== undefined ? 'after_close' : state === 'starting' ? 'before_ready' : undefined
  const close = async () => {
    state = 'draining'
    endStreams()
    watch.close()
    await machine.settled(milliseconds(config.drain.deadline * 1000))
    ring.stop()
    await Promise.all([provider.close(), dispatch.close(), stores.close()])
  }

  return {
    ...createDoorWhile(app, notServing, emit),
    plain: app.plain,
    operations,
    limits: { ...listenerLimits(config), admitConnection },
    onError: (error) => notice('server_fault', error instanceof Error ? error.name : 'unknown'),
    onRefused: (code) =>
      emit({
        type: 'request_refused',
        requestId: randomUUID(),
        code,
        reason: 'below_routes',
      }),
    ready: async () => {
      if (closing !== undefined)
        throw new Error('ready() after close(): make another gateway with createGateway()')
      // Discovery begins now, so that the first sign-in does not wait for it; nothing here waits for it.
      provider.facts().catch(() => {
        // The provider is down; its adapter has said so, and goes on trying.
      })
      state = 'serving'
    },
    drain: () => {
      state = 'draining'
    },
    endStreams,
    close: () => {
      closing ??= close()
      return closing
    },
  }
}

/** Redis as the configuration names it, if it does; `coatcheck check` asks the same one. */
export const redisStoresOf = (config: Config, clock: Clock, emit: Emit): Stores | undefined =>
  config.redis.url === undefined
    ? undefined
    : createRedisStores({
        address: config.redis.url,
        tls: config.redis.tls,
        namespace: config.redis.namespace ?? storeNamespace(config.issuer, config.clientId),
        commandTimeout: config.redis.commandTimeout,
        connectTimeout: config.redis.connectTimeout,
        confirm: config.redis.confirm,
        clock,
        emit,
        // The store comes and goes: each change is a line of its own, not the first one alone.
        notice: (name, detail) => emit({ type: 'operator_notice', notice: name, detail }),
      })

/** The provider as the configuration names it; `coatcheck check` asks the same one. */
export const providerOf = (config: Config, clock: Clock, notice: Notice): Provider =>
  createOpenIdProvider({
    issuer: config.issuer,
    clientId: config.clientId,
    clientSecret: config.clientSecret,
    clientAuthentication: config.provider.clientAuthentication,
    timeout: config.provider.timeout,
    tokenTimeout: config.provider.tokenTimeout,
    ...(config.provider.connectTo === undefined ? {} : { connectTo: config.provider.connectTo }),
    ...(config.resource === undefined ? {} : { resource: config.resource }),
    idTokenAlgorithms: config.provider.idTokenAlgorithms,
    trustedAudiences: config.provider.trustedAudiences,
    logoutTokens: config.provider.logoutTokens,
    clock,
    notice,
  })

/** The parser has one bound for the whole head; which part of it is too large is told where it fits under that. */
const listenerLimits = ({ limits }: Config): ListenerLimits => ({
  ...LISTENER_LIMITS,
  headBytesMax: limits.urlBytes + limits.headerBytes,
  stalledMs: limits.stalledClient,
})

/** Each type is a quoted string (Clear Site Data §3.1). */
const clearSiteDataFrom = (types: readonly string[]): string | undefined =>
  types.includes('none') ? undefined : types.map((type) => `"${type}"`).join(', ')

const perRoute = <T>(routes: readonly Route[], make: (route: Route) => T) => {
  const made = new Map(routes.map((route) => [route, make(route)]))
  return (route: Route): T => {
    const policy = made.get(route)
    if (policy === undefined) throw new TypeError('every route of the table has its policy')
    return policy
  }
}

const spaFrom = (
  config: Config,
  towards: Pick<SpaUpstreamOptions, 'headerSettings' | 'dispatch' | 'shakeHands' | 'sockets'>,
): SpaServer | undefined => {
  const { spa, publicUrl } = config
  if (spa === undefined) return undefined
  return spa.kind === 'directory'
    ? createSpaFiles({ directory: spa.directory, csp: spa.csp, publicUrl })
    : createSpaUpstream({ origin: spa.origin, ...towards })
}
