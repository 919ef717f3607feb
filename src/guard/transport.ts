/**
 * Requests that came unencrypted although the public URL is https (RFC 9700 §4.17, RFC 6797 §7.2): navigations are
 * sent to https, everything else is refused, because whatever secret it carries has been on the wire already.
 */

import { GatewayError } from '../errors.ts'
import { isDocumentNavigation, isSafeMethod, type RequestFacts } from './fetch-metadata.ts'

/** Where a request came in: at the address for everybody, or at the one for plain HTTP alone. */
export type Entrance = 'open' | 'plain'

export interface Arrival {
  readonly entrance: Entrance
  /** The connection's peer is one of the trusted proxies. */
  readonly fromTrustedProxy: boolean
}

/** What to do about the way a request came; throws `https_required`. */
export type TransportGuard = (request: RequestFacts, arrival: Arrival) => 'go_on' | 'redirect'

export interface TransportGuardOptions {
  readonly publicUrl: string
  /** On a loopback public URL browsers send Fetch Metadata over http as well. */
  readonly loopback: boolean
  /** A proxy says `http` of what a browser sent by https. */
  readonly onContradiction: () => void
}

export const createTransportGuard = (options: TransportGuardOptions): TransportGuard => {
  const { publicUrl, loopback, onContradiction } = options
  if (!publicUrl.startsWith('https:')) return () => 'go_on'
  // Browsers send these to trustworthy origins only (Fetch Metadata §2), of which http is none but on loopback.
  const wasSentOverHttps = (request: RequestFacts) =>
    !loopback && request.header('sec-fetch-site') !== undefined

  return (request, { entrance, fromTrustedProxy }) => {
    const said = fromTrustedProxy ? forwardedProtocol(request) : undefined
    if (entrance === 'open') {
      if (said !== 'http') return 'go_on'
      // A second proxy behind the one that ends TLS: a redirect would come back here for ever.
      if (wasSentOverHttps(request)) {
        onContradiction()
        return 'go_on'
      }
    } else if (said === 'https' || wasSentOverHttps(request)) {
      throw new GatewayError('https_required', { reason: 'plain_port_behind_tls' })
    }
    if (isSafeMethod(request.method) && isDocumentNavigation(request)) return 'redirect'
    throw new GatewayError('https_required', {
      reason: carriesSecret(request) ? 'secret_in_clear' : 'in_clear',
    })
  }
}

/** Several values are of several proxies; who ended TLS said `https`, whatever came behind it. */
const forwardedProtocol = (request: RequestFacts): 'http' | 'https' | undefined => {
  const values = (request.header('x-forwarded-proto') ?? '')
    .split(',')
    .map((value) => value.trim().toLowerCase())
    .filter((value) => value !== '')
  if (values.some((value) => value === 'https' || value === 'wss')) return 'https'
  return values.some((value) => value === 'http' || value === 'ws') ? 'http' : undefined
}

const carriesSecret = (request: RequestFacts): boolean =>
  request.header('cookie') !== undefined || request.header('authorization') !== undefined
