/** The vault: tickets to sessions and back. The one place where records are opened, begun, replaced and ended. */

import { timingSafeEqual } from 'node:crypto'
import type { Emit, EndReason } from '../events.ts'
import type { Clock, EpochMs } from '../time.ts'
import { after, toMs } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import type { RecordSealer, SessionMetadata } from './record.ts'
import {
  activityIsDue,
  isOverByTime,
  type Lifetimes,
  lifetimeAt,
  type Session,
  type SessionDigest,
} from './session.ts'
import type { Filling, SessionCache } from './session-cache.ts'
import { createSessionEnd } from './session-end.ts'
import { EVERYONE, indicesOf } from './session-index.ts'
import {
  isNotConfirmed,
  type SessionDirectory,
  type SessionStore,
  type StoredRecord,
} from './session-store.ts'
import { newTicket, sessionLabel, type Ticket } from './ticket.ts'

/** A session with what is needed to write it again. */
export interface OpenSession {
  readonly ticket: Ticket
  readonly session: Session
  readonly record: StoredRecord
  readonly lastActivityAt: EpochMs | undefined
}

export type VaultReading =
  | { readonly kind: 'live'; readonly open: OpenSession }
  | { readonly kind: 'ended'; readonly reason: EndReason }
  /** `not_opened`: there is a record, of a secret that this ring has not, or of another key. */
  | { readonly kind: 'absent'; readonly why: 'no_record' | 'not_opened' }

export type NewSession = Omit<Session, 'generation' | 'createdAt' | 'absoluteExpiresAt'>

export type Replacing =
  | { readonly kind: 'replaced'; readonly open: OpenSession }
  | { readonly kind: 'moved' | 'absent' | 'ended' }

export interface Vault {
  begin(
    session: NewSession,
    seen: Pick<SessionMetadata, 'device' | 'address'>,
  ): Promise<OpenSession>
  /** Enforces the lifetimes, ending what is over. May be from memory, while changes of the store are told. */
  load(ticket: Ticket): Promise<VaultReading>
  /** What memory has, where that is sure to be so now; otherwise undefined, and only the store knows. */
  kept(ticket: Ticket): OpenSession | undefined
  /** The same for a request, whose lookup metrics count: as a load where it is found, and otherwise not at all. */
  found(ticket: Ticket): OpenSession | undefined
  /** The same, and always from the store itself: for whoever acts on what has just changed. */
  read(ticket: Ticket): Promise<VaultReading>
  /** Remembers activity where that is due; never makes the request wait, and a failure is no failure of its. */
  touch(open: OpenSession): void
  /** Compare-and-set of a refresh, repeatable with the same attempt. */
  replace(open: OpenSession, next: Session, attemptId: string): Promise<Replacing>
  /** True for the one caller who ended it; emits the one event. */
  end(open: Pick<OpenSession, 'ticket' | 'session'>, reason: EndReason): Promise<boolean>
  /** The same where the store could not be read: it is made as soon as it can be, whatever the caller hears now. */
  endUnread(ticket: Ticket, reason: EndReason): Promise<boolean>
  /** The same, and revokes its refresh token at the provider, for which nobody waits. */
  endAndRevoke(open: Pick<OpenSession, 'ticket' | 'session'>, reason: EndReason): Promise<boolean>
  /**
   * Ends a session whose user, sign-in or everybody was signed out after its own sign-in had begun; the reason, or
   * undefined where nothing was. Asked once its record is written: who ends sessions by index marks the index first,
   * so that one of the two sees the other.
   */
  endOvertaken(open: OpenSession): Promise<EndReason | undefined>
  /** An outdated secret sealed the record. */
  isOutdated(open: OpenSession): boolean
  /** Seals the record under the current secret where an outdated one did, if nothing else is going on. */
  reseal(open: OpenSession): Promise<void>
}

export interface VaultDependencies {
  /** Forgets in `cache` what is written. */
  readonly store: SessionStore
  readonly cache: SessionCache
  readonly directory: SessionDirectory
  readonly records: RecordSealer
  readonly ring: CurrentKeyRing
  readonly clock: Clock
  readonly lifetimes: Lifetimes
  readonly emit: Emit
  /** Revokes at the provider what an ended session still held; nobody waits for it. */
  readonly revoke: (refreshToken: string, digest: SessionDigest) => void
  /** Set by the memory store: tickets then name the process that can know them. */
  readonly home: string | undefined
}

interface Loading {
  readonly key: Ticket['key']
  readonly filling: Filling
  readonly reading: Promise<VaultReading>
}

