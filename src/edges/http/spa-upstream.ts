/** The SPA from another HTTP server: everything outside the routes goes there, hot reload included. */

import { GatewayError } from '../../errors.ts'
import { isOwnCookieName } from '../../session/session-cookie.ts'
import { milliseconds } from '../../time.ts'
import { forward, type UpstreamDispatch } from '../../upstream/forward.ts'
import { isHopByHop, nominatedBy, withoutNominated } from '../../upstream/header-names.ts'
import type { OpenSockets } from '../../upstream/open-sockets.ts'
import { createRequestBody } from '../../upstream/request-body.ts'
import {
  type RequestHeaderSettings,
  requestHeaderPolicy,
  upstreamRequestHeaders,
} from '../../upstream/request-headers.ts'
import type { ShakeHands } from '../../upstream/web-socket.ts'
import type { SpaServer, UpgradeExchange } from './app.ts'
import type { Exchange } from './exchange.ts'

export interface SpaUpstreamOptions {
  /** Of the server that has the app. */
  readonly origin: string
  readonly headerSettings: RequestHeaderSettings
  readonly dispatch: UpstreamDispatch
  readonly shakeHands: ShakeHands
  readonly sockets: OpenSockets
}

/** A development server may compile for a while before its first byte, and holds event streams open. */
const TIMEOUTS = {
  connectMs: milliseconds(2_000),
  firstByteMs: milliseconds(60_000),
  idleMs: milliseconds(0),
}
const HANDSHAKE_MS = 10_000
/** Hot reload speaks for itself, and as long as it likes. */
const SOCKETS = {
  id: 'spa',
  webSockets: { origin: 'keep', idle: milliseconds(0), lifetime: milliseconds(0) },
} as const
const BODY_LIMITS = { bytesMax: 10 * 1024 * 1024, replayBytesMax: 64 * 1024 }

export const createSpaUpstream = (options: SpaUpstreamOptions): SpaServer => {
  const { origin, headerSettings, dispatch, shakeHands, sockets } = options
  const publicOrigin = new URL(headerSettings.publicUrl).origin
  const policy = requestHeaderPolicy(
    { upstreamOrigin: origin, preserveHost: false, cookies: [] },
    headerSettings,
  )

  // The app may keep cookies of its own; the filter takes out the gateway's, whatever is listed.
  const requestHeaders = ({ req, client, requestId }: Exchange | UpgradeExchange): string[] =>
    upstreamRequestHeaders(req.rawHeaders, {
      policy: { ...policy, cookies: cookieNamesIn(req.headers.cookie) },
      accessToken: undefined,
      clientAddress: client.address,
      requestId,
    })

  const responseHeadersFor =
    (requestId: string) =>
    (_status: number, rawHeaders: readonly string[]): string[] => [
      ...appResponseHeaders(rawHeaders, {
        upstream: new URL(origin),
        publicOrigin,
      }),
      'x-request-id',
      requestId,
    ]

  return {
    serve: async (exchange) => {
      const { req, res, method, target, requestId } = exchange
      await forward(
        {
          origin,
          path: target.rawPath + target.query,
          method,
          headers: requestHeaders(exchange),
          body: createRequestBody(req, BODY_LIMITS),
          timeouts: TIMEOUTS,
          endsAtMs: undefined,
          responseHeaders: responseHeadersFor(requestId),
        },
        res,
        dispatch,
      )
      return true
    },

    upgrade: async (exchange) => {
      const { req, socket, head, target, requestId } = exchange
      // CORS does not cover WebSockets, and a sibling's page is same-site: only our own pages get through, and
      // who they are is a matter of configuration, not of `Host` (RFC 6455 §10.2).
      if (req.headers.origin !== publicOrigin) {
        throw new GatewayError('csrf_rejected', {
          reason: 'websocket_origin',
          note: `origin ${req.headers.origin ?? 'absent'}`,
        })
      }
      const answer = await shakeHands({
        origin,
        path: target.rawPath + target.query,
        headers: requestHeaders(exchange),
        socket,
        head,
        connectMs: TIMEOUTS.connectMs,
        answerMs: HANDSHAKE_MS,
      })
      if (answer.kind === 'client_left') return
      const headers = responseHeadersFor(requestId)(answer.status, answer.rawHeaders)
      if (answer.kind === 'refused') return answer.pass(headers)
      sockets
        .take({ requestId, route: SOCKETS, session: undefined })
        .open((observer) => answer.open(headers, observer))
    },
  }
}

const cookieNamesIn = (cookie: string | undefined): ReadonlySet<string> =>
  new Set((cookie ?? '').split(';').map((pair) => pair.split('=', 1)[0]?.trim() ?? ''))

interface AppResponseContext {
  readonly upstream: URL
  readonly publicOrigin: string
}

/** What runs behind the gateway, and where else to find it, is nobody's business. */
const DROPPED = new Set(['server', 'via', 'x-powered-by', 'alt-svc', 'x-request-id'])

/** This server speaks for the application, so its policies, caching and cookies pass as they are. */
const appResponseHeaders = (
  rawHeaders: readonly string[],
  context: AppResponseContext,
): string[] => {
  const kept: string[] = []
  const nominated: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string
    const value = rawHeaders[i + 1] as string
    const lower = name.toLowerCase()
    if (lower === 'connection') nominated.push(...nominatedBy(value))
    if (isHopByHop(lower) || DROPPED.has(lower)) continue
    if (lower === 'set-cookie' && isOwnCookie(value)) continue
    const isLocation = lower === 'location' || lower === 'content-location'
    kept.push(name, isLocation ? publicLocation(value, context) : value)
  }
  return withoutNominated(kept, nominated)
}

const isOwnCookie = (setCookie: string): boolean =>
  // A nameless cookie (`=name…`) is sent back as its value alone, which reads like a name.
  isOwnCookieName(setCookie.replace(/^[\s=]+/, ''))

/** The app's server under its internal name is the public origin to everybody else. */
const publicLocation = (
  location: string,
  { upstream, publicOrigin }: AppResponseContext,
): string => {
  if (!/^(?:https?:)?\/\//i.test(location) || !URL.canParse(location, upstream.href))
    return location
  const url = new URL(location, upstream)
  if (url.host !== upstream.host) return location
  return publicOrigin + url.pathname + url.search + url.hash
}
