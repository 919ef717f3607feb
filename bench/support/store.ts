/** The product's own way from cookie to session, on a real Redis, without a server in front of it. */

import type { RedisAddress } from '../../src/edges/redis/address.ts'
import { createRedisConnection } from '../../src/edges/redis/connection.ts'
import { createRedisStores } from '../../src/edges/redis/stores.ts'
import { createSessionReader, type SessionReader } from '../../src/guard/by-session.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createRecordSealer } from '../../src/session/record.ts'
import { createSealer } from '../../src/session/seal.ts'
import { createSessionCache } from '../../src/session/session-cache.ts'
import type { CookieForms } from '../../src/session/session-cookie.ts'
import { createTicketSealer, type TicketSealer } from '../../src/session/ticket.ts'
import { createVault, type Vault } from '../../src/session/vault.ts'
import { milliseconds, seconds, systemClock } from '../../src/time.ts'

const LIFETIMES = { idle: seconds(1_800), absolute: seconds(28_800) }

export interface BenchStore {
  readonly vault: Vault
  /** Remembers the seals that it opened; another one begins without any. */
  newTicketSealer(): TicketSealer
  /** `load` is the vault's `load`, or its `read` for always asking the store. */
  newReader(tickets: TicketSealer, load: Vault['load']): SessionReader
  /** What the server has done and holds so far. */
  counters(): Promise<ServerCounters>
  /** `MEMORY USAGE`; 0 where the key is not there. */
  bytesOf(key: string): Promise<number>
  readonly keys: ReturnType<typeof createRedisConnection>['keys']
  close(): Promise<void>
}

export interface ServerCounters {
  readonly usedBytes: number
  readonly processorMicros: number
  /** Those that scripts carry out included. */
  readonly commands: number
}

export interface BenchStoreOptions {
  /** Of a server on loopback. */
  readonly port: number
  readonly namespace: string
  readonly ringSecret: string
  readonly cookies: CookieForms
}

export const openBenchStore = (options: BenchStoreOptions): BenchStore => {
  const { port } = options
  const current: RedisAddress = {
    kind: 'standalone',
    tls: false,
    hosts: [{ host: '127.0.0.1', port }],
    login: undefined,
    database: 0,
  }
  const connection = {
    address: { current, subscribe: () => () => {} },
    namespace: options.namespace,
    // A benchmark that fills the store keeps hundreds of commands under way.
    commandTimeout: milliseconds(10_000),
    connectTimeout: milliseconds(1_000),
    notice: (name: string, detail: string) => console.error(`${name}: ${detail}`),
  }
  const stores = createRedisStores({
    ...connection,
    confirm: 0,
    clock: systemClock,
    emit: () => {},
  })
  const side = createRedisConnection(connection)
  const ring = { current: createKeyRing([options.ringSecret]) }
  const sealer = createSealer(ring)
  const records = createRecordSealer(ring)
  const cache = createSessionCache({
    changes: stores.changes,
    records,
    ring,
    clock: systemClock,
    idle: LIFETIMES.idle,
  })
  const vault = createVault({
    store: cache.over(stores.sessions),
    cache,
    directory: stores.directory,
    records,
    ring,
    clock: systemClock,
    lifetimes: LIFETIMES,
    emit: () => {},
    revoke: () => {},
    home: undefined,
  })
  return {
    vault,
    newTicketSealer: () => createTicketSealer(sealer, ring, LIFETIMES.absolute, systemClock),
    newReader: (tickets, load) =>
      createSessionReader(options.cookies, tickets, { ...vault, load }, undefined, () => {}),
    counters: async () => {
      const text = await side.run((client) => client.info())
      const value = (name: string) => Number(new RegExp(`^${name}:(\\S+)`, 'm').exec(text)?.[1])
      return {
        usedBytes: value('used_memory'),
        processorMicros: (value('used_cpu_user') + value('used_cpu_sys')) * 1e6,
        commands: value('total_commands_processed'),
      }
    },
    bytesOf: async (key) =>
      (await side.run((client) => client.memory('USAGE', key, 'SAMPLES', 0))) ?? 0,
    keys: side.keys,
    close: async () => {
      await Promise.all([stores.close(), side.close()])
    },
  }
}
