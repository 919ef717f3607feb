/** Port: news that a session's record changed, whichever replica changed it. */

import type { SessionDigest } from './session.ts'

export interface SessionChangeListener {
  /** Its record was written, ended or forgotten: what is known of it is to be read again. */
  changed(digest: SessionDigest): void
  /** Changes may have been missed: what is known of any session is to be read again. */
  gap(): void
}

export interface SessionChanges {
  /** Whether every change since the last gap was told or is about to be: proven just now, not assumed. */
  areTold(): boolean
  /** Ends with the returned function. Listeners never throw. */
  subscribe(listener: SessionChangeListener): () => void
}
