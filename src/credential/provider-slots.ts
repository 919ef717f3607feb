/**
 * Back-pressure on the provider, per process: at most so many token calls at once, and a breaker that lets one
 * probe through after a pause (half-open) instead of the whole crowd.
 */

import type { Clock, Milliseconds } from '../time.ts'
import { milliseconds } from '../time.ts'

/** Failures in a row that open the breaker. */
const FAILURES_TO_OPEN = 5
const BACKOFF_FIRST_MS = 500
const BACKOFF_MAX_MS = 30_000
/** A provider may ask for more than our own backoff, up to this. */
const RETRY_AFTER_MAX_MS = 300_000
/** Callers that wait for a place; further ones are told to come back. */
const QUEUE_MAX = 20_000

export interface Slot {
  /** The provider answered, whatever it said. */
  succeeded(): void
  /** It did not; answers how long to stay away, with jitter, at least as long as it asked for. */
  failed(retryAfter: Milliseconds | undefined): Milliseconds
  /** Gives the place back without a verdict. Safe to call after either verdict. */
  release(): void
}

export type Entry =
  | { readonly kind: 'slot'; readonly slot: Slot }
  | { readonly kind: 'closed'; readonly retryAfter: Milliseconds }

export interface ProviderSlots {
  /** Waits for a place at most so long. */
  enter(patience: Milliseconds): Promise<Entry>
  /** The provider failed so often in a row that it is left alone for now. */
  isClosed(): boolean
}

export const createProviderSlots = (
  clock: Clock,
  capacity: number,
  random: () => number,
): ProviderSlots => {
  let free = capacity
  let failures = 0
  let closedUntilMs = 0
  let probing = false
  const waiting: ((admitted: boolean) => void)[] = []

  const backoff = (retryAfter: Milliseconds | undefined): Milliseconds => {
    const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures - 1, 10))
    const own = ceiling * (0.5 + random() / 2)
    return milliseconds(Math.max(own, Math.min(retryAfter ?? 0, RETRY_AFTER_MAX_MS)))
  }

  const giveBack = () => {
    const next = waiting.shift()
    if (next === undefined) free += 1
    else next(true)
  }

  const slot = (isProbe: boolean): Slot => {
    let held = true
    const release = () => {
      if (!held) return
      held = false
      if (isProbe) probing = false
      giveBack()
    }
    return {
      succeeded: () => {
        failures = 0
        closedUntilMs = 0
        release()
      },
      failed: (retryAfter) => {
        failures += 1
        const pause = backoff(retryAfter)
        if (failures >= FAILURES_TO_OPEN) closedUntilMs = clock.monotonicMs() + pause
        release()
        return pause
      },
      release,
    }
  }

  const breaker = ():
    | { closed: true; retryAfter: Milliseconds }
    | { closed: false; probe: boolean } => {
    if (failures < FAILURES_TO_OPEN) return { closed: false, probe: false }
    const left = closedUntilMs - clock.monotonicMs()
    if (left > 0) return { closed: true, retryAfter: milliseconds(left) }
    return probing
      ? { closed: true, retryAfter: milliseconds(BACKOFF_FIRST_MS) }
      : { closed: false, probe: true }
  }

  const place = async (patience: Milliseconds): Promise<boolean> => {
    if (free > 0) {
      free -= 1
      return true
    }
    if (waiting.length >= QUEUE_MAX) return false
    return new Promise<boolean>((resolve) => {
      const timeout = new AbortController()
      const settle = (admitted: boolean) => {
        timeout.abort()
        resolve(admitted)
      }
      waiting.push(settle)
      clock.sleep(patience, timeout.signal).then(() => {
        const index = waiting.indexOf(settle)
        if (index === -1) return
        waiting.splice(index, 1)
        resolve(false)
      })
    })
  }

  return {
    isClosed: () => failures >= FAILURES_TO_OPEN,

    enter: async (patience) => {
      const before = breaker()
      if (before.closed) return { kind: 'closed', retryAfter: before.retryAfter }
      if (!(await place(patience))) return { kind: 'closed', retryAfter: milliseconds(1_000) }
      // The breaker may have opened while this caller waited for its place.
      const verdict = breaker()
      if (verdict.closed) {
        giveBack()
        return { kind: 'closed', retryAfter: verdict.retryAfter }
      }
      if (verdict.probe) probing = true
      return { kind: 'slot', slot: slot(verdict.probe) }
    },
  }
}
