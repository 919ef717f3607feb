/** Changes of sessions in this process's memory: told in the step that makes them, so none is ever missed. */

import type { SessionDigest } from '../../session/session.ts'
import type { SessionChangeListener, SessionChanges } from '../../session/session-changes.ts'

export interface MemorySessionChanges extends SessionChanges {
  tell(digest: SessionDigest): void
}

export const createMemorySessionChanges = (): MemorySessionChanges => {
  const listeners = new Set<SessionChangeListener>()
  return {
    areTold: () => true,
    subscribe: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    tell: (digest) => {
      for (const listener of listeners) listener.changed(digest)
    },
  }
}
