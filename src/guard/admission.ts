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
  /** Those that came with forwarding headers: whose they are, nobody knows. */
  sharedFailures: number
  readonly startedAtMs: number
}

export const createAdmission = (clock: Clock): Admission => {
  const windows = new LRUCache<string, Window>({ max: ADDRESSES_MAX })

  const windowOf = (address: string): Window | undefined => {
    const window = windows.get(networkOf(address))
    return window !== undefined && clock.monotonicMs() - window.startedAtMs < WINDOW_MS
      ? window
      : undefined
  }

  return {
    // Forwarding headers buy a client the higher limit, but not its way out of a block that it earned without.
    admit: ({ address }) => {
      const window = windowOf(address)
      if (window === undefined) return
      if (window.failures < FAILURES_MAX && window.sharedFailures < FAILURES_MAX_SHARED) return
      const elapsed = clock.monotonicMs() - window.startedAtMs
      throw new GatewayError('rate_limited', {
        reason: 'too_many_failures',
        retryAfterSeconds: Math.max(1, Math.ceil((WINDOW_MS - elapsed) / 1000)),
      })
    },

    countFailure: ({ address, shared }) => {
      let window = windowOf(address)
      if (window === undefined) {
        window = { failures: 0, sharedFailures: 0, startedAtMs: clock.monotonicMs() }
        windows.set(networkOf(address), window)
      }
      if (shared) window.sharedFailures += 1
      else window.failures += 1
    },
  }
}

/** One subscriber has a whole IPv6 /64, so that is what counts as one address. */
const networkOf = (address: string): string =>
  address.includes(':') ? expanded(address).slice(0, 4).join(':') : address

const expanded = (address: string): readonly string[] => {
  const [head = '', tail] = address.split('::')
  const before = head === '' ? [] : head.split(':')
  if (tail === undefined) return before
  const after = tail === '' ? [] : tail.split(':')
  return [...before, ...Array(Math.max(0, 8 - before.length - after.length)).fill('0'), ...after]
}
