/** The session cookie as a credential: seal → ticket → record → an open session, or why there is none. */

import { GatewayError } from '../errors.ts'
import type { EndReason } from '../events.ts'
import { type CookieForms, type CookieReading, readCookie } from '../session/session-cookie.ts'
import type { Ticket, TicketSealer } from '../session/ticket.ts'
import type { OpenSession, Vault } from '../session/vault.ts'

export type SessionReading =
  | {
      readonly kind: 'live'
      readonly open: OpenSession
      /** Secret that sealed the cookie: an older one is sealed anew and set again. */
      readonly ringId: number
    }
  | { readonly kind: 'ended'; readonly reason: EndReason }
  /** No cookie, or one that leads nowhere; they answer alike. */
  | {
      readonly kind: 'absent'
      readonly why:
        | 'no_cookie'
        | 'two_cookies'
        | 'foreign'
        | 'forged'
        | 'no_record'
        | 'not_opened'
        | 'other_process'
    }

export interface SessionReader {
  /** Syntax only: the session cookie as the request carries it, if it does. */
  presented(cookieHeader: string | undefined): CookieReading
  /** A live session whose seal was verified before and which memory has; undefined says nothing. */
  atHand(cookie: CookieReading): SessionReading | undefined
  /** Throws `store_unavailable` when it cannot be known. */
  read(cookie: CookieReading): Promise<SessionReading>
}

export const createSessionReader = (
  cookies: CookieForms,
  tickets: TicketSealer,
  vault: Vault,
  /** This process's id where sessions live in memory; undefined with a shared store. */
  home: string | undefined,
  notice: (notice: string, detail: string) => void,
): SessionReader => ({
  presented: (header) => {
    const names = cookies.of(header)
    const reading = readCookie(header, names.session)
    return names.form === 'plain' && reading.kind === 'value'
      ? { ...reading, form: 'plain' }
      : reading
  },

  atHand: (cookie) => {
    const opened = cookie.kind === 'value' ? tickets.remembered(cookie.value) : undefined
    if (opened === undefined || opened.value.home !== home || !isCarriedBy(opened.value, cookie))
      return undefined
    const open = vault.found(opened.value)
    return open === undefined ? undefined : { kind: 'live', open, ringId: opened.ringId }
  },

  read: async (cookie) => {
    if (cookie.kind === 'absent') return { kind: 'absent', why: 'no_cookie' }
    if (cookie.kind === 'ambiguous') return { kind: 'absent', why: 'two_cookies' }
    const opened = await tickets.open(cookie.value)
    if (opened.kind !== 'opened') return { kind: 'absent', why: opened.kind }
    if (!isCarriedBy(opened.ticket, cookie)) return { kind: 'absent', why: 'foreign' }
    if (opened.ticket.home !== home) {
      notice(
        'session_of_another_process',
        'this session lives in another process’s memory: set COATCHECK_REDIS_URL',
      )
      return { kind: 'absent', why: 'other_process' }
    }
    const state = await vault.load(opened.ticket)
    switch (state.kind) {
      case 'live':
        return { kind: 'live', open: state.open, ringId: opened.ringId }
      case 'ended':
      case 'absent':
        return state
    }
  },
})

/** By a cookie of the form that it was sealed for: whoever has a ticket of one form cannot plant it in the other. */
export const isCarriedBy = (ticket: Ticket, cookie: CookieReading): boolean =>
  cookie.kind === 'value' && (cookie.form ?? 'prefixed') === ticket.form

/** What a request hears that needs a session and has none. */
export const sessionRefusal = (
  reading: Exclude<SessionReading, { kind: 'live' }>,
): GatewayError => {
  if (reading.kind === 'absent')
    return new GatewayError('session_required', { reason: unremarkable(reading.why) })
  const { reason } = reading
  return new GatewayError(EXPIRED.has(reason) ? 'session_expired' : 'session_ended', { reason })
}

/** A cookie of another secret is as good as none, and a log that told them apart would only fill. */
const unremarkable = (why: (SessionReading & { kind: 'absent' })['why']) =>
  why === 'foreign' ? 'no_cookie' : why

/** Ends that come by themselves with time; every other end was somebody's doing. */
const EXPIRED: ReadonlySet<EndReason> = new Set([
  'idle',
  'absolute',
  'access_token_expired',
  'refresh_expired',
])
