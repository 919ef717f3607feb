/**
 * Back-pressure on the provider, per process: at most so many token calls at once, and a breaker that lets one
 * probe through after a pause (half-open) instead of the whole crowd.
 */

import type { Clock, EpochMs, Milliseconds } from '../time.ts'
import { milliseconds } from '../time.ts'

/** Failures in a row that open the breaker. */
const FAILURES_TO_OPEN = 5
const BACKOFF_FIRST_MS = 500
/** A probe this often burdens no provider, and so long at most is the way back to it after an outage of any length. */
const BACKOFF_MAX_MS = 5_000
/** A provider may ask for more than our own backoff, up to this. */
const RETRY_AFTER_MAX_MS = 300_000
/** Callers that wait for a place; further ones are told to come back. */
const QUEUE_MAX = 20_000
const NO_PLACE_RETRY_MS = 1_000

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
  | {
      readonly kind: 'closed'
      readonly why: 'breaker_open' | 'no_place'
      readonly retryAfter: Milliseconds
    }

export interface ProviderSlots {
  /** Waits for a place at most so long. Whose token is needed earlier comes first. */
  enter(patience: Milliseconds, neededBy: EpochMs): Promise<Entry>
  /** The provider failed so often in a row that it is left alone for now. */
  isClosed(): boolean
  /** Sends away whoever waits for a place, now and from now on: the process is about to end. */
  dismiss(): void
}

interface Waiting {
  readonly neededBy: EpochMs
  settle(admitted: boolean): void
}

export const createProviderSlots = (
  clock: Clock,
  capacity: number,
  random: () => number,
): ProviderSlots => {
  let free = capacity
  let failures = 0
  /** Failures one after the other since the provider last answered, and ever: calls that fail together are one. */
  let rounds = 0
  let roundsEver = 0
  let closedUntilMs = 0
  let probing = false
  let dismissed = false
  /** By the time they are needed; first come, first served among equals. */
  const waiting: Waiting[] = []

  const backoff = (retryAfter: Milliseconds | undefined): Milliseconds => {
    const ceiling = Math.min(
      BACKOFF_MAX_MS,
      BACKOFF_FIRST_MS * 2 ** Math.min(Math.max(rounds - 1, 0), 10),
    )
    const own = ceiling * (0.5 + random() / 2)
    return milliseconds(Math.max(own, Math.min(retryAfter ?? 0, RETRY_AFTER_MAX_MS)))
  }

  const giveBack = () => {
    const next = waiting.shift()
    if (next === undefined) free += 1
    else next.settle(true)
  }

  const slot = (isProbe: boolean): Slot => {
    let held = true
    const begunIn = roundsEver
    const release = () => {
      if (!held) return
      held = false
      if (isProbe) probing = false
      giveBack()
    }
    return {
      succeeded: () => {
        failures = 0
        rounds = 0
        closedUntilMs = 0
        release()
      },
      failed: (retryAfter) => {
        failures += 1
        if (begunIn === roundsEver) {
          roundsEver += 1
          rounds += 1
        }
        const pause = backoff(retryAfter)
        if (failures >= FAILURES_TO_OPEN)
          closedUntilMs = Math.max(closedUntilMs, clock.monotonicMs() + pause)
        release()
        return pause
      },
      release,
    }
  }

  /** How long a caller is sent away for, if at all. */
  const closedFor = (): Milliseconds | undefined => {
    if (failures < FAILURES_TO_OPEN) return undefined
    const left = closedUntilMs - clock.monotonicMs()
    if (left > 0) return milliseconds(left)
    return probing ? milliseconds(BACKOFF_FIRST_MS) : undefined
  }

  const place = async (patience: Milliseconds, neededBy: EpochMs): Promise<boolean> => {
    if (free > 0) {
      free -= 1
      return true
    }
    if (dismissed || waiting.length >= QUEUE_MAX) return false
    return new Promise<boolean>((resolve) => {
      const timeout = new AbortController()
      const caller: Waiting = {
        neededBy,
        settle: (admitted) => {
          timeout.abort()
          resolve(admitted)
        },
      }
      waiting.splice(placeInLine(waiting, neededBy), 0, caller)
      clock.sleep(patience, timeout.signal).then(() => {
        if (timeout.signal.aborted) return
        waiting.splice(waiting.indexOf(caller), 1)
        resolve(false)
      })
    })
  }

  const sentAway = (retryAfter: Milliseconds): Entry => ({
    kind: 'closed',
    why: 'breaker_open',
    retryAfter,
  })

  return {
    isClosed: () => failures >= FAILURES_TO_OPEN,

    dismiss: () => {
      dismissed = true
      for (const caller of waiting.splice(0)) caller.settle(false)
    },

    enter: async (patience, neededBy) => {
      const before = closedFor()
      if (before !== undefined) return sentAway(before)
      if (!(await place(patience, neededBy)))
        return { kind: 'closed', why: 'no_place', retryAfter: milliseconds(NO_PLACE_RETRY_MS) }
      // The breaker may have opened while this caller waited for its place.
      const now = closedFor()
      if (now !== undefined) {
        giveBack()
        return sentAway(now)
      }
      const isProbe = failures >= FAILURES_TO_OPEN
      if (isProbe) probing = true
      return { kind: 'slot', slot: slot(isProbe) }
    },
  }
}

/** Behind everyone who is needed no later. */
const placeInLine = (waiting: readonly Waiting[], neededBy: EpochMs): number => {
  let from = 0
  let to = waiting.length
  while (from < to) {
    const middle = (from + to) >> 1
    if ((waiting[middle]?.neededBy ?? 0) <= neededBy) from = middle + 1
    else to = middle
  }
  return from
}
