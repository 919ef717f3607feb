/** The data plane alone on a real socket: routing, headers and forwarding, without sessions or guards. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createUpstreamDispatch } from '../../../src/edges/upstream/dispatcher.ts'
import { asGatewayError, ERRORS, GatewayError } from '../../../src/errors.ts'
import { parseTarget } from '../../../src/routing/path.ts'
import type { RouteDefinition } from '../../../src/routing/route-table.ts'
import { compileRoutes, matchRoute, upstreamPath } from '../../../src/routing/route-table.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import type {
  ForwardRequest,
  ForwardResult,
  UpstreamDispatch,
} from '../../../src/upstream/forward.ts'
import { forward } from '../../../src/upstream/forward.ts'
import { createRequestBody } from '../../../src/upstream/request-body.ts'
import {
  requestHeaderPolicy,
  upstreamRequestHeaders,
} from '../../../src/upstream/request-headers.ts'
import {
  downstreamResponseHeaders,
  responseHeaderPolicy,
} from '../../../src/upstream/response-headers.ts'
import { within } from '../../support/wait.ts'

export const OWN_COOKIE = '__Host-Http-coatcheck'
export const ACCESS_TOKEN = 'access-token-of-alice'

export const routeTo = (
  upstream: string,
  overrides: Partial<RouteDefinition> = {},
): RouteDefinition => ({
  path: '/api',
  methods: undefined,
  upstream,
  stripPrefix: false,
  accept: ['session'],
  credential: 'user',
  documents: false,
  webSocket: false,
  webSockets: { origin: 'keep', idle: milliseconds(0), lifetime: milliseconds(0) },
  eventSource: false,
  encodedSlash: false,
  preserveHost: false,
  cookies: [],
  setCookies: [],
  bodyBytesMax: 10 * 1024 * 1024,
  timeout: {
    connect: milliseconds(2_000),
    firstByte: milliseconds(5_000),
    idle: milliseconds(5_000),
    total: milliseconds(0),
  },
  cache: 'private, no-store',
  ...overrides,
})

export type Outcome =
  | ForwardResult
  | { readonly kind: 'refused'; readonly code: string; readonly reason: string | undefined }

export interface SmallGateway {
  readonly url: string
  readonly port: number
  /** What became of each request, in the order of their ends. */
  readonly outcomes: readonly Outcome[]
  close(): Promise<void>
}

export interface SmallGatewayOptions {
  readonly isUnwanted?: ForwardRequest['isUnwanted']
  readonly publicUrl?: string
  readonly dispatch?: UpstreamDispatch
}

export const startSmallGateway = async (
  definitions: readonly RouteDefinition[],
  options: SmallGatewayOptions = {},
): Promise<SmallGateway> => {
  const table = compileRoutes(definitions)
  const settings = {
    publicUrl: options.publicUrl ?? 'https://app.example.com',
    instanceId: 'instance-1',
  }
  const ownDispatch = createUpstreamDispatch()
  const dispatch = options.dispatch ?? ownDispatch
  const outcomes: Outcome[] = []

  const respond = async (req: IncomingMessage, res: ServerResponse): Promise<ForwardResult> => {
    const target = parseTarget(req.url ?? '', { encodedSlash: true })
    if (target.kind === 'invalid') {
      throw new GatewayError('request_invalid', { reason: target.reason })
    }
    const match = matchRoute(table, target.path, req.method ?? '')
    if (match.kind === 'none') throw new GatewayError('route_not_found')
    if (match.kind === 'method') throw new GatewayError('method_not_allowed', match)
    const { route } = match
    if (target.encodedSlash && !route.encodedSlash) {
      throw new GatewayError('request_invalid', { reason: 'encoded_slash' })
    }
    const requestId = 'request-1'
    const responsePolicy = responseHeaderPolicy(route, { ...settings, routes: table.routes })
    const body = createRequestBody(req, {
      bytesMax: route.bodyBytesMax,
      replayBytesMax: 64 * 1024,
    })
    const attempt = (isUnwanted: ForwardRequest['isUnwanted']) =>
      forward(
        {
          origin: route.upstreamOrigin,
          path: upstreamPath(route, target),
          method: req.method ?? '',
          headers: upstreamRequestHeaders(req.rawHeaders, {
            policy: requestHeaderPolicy(route, settings),
            accessToken: ACCESS_TOKEN,
            clientAddress: '192.0.2.7',
            requestId,
          }),
          body,
          timeouts: route.timeouts,
          endsAtMs:
            route.totalMs === 0
              ? undefined
              : milliseconds(systemClock.monotonicMs() + route.totalMs),
          responseHeaders: (status, rawHeaders) =>
            downstreamResponseHeaders(rawHeaders, { policy: responsePolicy, status, requestId }),
          ...(isUnwanted === undefined ? {} : { isUnwanted }),
        },
        res,
        dispatch,
      )
    const first = await attempt(options.isUnwanted)
    return first.kind === 'discarded' ? attempt(undefined) : first
  }

  const server = createServer({ maxHeaderSize: 32_768 }, (req, res) => {
    respond(req, res).then(
      (result) => outcomes.push(result),
      (thrown: unknown) => {
        const error = asGatewayError(thrown)
        outcomes.push({ kind: 'refused', code: error.code, reason: error.reason })
        if (error.code === 'internal') console.error(error.cause)
        res.writeHead(ERRORS[error.code].status, { 'content-type': 'application/json' })
        res.end(JSON.stringify({ code: error.code }))
      },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    outcomes,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await ownDispatch.close()
      await within(5_000, 'the small gateway closes', closed)
    },
  }
}
