/** The session as the gateway tells it, and the two doors: sign in and sign out. */

import { call, type Outcome } from './api.ts'

export interface User {
  readonly sub: string
  readonly name?: string
  readonly given_name?: string
  readonly [claim: string]: unknown
}

export interface SignedIn {
  readonly authenticated: true
  readonly user: User
  readonly session: {
    readonly createdAt: string
    /** Whole seconds from now. */
    readonly expiresIn: number
    readonly idleExpiresIn: number
  }
  readonly links: {
    readonly login: string
    readonly logout: string
    readonly sessions?: string
    /** Of an event stream about this session. */
    readonly events?: string
  }
}

export interface SignedOut {
  readonly authenticated: false
  readonly links: { readonly login: string }
}

export type SessionState = SignedIn | SignedOut

/** Asking never extends the session. */
export const readSession = (): Promise<Outcome<SessionState>> => call('GET', '/bff/session')

/** A top-level navigation, because signing in takes the browser to the provider and back to this very place. */
export const signIn = (login: string): void => {
  const url = new URL(login, location.href)
  url.searchParams.set('returnTo', location.pathname + location.search + location.hash)
  location.assign(url)
}

/** Ends the session, then goes where the gateway says: to the provider, so that its session ends too. */
export const signOut = async (): Promise<Outcome<{ readonly redirectTo: string }>> => {
  const outcome = await call<{ readonly redirectTo: string }>('POST', '/bff/logout', {
    body: { returnTo: '/' },
  })
  if (outcome.kind === 'answer') location.assign(outcome.body.redirectTo)
  return outcome
}
