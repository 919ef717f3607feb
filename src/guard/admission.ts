/**
 * Admission by client address. Only failures count (seals that do not verify cost more CPU than a whole good
 * request), and only their count blocks. Memory is bounded; a fixed window keeps one number per address.
 */

import { LRUCache } from 'lru-cache'
import { GatewayError } from '../errors.ts'
import type { Clock } from '../time.ts'

const WINDOW_MS = 60_000
const FAILURES_MAX = 200
/** For a peer that sends forwarding headers without being trusted: many users stand behind it. */
const FAILURES_MAX_SHARED = 5_000
const ADDRESSES_MAX = 50_000

export interface ClientAddress {
  readonly address: string
  /** The peer forwards for others but is not in the trusted list: its address stands for many users. */
  readonly shared: boolean
}

export interface Admission {
  /** Throws `rate_limited` while the address has too many failures in the window. */
  admit(client: ClientAddress): void
  countFailure(client: ClientAddress): void
}

interface Window {
  failures: number
  readonly startedAtMs: number
}

export const createAdmission = (clock: Clock): Admission => {
  const windows = new LRUCache<string, Window>({ max: ADDRESSES_MAX })

  const windowOf = (address: string): Window | undefined => {
    const window = windows.get(address)
    return window !== undefined && clock.monotonicMs() - window.startedAtMs < WINDOW_MS
      ? window
      : undefined
  }

  return {
    admit: ({ address, shared }) => {
      const window = windowOf(address)
      if (window === undefined) return
      if (window.failures < (shared ? FAILURES_MAX_SHARED : FAILURES_MAX)) return
      const elapsed = clock.monotonicMs() - window.startedAtMs
      throw new GatewayError('rate_limited', {
        reason: 'too_many_failures',
        retryAfterSeconds: Math.max(1, Math.ceil((WINDOW_MS - elapsed) / 1000)),
      })
    },

    countFailure: ({ address }) => {
      const window = windowOf(address)
      if (window === undefined)
        windows.set(address, { failures: 1, startedAtMs: clock.monotonicMs() })
      else window.failures += 1
    },
  }
}
