/** Claims and waiting values in Redis, under prefixes of their own: a value never frees a claim of its name. */

import type { OneTimeStore } from '../../session/session-store.ts'
import { type Seconds, toMs } from '../../time.ts'
import type { RedisConnection } from './connection.ts'

const wholeMs = (ttl: Seconds): number => Math.max(1, Math.ceil(toMs(ttl)))

export const createRedisOneTimeStore = ({ keys, run }: RedisConnection): OneTimeStore => ({
  claim: async (name, ttl) =>
    (await run((client) => client.set(keys.claim(name), '1', 'PX', wholeMs(ttl), 'NX'))) === 'OK',

  isClaimed: async (name) => (await run((client) => client.exists(keys.claim(name)))) > 0,

  put: async (name, value, ttl) => {
    await run((client) => client.set(keys.value(name), Buffer.from(value), 'PX', wholeMs(ttl)))
  },

  take: async (name) => {
    const value = await run((client) => client.getdelBuffer(keys.value(name)))
    return value === null ? undefined : new Uint8Array(value)
  },
})
