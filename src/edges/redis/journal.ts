/**
 * The journal: what this process wrote lately, ready to be written again. Replication is asynchronous, so a failover
 * can lose writes that the former master had acknowledged.
 */

import type { Clock } from '../../time.ts'

/** In this order they are written again: ends first, and the entries of a session before its record. */
export const STAGES = ['end', 'entry', 'record'] as const
export type Stage = (typeof STAGES)[number]

interface WriteAgain {
  /** What was written, by its key (and member): a later write of that name takes its place. */
  readonly name: string
  readonly bytes: number
  /** Writes it once more, unless the store has it, or something newer. True if it had been lost. */
  readonly again: () => Promise<boolean>
}

export type JournalEntry =
  | (WriteAgain & { readonly stage: 'record'; readonly generation: number })
  | (WriteAgain & { readonly stage: 'entry' })
  /** `asked_for`: its answer never came, and whoever asked for it was told so. In doubt until it is made. */
  | (WriteAgain & { readonly stage: 'end'; readonly outcome: 'written' | 'asked_for' })

export interface RestoredCount {
  readonly written: number
  /** Of these the store had lost so many, and among them so many ends. */
  readonly lost: number
  readonly lostEnds: number
}

const NOTHING_RESTORED: RestoredCount = { written: 0, lost: 0, lostEnds: 0 }

/** Moves with every event that may have cost writes. */
export type Epoch = number & { readonly brand: 'Epoch' }
const NEVER = -1 as Epoch

export interface Journal {
  /** Taken before a write is sent: its answer may come after the event that undoes it. */
  epoch(): Epoch
  keep(entry: JournalEntry, sentIn: Epoch): void
  forget(name: string): void
  find(name: string): JournalEntry | undefined
  /** From now on everything that is kept may be lost. */
  doubt(): void
  /** Whether it has not been written again since. */
  isDoubted(entry: JournalEntry): boolean
  doubted(stage: Stage): readonly JournalEntry[]
  restore(entry: JournalEntry): Promise<void>
  /** What was restored since it was asked last. */
  takeCount(): RestoredCount
  /** What the store did with any command: while it fails, nothing that it may be losing is dropped. */
  heard(outcome: 'answered' | 'failed'): void
  /** Told when there is something in doubt. */
  onDoubt(listener: () => void): void
}

/** The promise: what was written in this time before an outage is not lost by it. */
const KEPT_MS = 30_000
/** An outage may last this long; what is older is written again by nobody. */
const OUTAGE_MAX_MS = 600_000
/**
 * Longer than anything that they end is kept by anybody, so that no record comes back over an end which was lost
 * with it: not even where two processes noticed the outage a minute apart.
 */
const ENDS_KEPT_MS = OUTAGE_MAX_MS + 60_000
/** About 15,000 records of 3.4 KiB: 500 refreshes a second. Ends have a room of their own, and are small. */
const WRITES_BYTES_MAX = 64 * 1024 * 1024
const ENDS_BYTES_MAX = 32 * 1024 * 1024
/** Of an entry beside what it writes: closures, names, its place in the map (measured with 10,000 sign-ins). */
const ENTRY_BYTES = 900
const LOOK_EVERY_MS = 1_000

interface Kept {
  readonly entry: JournalEntry
  readonly keptAtMs: number
  epoch: Epoch
}

