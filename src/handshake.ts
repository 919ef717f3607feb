/**
 * A route's WebSocket handshake, in the order of its way, which is that of a request (proxy.ts); nothing else decides.
 * What refuses throws a GatewayError, which edges/http/app.ts renders on the raw socket.
 */

import type { Duplex } from 'node:stream'
import type { CallAdmission, ClientAddress } from './guard/admission.ts'
import { type SessionReading, sessionRefusal } from './guard/by-session.ts'
import type { RequestFacts } from './guard/fetch-metadata.ts'
import type { SameOriginGuard } from './guard/same-origin.ts'
import { createRouteSession, type RouteSessionDependencies } from './route-session.ts'
import type { Target } from './routing/path.ts'
import { type Route, upstreamPath } from './routing/route-table.ts'
import type { WatchedEnd } from './session/session-watch.ts'
import type { TicketRenewal } from './session/ticket-renewal.ts'
import type { OpenSession, Vault } from './session/vault.ts'
import type { OpenSockets, SocketPlace } from './upstream/open-sockets.ts'
import { type RequestHeaderPolicy, upstreamRequestHeaders } from './upstream/request-headers.ts'
import {
  downstreamResponseHeaders,
  type ResponseHeaderPolicy,
} from './upstream/response-headers.ts'
import type { HandshakeAnswer, ShakeHands } from './upstream/web-socket.ts'

export interface HandshakeRequest extends RequestFacts {
  readonly rawHeaders: readonly string[]
  readonly socket: Duplex
  /** What the client has sent behind its handshake. */
  readonly head: Buffer
  readonly requestId: string
  readonly client: ClientAddress
  readonly target: Target
}

/** The status that the client got: 101, or the upstream's own refusal; 0 where it left first. */
export type RouteHandshake = (request: HandshakeRequest, route: Route) => Promise<number>

export interface HandshakeDependencies extends RouteSessionDependencies {
  readonly guard: SameOriginGuard
  readonly admitCall: CallAdmission
  readonly vault: Vault
  readonly renewal: TicketRenewal
  readonly sockets: OpenSockets
  readonly shakeHands: ShakeHands
  readonly requestPolicy: (route: Route) => RequestHeaderPolicy
  readonly responsePolicy: (route: Route) => ResponseHeaderPolicy
}

type LiveReading = SessionReading & { readonly kind: 'live' }

export const createHandshake = (dependencies: HandshakeDependencies): RouteHandshake => {
  const { guard, admission, admitCall, vault, renewal } = dependencies
  const { presentedCredential, authenticate, withFreshToken, sendWithToken } =
    createRouteSession(dependencies)

  return async (request, route) => {
    const presented = presentedCredential(request, route)
    // No CORS stands before WebSockets, so that a page of another origin is refused also where it needs no session.
    if (presented.kind !== 'absent' || request.header('origin') !== undefined)
      guard(request, 'websocket')
    admission.admit(request.client)
    admitCall(request.client, request)
    const session = await withFreshToken(route, await authenticate(request, presented))
    if (session.kind !== 'live' && !route.accept.includes('anonymous'))
      throw sessionRefusal(session)
    const live = session.kind === 'live' ? session : undefined
    if (live !== undefined) vault.touch(live.open)
    const place = takePlace(request, route, live)
    try {
      return await openThrough(request, route, live, place)
    } catch (thrown) {
      place.leave()
      throw thrown
    }
  }

  /** Counted from here on; and whatever ends the session from here on ends the socket. */
  function takePlace(
    { requestId }: HandshakeRequest,
    route: Route,
    live: LiveReading | undefined,
  ): SocketPlace {
    return dependencies.sockets.take({ requestId, route, session: live?.open })
  }

  async function openThrough(
    request: HandshakeRequest,
    route: Route,
    live: LiveReading | undefined,
    place: SocketPlace,
  ): Promise<number> {
    const ownCookies =
      (live === undefined ? undefined : await renewal.renewed(live.open, live.ringId)) ?? []
    const answer = await answerOf(request, route, live)
    if (answer.kind === 'client_left') {
      place.leave()
      return 0
    }
    const end = place.sessionEnd()
    if (end !== undefined) {
      answer.abandon()
      throw sessionRefusal(afterEnd(end))
    }
    const { status, rawHeaders } = answer
    const policy = dependencies.responsePolicy(route)
    const { requestId } = request
    const headers = downstreamResponseHeaders(rawHeaders, { policy, status, requestId, ownCookies })
    if (answer.kind === 'agreed') {
      place.open((observer) => answer.open(headers, observer))
    } else {
      place.leave()
      await answer.pass(headers)
    }
    return status
  }

  function answerOf(
    request: HandshakeRequest,
    route: Route,
    live: LiveReading | undefined,
  ): Promise<HandshakeAnswer> {
    if (live === undefined || route.credential === 'none')
      return shakenWith(request, route, live?.open)
    return sendWithToken<HandshakeAnswer>(route, live.open, async (session, isUnwanted) => {
      const answer = await shakenWith(request, route, session)
      if (answer.kind === 'refused' && isUnwanted(answer.status, answer.rawHeaders))
        answer.abandon()
      return answer
    })
  }

  function shakenWith(
    request: HandshakeRequest,
    route: Route,
    open: OpenSession | undefined,
  ): Promise<HandshakeAnswer> {
    const { rawHeaders, target, client, requestId, socket, head } = request
    const headers = upstreamRequestHeaders(rawHeaders, {
      policy: dependencies.requestPolicy(route),
      accessToken: route.credential === 'user' ? open?.session.tokens.accessToken : undefined,
      clientAddress: client.address,
      requestId,
    })
    return dependencies.shakeHands({
      origin: route.upstreamOrigin,
      path: upstreamPath(route, target),
      headers: withOriginOf(route, headers),
      socket,
      head,
      connectMs: route.timeouts.connectMs,
      answerMs: route.timeouts.firstByteMs,
    })
  }
}

const afterEnd = (end: WatchedEnd): Exclude<SessionReading, { kind: 'live' }> =>
  end === 'unknown' ? { kind: 'absent', why: 'no_record' } : { kind: 'ended', reason: end }

/** The guard has seen the browser's own; servers that compare it with their own host get that. */
const withOriginOf = (route: Route, headers: readonly string[]): readonly string[] =>
  route.webSockets.origin === 'keep'
    ? headers
    : headers.map((word, index) =>
        index % 2 === 1 && headers[index - 1]?.toLowerCase() === 'origin'
          ? route.upstreamOrigin
          : word,
      )
