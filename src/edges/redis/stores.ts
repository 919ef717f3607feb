/** The shared stores: sessions, claims and leases on one Redis, for any number of replicas. */

import type { RefreshLease } from '../../credential/refresh-lease.ts'
import type { SessionChanges } from '../../session/session-changes.ts'
import type {
  OneTimeStore,
  SessionDirectory,
  SessionStore,
  StoreHealth,
} from '../../session/session-store.ts'
import { createRedisConnection, type RedisConnectionOptions } from './connection.ts'
import { createRedisOneTimeStore } from './one-time-store.ts'
import { createRedisRefreshLease } from './refresh-lease.ts'
import { createRedisSessionChanges } from './session-changes.ts'
import { createRedisSessionDirectory } from './session-directory.ts'
import { createRedisSessionStore } from './session-store.ts'

export interface RedisStores {
  readonly sessions: SessionStore
  readonly changes: SessionChanges
  readonly directory: SessionDirectory
  readonly once: OneTimeStore
  readonly lease: RefreshLease
  readonly health: StoreHealth
  close(): Promise<void>
}

/** Connects in the background: a Redis that is down fails calls, never this. */
export const createRedisStores = (options: RedisConnectionOptions): RedisStores => {
  const connection = createRedisConnection(options)
  const changes = createRedisSessionChanges(connection, options.notice)
  return {
    sessions: createRedisSessionStore(connection),
    changes,
    directory: createRedisSessionDirectory(connection),
    once: createRedisOneTimeStore(connection),
    lease: createRedisRefreshLease(connection),
    health: {
      ping: async () => {
        await connection.runOnMasters((master) => master.ping())
      },
    },
    close: () => {
      changes.close()
      return connection.close()
    },
  }
}
