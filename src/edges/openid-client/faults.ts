/**
 * What a failed call to the provider means. The library's errors carry whole answers as their causes, tokens
 * included, so nothing of them is passed on but words: our reasons, OAuth error codes that we know, a status.
 */

import { ClientError, ResponseBodyError } from 'openid-client'
import { GatewayError } from '../../errors.ts'
import type { EpochMs, Seconds } from '../../time.ts'
import { seconds } from '../../time.ts'
import { AnswerTooLarge, NotConnected } from './wire.ts'

export type FaultKind =
  /** The provider says no to this code or refresh token for good. */
  | 'rejected'
  /** It says no to this gateway: credentials, grants, parameters. */
  | 'configuration'
  /** A success that cannot be used as one. */
  | 'unacceptable'
  /** Not now, or nobody knows. */
  | 'transient'

export interface Fault {
  readonly kind: FaultKind
  /** A stable word such as `timeout`, `status_503`, `invalid_client`. */
  readonly reason: string
  /** Whether the provider may have acted on the request all the same. */
  readonly acted: 'no' | 'unknown'
  readonly retryAfter: Seconds | undefined
  /** Fit for a log. */
  readonly cause: Error
}

/**
 * Error codes of a token endpoint: RFC 6749 §5.2, RFC 8707 §2, OIDC Core §3.1.2.6. The provider that wants its
 * user back, or refuses them, will not honour this grant again; the rest is for the operator.
 */
const OAUTH_ERRORS: Readonly<Record<string, FaultKind>> = {
  invalid_grant: 'rejected',
  access_denied: 'rejected',
  interaction_required: 'rejected',
  login_required: 'rejected',
  consent_required: 'rejected',
  invalid_client: 'configuration',
  invalid_request: 'configuration',
  invalid_scope: 'configuration',
  invalid_target: 'configuration',
  unauthorized_client: 'configuration',
  unsupported_grant_type: 'configuration',
  unsupported_token_type: 'configuration',
  server_error: 'transient',
  slow_down: 'transient',
  temporarily_unavailable: 'transient',
}

const RETRY_AFTER_MAX_SECONDS = 300

export const faultOf = (thrown: unknown, now: EpochMs): Fault => {
  if (thrown instanceof GatewayError) {
    const retryAfter = thrown.retryAfterSeconds
    return fault('transient', thrown.reason ?? thrown.code, 'no', {
      cause: thrown.cause instanceof Error ? thrown.cause : thrown,
      ...(retryAfter === undefined ? {} : { retryAfter: seconds(retryAfter) }),
    })
  }
  const answer = answerOf(thrown)
  if (answer !== undefined && answer.status !== 200) return ofErrorAnswer(thrown, answer, now)
  if (thrown instanceof ClientError) return ofClientError(thrown)
  return ofConnection(thrown)
}

const ofErrorAnswer = (thrown: unknown, answer: Response, now: EpochMs): Fault => {
  const { status } = answer
  const retryAfter = retryAfterOf(answer, now)
  if (status === 429 || status >= 500) {
    // 429 and 503 turn a request away at the door. A 500 can strike after the token was rotated, and 502 or 504
    // come from a proxy that knows nothing of the provider behind it.
    const acted = status === 429 || status === 503 ? 'no' : 'unknown'
    return fault('transient', `status_${status}`, acted, { retryAfter })
  }
  if (thrown instanceof ResponseBodyError) {
    const known = Object.hasOwn(OAUTH_ERRORS, thrown.error)
    // A code that we do not know is for a human: no session ends over it.
    const kind = (known && OAUTH_ERRORS[thrown.error]) || 'configuration'
    const reason = known ? thrown.error : 'oauth_error_unknown'
    const cause = kind === 'configuration' ? explained(reason, thrown.error_description) : undefined
    return fault(kind, reason, 'no', { retryAfter, cause })
  }
  const kind = status === 401 ? 'configuration' : 'transient'
  // A 2xx that is not 200 is some kind of success.
  return fault(kind, `status_${status}`, status < 300 ? 'unknown' : 'no', { retryAfter })
}

const ofClientError = ({ code, cause }: ClientError): Fault => {
  switch (code) {
    case 'OAUTH_TIMEOUT':
      return fault('transient', 'timeout', 'unknown')
    case 'OAUTH_ABORT':
      return fault('transient', 'closed', 'unknown')
    // What is no JSON object may be an answer cut short.
    case 'OAUTH_PARSE_ERROR':
    case 'OAUTH_RESPONSE_IS_NOT_JSON':
      return fault('transient', 'answer_malformed', 'unknown')
    case 'OAUTH_INVALID_RESPONSE':
      return fault('unacceptable', 'answer_invalid', 'unknown')
    case 'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED':
      return ofMismatch(cause)
    case 'OAUTH_MISSING_SERVER_METADATA':
    case 'OAUTH_INVALID_SERVER_METADATA':
    case 'OAUTH_HTTP_REQUEST_FORBIDDEN':
    case 'OAUTH_REQUEST_PROTOCOL_FORBIDDEN':
      return fault('configuration', 'endpoint_unusable', 'no')
    case 'OAUTH_UNSUPPORTED_OPERATION':
      return fault('unacceptable', 'token_type_unsupported', 'unknown')
    default:
      return ofConnection(cause)
  }
}

