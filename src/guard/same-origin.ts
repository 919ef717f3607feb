/**
 * The same-origin guard (RFC 10017 §6.1.3.3): decides from method and headers alone, before any seal is opened
 * and before store or provider are asked. It needs no custom header, so WebSockets, event streams, downloads and
 * form posts of the application's own pages pass.
 */

import { GatewayError } from '../errors.ts'
import { isDocumentNavigation, isSafeMethod, type RequestFacts } from './fetch-metadata.ts'

export interface SameOriginPolicy {
  /** The configured public origin; never taken from `Host`. */
  readonly publicOrigin: string
  /** `header`: the static header is demanded as well (RFC 10017 §6.1.3.3.2). */
  readonly mode: 'fetch-metadata' | 'header'
}

export type RequestKind = 'http' | 'websocket' | 'event-stream'

export type SameOriginVerdict =
  | { readonly kind: 'pass' }
  | {
      readonly kind: 'refused'
      readonly reason:
        | 'cross_site'
        | 'origin_mismatch'
        | 'not_a_navigation'
        | 'origin_missing'
        | 'csrf_header_missing'
    }

const PASS: SameOriginVerdict = { kind: 'pass' }

export const sameOriginVerdict = (
  request: RequestFacts,
  kind: RequestKind,
  policy: SameOriginPolicy,
): SameOriginVerdict => {
  const verdict = byOrigin(request, policy.publicOrigin)
  if (verdict.kind === 'refused') return verdict
  if (kind === 'websocket') return byHandshakeOrigin(request, policy.publicOrigin)
  if (policy.mode === 'fetch-metadata') return verdict
  const headerCannotBeSet = kind !== 'http' || isDocumentNavigation(request)
  return headerCannotBeSet || hasCsrfHeader(request)
    ? verdict
    : { kind: 'refused', reason: 'csrf_header_missing' }
}

const hasCsrfHeader = (request: RequestFacts) => request.header('x-csrf') === '1'

/**
 * Every browser says where a handshake comes from, whatever its page's referrer policy (RFC 6455 §4.1, Fetch §3.2):
 * nothing else stands for it.
 */
const byHandshakeOrigin = (request: RequestFacts, publicOrigin: string): SameOriginVerdict => {
  const origin = request.header('origin')
  if (origin === publicOrigin) return PASS
  return { kind: 'refused', reason: origin === undefined ? 'origin_missing' : 'origin_mismatch' }
}

const byOrigin = (request: RequestFacts, publicOrigin: string): SameOriginVerdict => {
  const site = request.header('sec-fetch-site')
  const origin = request.header('origin')
  switch (site) {
    case 'same-origin':
      // Under `Referrer-Policy: no-referrer` a page's own form post has `Origin: null` (observed).
      return origin === undefined || origin === 'null' || origin === publicOrigin
        ? PASS
        : { kind: 'refused', reason: 'origin_mismatch' }
    case 'none':
      // Typed, bookmarked or opened by another program. A sibling's speculative load says `none` too, and
      // carries the Strict cookie; only `Sec-Purpose` tells it apart (observed), which no navigation has.
      return isSafeMethod(request.method) &&
        isDocumentNavigation(request) &&
        (origin === undefined || origin === publicOrigin)
        ? PASS
        : { kind: 'refused', reason: 'not_a_navigation' }
    case undefined:
      if (origin !== undefined)
        return origin === publicOrigin ? PASS : { kind: 'refused', reason: 'origin_mismatch' }
      return hasCsrfHeader(request) ? PASS : { kind: 'refused', reason: 'origin_missing' }
    default:
      return { kind: 'refused', reason: 'cross_site' }
  }
}

/** Throws `csrf_rejected`; the note names the origin that came, for the log alone. */
export type SameOriginGuard = (request: RequestFacts, kind: RequestKind) => void

export const createSameOriginGuard =
  (policy: SameOriginPolicy): SameOriginGuard =>
  (request, kind) => {
    const verdict = sameOriginVerdict(request, kind, policy)
    if (verdict.kind === 'pass') return
    throw new GatewayError('csrf_rejected', {
      reason: verdict.reason,
      note: `origin ${request.header('origin') ?? 'absent'}`,
    })
  }