export const createJournal = (
  clock: Pick<Clock, 'monotonicMs'>,
  notice: (notice: string, detail: string) => void,
): Journal => {
  const writes = createShelf(WRITES_BYTES_MAX)
  const ends = createShelf(ENDS_BYTES_MAX)
  let epoch = 0 as Epoch
  let troubledUntilMs = 0
  let lookedAtMs = 0
  let wasFull = false
  let tellDoubt = () => {}
  let count = NOTHING_RESTORED

  // An end whose answer never came may never have been made: it is kept no longer than a write.
  const shelfOf = (entry: JournalEntry) =>
    entry.stage === 'end' && isWritten(entry) ? ends : writes
  const keptOf = (name: string) => ends.get(name) ?? writes.get(name)

  const dropOld = (nowMs: number) => {
    const isTroubled = nowMs < troubledUntilMs
    writes.dropBefore(nowMs - (isTroubled ? OUTAGE_MAX_MS : KEPT_MS))
    if (!isTroubled) ends.dropBefore(nowMs - ENDS_KEPT_MS)
  }

  const journal: Journal = {
    epoch: () => epoch,

    keep: (entry, sentIn) => {
      const known = keptOf(entry.name)
      if (known !== undefined && beats(known.entry, entry)) return
      const shelf = shelfOf(entry)
      if (known !== undefined) shelfOf(known.entry).delete(entry.name)
      const writtenIn = isWritten(entry) ? sentIn : NEVER
      const isFull = shelf.put({ entry, keptAtMs: clock.monotonicMs(), epoch: writtenIn })
      if (isFull && !wasFull) {
        wasFull = true
        notice(
          'store_journal_full',
          'More was written than is kept for a failover: one that comes now may lose the oldest of it.',
        )
      }
      if (writtenIn !== epoch) tellDoubt()
    },

    forget: (name) => {
      const known = keptOf(name)
      if (known !== undefined) shelfOf(known.entry).delete(name)
    },

    find: (name) => keptOf(name)?.entry,

    doubt: () => {
      epoch = (epoch + 1) as Epoch
      tellDoubt()
    },

    isDoubted: (entry) => {
      const kept = keptOf(entry.name)
      return kept?.entry === entry && kept.epoch !== epoch
    },

    doubted: (stage) => {
      writes.dropBefore(clock.monotonicMs() - OUTAGE_MAX_MS)
      return [...ends.all(), ...writes.all()].flatMap((kept) =>
        kept.entry.stage === stage && kept.epoch !== epoch ? [kept.entry] : [],
      )
    },

    restore: async (entry) => {
      const writtenIn = epoch
      const wasLost = await entry.again()
      const kept = keptOf(entry.name)
      if (kept?.entry === entry) kept.epoch = writtenIn
      count = {
        written: count.written + 1,
        lost: count.lost + (wasLost ? 1 : 0),
        lostEnds: count.lostEnds + (wasLost && entry.stage === 'end' ? 1 : 0),
      }
    },

    takeCount: () => {
      const taken = count
      count = NOTHING_RESTORED
      return taken
    },

    heard: (outcome) => {
      const nowMs = clock.monotonicMs()
      if (outcome === 'failed') troubledUntilMs = nowMs + KEPT_MS
      else if (nowMs - lookedAtMs > LOOK_EVERY_MS) {
        lookedAtMs = nowMs
        dropOld(nowMs)
      }
    },

    onDoubt: (listener) => {
      tellDoubt = listener
    },
  }
  return journal
}

const isWritten = (entry: JournalEntry): boolean =>
  entry.stage !== 'end' || entry.outcome === 'written'

/** An end beats all, and a generation the ones below it. */
const beats = (known: JournalEntry, entry: JournalEntry): boolean =>
  known.stage === 'end'
    ? entry.stage !== 'end'
    : known.stage === 'record' && entry.stage === 'record' && known.generation > entry.generation

/** In the order of their coming, bounded by bytes. */
const createShelf = (bytesMax: number) => {
  const shelf = new Map<string, Kept>()
  let bytes = 0
  const sizeOf = ({ entry }: Kept) => entry.bytes + ENTRY_BYTES

  const remove = (name: string) => {
    const kept = shelf.get(name)
    if (kept === undefined) return
    bytes -= sizeOf(kept)
    shelf.delete(name)
  }

  return {
    get: (name: string) => shelf.get(name),
    all: () => shelf.values(),
    delete: remove,
    /** True where the oldest had to make room. */
    put: (kept: Kept): boolean => {
      remove(kept.entry.name)
      shelf.set(kept.entry.name, kept)
      bytes += sizeOf(kept)
      const before = shelf.size
      for (const name of shelf.keys()) {
        if (bytes <= bytesMax) break
        remove(name)
      }
      return shelf.size < before
    },
    dropBefore: (instantMs: number) => {
      for (const [name, { keptAtMs }] of shelf) {
        if (keptAtMs >= instantMs) break
        remove(name)
      }
    },
  }
}
