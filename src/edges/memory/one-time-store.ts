/** Claims and waiting values in this process's memory. */

import type { OneTimeStore } from '../../session/session-store.ts'
import { after, type Clock, toMs } from '../../time.ts'
import { createExpiringMap } from './expiring-map.ts'

/**
 * Under a flood the oldest entries make room rather than new sign-ins wait: a claim that fell out lets its
 * authorization response be tried again, and the provider refuses a spent code (RFC 6749 §4.1.2).
 */
export const createMemoryOneTimeStore = (clock: Clock, entriesMax: number): OneTimeStore => {
  const claims = createExpiringMap<string, true>({ clock, entriesMax })
  const values = createExpiringMap<string, Uint8Array>({ clock, entriesMax })
  return {
    claim: async (name, ttl) => {
      if (claims.get(name) !== undefined) return false
      claims.set(name, true, after(clock.now(), toMs(ttl)))
      return true
    },
    isClaimed: async (name) => claims.get(name) !== undefined,
    put: async (name, value, ttl) => {
      values.set(name, new Uint8Array(value), after(clock.now(), toMs(ttl)))
    },
    take: async (name) => {
      const value = values.get(name)
      values.delete(name)
      return value
    },
  }
}
