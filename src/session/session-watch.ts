/**
 * Watches sessions for whoever holds something open for one, such as an event stream: one watch per session however
 * many hold, one loop for all of them, and every reading from the store itself but the first.
 */

import type { EndReason } from '../events.ts'
import { type Clock, type EpochMs, epochMs, type Milliseconds, milliseconds } from '../time.ts'
import { nextReadingIn } from './coming-ends.ts'
import type { Lifetimes, SessionDigest } from './session.ts'
import type { SessionChanges } from './session-changes.ts'
import type { Ticket } from './ticket.ts'
import type { OpenSession, Vault, VaultReading } from './vault.ts'

/** `unknown`: the store has no such session, not even that it ended. */
export type WatchedEnd = EndReason | 'unknown'

export interface SessionHolder {
  /** The session as it is now: at once where memory knows, after every change, ahead of the ends that come by themselves, after a gap. */
  lives(open: OpenSession): void
  /** The last word: the session is watched no longer. */
  ended(reason: WatchedEnd): void
}

export interface SessionWatch {
  /** Until the returned function is called or the session has ended. Holders never throw. */
  watch(open: Pick<OpenSession, 'ticket' | 'session'>, holder: SessionHolder): () => void
  /** Watches nothing any more, and tells nobody. */
  close(): void
}

export interface SessionWatchDependencies {
  readonly vault: Pick<Vault, 'read' | 'kept'>
  readonly changes: SessionChanges
  readonly clock: Clock
  readonly lifetimes: Lifetimes
  /** Between 0 and 1: replicas do not ask the store in step. */
  readonly random: () => number
}

/** How often deadlines are compared, and how often everything is read where changes are not told. */
const TURN_MS = 500
/** Readings on their way at once: 10,000 sessions are read again in half a second, beside the requests. */
const READINGS_MAX = 16
const GAP_JITTER_MS = 250
/** A store that is down ends nothing but what is over by itself: it is asked again after pauses between these. */
const OUTAGE_PAUSE_MIN_MS = 250
const OUTAGE_PAUSE_MAX_MS = 1_000
/** After a failover a record may be missing until a replica that wrote it writes it again. */
const MISSING_MS = 1_000
/** How long the store may take to say so at the absolute end, which no store can put off. */
const OVERDUE_MS = 1_000

interface Watched {
  readonly ticket: Ticket
  readonly absoluteExpiresAt: EpochMs
  readonly holders: Set<SessionHolder>
  readAt: EpochMs
  isBeingRead: boolean
  missingSince: Milliseconds | undefined
}

