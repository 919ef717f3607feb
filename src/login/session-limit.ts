/** How many sessions one user may have: beyond it the oldest makes room, or the new one is refused. */

import type { ListedSession, Roster } from '../session/roster.ts'
import type { SessionDigest } from '../session/session.ts'
import { subjectIndex } from '../session/session-index.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import type { Clock, EpochMs } from '../time.ts'

/**
 * Asked once the new session is written, so that of two sign-ins at once each sees the other. `former` is the session
 * that the new one takes the place of, and does not count. A refused session has ended; what it held is the caller's to
 * revoke.
 */
export type SessionLimit = (
  open: OpenSession,
  former: SessionDigest | undefined,
) => Promise<'within' | 'refused'>

export const createSessionLimit = ({
  roster,
  vault,
  clock,
  max,
  beyondMax,
}: {
  readonly roster: Roster
  readonly vault: Vault
  readonly clock: Clock
  /** Undefined: no limit. */
  readonly max: number | undefined
  readonly beyondMax: 'evict-oldest' | 'deny'
}): SessionLimit => {
  const sessionsOf = async ({ session }: OpenSession): Promise<readonly ListedSession[]> => {
    const index = subjectIndex(session.issuer, session.subject)
    const found = new Map<SessionDigest, ListedSession>()
    let cursor: string | undefined
    do {
      const page = await roster.list(index, cursor)
      for (const listed of page.sessions) found.set(listed.digest, listed)
      cursor = page.next
    } while (cursor !== undefined)
    return [...found.values()].toSorted(byAge(clock.now()))
  }

  return async (open, former) => {
    if (max === undefined) return 'within'
    const sessions = (await sessionsOf(open)).filter(({ digest }) => digest !== former)
    const place = sessions.findIndex(({ digest }) => digest === open.ticket.digest)
    if (beyondMax === 'deny') {
      if (place < max) return 'within'
      await vault.end(open, 'session_limit')
      return 'refused'
    }
    for (const session of sessions.slice(0, Math.max(0, sessions.length - max)))
      await roster.end(session, 'session_limit')
    return 'within'
  }
}

/**
 * Oldest first, and in one order for everybody, so that two sign-ins at once agree on which of them is too many. A
 * time that is still to come (a clock went back) says nothing of an age: such sessions go before who is just here.
 */
const byAge = (now: EpochMs) => {
  const age = ({ metadata }: ListedSession): number =>
    metadata === undefined || metadata.createdAt > now ? 0 : metadata.createdAt
  return (one: ListedSession, other: ListedSession): number =>
    age(one) - age(other) || (one.digest < other.digest ? -1 : 1)
}
