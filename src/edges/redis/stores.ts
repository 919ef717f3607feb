/** The shared stores: sessions, claims and leases on one Redis, for any number of replicas. */

import type { RefreshLease } from '../../credential/refresh-lease.ts'
import type { Emit } from '../../events.ts'
import type { SessionChanges } from '../../session/session-changes.ts'
import type {
  OneTimeStore,
  SessionDirectory,
  SessionStore,
  StoreHealth,
} from '../../session/session-store.ts'
import { sessionLabel } from '../../session/ticket.ts'
import type { Clock } from '../../time.ts'
import { createRedisConnection, type RedisConnectionOptions } from './connection.ts'
import { createJournal } from './journal.ts'
import { createRedisOneTimeStore } from './one-time-store.ts'
import { createReassertion } from './reassertion.ts'
import { createRedisRefreshLease } from './refresh-lease.ts'
import { createRedisSessionChanges } from './session-changes.ts'
import { createRedisSessionDirectory } from './session-directory.ts'
import { createRedisSessionStore } from './session-store.ts'
import { createSettling } from './settling.ts'
import { createWrites } from './writes.ts'

export interface RedisStores {
  readonly sessions: SessionStore
  readonly changes: SessionChanges
  readonly directory: SessionDirectory
  readonly once: OneTimeStore
  readonly lease: RefreshLease
  readonly health: StoreHealth
  close(): Promise<void>
}

export interface RedisStoresOptions extends Omit<RedisConnectionOptions, 'heard'> {
  /** Replicas that must have a write before it counts; 0: the master's word is enough. */
  readonly confirm: number
  readonly clock: Clock
  readonly emit: Emit
}

/** Connects in the background: a Redis that is down fails calls, never this. */
export const createRedisStores = (options: RedisStoresOptions): RedisStores => {
  const { confirm, clock, emit, notice, commandTimeout } = options
  const journal = createJournal(clock, notice)
  const heard = journal.heard
  const connection = createRedisConnection({ ...options, heard })
  // The first connection speaks for both: they go the same way.
  const confirming =
    confirm === 0 ? undefined : createRedisConnection({ ...options, heard, notice: () => {} })
  const writes = createWrites(
    connection,
    confirming && { connection: confirming, replicas: confirm, commandTimeout },
  )
  const changes = createRedisSessionChanges(connection, notice)
  const settling = createSettling(connection)
  const connections = confirming === undefined ? [connection] : [connection, confirming]
  const reassertion = createReassertion({ connections, journal, clock, emit })
  return {
    sessions: createRedisSessionStore({
      connection,
      writes,
      journal,
      settling,
      clock,
      endedUntold: (digest, reason) =>
        emit({ type: 'session_ended', session: sessionLabel(digest), reason }),
    }),
    changes,
    directory: createRedisSessionDirectory({ connection, writes, journal, clock }),
    once: createRedisOneTimeStore(connection),
    lease: createRedisRefreshLease(connection, settling),
    health: {
      ping: async () => {
        await connection.runOnMasters((master) => master.ping())
      },
    },
    close: async () => {
      reassertion.close()
      changes.close()
      await Promise.all(connections.map(({ close }) => close()))
    },
  }
}