const ofConnection = (thrown: unknown): Fault => {
  const cause = thrown instanceof Error ? thrown.cause : undefined
  if (cause instanceof NotConnected) {
    return fault('transient', connectionReason(cause.code), 'no', {
      cause: new Error(`no connection to the provider: ${cause.code}`),
    })
  }
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError') {
    return fault('transient', 'timeout', 'unknown')
  }
  if (thrown instanceof AnswerTooLarge) return fault('transient', 'answer_too_large', 'unknown')
  // Reset, closed early, cut short: the request may have arrived.
  if (thrown instanceof TypeError) return fault('transient', 'network', 'unknown')
  return fault('transient', 'unexpected', 'unknown')
}

const BY_SYSTEM_CODE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection_refused',
  ECONNRESET: 'connection_reset',
  EPIPE: 'connection_reset',
  ENOTFOUND: 'name_not_resolved',
  EAI_AGAIN: 'name_not_resolved',
  ETIMEDOUT: 'connect_timeout',
  EHOSTUNREACH: 'connect_timeout',
  ENETUNREACH: 'connect_timeout',
  UND_ERR_CONNECT_TIMEOUT: 'connect_timeout',
}
/** Of Node and of OpenSSL's certificate check: untrusted, expired, for another name, or no TLS at all. */
const TLS_CODE =
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|HOSTNAME_MISMATCH)/

/** Each is another thing to mend: the name, the address, the firewall, the certificate. */
const connectionReason = (code: string): string =>
  TLS_CODE.test(code) ? 'tls_failed' : (BY_SYSTEM_CODE[code] ?? 'not_connected')

const fault = (
  kind: FaultKind,
  reason: string,
  acted: Fault['acted'],
  also: { retryAfter?: Seconds | undefined; cause?: Error | undefined } = {},
): Fault => ({
  kind,
  reason,
  acted,
  retryAfter: also.retryAfter,
  cause: also.cause ?? new Error(`the provider's answer: ${reason}`),
})

const EXPLANATION_MAX_CHARACTERS = 200

/**
 * An operator needs the provider's own words to find out what it dislikes. A run of 16 characters without a space
 * is hardly a word, and may be a secret or a token that it repeats: left out.
 */
const explained = (reason: string, description: string | undefined): Error => {
  const words = String(description ?? '')
    .replace(/[^\x20-\x7e]+/g, ' ')
    .replace(/\S{16,}/g, '...')
    .slice(0, EXPLANATION_MAX_CHARACTERS)
  return new Error(`the provider's answer: ${reason}${words === '' ? '' : ` (${words})`}`)
}

/** By shape: with two fetch implementations about, `instanceof Response` is false for good answers. */
const answerOf = (thrown: unknown): Response | undefined => {
  if (typeof thrown !== 'object' || thrown === null) return undefined
  const found = [
    'response' in thrown ? thrown.response : undefined,
    'cause' in thrown ? thrown.cause : undefined,
  ].find((value) => typeof (value as { status?: unknown } | undefined)?.status === 'number')
  return found as Response | undefined
}

/** A member was another than expected: `issuer` of metadata, or `sub` of a UserInfo answer. */
const ofMismatch = (cause: unknown): Fault => {
  const detail = (cause instanceof Error ? cause.cause : cause) as
    | { readonly attribute?: string; readonly body?: { readonly issuer?: unknown } }
    | undefined
  if (detail?.attribute !== 'issuer') return fault('unacceptable', 'sub_mismatch', 'unknown')
  return fault('unacceptable', 'issuer_mismatch', 'unknown', {
    cause: namesAnotherIssuer(detail.body?.issuer),
  })
}

/** Every provider publishes its issuer, and the operator needs it letter by letter. */
export const namesAnotherIssuer = (issuer: unknown): Error =>
  new Error(
    `the metadata names the issuer ${String(issuer)
      .replace(/[^\x21-\x7e]+/g, '?')
      .slice(0, EXPLANATION_MAX_CHARACTERS)}`,
  )

/** RFC 9110 §10.2.3: seconds or a date. */
const retryAfterOf = (answer: Response, now: EpochMs): Seconds | undefined => {
  const value = answer.headers.get('retry-after')?.trim()
  if (!value) return undefined
  const wait = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000
  if (!Number.isFinite(wait)) return undefined
  return seconds(Math.min(Math.max(Math.ceil(wait), 0), RETRY_AFTER_MAX_SECONDS))
}
