/**
 * Signing out: end the session → revoke the refresh token behind it → by way of `continue` to the provider's
 * end-session endpoint → back. The ID token waits in a sealed single-use record; script never sees it.
 */

import { createHmac, randomBytes } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Provider } from '../oidc/provider.ts'
import type { Revoke } from '../oidc/revocation.ts'
import { equalInConstantTime } from '../session/constant-time.ts'
import type { RecordSealer } from '../session/record.ts'
import type { Sealer } from '../session/seal.ts'
import {
  type CookieForms,
  type CookieNames,
  clearCookie,
  readCookie,
  type SameSite,
  setCookie,
} from '../session/session-cookie.ts'
import { isNotConfirmed, type OneTimeStore } from '../session/session-store.ts'
import { digestOf, sessionLabel, type Ticket, ticketFrom } from '../session/ticket.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import { type Seconds, seconds } from '../time.ts'

const CONTINUE_SECONDS: Seconds = seconds(60)
const LOGOUT_COOKIE_SECONDS: Seconds = seconds(600)
const LOGOUT_COOKIE_BYTES_MAX = 1536
const DEFAULT_LANDING = '/'

export interface Redirect {
  readonly location: string
  readonly setCookies: readonly string[]
}

export interface Logout {
  /** Bound to the session's key: only a page that read it from `/session` can form the link. */
  linkToken(ticket: Ticket): string
  linkTokenMatches(ticket: Ticket, token: string): boolean
  /** Ends the session. The user never waits for the provider. */
  end(open: OpenSession, returnTo: string): Promise<Redirect>
  /** For a session that the store could not give: it ends as soon as the store can be asked. Never throws. */
  endUnread(ticket: Ticket): Promise<void>
  /** Once: to the end-session endpoint, or straight to where the user wanted. Forged seals are counted. */
  continue(cookieHeader: string | undefined, countForgery: () => void): Promise<Redirect>
  /** Where the provider sends the user afterwards: `state` must match before `returnTo` counts, and then it is ours. */
  loggedOut(
    cookieHeader: string | undefined,
    state: string | undefined,
    countForgery: () => void,
  ): Promise<Redirect & { readonly isOurs: boolean }>
}

export interface LogoutDependencies {
  readonly provider: Provider
  readonly vault: Vault
  readonly once: OneTimeStore
  readonly records: RecordSealer
  readonly sealer: Sealer
  readonly cookies: CookieForms
  readonly revoke: Revoke
  readonly settings: {
    readonly prefix: string
    readonly postLogoutRedirectUri: string
    readonly sessionSameSite: SameSite
  }
}

/** In the sealed cookie, `Lax`, because it must come back with the provider's redirect. */
interface PendingLogout {
  readonly id: string
  readonly key: string
  readonly state: string
  readonly returnTo: string
}

