/** The roster: sessions found and ended without their cookie, by user, by sign-in at the provider, or all of them. */

import type { Emit, EndReason } from '../events.ts'
import type { Clock, EpochMs, Seconds } from '../time.ts'
import type { RecordSealer, SessionMetadata } from './record.ts'
import { isOverByTime, type SessionDigest } from './session.ts'
import { createSessionEnd } from './session-end.ts'
import { EVERYONE, indicesOf, type SessionIndex } from './session-index.ts'
import type { DigestPage, SessionDirectory, SessionStore } from './session-store.ts'

export interface ListedSession {
  readonly digest: SessionDigest
  /** Undefined where no secret of the ring opens it: such a session can be ended, and tells nothing. */
  readonly metadata: SessionMetadata | undefined
  readonly lastActivityAt: EpochMs | undefined
  readonly absoluteExpiresAt: EpochMs
}

export interface RosterPage {
  readonly sessions: readonly ListedSession[]
  /** Opaque; undefined after the last page. A page may be empty before. */
  readonly next: string | undefined
}

export interface Roster {
  /** Live sessions of an index. */
  list(index: SessionIndex, cursor?: string): Promise<RosterPage>
  listAll(cursor?: string): Promise<RosterPage>
  find(digest: SessionDigest): Promise<ListedSession | undefined>
  /** True for the one caller who ended it. */
  end(session: ListedSession, reason: EndReason): Promise<boolean>
  /**
   * Ends all of an index, and by its mark also whoever is just signing in; their number. `only` leaves out sessions
   * whose metadata can be read and is not meant.
   */
  endIndex(
    index: SessionIndex,
    reason: EndReason,
    only?: (metadata: SessionMetadata) => boolean,
  ): Promise<number>
  /** Ends what the index has now and leaves no mark: for callers whom nobody knows, and who must not write. */
  endListed(index: SessionIndex, reason: EndReason): Promise<number>
  endEveryone(reason: EndReason): Promise<number>
}

export interface RosterDependencies {
  readonly store: SessionStore
  readonly directory: SessionDirectory
  readonly records: RecordSealer
  readonly clock: Clock
  readonly emit: Emit
  readonly idle: Seconds
}

export const createRoster = (dependencies: RosterDependencies): Roster => {
  const { store, directory, records, clock, emit, idle } = dependencies
  const endSession = createSessionEnd({ store, directory, clock, emit })

  type Seen = ListedSession | 'ended' | 'absent'

  const look = async (digest: SessionDigest): Promise<Seen> => {
    const state = await store.load(digest)
    return state.kind === 'live'
      ? {
          digest,
          metadata: records.openMetadata(digest, state.record),
          lastActivityAt: state.lastActivityAt,
          absoluteExpiresAt: state.record.absoluteExpiresAt,
        }
      : state.kind
  }

  const lookAll = async (index: SessionIndex | undefined, page: DigestPage) => {
    const seen = await Promise.all(
      page.digests.map(async (digest) => ({ digest, found: await look(digest) })),
    )
    return seen.flatMap(({ digest, found }) => {
      if (typeof found === 'object') return [found]
      // An entry without a record may be that of a session which is just beginning; one at a tombstone is left over.
      if (found === 'ended' && index !== undefined)
        directory.leave(index, digest).catch(() => {
          // Left over once more; it ends with its index.
        })
      return []
    })
  }

  /** Over by time, though nobody has met it since. */
  const isOver = ({ lastActivityAt, absoluteExpiresAt }: ListedSession): boolean =>
    isOverByTime(absoluteExpiresAt, lastActivityAt, idle, clock.now())

  const pageOf = async (
    index: SessionIndex | undefined,
    page: DigestPage,
  ): Promise<RosterPage> => ({
    sessions: (await lookAll(index, page)).filter((session) => !isOver(session)),
    next: page.next,
  })

  const end: Roster['end'] = ({ digest, metadata }, reason) =>
    endSession(digest, metadata === undefined ? [] : indicesOf(metadata), reason)

  const endPages = async (
    next: (cursor: string | undefined) => Promise<DigestPage>,
    index: SessionIndex | undefined,
    reason: EndReason,
    only: (metadata: SessionMetadata) => boolean = () => true,
  ): Promise<number> => {
    let count = 0
    let cursor: string | undefined
    do {
      const page = await next(cursor)
      const meant = (await lookAll(index, page)).filter(
        ({ metadata }) => metadata === undefined || only(metadata),
      )
      const outcomes = await Promise.all(meant.map((session) => end(session, reason)))
      count += outcomes.filter(Boolean).length
      cursor = page.next
    } while (cursor !== undefined)
    return count
  }

  const endListed: Roster['endListed'] = (index, reason) =>
    endPages((cursor) => directory.list(index, cursor), index, reason)

  return {
    list: async (index, cursor) => pageOf(index, await directory.list(index, cursor)),
    listAll: async (cursor) => pageOf(undefined, await directory.listAll(cursor)),
    find: async (digest) => {
      const found = await look(digest)
      return typeof found === 'object' ? found : undefined
    },
    end,
    endListed,
    endIndex: async (index, reason, only) => {
      await directory.markEnded(index, { at: clock.now(), reason })
      return endPages((cursor) => directory.list(index, cursor), index, reason, only)
    },
    endEveryone: async (reason) => {
      await directory.markEnded(EVERYONE, { at: clock.now(), reason })
      return endPages(directory.listAll, undefined, reason)
    },
  }
}
