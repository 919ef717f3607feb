/**
 * Admission by client address. Of requests only failures count (seals that do not verify cost more CPU than a whole
 * good request), and only their count blocks; of sign-ins each start counts, because it may cost the provider a
 * call. Where the operator sets limits, calls and open connections count too. Memory is bounded; a fixed window
 * keeps one number per address.
 */

import { LRUCache } from 'lru-cache'
import { GatewayError } from '../errors.ts'
import type { Clock } from '../time.ts'
import { isFromOtherOrigin, type RequestFacts } from './fetch-metadata.ts'

const WINDOW_MS = 60_000
/** As sizes, which grow with what is there: `max` would set all places up at the start, for 10 ms. */
const ADDRESSES = { maxSize: 50_000, sizeCalculation: () => 1 }

interface Limit {
  /** In a window. */
  readonly max: number
  /** For a peer that sends forwarding headers without being trusted: many users stand behind it. */
  readonly maxShared: number
  readonly reason: string
}

const FAILURES: Limit = { max: 200, maxShared: 5_000, reason: 'too_many_failures' }
/** Ten a second: a whole office behind one address that comes to work at the same minute. */
const SIGN_INS: Limit = { max: 600, maxShared: 5_000, reason: 'too_many_sign_ins' }

/** As much higher as it is for failures. */
const SHARED_FACTOR = 25

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

/** Throws `rate_limited` for a call too many, or counts it. */
export type CallAdmission = (client: ClientAddress, request: RequestFacts) => void

/** Undefined for a connection too many; otherwise it counts until it is released. */
export type ConnectionAdmission = (peerAddress: string) => (() => void) | undefined

/** Throws `rate_limited` for a sign-in too many, or counts it. */
export type SignInAdmission = (client: ClientAddress) => void

interface Window {
  own: number
  /** Those that came with forwarding headers: whose they are, nobody knows. */
  shared: number
  readonly startedAtMs: number
}

export const createAdmission = (clock: Clock): Admission => {
  const { admit, count } = createCounts(clock, FAILURES)
  return { admit, countFailure: count }
}

export const createSignInAdmission = (clock: Clock): SignInAdmission => {
  const { admit, count } = createCounts(clock, SIGN_INS)
  return (client) => {
    admit(client)
    count(client)
  }
}

/**
 * `perMinute` undefined: no limit. What pages of other origins make a browser send counts apart, so that no page can
 * use up what its visitor has.
 */
export const createCallAdmission = (clock: Clock, perMinute: number | undefined): CallAdmission => {
  if (perMinute === undefined) return () => undefined
  const limit = { max: perMinute, maxShared: perMinute * SHARED_FACTOR, reason: 'too_many_calls' }
  const own = createCounts(clock, limit)
  const ofOtherPages = createCounts(clock, limit)
  return (client, request) => {
    const { admit, count } = isFromOtherOrigin(request) ? ofOtherPages : own
    admit(client)
    count(client)
  }
}

/** `max` undefined: no limit. Trusted proxies have none: whose connections theirs are, they don't tell. */
export const createConnectionAdmission = (
  max: number | undefined,
  isTrustedProxy: (address: string) => boolean,
): ConnectionAdmission => {
  const unlimited = () => undefined
  if (max === undefined) return () => unlimited
  // As large as the number of connections that are open.
  const open = new Map<string, number>()
  return (peerAddress) => {
    if (isTrustedProxy(peerAddress)) return unlimited
    const network = networkOf(peerAddress)
    const before = open.get(network) ?? 0
    if (before >= max) return undefined
    open.set(network, before + 1)
    return () => {
      const left = (open.get(network) ?? 1) - 1
      if (left === 0) open.delete(network)
      else open.set(network, left)
    }
  }
}

const createCounts = (clock: Clock, { max, maxShared, reason }: Limit) => {
  const windows = new LRUCache<string, Window>(ADDRESSES)

  const windowOf = (address: string): Window | undefined => {
    const window = windows.get(networkOf(address))
    return window !== undefined && clock.monotonicMs() - window.startedAtMs < WINDOW_MS
      ? window
      : undefined
  }

  return {
    // Forwarding headers buy a client the higher limit, but not its way out of a block that it earned without.
    admit: ({ address }: ClientAddress): void => {
      const window = windowOf(address)
      if (window === undefined) return
      if (window.own < max && window.shared < maxShared) return
      const elapsed = clock.monotonicMs() - window.startedAtMs
      throw new GatewayError('rate_limited', {
        reason,
        retryAfterSeconds: Math.max(1, Math.ceil((WINDOW_MS - elapsed) / 1000)),
      })
    },

    count: ({ address, shared }: ClientAddress): void => {
      let window = windowOf(address)
      if (window === undefined) {
        window = { own: 0, shared: 0, startedAtMs: clock.monotonicMs() }
        windows.set(networkOf(address), window)
      }
      if (shared) window.shared += 1
      else window.own += 1
    },
  }
}

/** One subscriber has a whole IPv6 /64, so that is what counts as one address. A dual-stack socket's IPv4 is IPv4. */
const networkOf = (address: string): string => {
  if (/^::ffff:[0-9.]+$/.test(address)) return address.slice('::ffff:'.length)
  return address.includes(':') ? expanded(address).slice(0, 4).join(':') : address
}

const expanded = (address: string): readonly string[] => {
  const [head = '', tail] = address.split('::')
  const before = head === '' ? [] : head.split(':')
  if (tail === undefined) return before
  const after = tail === '' ? [] : tail.split(':')
  return [...before, ...Array(Math.max(0, 8 - before.length - after.length)).fill('0'), ...after]
}