export const createLogout = (dependencies: LogoutDependencies): Logout => {
  const { provider, vault, once, records, sealer, cookies, revoke, settings } = dependencies

  const linkToken = (ticket: Ticket) =>
    createHmac('sha256', ticket.key).update('coatcheck logout link v1').digest('base64url')

  const namesFor = (ticket: Ticket): CookieNames =>
    cookies.all.find(({ form }) => form === ticket.form) ?? cookies.of(undefined)

  const pendingLogout = async (cookieHeader: string | undefined, countForgery: () => void) => {
    const reading = readCookie(cookieHeader, cookies.of(cookieHeader).logout)
    if (reading.kind !== 'value' || reading.value.length > LOGOUT_COOKIE_BYTES_MAX) return undefined
    const unsealed = await sealer.unseal(
      'logout',
      reading.value,
      LOGOUT_COOKIE_SECONDS,
      parsePendingLogout,
    )
    if (unsealed.kind === 'forged') countForgery()
    return unsealed.kind === 'opened' ? unsealed.opened.value : undefined
  }

  const keepIdToken = async (idToken: string | undefined) => {
    const waiting = {
      id: randomBytes(32).toString('base64url'),
      key: randomBytes(32).toString('base64url'),
    }
    if (idToken !== undefined) {
      const name = digestOf(waiting.id)
      const key = Buffer.from(waiting.key, 'base64url')
      await once.put(name, records.sealText('logout-hint', name, key, idToken), CONTINUE_SECONDS)
    }
    return waiting
  }

  const takeIdToken = async (pending: PendingLogout) => {
    const ticket = ticketFrom(pending.id, pending.key)
    if (ticket === undefined) return undefined
    const sealed = await once.take(ticket.digest)
    return sealed === undefined
      ? undefined
      : records.openText('logout-hint', ticket.digest, ticket.key, sealed)
  }

  const sealPending = async (pending: PendingLogout): Promise<string> => {
    const seal = await sealer.seal('logout', pending, LOGOUT_COOKIE_SECONDS)
    return seal.length <= LOGOUT_COOKIE_BYTES_MAX
      ? seal
      : sealer.seal('logout', { ...pending, returnTo: DEFAULT_LANDING }, LOGOUT_COOKIE_SECONDS)
  }

  return {
    linkToken,

    linkTokenMatches: (ticket, token) => equalInConstantTime(linkToken(ticket), token),

    end: async (seen, returnTo) => {
      // What memory has of it may hold a refresh token that was just spent elsewhere. A store that is out does not keep
      // anybody from asking for the end: it is made as soon as it can be (docs/session-data.md).
      const latest = await vault.read(seen.ticket).catch(() => undefined)
      const open = latest?.kind === 'live' ? latest.open : seen
      const { ticket, session } = open
      const { refreshToken, idToken } = session.tokens
      const ends = provider.knownFacts()?.endSession !== false
      const keeping = ends ? keepIdToken(idToken).catch(() => undefined) : undefined
      const revokeIts = () => revoke(refreshToken, sessionLabel(ticket.digest))
      await vault.end(open, 'logout').catch((thrown: unknown) => {
        // It is over all the same, and nobody will read its token again.
        if (isNotConfirmed(thrown)) revokeIts()
        throw thrown
      })
      revokeIts()
      const waiting = await keeping
      const names = namesFor(ticket)
      const clear = clearCookie(names.session, settings.sessionSameSite)
      if (waiting === undefined) return { location: returnTo, setCookies: [clear] }
      const seal = await sealPending({
        ...waiting,
        state: randomBytes(32).toString('base64url'),
        returnTo,
      })
      return {
        location: `${settings.prefix}/logout/continue`,
        setCookies: [clear, setCookie(names.logout, seal, 'Lax', LOGOUT_COOKIE_SECONDS)],
      }
    },

    endUnread: async (ticket) => {
      await vault.endUnread(ticket, 'logout').catch(() => {
        // The store's adapter keeps what was asked for, and makes it.
      })
    },

    continue: async (cookieHeader, countForgery) => {
      const pending = await pendingLogout(cookieHeader, countForgery)
      if (pending === undefined) return { location: DEFAULT_LANDING, setCookies: [] }
      const idTokenHint = await takeIdToken(pending)
      if (idTokenHint === undefined) return { location: pending.returnTo, setCookies: [] }
      try {
        const url = await provider.endSessionUrl({
          idTokenHint,
          postLogoutRedirectUri: settings.postLogoutRedirectUri,
          state: pending.state,
        })
        return { location: url?.href ?? pending.returnTo, setCookies: [] }
      } catch (thrown) {
        // The session here is over already; a provider that is down must not keep the user on a dead page.
        if (thrown instanceof GatewayError && thrown.code === 'provider_unavailable')
          return { location: pending.returnTo, setCookies: [] }
        throw thrown
      }
    },

    loggedOut: async (cookieHeader, state, countForgery) => {
      const pending = await pendingLogout(cookieHeader, countForgery)
      return pending !== undefined &&
        state !== undefined &&
        equalInConstantTime(state, pending.state)
        ? {
            location: pending.returnTo,
            setCookies: [clearCookie(cookies.of(cookieHeader).logout, 'Lax')],
            isOurs: true,
          }
        : { location: DEFAULT_LANDING, setCookies: [], isOurs: false }
    },
  }
}

const parsePendingLogout = (value: Record<string, unknown>): PendingLogout | undefined =>
  typeof value.id === 'string' &&
  typeof value.key === 'string' &&
  typeof value.state === 'string' &&
  typeof value.returnTo === 'string'
    ? {
        id: value.id,
        key: value.key,
        state: value.state,
        returnTo: value.returnTo,
      }
    : undefined
