/** Waiting in tests: always bounded, and a failure says what was waited for. */

import { setTimeout as sleep } from 'node:timers/promises'

interface WaitOptions {
  readonly timeoutMs?: number
  readonly intervalMs?: number
}

/**
 * Polls until the condition gives something other than false, null or undefined, and returns that.
 * A throwing condition counts as "not yet"; its last error becomes the cause of the failure.
 */
export const waitFor = async <T>(
  what: string,
  condition: () => T | Promise<T>,
  { timeoutMs = 5_000, intervalMs = 20 }: WaitOptions = {},
): Promise<NonNullable<Exclude<T, false>>> => {
  const deadline = performance.now() + timeoutMs
  let lastError: unknown
  for (;;) {
    try {
      const value = await within(
        Math.max(1, deadline - performance.now()),
        what,
        Promise.resolve(condition()),
      )
      if (value !== false && value !== null && value !== undefined) {
        return value as NonNullable<Exclude<T, false>>
      }
    } catch (error) {
      lastError = error
    }
    if (performance.now() >= deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain: ${what}`, { cause: lastError })
    }
    await sleep(intervalMs)
  }
}

/** The promise's own outcome, or a failure that names what took too long. */
export const within = async <T>(
  timeoutMs: number,
  what: string,
  promise: Promise<T>,
): Promise<T> => {
  const expired = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => expired.reject(new Error(`not within ${Math.ceil(timeoutMs)} ms: ${what}`)),
    timeoutMs,
  )
  try {
    return await Promise.race([promise, expired.promise])
  } finally {
    clearTimeout(timer)
  }
}
