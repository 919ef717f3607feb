/**
 * The proxied request, in the order of its way; nothing else decides. What refuses throws a GatewayError, which
 * edges/http/app.ts renders.
 */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { CallAdmission, ClientAddress } from './guard/admission.ts'
import { type SessionReading, sessionRefusal } from './guard/by-session.ts'
import {
  isDocumentNavigation,
  isFromOtherOrigin,
  type RequestFacts,
} from './guard/fetch-metadata.ts'
import type { RequestKind, SameOriginGuard } from './guard/same-origin.ts'
import {
  createRouteSession,
  type IsUnwanted,
  type RouteSessionDependencies,
} from './route-session.ts'
import type { Target } from './routing/path.ts'
import { type Route, upstreamPath } from './routing/route-table.ts'
import type { TicketRenewal } from './session/ticket-renewal.ts'
import type { OpenSession, Vault } from './session/vault.ts'
import { type Clock, milliseconds } from './time.ts'
import { type ForwardResult, forward, type UpstreamDispatch } from './upstream/forward.ts'
import type { HeldStreams } from './upstream/held-streams.ts'
import { isFinalRecipient } from './upstream/max-forwards.ts'
import { createRequestBody, isIdempotent } from './upstream/request-body.ts'
import { type RequestHeaderPolicy, upstreamRequestHeaders } from './upstream/request-headers.ts'
import {
  downstreamResponseHeaders,
  type ResponseHeaderPolicy,
} from './upstream/response-headers.ts'

export interface ProxiedRequest extends RequestFacts {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly requestId: string
  readonly client: ClientAddress
  readonly target: Target
}

export type ProxyOutcome =
  | { readonly kind: 'forwarded'; readonly result: ForwardResult }
  /** A page load of a document route without a session: it goes to sign in. */
  | { readonly kind: 'login'; readonly returnTo: string }
  /** The same, from another site: asked once more from our own page, so that the Strict cookie comes along. */
  | { readonly kind: 'same_site_page' }
  /** `Max-Forwards: 0`: the API may not be asked what it can do. */
  | { readonly kind: 'final_recipient' }

export type RouteProxy = (request: ProxiedRequest, route: Route) => Promise<ProxyOutcome>

export interface ProxyDependencies extends RouteSessionDependencies {
  readonly guard: SameOriginGuard
  readonly admitCall: CallAdmission
  readonly vault: Vault
  readonly renewal: TicketRenewal
  readonly dispatch: UpstreamDispatch
  readonly streams: HeldStreams
  readonly clock: Clock
  readonly requestPolicy: (route: Route) => RequestHeaderPolicy
  readonly responsePolicy: (route: Route) => ResponseHeaderPolicy
}

/** Bodies up to this size can be sent a second time, after a refresh. */
const REPLAY_BYTES_MAX = 64 * 1024

export const createProxy = (dependencies: ProxyDependencies): RouteProxy => {
  const { guard, admission, admitCall, vault, renewal, dispatch, streams } = dependencies
  const { presentedCredential, authenticate, withFreshToken, sendWithToken } =
    createRouteSession(dependencies)

  return async (request, route) => {
    const presented = presentedCredential(request, route)
    if (presented.kind !== 'absent') guard(request, requestKind(request, route))
    admission.admit(request.client)
    admitCall(request.client, request)
    const session = await withFreshToken(route, await authenticate(request, presented))
    if (session.kind !== 'live' && !route.accept.includes('anonymous'))
      return withoutSession(request, route, session)
    if (isFinalRecipient(request.method, request.header('max-forwards')))
      return { kind: 'final_recipient' }
    return { kind: 'forwarded', result: await forwardWith(request, route, session) }
  }

  async function forwardWith(
    request: ProxiedRequest,
    route: Route,
    reading: SessionReading,
  ): Promise<ForwardResult> {
    // A dead session on a route that takes anyone is anyone.
    const live = reading.kind === 'live' ? reading : undefined
    if (live !== undefined) vault.touch(live.open)
    const { req, res, requestId, client, target, method } = request
    const endsAtMs = endOf(route, dependencies.clock)
    const body = createRequestBody(req, {
      bytesMax: route.bodyBytesMax,
      replayBytesMax: REPLAY_BYTES_MAX,
    })
    const renewing = live === undefined ? undefined : renewal.renewed(live.open, live.ringId)
    const ownCookies = renewing === undefined ? [] : await renewing
    const path = upstreamPath(route, target)
    const policy = dependencies.requestPolicy(route)
    const ofAnswers = { policy: dependencies.responsePolicy(route), requestId, ownCookies }

    const attempt = (session: OpenSession | undefined, isUnwanted?: IsUnwanted) =>
      forward(
        {
          origin: route.upstreamOrigin,
          path,
          method,
          headers: upstreamRequestHeaders(req.rawHeaders, {
            policy,
            accessToken:
              route.credential === 'user' ? session?.session.tokens.accessToken : undefined,
            clientAddress: client.address,
            requestId,
          }),
          body,
          timeouts: route.timeouts,
          endsAtMs,
          responseHeaders: (status, rawHeaders) =>
            downstreamResponseHeaders(rawHeaders, { ...ofAnswers, status }),
          ...(isUnwanted === undefined ? {} : { isUnwanted }),
          hold: (rawHeaders, cut) => streams.hold(rawHeaders, session, cut),
        },
        res,
        dispatch,
      )

    if (live === undefined || route.credential === 'none') return attempt(live?.open)
    // RFC 9110 §9.2.2: what is not idempotent is never sent twice, whether it has a body or not.
    const mayRepeat = () => isIdempotent(method) && body.replayable()
    try {
      return await sendWithToken(route, live.open, attempt, mayRepeat)
    } catch (thrown) {
      body.discard()
      throw thrown
    }
  }
}

/** A second sending after a refresh has what the first one left. */
const endOf = ({ totalMs }: Route, clock: Clock) =>
  totalMs === 0 ? undefined : milliseconds(clock.monotonicMs() + totalMs)

const requestKind = (request: ProxiedRequest, route: Route): RequestKind =>
  route.eventSource && request.method === 'GET' ? 'event-stream' : 'http'

/** Page loads of document routes go to sign in; everything else hears why it was refused. */
const withoutSession = (
  request: ProxiedRequest,
  route: Route,
  reading: Exclude<SessionReading, { kind: 'live' }>,
): ProxyOutcome => {
  // A session of another process would be one of another process again after signing in: that is told, not repeated.
  const isElsewhere = reading.kind === 'absent' && reading.why === 'other_process'
  if (
    route.documents &&
    !isElsewhere &&
    request.method === 'GET' &&
    isDocumentNavigation(request)
  ) {
    const carriedNothing = reading.kind === 'absent' && reading.why === 'no_cookie'
    return carriedNothing && isFromOtherOrigin(request)
      ? { kind: 'same_site_page' }
      : { kind: 'login', returnTo: `${request.target.rawPath}${request.target.query}` }
  }
  throw sessionRefusal(reading)
}
