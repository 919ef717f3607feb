/**
 * Opened sessions in this process's memory, so that not every request reads and decrypts its own. Only while changes
 * are told (`session-changes.ts`): what may have changed is read from the store, and decrypted where it did change.
 */

import { timingSafeEqual } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock, EpochMs, Seconds } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import type { RecordSealer } from './record.ts'
import { activityIsDue, lifetimeAt, type Session, type SessionDigest } from './session.ts'
import type { SessionChanges } from './session-changes.ts'
import type { SessionStore, StoredRecord } from './session-store.ts'
import type { Ticket } from './ticket.ts'
import type { OpenSession } from './vault.ts'

/** A read of the store that may become an entry. */
export interface Filling {
  /** Keeps what was read, unless it may have changed since the read was sent. Undefined: there was nothing to keep. */
  done(open: OpenSession | undefined): void
  /** Nothing has changed since the read was sent: who comes now may wait for it as well. */
  isCurrent(): boolean
}

export interface SessionCache {
  /** Undefined where the store is to be asked: nothing is kept, it may have changed, or one of its times has come. */
  find(ticket: Ticket): OpenSession | undefined
  /** The same, and counted only where it is found. */
  found(ticket: Ticket): OpenSession | undefined
  /** The same, and no lookup that metrics count. */
  peek(ticket: Ticket): OpenSession | undefined
  /** The session in a record that was just read, where this key opened the very same bytes before. */
  openedBefore(ticket: Ticket, record: StoredRecord): Session | undefined
  /** Activity that is being written to the store counts here from now on. */
  noteActivity(digest: SessionDigest, at: EpochMs): void
  forget(digest: SessionDigest): void
  /** To be called before the read is sent. */
  filling(digest: SessionDigest): Filling
  /** The same store; what is written through it is forgotten here at once, before anyone else is told. */
  over(store: SessionStore): SessionStore
  /** Since the start, for metrics. */
  readonly counts: { readonly found: number; readonly notFound: number }
}

export interface SessionCacheDependencies {
  readonly changes: SessionChanges
  readonly records: Pick<RecordSealer, 'ringIdOf'>
  readonly ring: CurrentKeyRing
  readonly clock: Clock
  readonly idle: Seconds
}

interface Entry {
  open: OpenSession
  readonly ringId: number
  /** Never, for what was read while changes were not told. */
  filledAtMs: number
}

const NEVER_MS = Number.NEGATIVE_INFINITY

/** However well changes are told. */
const ENTRY_LIFE_MS = 30_000
/** Some eleven thousand sessions with tokens of 1 KiB; beyond, the longest unused one makes room. */
const CACHE_BYTES_MAX = 64 * 1024 * 1024

export const createSessionCache = (dependencies: SessionCacheDependencies): SessionCache => {
  const { changes, records, ring, clock, idle } = dependencies
  const entries = new LRUCache<SessionDigest, Entry>({
    maxSize: CACHE_BYTES_MAX,
    sizeCalculation: ({ open }) => bytesOf(open),
  })
  /**
   * Reads under way. A change or gap takes the object away that those who read one session share: what they bring then
   * is from before, whichever came first.
   */
  const reads = new Map<SessionDigest, { readers: number }>()
  const counts = { found: 0, notFound: 0 }

  const forget = (digest: SessionDigest) => {
    entries.delete(digest)
    reads.delete(digest)
  }
  changes.subscribe({
    changed: forget,
    gap: () => {
      entries.clear()
      reads.clear()
    },
  })

  const usable = (ticket: Ticket): OpenSession | undefined => {
    // First, because where they are not, everything is forgotten.
    if (!changes.areTold()) return undefined
    const entry = entries.get(ticket.digest)
    if (entry === undefined) return undefined
    const { open, filledAtMs } = entry
    if (clock.monotonicMs() - filledAtMs >= ENTRY_LIFE_MS) return undefined
    if (!isOpenedBy(entry, ticket)) return undefined
    const now = clock.now()
    if (lifetimeAt(open.session, open.lastActivityAt, idle, now) !== 'live') return undefined
    // Another replica may have remembered it meanwhile: only the store knows whether it is due, and that it is idle.
    return activityIsDue(open.lastActivityAt, idle, now) ? undefined : open
  }

  const found = (ticket: Ticket): OpenSession | undefined => {
    const open = usable(ticket)
    if (open !== undefined) counts.found += 1
    return open
  }

  /** Another key opens nothing, and a secret that left the ring takes with it what it had sealed. */
  const isOpenedBy = ({ open, ringId }: Entry, ticket: Ticket): boolean =>
    timingSafeEqual(open.ticket.key, ticket.key) && ring.current.find(ringId) !== undefined

  const keep = (open: OpenSession) => {
    const { digest } = open.ticket
    const filledAtMs = changes.areTold() ? clock.monotonicMs() : NEVER_MS
    const entry = entries.peek(digest)
    if (entry?.open.session === open.session) {
      // As large as before.
      entry.open = open
      entry.filledAtMs = filledAtMs
      return
    }
    const ringId = records.ringIdOf(open.record)
    if (ringId !== undefined) entries.set(digest, { open, ringId, filledAtMs })
  }

  return {
    find: (ticket) => {
      const open = found(ticket)
      if (open === undefined) counts.notFound += 1
      return open
    },

    found,

    peek: usable,

    openedBefore: (ticket, record) => {
      const entry = entries.get(ticket.digest)
      if (entry === undefined || !isOpenedBy(entry, ticket)) return undefined
      const { session, record: before } = entry.open
      const isSame =
        session.generation === record.generation &&
        Buffer.compare(before.sealed, record.sealed) === 0
      return isSame ? session : undefined
    },

    noteActivity: (digest, at) => {
      const entry = entries.peek(digest)
      if (entry !== undefined)
        entries.set(digest, { ...entry, open: { ...entry.open, lastActivityAt: at } })
    },

    forget,

    filling: (digest) => {
      const mine = reads.get(digest) ?? { readers: 0 }
      mine.readers += 1
      reads.set(digest, mine)
      return {
        done: (open) => {
          mine.readers -= 1
          if (reads.get(digest) !== mine) return
          if (mine.readers === 0) reads.delete(digest)
          if (open !== undefined) keep(open)
        },
        isCurrent: () => changes.areTold() && reads.get(digest) === mine,
      }
    },

    over: (store) => {
      const forgetting = <T>(digest: SessionDigest, written: Promise<T>): Promise<T> =>
        // One that failed may have been applied.
        written.finally(() => forget(digest))
      return {
        ...store,
        replace: (digest, ...write) => forgetting(digest, store.replace(digest, ...write)),
        reseal: (digest, ...write) => forgetting(digest, store.reseal(digest, ...write)),
        end: (digest, ...write) => forgetting(digest, store.end(digest, ...write)),
      }
    },

    counts,
  }
}

/** Objects, names, keys and what is short. With tokens of 1 KiB an entry takes 5.0 KB, and counts 5.9 (measured). */
const ENTRY_OVERHEAD_BYTES = 1_200
const CLAIM_FACTOR = 3

const bytesOf = ({ session, record }: OpenSession): number => {
  const { accessToken, refreshToken = '', idToken = '' } = session.tokens
  const tokens = accessToken.length + refreshToken.length + idToken.length
  const claims = JSON.stringify(session.claims).length * CLAIM_FACTOR
  const sealed = record.sealed.byteLength + record.metadata.byteLength
  return tokens + claims + sealed + ENTRY_OVERHEAD_BYTES
}
