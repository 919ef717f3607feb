/** The end of a session: its tombstone, the one event about it, and then its entries in the indices. */

import type { Emit, EndReason } from '../events.ts'
import type { Clock } from '../time.ts'
import type { SessionDigest } from './session.ts'
import type { SessionIndex } from './session-index.ts'
import type { SessionDirectory, SessionStore } from './session-store.ts'
import { sessionLabel } from './ticket.ts'

/** True for the one caller who ended it. `indices` are those that it has entries in, as far as they are known. */
export type SessionEnd = (
  digest: SessionDigest,
  indices: readonly SessionIndex[],
  reason: EndReason,
) => Promise<boolean>

export const createSessionEnd =
  (dependencies: {
    readonly store: SessionStore
    readonly directory: SessionDirectory
    readonly clock: Clock
    readonly emit: Emit
  }): SessionEnd =>
  async (digest, indices, reason) => {
    const { store, directory, clock, emit } = dependencies
    const outcome = await store.end(digest, reason, clock.now())
    if (outcome === 'absent') return false
    if (outcome === 'ended') emit({ type: 'session_ended', session: sessionLabel(digest), reason })
    await Promise.all(
      indices.map((index) =>
        directory.leave(index, digest).catch(() => {
          // The entry leads to a tombstone, and whoever follows it there removes it.
        }),
      ),
    )
    return outcome === 'ended'
  }
