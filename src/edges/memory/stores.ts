/** The embedded default: the stores' whole contract in one process, gone with it. */

import type { RefreshLease } from '../../credential/refresh-lease.ts'
import type { SessionChanges } from '../../session/session-changes.ts'
import type {
  OneTimeStore,
  SessionDirectory,
  SessionStore,
  StoreHealth,
} from '../../session/session-store.ts'
import type { Clock } from '../../time.ts'
import { createMemoryOneTimeStore } from './one-time-store.ts'
import { createMemoryRefreshLease } from './refresh-lease.ts'
import { createMemorySessionChanges } from './session-changes.ts'
import { createMemorySessionDirectory } from './session-directory.ts'
import { createMemorySessionStore } from './session-store.ts'
import { createSessionTable } from './session-table.ts'

export interface MemoryStores {
  readonly sessions: SessionStore
  readonly changes: SessionChanges
  readonly directory: SessionDirectory
  readonly once: OneTimeStore
  readonly lease: RefreshLease
  readonly health: StoreHealth
  close(): Promise<void>
}

export interface MemoryStoresOptions {
  readonly clock: Clock
  /** Sessions held at most; beyond it the least recently active one falls out and must sign in again. */
  readonly sessionsMax: number
  /** Told once, when the first session fell out. */
  readonly notice?: (notice: string, detail: string) => void
}

export const createMemoryStores = (options: MemoryStoresOptions): MemoryStores => {
  const { clock, sessionsMax, notice } = options
  let noticed = false
  const changes = createMemorySessionChanges()
  const table = createSessionTable(clock, sessionsMax, (digest) => {
    changes.tell(digest)
    if (noticed) return
    noticed = true
    notice?.(
      'memory_store_full',
      `More than ${sessionsMax} sessions: the least recently active are signed out. Raise session.memoryMax or use Redis.`,
    )
  })
  return {
    sessions: createMemorySessionStore(table, clock, changes),
    changes,
    directory: createMemorySessionDirectory(table, clock, sessionsMax),
    once: createMemoryOneTimeStore(clock, sessionsMax),
    lease: createMemoryRefreshLease(table, clock),
    health: { ping: async () => {} },
    close: async () => {
      table.live.clear()
      table.ended.clear()
    },
  }
}
