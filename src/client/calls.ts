/** Calls on this origin: problems become errors, and what may be repeated is repeated, once. */

import { CoatcheckError, problemOf, unreachable } from './problem.ts'

/** RFC 9110 §9.2.2: sent twice, they do what they do once. */
const IDEMPOTENT = /^(GET|HEAD|OPTIONS|PUT|DELETE)$/
/** Of these the API may have got the request all the same; of every other one it has not. */
const MAY_HAVE_ARRIVED = /^(unreachable|unexpected_answer|upstream_(?!busy).*)$/
/** Nobody waits longer for a page. */
const WAIT_SECONDS_MAX = 10

export interface CallOptions {
  /** Whether the request may reach the API twice. */
  readonly isIdempotent?: boolean
}

/** Throws CoatcheckError, or what the request's own signal was aborted with. */
export const call = async (
  request: Request,
  { isIdempotent = IDEMPOTENT.test(request.method) }: CallOptions = {},
): Promise<Response> => {
  // An API needs this where the gateway is set to `csrf: header`, and other gateways always do.
  request.headers.set('x-csrf', '1')
  const again = request.clone()
  try {
    return await attempt(request)
  } catch (thrown) {
    if (!(thrown instanceof CoatcheckError) || !thrown.retryable) throw thrown
    const { code, retryAfterSeconds = 1 } = thrown
    if (retryAfterSeconds > WAIT_SECONDS_MAX) throw thrown
    if (!isIdempotent && MAY_HAVE_ARRIVED.test(code)) throw thrown
    await pause(retryAfterSeconds * 1000, again.signal)
    return attempt(again)
  }
}

export const attempt = async (request: Request): Promise<Response> => {
  const response = await fetch(request).catch((cause: unknown) => {
    throw request.signal.aborted ? cause : unreachable(cause)
  })
  const problem = await problemOf(response)
  if (problem) throw problem
  return response
}

/** Rejects with the reason of the signal when that is aborted. */
export const pause = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => reject(signal.reason))
  })