export const createVault = (dependencies: VaultDependencies): Vault => {
  const { store, cache, directory, records, ring, clock, lifetimes, emit, revoke, home } =
    dependencies
  /** Whose activity is just being remembered. */
  const touching = new Set<SessionDigest>()
  /** Loads that read the store just now: pages that come back all at once share one. */
  const loading = new Map<SessionDigest, Loading>()

  const endSession = createSessionEnd({ store, directory, clock, emit })
  const end: Vault['end'] = ({ ticket, session }, reason) =>
    endSession(ticket.digest, indicesOf(session), reason)
  const endLatest: Vault['endAndRevoke'] = async (open, reason) => {
    const { refreshToken } = open.session.tokens
    const ended = await end(open, reason).catch((thrown: unknown) => {
      // It is over all the same, and nobody will read its token again.
      if (isNotConfirmed(thrown) && refreshToken !== undefined)
        revoke(refreshToken, open.ticket.digest)
      throw thrown
    })
    if (ended && refreshToken !== undefined) revoke(refreshToken, open.ticket.digest)
    return ended
  }

  /**
   * Another live session of the same sign-in at the provider, or of the user where it names none. Two tabs that sign in
   * at once have one each, and one grant: revoking what the forgotten one held would sign out who uses the other.
   */
  const sharesItsGrant = async (digest: SessionDigest, session: Session): Promise<boolean> => {
    const index = indicesOf(session).at(-1)
    if (index === undefined) return false
    for (const other of (await directory.list(index, undefined)).digests) {
      const state = other === digest ? undefined : await store.load(other)
      if (state?.kind !== 'live') continue
      const { record, lastActivityAt } = state
      if (!isOverByTime(record.absoluteExpiresAt, lastActivityAt, lifetimes.idle, clock.now()))
        return true
    }
    return false
  }

  const read: Vault['read'] = async (ticket) => {
    const state = await store.load(ticket.digest)
    if (state.kind !== 'live') {
      // Its tokens stay no longer in memory than they have to.
      cache.forget(ticket.digest)
      return state.kind === 'ended' ? state : { kind: 'absent', why: 'no_record' }
    }
    const { record, lastActivityAt } = state
    const session =
      cache.openedBefore(ticket, record) ?? records.open(ticket.digest, ticket.key, record)?.session
    if (session === undefined) return { kind: 'absent', why: 'not_opened' }
    const lifetime = lifetimeAt(session, lastActivityAt, lifetimes.idle, clock.now())
    if (lifetime === 'live')
      return { kind: 'live', open: { ticket, session, record, lastActivityAt } }
    const over = { ticket, session }
    if (await sharesItsGrant(ticket.digest, session)) await end(over, lifetime)
    else await endLatest(over, lifetime)
    return { kind: 'ended', reason: lifetime }
  }

  // What memory has may hold a refresh token that was just spent elsewhere: revoking that one revokes nothing.
  const endAndRevoke: Vault['endAndRevoke'] = async ({ ticket }, reason) => {
    const latest = await read(ticket)
    return latest.kind === 'live' && endLatest(latest.open, reason)
  }

  const fill = (ticket: Ticket): Promise<VaultReading> => {
    const filling = cache.filling(ticket.digest)
    const filled = async () => {
      let open: OpenSession | undefined
      try {
        const reading = await read(ticket)
        if (reading.kind === 'live') open = reading.open
        return reading
      } finally {
        filling.done(open)
        if (loading.get(ticket.digest) === mine) loading.delete(ticket.digest)
      }
    }
    const mine: Loading = { key: ticket.key, filling, reading: filled() }
    loading.set(ticket.digest, mine)
    return mine.reading
  }

  const isOutdated: Vault['isOutdated'] = ({ record }) => {
    const ringId = records.ringIdOf(record)
    return ringId === undefined || ring.current.isOutdated(ringId)
  }

  return {
    begin: async (begun, seen) => {
      const now = clock.now()
      const session: Session = {
        ...begun,
        generation: 0,
        createdAt: now,
        absoluteExpiresAt: after(now, toMs(lifetimes.absolute)),
      }
      const ticket = newTicket(home)
      const record = records.seal(ticket.digest, ticket.key, session, {
        issuer: session.issuer,
        subject: session.subject,
        providerSessionId: session.providerSessionId,
        createdAt: session.createdAt,
        signInStartedAt: session.signInStartedAt,
        ...seen,
      })
      await Promise.all(
        indicesOf(session).map((index) =>
          directory.enter(index, ticket.digest, session.absoluteExpiresAt, now),
        ),
      )
      await store.create(ticket.digest, record, now).catch((thrown: unknown) => {
        // It is there, and nobody will have its ticket.
        if (isNotConfirmed(thrown))
          void end({ ticket, session }, 'replaced_at_login').catch(() => {})
        throw thrown
      })
      return { ticket, session, record, lastActivityAt: now }
    },

    load: async (ticket) => {
      const kept = cache.find(ticket)
      if (kept !== undefined) return { kind: 'live', open: kept }
      const underWay = loading.get(ticket.digest)
      // Another key opens nothing.
      if (underWay?.filling.isCurrent() && timingSafeEqual(underWay.key, ticket.key))
        return underWay.reading
      return fill(ticket)
    },
    kept: (ticket) => cache.peek(ticket),
    found: (ticket) => cache.found(ticket),
    read,

    touch: ({ ticket, lastActivityAt }) => {
      const { digest } = ticket
      const now = clock.now()
      if (touching.has(digest) || !activityIsDue(lastActivityAt, lifetimes.idle, now)) return
      touching.add(digest)
      cache.noteActivity(digest, now)
      store
        .touch(digest, now)
        .catch(() => {
          // The request was authenticated; the next one remembers its activity again.
          cache.forget(digest)
        })
        .finally(() => touching.delete(digest))
    },

    replace: async (open, next, attemptId) => {
      const { digest, key } = open.ticket
      const record = records.sealNext(digest, key, next, open.record)
      const outcome = await store.replace(digest, open.session.generation, attemptId, record)
      return outcome === 'replaced'
        ? { kind: 'replaced', open: { ...open, session: next, record } }
        : { kind: outcome }
    },

    end,
    endUnread: (ticket, reason) => endSession(ticket.digest, [], reason),
    endAndRevoke,

    endOvertaken: async (open) => {
      const mark = await directory.endedBefore([...indicesOf(open.session), EVERYONE])
      if (mark === undefined || open.session.signInStartedAt > mark.at) return undefined
      await endAndRevoke(open, mark.reason)
      return mark.reason
    },

    isOutdated,
    reseal: async (open) => {
      if (!isOutdated(open)) return
      const { ticket, session, record } = open
      const { digest, key } = ticket
      const outcome = await store.reseal(digest, records.sealNext(digest, key, session, record))
      if (outcome === 'resealed')
        emit({ type: 'seal_renewed', session: sessionLabel(digest), of: 'record' })
    },
  }
}
