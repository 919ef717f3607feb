/** Time: the one clock, and brands that keep milliseconds from passing for seconds. */

declare const unit: unique symbol

/** An instant: milliseconds since 1970-01-01T00:00:00Z. */
export type EpochMs = number & { readonly [unit]: 'EpochMs' }
/** A duration in milliseconds. */
export type Milliseconds = number & { readonly [unit]: 'Milliseconds' }
/** A duration in whole or fractional seconds. */
export type Seconds = number & { readonly [unit]: 'Seconds' }

export const epochMs = (value: number): EpochMs => value as EpochMs
export const milliseconds = (value: number): Milliseconds => value as Milliseconds
export const seconds = (value: number): Seconds => value as Seconds

export const toMs = (duration: Seconds): Milliseconds => milliseconds(duration * 1000)
export const after = (instant: EpochMs, duration: Milliseconds): EpochMs =>
  epochMs(instant + duration)

/** The only source of time. Rooms receive it; nothing else calls `Date.now()` or `setTimeout`. */
export interface Clock {
  /** Wall clock, comparable between processes only as far as their clocks agree. */
  now(): EpochMs
  /** Milliseconds that never run backwards; comparable within this process only. */
  monotonicMs(): Milliseconds
  /** Resolves after the duration; an aborted signal ends the wait early, without an error. */
  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => epochMs(Date.now()),
  monotonicMs: () => milliseconds(performance.now()),
  sleep: (duration, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve()
      const wake = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      const timer = setTimeout(wake, duration)
      signal?.addEventListener('abort', wake, { once: true })
    }),
}
