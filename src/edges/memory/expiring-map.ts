/** A map that is bounded by count: entries end by the passed clock, and the longest unused one makes room. */

import type { Clock, EpochMs } from '../../time.ts'

export interface ExpiringMap<K, V> {
  /** Undefined once the entry's time is over. Reading is no use. */
  get(key: K): V | undefined
  /** Adds or replaces; either is a use. */
  set(key: K, value: V, expiresAt: EpochMs): void
  delete(key: K): void
  /** Of entries whose time is not over. */
  keys(): K[]
  clear(): void
}

interface ExpiringMapOptions<K> {
  readonly clock: Clock
  readonly entriesMax: number
  /** An entry that was still good had to make room. */
  readonly overflowed?: (key: K) => void
}

const SWEEP_EVERY_MS = 60_000

export const createExpiringMap = <K, V>(options: ExpiringMapOptions<K>): ExpiringMap<K, V> => {
  const { clock, entriesMax, overflowed } = options
  // A Map keeps the order of insertion, so the first entry is always the longest unused.
  const entries = new Map<K, { readonly value: V; readonly expiresAt: EpochMs }>()
  let sweptAt = clock.now()

  // Sweeping goes with writing, so no timer keeps the process alive or wakes it.
  const sweep = () => {
    const now = clock.now()
    if (Math.abs(now - sweptAt) < SWEEP_EVERY_MS) return
    sweptAt = now
    for (const [key, { expiresAt }] of entries) if (expiresAt <= now) entries.delete(key)
  }

  const makeRoom = () => {
    const [first] = entries
    if (entries.size <= entriesMax || first === undefined) return
    const [key, { expiresAt }] = first
    entries.delete(key)
    if (expiresAt > clock.now()) overflowed?.(key)
  }

  return {
    get: (key) => {
      const entry = entries.get(key)
      if (entry === undefined || entry.expiresAt > clock.now()) return entry?.value
      entries.delete(key)
      return undefined
    },
    set: (key, value, expiresAt) => {
      sweep()
      entries.delete(key)
      entries.set(key, { value, expiresAt })
      makeRoom()
    },
    delete: (key) => {
      entries.delete(key)
    },
    keys: () => {
      const now = clock.now()
      return [...entries].flatMap(([key, { expiresAt }]) => (expiresAt > now ? [key] : []))
    },
    clear: () => entries.clear(),
  }
}
