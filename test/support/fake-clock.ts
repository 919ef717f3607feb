/** A clock that moves only when the test says so. */

import {
  type Clock,
  type EpochMs,
  epochMs,
  type Milliseconds,
  milliseconds,
} from '../../src/time.ts'

export interface FakeClock extends Clock {
  /**
   * Moves the time forward and wakes every sleep that falls due on the way, in the order of their ends.
   * After each wake-up the woken code runs until it waits for something again, so a sleep that it starts
   * inside the span is woken as well.
   */
  advance(durationMs: number): Promise<void>
  /** Moves the wall clock alone, as a time server does; sleeps and monotonic time do not notice. */
  stepWallClock(differenceMs: number): void
  /** Sleeps that wait now. */
  readonly sleeping: number
}

interface Sleeper {
  readonly endsAt: number
  wake(): void
}

// Woken code often needs a few turns of the event loop (an await chain, a socket) before it sleeps anew.
const TURNS_AFTER_WAKING = 5

export const createFakeClock = (startAt: EpochMs = epochMs(1_764_000_000_000)): FakeClock => {
  let wallOffset: number = startAt
  let elapsed = 0
  const sleepers = new Set<Sleeper>()

  const firstDueBy = (end: number): Sleeper | undefined => {
    let first: Sleeper | undefined
    for (const sleeper of sleepers) {
      if (sleeper.endsAt <= end && (!first || sleeper.endsAt < first.endsAt)) first = sleeper
    }
    return first
  }

  return {
    now: () => epochMs(wallOffset + elapsed),
    monotonicMs: () => milliseconds(elapsed),
    get sleeping() {
      return sleepers.size
    },
    stepWallClock(differenceMs) {
      wallOffset += differenceMs
    },
    sleep: (duration: Milliseconds, signal?: AbortSignal) =>
      new Promise<void>((resolve) => {
        if (signal?.aborted) return resolve()
        const wake = () => {
          sleepers.delete(sleeper)
          signal?.removeEventListener('abort', wake)
          resolve()
        }
        const sleeper: Sleeper = { endsAt: elapsed + duration, wake }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', wake, { once: true })
      }),
    async advance(durationMs) {
      const end = elapsed + durationMs
      await turns()
      for (let due = firstDueBy(end); due !== undefined; due = firstDueBy(end)) {
        elapsed = Math.max(elapsed, due.endsAt)
        due.wake()
        await turns()
      }
      elapsed = end
      await turns()
    },
  }
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < TURNS_AFTER_WAKING; turn += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve))
  }
}
