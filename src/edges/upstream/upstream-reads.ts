/**
 * How connections to upstreams read: into one buffer that all of them share, from which each takes what came, and in
 * smaller portions the more answers are held back. A client that stops reading leaves its portion in memory, so
 * that a thousand slow ones would otherwise hold 64 KiB each; and every small answer would cost an allocation of that
 * size.
 */

import type { OnReadOpts, Socket } from 'node:net'

/** As much as libuv would read at a time. */
const PORTION_MAX = 64 * 1024
const PORTION_MIN = 8 * 1024
/** What answers that are held back keep together, until the portions are at their smallest. */
const PORTIONS_BYTES = 4 * 1024 * 1024

export interface UpstreamReads {
  /** For `net.connect` and `tls.connect`. */
  readonly onread: OnReadOpts
  /** An answer is held back for its client from now on (1), or no longer (-1). */
  countHeld(change: 1 | -1): void
}

export const createUpstreamReads = (): UpstreamReads => {
  // Read into and copied from in one step, so that no connection sees what another one has read.
  const shared = Buffer.allocUnsafeSlow(PORTION_MAX)
  let portion = shared
  let held = 0

  return {
    onread: {
      // Asked after each read, for the next one.
      buffer: () => portion,
      callback(this: Socket, bytes) {
        const copy = Buffer.allocUnsafe(bytes)
        shared.copy(copy, 0, 0, bytes)
        return this.push(copy)
      },
    },
    countHeld: (change) => {
      held += change
      const bytes = portionFor(held)
      if (bytes !== portion.length) portion = shared.subarray(0, bytes)
    },
  }
}

/** Halves only, so that it seldom changes. */
const portionFor = (held: number): number => {
  let bytes = PORTION_MAX
  while (bytes > PORTION_MIN && bytes * held > PORTIONS_BYTES) bytes /= 2
  return bytes
}
