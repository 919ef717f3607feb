/**
 * The copy of one remote document: fetched at first use by one request for all, fetched again when it is old, and
 * kept as it is while that fails. The provider's metadata and its key set are such documents.
 */

import { GatewayError } from '../../errors.ts'
import type { Clock, Milliseconds } from '../../time.ts'
import { faultOf } from './faults.ts'

const BACKOFF_FIRST_MS = 500
/** Short, since what comes back should be found back within seconds, and one request per process costs nothing. */
const BACKOFF_MAX_MS = 5_000
/** Between two fetches that somebody's unknown `kid` caused (OIDC Core §10.1.1). */
const REFETCH_INTERVAL_MS = 10_000

export interface RemoteCopyOptions<T> {
  /** First half of the reasons that this copy fails with. */
  readonly name: string
  /** Has its own time limit. */
  readonly fetch: () => Promise<T>
  readonly clock: Clock
  /** Older copies are fetched again at their next use. */
  readonly freshFor: Milliseconds
  /** How long a caller waits for that before the old copy has to do. */
  readonly patience: Milliseconds
  /** A copy that could not be renewed for so long is used no more. */
  readonly keptFor: Milliseconds
  readonly failed: (reason: string, why: string) => void
}

export class RemoteCopy<T> {
  readonly #options: RemoteCopyOptions<T>
  #copy: { readonly value: T; readonly fetchedAtMs: number } | undefined
  #pending: Promise<T> | undefined
  #failures = 0
  #retryAtMs = 0
  #refetchAtMs = 0

  constructor(options: RemoteCopyOptions<T>) {
    this.#options = options
  }

  /** What is there already, however old. */
  known(): T | undefined {
    return this.#copy?.value
  }

  /** The last attempt failed, whatever is still known from before. */
  isFailing(): boolean {
    return this.#failures > 0
  }

  /** Throws `provider_unavailable` without a copy, or the signal's reason when the deadline comes first. */
  async get(deadline: AbortSignal): Promise<T> {
    const { clock, freshFor, keptFor, patience } = this.#options
    const copy = this.#copy
    const age =
      copy === undefined ? Number.POSITIVE_INFINITY : clock.monotonicMs() - copy.fetchedAtMs
    if (copy === undefined || age > keptFor) return until(this.#fetch(), deadline)
    if (age <= freshFor) return copy.value
    const patient = AbortSignal.any([deadline, AbortSignal.timeout(patience)])
    // Whatever went wrong has been reported where it happened; the old copy is still good.
    return until(this.#fetch(), patient).catch(() => copy.value)
  }

  /** A copy fetched because this one lacked something; undefined when that was done a moment ago. */
  async refetch(deadline: AbortSignal): Promise<T | undefined> {
    const now = this.#options.clock.monotonicMs()
    if (this.#pending === undefined) {
      if (now < this.#refetchAtMs) return undefined
      this.#refetchAtMs = now + REFETCH_INTERVAL_MS
    }
    return until(this.#fetch(), deadline)
  }

  /** A copy fetched because the provider itself says that this one is old: its backoff alone keeps the pace. */
  renew(deadline: AbortSignal): Promise<T> {
    return until(this.#fetch(), deadline)
  }

  #fetch(): Promise<T> {
    if (this.#pending !== undefined) return this.#pending
    const waitMs = this.#retryAtMs - this.#options.clock.monotonicMs()
    if (waitMs > 0) return Promise.reject(this.#unavailable('backoff', waitMs))
    this.#pending = this.#attempt().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  async #attempt(): Promise<T> {
    const { fetch, clock, failed, name } = this.#options
    try {
      const value = await fetch()
      this.#copy = { value, fetchedAtMs: clock.monotonicMs() }
      this.#failures = 0
      return value
    } catch (thrown) {
      const ceilingMs = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** this.#failures)
      const waitMs = ceilingMs * (0.5 + Math.random() / 2)
      this.#failures += 1
      this.#retryAtMs = clock.monotonicMs() + waitMs
      const { reason, cause } = faultOf(thrown, clock.now())
      failed(`${name}_${reason}`, cause.message)
      throw this.#unavailable(reason, waitMs, cause)
    }
  }

  #unavailable(reason: string, waitMs: number, cause?: Error): GatewayError {
    return new GatewayError('provider_unavailable', {
      reason: `${this.#options.name}_${reason}`,
      retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)),
      cause,
    })
  }
}

/** The promise, or the signal's reason. The promise goes on without its caller, and its failure is nobody's then. */
export const until = <T>(promise: Promise<T>, signal: AbortSignal): Promise<T> =>
  new Promise((resolve, reject) => {
    const give = () => reject(signal.reason)
    if (signal.aborted) give()
    signal.addEventListener('abort', give, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', give))
  })
