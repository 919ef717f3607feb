/** What the page of a session is told while it is open: from each reading, the news against what it was told before. */

import type { Clock, EpochMs } from '../time.ts'
import { type ComingEnds, comingEnds } from './coming-ends.ts'
import {
  type Claims,
  idleExpiresIn,
  type Lifetimes,
  type Session,
  sessionDeadline,
  wholeSecondsUntil,
} from './session.ts'
import type { WatchedEnd } from './session-watch.ts'
import type { OpenSession } from './vault.ts'

export type SessionNews =
  /** First of all, and when an end that was told of has been put off. */
  | { readonly event: 'session'; readonly expiresIn: number; readonly idleExpiresIn: number }
  | {
      readonly event: 'expiring'
      readonly reason: keyof ComingEnds
      readonly expiresIn: number
    }
  | { readonly event: 'claims'; readonly user: Claims }
  | { readonly event: 'ended'; readonly reason: WatchedEnd }

/** The signed-in user as a page may know them. */
export const userOf = (session: Pick<Session, 'subject' | 'claims'>): Claims => ({
  sub: session.subject,
  ...session.claims,
})

/** A reader of one session's readings; the first answer says where the session stands. */
export const createSessionNews = (lifetimes: Lifetimes, clock: Clock) => {
  let claims: string | undefined
  const told: Record<keyof ComingEnds, EpochMs | undefined> = {
    idle: undefined,
    absolute: undefined,
  }

  return (open: OpenSession): readonly SessionNews[] => {
    const now = clock.now()
    const { session, lastActivityAt } = open
    const ends = comingEnds(open, lifetimes, now)
    const news: SessionNews[] = []

    const user = userOf(session)
    const seen = JSON.stringify(user)
    const isFirst = claims === undefined
    if (!isFirst && claims !== seen) news.push({ event: 'claims', user })
    claims = seen

    const isPutOff = REASONS.some(
      (reason) => told[reason] !== undefined && now < ends[reason].toldFrom,
    )
    if (isFirst || isPutOff)
      news.push({
        event: 'session',
        expiresIn: wholeSecondsUntil(sessionDeadline(session, now), now),
        idleExpiresIn: idleExpiresIn(session, lastActivityAt, lifetimes.idle, now),
      })

    for (const reason of REASONS) {
      const { at, toldFrom } = ends[reason]
      if (now < toldFrom) told[reason] = undefined
      else if (told[reason] !== at && !isAfterTheOther(ends, reason)) {
        told[reason] = at
        news.push({ event: 'expiring', reason, expiresIn: wholeSecondsUntil(at, now) })
      }
    }
    return news
  }
}

const REASONS = ['idle', 'absolute'] as const

/** An idle time that ends later than the session itself is nothing that a call could put off. */
const isAfterTheOther = ({ idle, absolute }: ComingEnds, reason: keyof ComingEnds) =>
  reason === 'idle' && idle.at >= absolute.at
