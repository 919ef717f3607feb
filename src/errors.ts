/** Errors: one class, one catalogue. Callers branch on `code`; text and causes are for people and logs. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

interface ErrorKind {
  readonly status: number
  readonly title: string
  /** One fixed sentence that says what to do; never carries anything from the request or the provider. */
  readonly detail: string
  readonly log: LogLevel
  /** The same request may succeed later without anybody changing anything. */
  readonly retryable: boolean
  /** Signing in is what helps: the problem carries a ready `login` URL. */
  readonly signIn: boolean
}

const kind = (
  status: number,
  title: string,
  detail: string,
  log: LogLevel,
  also: { retryable?: true; signIn?: true } = {},
): ErrorKind => ({
  status,
  title,
  detail,
  log,
  retryable: also.retryable ?? false,
  signIn: also.signIn ?? false,
})

/** Every public problem code. docs/errors.md is checked against this table in both directions. */
export const ERRORS = {
  session_required: kind(
    401,
    'Sign in to continue',
    'This request needs a signed-in session and carried none; navigate to the login URL.',
    'info',
    { signIn: true },
  ),
  session_expired: kind(
    401,
    'The session has expired',
    'The session reached its idle or absolute lifetime; navigate to the login URL to start a new one.',
    'info',
    { signIn: true },
  ),
  session_ended: kind(
    401,
    'The session was ended',
    'The session was ended by a sign-out or by the identity provider; navigate to the login URL to start a new one.',
    'info',
    { signIn: true },
  ),
  bearer_invalid: kind(
    401,
    'The token is not accepted',
    'Send a valid token in the Authorization header, scheme Bearer.',
    'warn',
  ),
  navigation_required: kind(
    400,
    'Only a page navigation can do this',
    'Let the browser navigate to this URL (for example with location.assign); it cannot be fetched, framed or prefetched.',
    'info',
  ),
  csrf_rejected: kind(
    403,
    'The request did not come from this application',
    'Send the request from a page of the application’s own origin, or add the header X-CSRF: 1 outside a browser.',
    'warn',
  ),
  https_required: kind(
    403,
    'This needs https',
    'Send the request to the https address; what was sent in clear, cookies and tokens included, may have been read by others.',
    'warn',
  ),
  login_failed: kind(
    400,
    'Signing in did not work',
    'The identity provider’s answer could not be accepted; start signing in again.',
    'warn',
    { signIn: true },
  ),
  logout_token_invalid: kind(
    400,
    'The logout token was not accepted',
    'Send one valid logout token in the form field logout_token; the log has the reason under the request id.',
    'warn',
  ),
  session_not_found: kind(
    404,
    'There is no such session',
    'It may have ended already; list the sessions again.',
    'info',
  ),
  sign_in_refused: kind(
    403,
    'This account may not sign in',
    'The account is known but not allowed here, or signed in too often; use another account, sign out elsewhere, or ask the operator.',
    'warn',
  ),
  rate_limited: kind(
    429,
    'Too many requests from this address',
    'Wait for the time that Retry-After names before trying again.',
    'warn',
    { retryable: true },
  ),
  too_many_web_sockets: kind(
    429,
    'Too many WebSockets of this session are open',
    'Close those that are not needed, or share one among the pages of the application; the limit is webSockets.perSession.',
    'warn',
    { retryable: true },
  ),
  route_not_found: kind(
    404,
    'Nothing is served here',
    'No route, endpoint or file answers this path; check the path and the route table.',
    'info',
  ),
  method_not_allowed: kind(
    405,
    'The method is not allowed here',
    'Use one of the methods that the Allow header names.',
    'info',
  ),
  request_invalid: kind(
    400,
    'The request is malformed',
    'Correct the path, the parameters or the headers of the request; sending it again unchanged will not help.',
    'info',
  ),
  body_too_large: kind(
    413,
    'The request body is too large',
    'Send less than the limit that is configured for this route.',
    'info',
  ),
  url_too_long: kind(
    414,
    'The address is too long',
    'Send a shorter path and query; what does not fit belongs in the body of the request.',
    'info',
  ),
  headers_too_large: kind(
    431,
    'The header fields are too large',
    'Send fewer or shorter header fields; cookies that the application has set are the usual reason.',
    'info',
  ),
  request_timeout: kind(
    408,
    'The request did not come in time',
    'Send the whole head of the request at once, on a new connection.',
    'info',
    { retryable: true },
  ),
  expectation_failed: kind(
    417,
    'The expectation cannot be met',
    'Send no Expect header, or 100-continue.',
    'info',
  ),
  upgrade_required: kind(
    426,
    'Another version of WebSocket is needed',
    'Open the WebSocket with Sec-WebSocket-Version: 13.',
    'info',
  ),
  coding_not_implemented: kind(
    501,
    'The transfer coding is not known here',
    'Send the body with a Content-Length, or with Transfer-Encoding: chunked and nothing else.',
    'info',
  ),
  version_not_supported: kind(
    505,
    'This version of HTTP is not spoken here',
    'Send the request as HTTP/1.1.',
    'info',
  ),
  gateway_not_serving: kind(
    503,
    'This gateway does not serve',
    'The program that embeds it must wait for ready() first, and send it nothing after close().',
    'error',
  ),
  gateway_stopping: kind(
    503,
    'This replica is stopping',
    'Open the connection again; another replica answers.',
    'info',
    { retryable: true },
  ),
  provider_unavailable: kind(
    503,
    'The identity provider is not available',
    'The session is kept; try again after the time that Retry-After names.',
    'warn',
    { retryable: true },
  ),
  store_unavailable: kind(
    503,
    'The session store is not available',
    'The session is kept; try again after the time that Retry-After names.',
    'error',
    { retryable: true },
  ),
  upstream_unreachable: kind(
    502,
    'The API could not be reached',
    'The gateway could not get a valid answer from the API behind this route; check that the API is running.',
    'error',
    { retryable: true },
  ),
  upstream_busy: kind(
    503,
    'The API has as many requests as it may have',
    'The API behind this route is busy; try again after the time that Retry-After names.',
    'warn',
    { retryable: true },
  ),
  upstream_timeout: kind(
    504,
    'The API took too long to answer',
    'The API behind this route did not answer within the configured time.',
    'error',
    { retryable: true },
  ),
  internal: kind(
    500,
    'Something went wrong in the gateway',
    'The fault is logged under the request id; give that id to the operator.',
    'error',
  ),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

export interface GatewayErrorOptions {
  /** Private reason, a stable snake_case word: log and metric only, never the browser. */
  readonly reason?: string
  /** Free text for the log. */
  readonly note?: string
  readonly cause?: unknown
  readonly retryAfterSeconds?: number
  /** Value of `Allow` for method_not_allowed. */
  readonly allow?: readonly string[]
  /** Name, one of ours, of the parameter that request_invalid is about; its value is never repeated. */
  readonly parameter?: string
}

/** RFC 9110 §15.6.4, RFC 6585 §4: both may say when to come back, and clients that wait heed it. */
const SAYS_WHEN: ReadonlySet<number> = new Set([429, 503])

export class GatewayError extends Error {
  readonly code: ErrorCode
  readonly reason: string | undefined
  readonly note: string | undefined
  readonly retryAfterSeconds: number | undefined
  readonly allow: readonly string[] | undefined
  readonly parameter: string | undefined

  constructor(code: ErrorCode, options: GatewayErrorOptions = {}) {
    super(ERRORS[code].title, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'GatewayError'
    this.code = code
    this.reason = options.reason
    this.note = options.note
    this.allow = options.allow
    this.parameter = options.parameter
    this.retryAfterSeconds =
      options.retryAfterSeconds ?? (SAYS_WHEN.has(ERRORS[code].status) ? 1 : undefined)
  }
}

/** Every other throw becomes `internal`, with the thrown thing as its cause. */
export const asGatewayError = (thrown: unknown): GatewayError =>
  thrown instanceof GatewayError ? thrown : new GatewayError('internal', { cause: thrown })
