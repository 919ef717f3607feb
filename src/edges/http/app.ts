/**
 * The public listener's one function: reads the target once, decides where the request goes, and is the one place
 * where an unknown throw becomes `internal`. Endpoints go through Hono; routes stay on Node's own objects.
 */

import { randomUUID } from 'node:crypto'
import {
  type IncomingMessage,
  type RequestListener,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import type { Duplex } from 'node:stream'
import { getRequestListener } from '@hono/node-server'
import { asGatewayError, ERRORS, GatewayError } from '../../errors.ts'
import type { Emit, ObserveExchange } from '../../events.ts'
import type { ClientAddress } from '../../guard/admission.ts'
import { isDocumentNavigation, type RequestFacts } from '../../guard/fetch-metadata.ts'
import type { Entrance, TransportGuard } from '../../guard/transport.ts'
import type { HandshakeRequest, RouteHandshake } from '../../handshake.ts'
import { loginUrl, returnToFromReferer } from '../../login/return-to.ts'
import type { RouteProxy } from '../../proxy.ts'
import { checkHeadSize, type HeadLimits } from '../../routing/head-limits.ts'
import { type ParsedTarget, parseTarget, type Target } from '../../routing/path.ts'
import { matchRoute, type Route, type RouteTable } from '../../routing/route-table.ts'
import type { Clock, Seconds } from '../../time.ts'
import type { ForwardResult } from '../../upstream/forward.ts'
import type { OpenSockets } from '../../upstream/open-sockets.ts'
import { createEndpoints, type EndpointDependencies } from './endpoints.ts'
import { createEventStreams, type EventStreamDependencies } from './event-streams.ts'
import { type Exchange, headerOf } from './exchange.ts'
import { sameSitePage } from './pages.ts'
import { type ProblemContext, problemReply } from './problem.ts'
import { envelope, type Reply, reply, seeOther, send, transportSecurityOf } from './reply.ts'

/** The SPA's files, from a directory or from another server. False: nothing there. */
export interface SpaServer {
  serve(exchange: Exchange, isNavigation: boolean): Promise<boolean>
  /** Throws only while nothing was written to the socket. */
  upgrade(exchange: UpgradeExchange): Promise<void>
}

/** A WebSocket handshake: the answer goes on the raw socket. */
export interface UpgradeExchange extends HandshakeRequest {
  readonly req: IncomingMessage
}

export interface AppDependencies
  extends Omit<
      EndpointDependencies,
      'exchangeOf' | 'problemContext' | 'report' | 'demandsSession' | 'outside'
    >,
    Omit<EventStreamDependencies, 'lifetimes' | 'outside'> {
  readonly routes: RouteTable
  readonly proxy: RouteProxy
  readonly handshake: RouteHandshake
  readonly sockets: Pick<OpenSockets, 'goAway'>
  readonly spa: SpaServer | undefined
  readonly clientAddress: (req: IncomingMessage) => ClientAddress
  readonly transport: TransportGuard
  /** By the connection's peer. */
  readonly fromTrustedProxy: (req: IncomingMessage) => boolean
  readonly observe: ObserveExchange
  readonly clock: Clock
  readonly emit: Emit
  readonly settings: EndpointDependencies['settings'] & {
    readonly publicOrigin: string
    /** On a loopback public URL developers get told what they would have to guess. */
    readonly loopback: boolean
    readonly absolute: Seconds
    readonly head: HeadLimits
  }
}

/** What a listening server calls: requests, and WebSocket handshakes. */
export interface Door {
  readonly listener: RequestListener
  readonly upgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void
}

export interface App extends Door {
  /** For the address of plain HTTP, which nothing is served on. */
  readonly plain: Door
  /** Ends every event stream and WebSocket, so that its page comes back to another replica. */
  endStreams(): void
}

type Destination =
  | { readonly kind: 'https' }
  | { readonly kind: 'endpoint' }
  | { readonly kind: 'events' }
  | { readonly kind: 'route'; readonly route: Route }
  | { readonly kind: 'spa' }

/** Stands for a target that could not be read, so that even its refusal has an exchange. */
const UNROUTABLE: Target = { path: '/', rawPath: '/', query: '', encodedSlash: false }

/** The authority of an absolute-form target stands for Host, whatever that says (RFC 9112 §3.2.2). */
const hostOf = ({ url, headers }: IncomingMessage): string | undefined =>
  /^https?:\/\/([^/?]*)/i.exec(url ?? '')?.[1] ?? headers.host

export const createApp = (dependencies: AppDependencies): App => {
  const { routes, proxy, handshake, sockets, spa, transport, observe, clock, emit, settings } =
    dependencies
  const { clientAddress, fromTrustedProxy } = dependencies
  const publicHost = new URL(settings.publicOrigin).host
  const outside = envelope(transportSecurityOf(settings.publicOrigin))
  // Over http the policy must not be sent (RFC 6797 §7.2).
  const outsideInClear = envelope()
  const envelopeOf = (error: GatewayError, entrance: Entrance) =>
    entrance === 'plain' || error.code === 'https_required' ? outsideInClear : outside

  const problemContext = (exchange: Exchange): ProblemContext => ({
    requestId: exchange.requestId,
    isNavigation: isDocumentNavigation(exchange),
    login: loginUrl(
      settings.prefix,
      returnToFromReferer(exchange.header('referer'), settings.returnTo),
    ),
    expectedOrigin: settings.loopback ? settings.publicOrigin : undefined,
  })

  /** Nothing can be said to the client any more. What sessions and drains cut is meant to end so. */
  const reportCut = (result: ForwardResult, requestId: string, { id }: Route) => {
    if (result.kind !== 'truncated' || result.reason === 'cut') return
    emit({
      type: 'answer_cut',
      requestId,
      route: id,
      status: result.status,
      reason: result.reason,
    })
  }

  const foreignOrigins = new Set<string>()
  const FOREIGN_ORIGINS_MAX = 100

  const report = (error: GatewayError, exchange: Pick<Exchange, 'requestId'>) => {
    emit({
      type: 'request_refused',
      requestId: exchange.requestId,
      code: error.code,
      ...(error.reason === undefined ? {} : { reason: error.reason }),
      ...(error.note === undefined ? {} : { note: error.note }),
      ...(error.cause === undefined ? {} : { cause: error.cause }),
    })
    if (!settings.loopback || error.code !== 'csrf_rejected' || error.note === undefined) return
    if (foreignOrigins.has(error.note) || foreignOrigins.size >= FOREIGN_ORIGINS_MAX) return
    foreignOrigins.add(error.note)
    emit({
      type: 'operator_notice',
      notice: 'origin_mismatch',
      detail: `${error.note}; expected ${settings.publicOrigin}: open that address, or set COATCHECK_PUBLIC_URL`,
    })
  }

  /** What Hono's handler needs beside the Request: found again by Node's object, which both sides share. */
  const exchanges = new WeakMap<IncomingMessage, Exchange>()
  const endpoints = createEndpoints({
    ...dependencies,
    problemContext,
    outside,
    report,
    demandsSession: (returnTo) => {
      const parsed = parseTarget(returnTo.split('#', 1)[0] ?? '')
      const match = parsed.kind === 'ok' ? matchRoute(routes, parsed.path, 'GET') : undefined
      return match?.kind === 'route' && match.route.documents
    },
    exchangeOf: (context) => {
      const exchange = exchanges.get(context.env.incoming)
      if (exchange === undefined) throw new GatewayError('internal', { note: 'no exchange' })
      return exchange
    },
  })
  const serveEndpoint = getRequestListener(endpoints.fetch, {
    overrideGlobalObjects: false,
  })

  const events = createEventStreams({
    ...dependencies,
    outside,
    lifetimes: { idle: settings.idle, absolute: settings.absolute },
  })

  const isBelowPrefix = (path: string) =>
    path === settings.prefix || path.startsWith(`${settings.prefix}/`)

  const checked = (parsed: ParsedTarget): Target => {
    if (parsed.kind === 'invalid')
      throw new GatewayError('request_invalid', { reason: parsed.reason })
    return parsed
  }

  /** Only a route that says so takes one layer of `%2F`. */
  const destinationOf = (target: Target, method: string): Destination => {
    const match = isBelowPrefix(target.path)
      ? ({ kind: target.path === `${settings.prefix}/events` ? 'events' : 'endpoint' } as const)
      : matchRoute(routes, target.path, method)
    if (target.encodedSlash && !(match.kind === 'route' && match.route.encodedSlash))
      throw new GatewayError('request_invalid', { reason: 'encoded_slash' })
    if (match.kind === 'method')
      throw new GatewayError('method_not_allowed', { allow: match.allow })
    if (match.kind !== 'none') return match
    // As on routes: neither is for a gateway to pass on (RFC 9110 §9.3.6, §9.3.8).
    if (method === 'TRACE' || method === 'CONNECT')
      throw new GatewayError('method_not_allowed', { allow: ['GET', 'HEAD'] })
    return { kind: 'spa' }
  }

  const guardTransport = (request: RequestFacts, req: IncomingMessage, entrance: Entrance) =>
    transport(request, { entrance, fromTrustedProxy: fromTrustedProxy(req) })

  const answer = async (exchange: Exchange, destination: Destination): Promise<void> => {
    const { req, res, requestId, target } = exchange
    switch (destination.kind) {
      case 'https': {
        const location = `${settings.publicOrigin}${target.rawPath}${target.query}`
        return send(req, res, reply(308, [['location', location]]), outsideInClear(requestId))
      }
      case 'endpoint':
        exchanges.set(req, exchange)
        // Hono routes the very string that was checked here, on the public host, whatever the request says of either.
        req.url = `${target.path}${target.query}`
        req.headers.host = publicHost
        await serveEndpoint(req, res)
        return
      case 'events':
        return events.serve(exchange)
      case 'route': {
        const outcome = await proxy(exchange, destination.route)
        if (outcome.kind === 'forwarded') reportCut(outcome.result, requestId, destination.route)
        if (outcome.kind === 'login')
          send(req, res, seeOther(loginUrl(settings.prefix, outcome.returnTo)), outside(requestId))
        if (outcome.kind === 'same_site_page')
          send(req, res, sameSitePage(`${target.rawPath}${target.query}`), outside(requestId))
        if (outcome.kind === 'final_recipient') send(req, res, reply(204, []), outside(requestId))
        return
      }
      case 'spa': {
        const isNavigation = isDocumentNavigation(exchange)
        const elsewhere = isNavigation ? toPublicUrl(exchange) : undefined
        if (elsewhere !== undefined) return send(req, res, elsewhere, outside(requestId))
        if (spa === undefined || !(await spa.serve(exchange, isNavigation)))
          throw new GatewayError('route_not_found')
        return
      }
    }
  }

  /** A developer who opens 127.0.0.1 or another port would sign in on one host and call on another. */
  const toPublicUrl = ({ req, target }: Exchange): Reply | undefined =>
    settings.loopback && (hostOf(req) ?? publicHost) !== publicHost
      ? reply(307, [['location', `${settings.publicOrigin}${target.rawPath}${target.query}`]])
      : undefined

  const begin = (req: IncomingMessage, res: ServerResponse, target: Target): Exchange => ({
    req,
    res,
    target,
    requestId: randomUUID(),
    client: clientAddress(req),
    method: req.method ?? 'GET',
    header: (name) => headerOf(req, name),
  })

  const serveAt = (entrance: Entrance, req: IncomingMessage, res: ServerResponse): void => {
    const startedMs = clock.monotonicMs()
    const parsed = parseTarget(req.url ?? '', { encodedSlash: true })
    const exchange = begin(req, res, parsed.kind === 'ok' ? parsed : UNROUTABLE)
    let label = 'invalid'
    res.on('close', () =>
      observe({
        route: label,
        status: res.headersSent ? res.statusCode : 0,
        durationSeconds: (clock.monotonicMs() - startedMs) / 1000,
      }),
    )
    const run = async () => {
      try {
        checkHeadSize(req, settings.head)
        const target = checked(parsed)
        const destination: Destination =
          guardTransport(exchange, req, entrance) === 'redirect'
            ? { kind: 'https' }
            : destinationOf(target, exchange.method)
        label = destination.kind === 'route' ? destination.route.id : destination.kind
        await answer(exchange, destination)
      } catch (thrown) {
        const error = asGatewayError(thrown)
        report(error, exchange)
        const around = envelopeOf(error, entrance)(exchange.requestId)
        send(req, res, problemReply(error, problemContext(exchange)), around)
      }
    }
    // Only rendering the refusal can fail now, and then nothing is left to say.
    run().catch(() => res.destroy())
  }

  const upgradeAt = (entrance: Entrance, ...[req, socket, head]: Parameters<Door['upgrade']>) => {
    const startedMs = clock.monotonicMs()
    const requestId = randomUUID()
    const method = req.method ?? 'GET'
    const run = async () => {
      try {
        checkHeadSize(req, settings.head)
        const target = checked(parseTarget(req.url ?? '', { encodedSlash: true }))
        const exchange: UpgradeExchange = {
          req,
          rawHeaders: req.rawHeaders,
          socket,
          head,
          requestId,
          client: clientAddress(req),
          target,
          method,
          header: (name) => headerOf(req, name),
        }
        // No browser follows the redirect of a handshake.
        if (guardTransport(exchange, req, entrance) === 'redirect')
          throw new GatewayError('https_required', { reason: 'in_clear' })
        const destination = destinationOf(target, method)
        if (destination.kind === 'route' && destination.route.webSocket)
          await shake(exchange, destination.route, startedMs)
        else if (destination.kind === 'spa' && spa !== undefined) await spa.upgrade(exchange)
        else throw new GatewayError('route_not_found', { reason: 'no_websocket_here' })
      } catch (thrown) {
        const error = asGatewayError(thrown)
        report(error, { requestId })
        const around = envelopeOf(error, entrance)(requestId)
        refuseUpgrade(socket, problemReply(error, refusedUpgrade(requestId)), around)
      }
    }
    run().catch(() => socket.destroy())
  }

  /** Observed like any exchange of the route; its end is that of the handshake. */
  const shake = async (exchange: UpgradeExchange, route: Route, startedMs: number) => {
    let status = 0
    try {
      status = await handshake(exchange, route)
    } catch (thrown) {
      ;({ status } = ERRORS[asGatewayError(thrown).code])
      throw thrown
    } finally {
      const durationSeconds = (clock.monotonicMs() - startedMs) / 1000
      observe({ route: route.id, status, durationSeconds })
    }
  }

  const refusedUpgrade = (requestId: string): ProblemContext => ({
    requestId,
    isNavigation: false,
    login: loginUrl(settings.prefix, undefined),
    expectedOrigin: settings.loopback ? settings.publicOrigin : undefined,
  })

  const doorAt = (entrance: Entrance): Door => ({
    listener: (req, res) => serveAt(entrance, req, res),
    upgrade: (...handshake) => upgradeAt(entrance, ...handshake),
  })
  return {
    ...doorAt('open'),
    plain: doorAt('plain'),
    endStreams: () => {
      events.end()
      sockets.goAway()
    },
  }
}

/** A handshake has no ServerResponse: the refusal is written by hand, and the connection ends with it. */
export const refuseUpgrade = (socket: Duplex, answer: Reply, outside: Reply['headers']): void => {
  if (socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const lines = [
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}`,
    ...[...answer.headers, ...outside].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(answer.body)}`,
    'connection: close',
  ]
  socket.on('error', () => socket.destroy())
  socket.end(`${lines.join('\r\n')}\r\n\r\n${answer.body}`)
}
