/** GatewayError → problem document (RFC 9457) for code, a page for navigations. The only place that renders errors. */

import { ERRORS, type ErrorCode, type GatewayError } from '../../errors.ts'
import { errorPage } from './pages.ts'
import { json, type Reply } from './reply.ts'

export interface ProblemContext {
  readonly requestId: string
  readonly isNavigation: boolean
  /** Ready login URL, for problems that signing in solves. */
  readonly login: string
  /** Set on a loopback public URL only, where it helps the developer and tells nobody else anything. */
  readonly expectedOrigin: string | undefined
  readonly setCookies?: readonly string[]
}

/** What every problem with this code says (RFC 9457 §3.1). */
export const problemDocument = (code: ErrorCode) => {
  const { title, status, detail, retryable } = ERRORS[code]
  return { type: `urn:coatcheck:problem:${code}`, title, status, code, detail, retryable }
}

export const problemReply = (error: GatewayError, context: ProblemContext): Reply => {
  const { code } = error
  const kind = ERRORS[code]
  const headers = errorHeaders(error)
  const login = kind.signIn ? context.login : undefined
  const setCookies = context.setCookies ?? []
  if (context.isNavigation)
    return errorPage({
      code,
      reason: error.reason,
      parameter: error.parameter,
      requestId: context.requestId,
      login,
      headers,
      setCookies,
    })
  const problem = json(
    kind.status,
    {
      ...problemDocument(code),
      requestId: context.requestId,
      ...(login === undefined ? {} : { login }),
      ...(error.parameter === undefined ? {} : { parameter: error.parameter }),
      ...(code === 'csrf_rejected' && context.expectedOrigin !== undefined
        ? { expectedOrigin: context.expectedOrigin }
        : {}),
    },
    setCookies,
    'application/problem+json',
  )
  return { ...problem, headers: [...problem.headers, ...headers] }
}

const errorHeaders = (error: GatewayError): Reply['headers'] => {
  const headers: [string, string][] = []
  if (error.retryAfterSeconds !== undefined)
    headers.push(['retry-after', String(error.retryAfterSeconds)])
  if (error.allow !== undefined) headers.push(['allow', error.allow.join(', ')])
  // A 401 always names a challenge (RFC 9110 §15.5.2); this scheme makes no browser ask for a password.
  if (statusOf(error.code) === 401)
    headers.push([
      'www-authenticate',
      `${error.code === 'bearer_invalid' ? 'Bearer' : 'Cookie'} realm="coatcheck"`,
    ])
  return headers
}

const statusOf = (code: ErrorCode): number => ERRORS[code].status
