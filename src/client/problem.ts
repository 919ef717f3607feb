/** Problems as errors with a type: what the gateway refuses (RFC 9457), and what the client itself has to say. */

/** Every code of docs/errors.md, and below them the client's own. */
export type ProblemCode =
  | 'session_required'
  | 'session_expired'
  | 'session_ended'
  | 'bearer_invalid'
  | 'navigation_required'
  | 'csrf_rejected'
  | 'https_required'
  | 'login_failed'
  | 'logout_token_invalid'
  | 'session_not_found'
  | 'sign_in_refused'
  | 'rate_limited'
  | 'too_many_web_sockets'
  | 'route_not_found'
  | 'method_not_allowed'
  | 'request_invalid'
  | 'body_too_large'
  | 'url_too_long'
  | 'headers_too_large'
  | 'request_timeout'
  | 'expectation_failed'
  | 'upgrade_required'
  | 'coding_not_implemented'
  | 'version_not_supported'
  | 'gateway_stopping'
  | 'gateway_not_serving'
  | 'provider_unavailable'
  | 'store_unavailable'
  | 'upstream_unreachable'
  | 'upstream_busy'
  | 'upstream_timeout'
  | 'internal'
  | ClientCode

export type ClientCode =
  /** Nothing answered: no network, or the gateway is down. */
  | 'unreachable'
  /** An endpoint answered with what it never says: something else than the gateway is at its address. */
  | 'unexpected_answer'
  /** `returnTo` is no path of this origin. */
  | 'return_to_invalid'
  /** The client was used where or how it cannot work. */
  | 'misuse'

/** What a problem document says. A later gateway may send codes that this release does not list. */
export interface Problem {
  readonly code: ProblemCode | (string & {})
  /** HTTP status; 0 where nothing answered. */
  readonly status: number
  readonly title: string
  /** One sentence that says what to do. */
  readonly detail: string
  /** The same request may succeed later without anybody changing anything. */
  readonly retryable: boolean
  /** When that is, in seconds from now. */
  readonly retryAfterSeconds?: number | undefined
  /** Finds the line in the gateway's log that has the private reason. */
  readonly requestId?: string | undefined
  /** A ready address, where signing in is what helps. */
  readonly login?: string | undefined
}

export class CoatcheckError extends Error implements Problem {
  declare readonly code: Problem['code']
  declare readonly status: number
  declare readonly title: string
  declare readonly detail: string
  declare readonly retryable: boolean
  declare readonly retryAfterSeconds?: number | undefined
  declare readonly requestId?: string | undefined
  declare readonly login?: string | undefined

  constructor(problem: Problem, cause?: unknown) {
    super(`${problem.title} (${problem.code}). ${problem.detail}`, { cause })
    this.name = 'CoatcheckError'
    Object.assign(this, problem)
  }
}

/** A mistake of the calling code: `detail` is for its developer. */
export const misuse = (detail: string, code: ClientCode = 'misuse'): CoatcheckError =>
  new CoatcheckError({ code, status: 0, title: 'coatcheck/client', detail, retryable: false })

export const unreachable = (cause: unknown): CoatcheckError =>
  new CoatcheckError(
    {
      code: 'unreachable',
      status: 0,
      title: 'No answer',
      detail: 'Try again.',
      retryable: true,
    },
    cause,
  )

/** What a call of the client's own rejects with: giving up after its time counts as no answer. */
export const asProblem = (thrown: unknown): CoatcheckError =>
  thrown instanceof CoatcheckError ? thrown : unreachable(thrown)

export const unexpectedAnswer = ({ status, url }: Response): CoatcheckError =>
  new CoatcheckError({
    code: 'unexpected_answer',
    status,
    title: 'Unexpected answer',
    detail: `${url} answered ${status}; is the gateway there?`,
    // A proxy in front of a gateway that is down.
    retryable: status > 499,
  })

const TYPE = 'urn:coatcheck:problem:'

/** The gateway's problem document in an answer; an API's own errors are none, and stay unread. */
export const problemOf = async (response: Response): Promise<CoatcheckError | undefined> => {
  if (!response.headers.get('content-type')?.startsWith('application/problem+json')) return
  const problem = (await response
    .clone()
    .json()
    .catch(() => undefined)) as (Problem & { readonly type?: unknown }) | undefined
  if (!String(problem?.type).startsWith(TYPE)) return
  const retryAfter = Number.parseInt(response.headers.get('retry-after') ?? '', 10)
  return new CoatcheckError({
    ...problem!,
    retryAfterSeconds: retryAfter >= 0 ? retryAfter : undefined,
  })
}
