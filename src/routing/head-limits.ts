/** How large the parts of a request's head may be. */

import { GatewayError } from '../errors.ts'

export interface HeadLimits {
  /** The request target: path and query as they stand in the request line. */
  readonly urlBytes: number
  /** All header lines together, names, colons and line ends included. */
  readonly headerBytes: number
}

/** `: ` and the end of the line. */
const BETWEEN_BYTES = 4

/**
 * Throws `url_too_long` (RFC 9110 §15.5.15) or `headers_too_large` (RFC 6585 §5). Both come as latin1, so that
 * characters are bytes.
 */
export const checkHeadSize = (
  {
    url = '',
    rawHeaders,
  }: { readonly url?: string | undefined; readonly rawHeaders: readonly string[] },
  limits: HeadLimits,
): void => {
  if (url.length > limits.urlBytes) throw new GatewayError('url_too_long')
  let bytes = 0
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    bytes += (rawHeaders[i] as string).length + (rawHeaders[i + 1] as string).length + BETWEEN_BYTES
  }
  if (bytes > limits.headerBytes) throw new GatewayError('headers_too_large')
}