export const createSessionWatch = (dependencies: SessionWatchDependencies): SessionWatch => {
  const { vault, changes, clock, lifetimes, random } = dependencies
  const watched = new Map<SessionDigest, Watched>()
  /** Changed by the store's own word, so its store answers: read first, and whatever else is out of reach. */
  const changed = new Set<Watched>()
  const due = new Set<Watched>()
  const closing = new AbortController()
  let readings = 0
  let isTurning = false
  let isPausing = false
  let outagePauseMs = OUTAGE_PAUSE_MIN_MS

  const readDue = () => {
    readFrom(changed)
    if (!isPausing) readFrom(due)
  }

  const readFrom = (waiting: Set<Watched>) => {
    for (const entry of waiting) {
      if (readings >= READINGS_MAX) return
      // It waits on: what changed while it was being read is read once more.
      if (entry.isBeingRead) continue
      waiting.delete(entry)
      void read(entry)
    }
  }

  const read = async (entry: Watched): Promise<void> => {
    entry.isBeingRead = true
    readings += 1
    try {
      tell(entry, await vault.read(entry.ticket))
      outagePauseMs = OUTAGE_PAUSE_MIN_MS
    } catch {
      // The store cannot say; its adapter has said so in the log.
      if (isWatched(entry)) due.add(entry)
      pause()
    } finally {
      entry.isBeingRead = false
      readings -= 1
      readDue()
    }
  }

  const pause = () => {
    if (isPausing) return
    isPausing = true
    const pauseMs = milliseconds(outagePauseMs * (0.5 + random() / 2))
    outagePauseMs = Math.min(OUTAGE_PAUSE_MAX_MS, outagePauseMs * 2)
    void clock.sleep(pauseMs, closing.signal).then(() => {
      isPausing = false
      readDue()
    })
  }

  const isWatched = (entry: Watched) => watched.get(entry.ticket.digest) === entry

  const forget = (entry: Watched) => {
    if (isWatched(entry)) watched.delete(entry.ticket.digest)
    changed.delete(entry)
    due.delete(entry)
  }

  const tell = (entry: Watched, reading: VaultReading) => {
    if (!isWatched(entry)) return
    switch (reading.kind) {
      case 'live': {
        const now = clock.now()
        entry.missingSince = undefined
        entry.readAt = epochMs(now + nextReadingIn(reading.open, lifetimes, now))
        for (const holder of [...entry.holders]) holder.lives(reading.open)
        return
      }
      case 'ended':
        return tellEnd(entry, reading.reason)
      case 'absent':
        entry.missingSince ??= clock.monotonicMs()
        entry.readAt = epochMs(clock.now() + MISSING_MS)
        if (clock.monotonicMs() - entry.missingSince >= MISSING_MS) tellEnd(entry, 'unknown')
        return
    }
  }

  const tellEnd = (entry: Watched, reason: WatchedEnd) => {
    forget(entry)
    for (const holder of [...entry.holders]) holder.ended(reason)
  }

  /** One loop compares all deadlines: 10,000 of them take less than a millisecond, and no session has a timer. */
  const turn = async (): Promise<void> => {
    isTurning = true
    await clock.sleep(milliseconds(TURN_MS * random()), closing.signal)
    while (watched.size > 0 && !closing.signal.aborted) {
      const everything = !changes.areTold()
      const now = clock.now()
      for (const entry of watched.values()) {
        if (now >= entry.absoluteExpiresAt + OVERDUE_MS) tellEnd(entry, 'absolute')
        else if (everything || now >= entry.readAt) due.add(entry)
      }
      readDue()
      await clock.sleep(milliseconds(TURN_MS), closing.signal)
    }
    isTurning = false
  }

  const unsubscribe = changes.subscribe({
    changed: (digest) => {
      const entry = watched.get(digest)
      if (entry === undefined) return
      changed.add(entry)
      readDue()
    },
    gap: () => {
      const jitter = milliseconds(GAP_JITTER_MS * random())
      void clock.sleep(jitter, closing.signal).then(() => {
        for (const entry of watched.values()) due.add(entry)
        readDue()
      })
    },
  })

  return {
    watch: ({ ticket, session: { absoluteExpiresAt } }, holder) => {
      let entry = watched.get(ticket.digest)
      if (entry === undefined) {
        entry = {
          ticket,
          absoluteExpiresAt,
          holders: new Set(),
          readAt: clock.now(),
          isBeingRead: false,
          missingSince: undefined,
        }
        watched.set(ticket.digest, entry)
      }
      const { holders } = entry
      holders.add(holder)
      const kept = vault.kept(ticket)
      if (kept === undefined) {
        // What changed since the holder last read was told before it watched.
        changed.add(entry)
        readDue()
      } else {
        // Thousands may come back at once, and memory would have been told.
        const now = clock.now()
        entry.readAt = epochMs(now + nextReadingIn(kept, lifetimes, now))
        holder.lives(kept)
      }
      if (!isTurning) void turn()
      const held = entry
      return () => {
        holders.delete(holder)
        if (holders.size === 0) forget(held)
      }
    },

    close: () => {
      unsubscribe()
      closing.abort()
      watched.clear()
      changed.clear()
      due.clear()
    },
  }
}
