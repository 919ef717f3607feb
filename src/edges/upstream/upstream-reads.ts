/**
 * How connections to upstreams read: into one buffer that all of them share, from which each takes what came, and in
 * smaller portions the more large answers are under way. A client that stops reading leaves its portion in memory, so
 * that a thousand slow ones would otherwise hold 64 KiB each; and every small answer would cost an allocation of that
 * size.
 */

import type { OnReadOpts, Socket } from 'node:net'

/** As much as libuv would read at a time. */
const PORTION_MAX = 64 * 1024
const PORTION_MIN = 8 * 1024
/** What large answers hold together, until the portions are at their smallest. */
const PORTIONS_BYTES = 4 * 1024 * 1024
/** An answer is large from here on: event streams and ordinary calls make nobody's portions smaller. */
export const LARGE_ANSWER_BYTES = 256 * 1024

export interface UpstreamReads {
  /** For `net.connect` and `tls.connect`. */
  readonly onread: OnReadOpts
  /** A large answer is under way from now on (1), or no longer (-1). */
  countLarge(change: 1 | -1): void
}

export const createUpstreamReads = (): UpstreamReads => {
  // Read into and copied from in one step, so that no connection sees what another one has read.
  const shared = Buffer.allocUnsafeSlow(PORTION_MAX)
  let portion = shared
  let large = 0

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
    countLarge: (change) => {
      large += change
      const bytes = portionFor(large)
      if (bytes !== portion.length) portion = shared.subarray(0, bytes)
    },
  }
}

/** Halves only, so that it seldom changes. */
const portionFor = (large: number): number => {
  let bytes = PORTION_MAX
  while (bytes > PORTION_MIN && bytes * large > PORTIONS_BYTES) bytes /= 2
  return bytes
}
