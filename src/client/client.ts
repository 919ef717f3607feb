/** `coatcheck/client`: the session, the way in and out, and calls to the API, for the pages of an application. */

import { call, pause } from './calls.ts'
import { asProblem, CoatcheckError, misuse, unexpectedAnswer } from './problem.ts'
import { checkedReturnTo, here, leadingBack, type ReturnTo } from './return-to.ts'
import type { Loading, SessionState, User } from './session-state.ts'
import { createSharedSession, type Listener } from './shared-session.ts'

export type { ClientCode, Problem, ProblemCode } from './problem.ts'
export type { ReturnTo } from './return-to.ts'
export type {
  Loading,
  SessionState,
  SignedIn,
  SignedOut,
  Unavailable,
  User,
} from './session-state.ts'
export { CoatcheckError }

/** Addresses on this origin. `{returnTo}` in those of login and logout is where the place to return to goes. */
export interface Endpoints {
  readonly session: string
  readonly login: string
  /** Gets a POST, and answers with `redirectTo`; or says where to navigate, for gateways that want that instead. */
  readonly logout: string | ((user: User | null) => string)
  /** `false` where the gateway has no event stream: the session is asked for every 30 seconds. */
  readonly events: string | false
}

export interface ClientOptions {
  /** Where the gateway's endpoints are, as its setting `prefix` says. Default: `/bff`. */
  readonly prefix?: string
  /** Endpoints that are elsewhere, of another gateway for example. */
  readonly endpoints?: Partial<Endpoints>
  /**
   * What `fetch` does when there is no session any more. `navigate` (the default): signs in and comes back to this
   * place, where the page is visible and has not just done so. `throw`: nothing. A function is called.
   * In the end the call fails with the problem as its error.
   */
  readonly onSignedOut?: 'navigate' | 'throw' | ((error: CoatcheckError) => void)
}

/** All but `returnTo` are passed on to the provider (docs/endpoints.md). */
export interface LoginOptions {
  /** Default: where the page is now, with its query and fragment. */
  readonly returnTo?: ReturnTo
  readonly prompt?: string
  readonly login_hint?: string
  readonly acr_values?: string
  /** Seconds. */
  readonly max_age?: number
  readonly ui_locales?: string
}

export interface LogoutOptions {
  /** Default: `/`. */
  readonly returnTo?: ReturnTo
}

export interface Client {
  /** What is known now; it changes while there are subscribers, and whenever a call brings news. */
  readonly state: SessionState | Loading
  /** Asks the gateway now. Never rejects: what cannot be known is `unavailable`. */
  session(): Promise<SessionState>
  /** Told of every change from now on, whichever tab or server it comes from. The result ends it. */
  subscribe(listener: Listener): () => void
  /** Leaves the page to sign in. Throws `return_to_invalid`. */
  login(options?: LoginOptions): void
  /** Ends the session, then leaves the page, for the provider to end its own. Rejects where it could not be ended. */
  logout(options?: LogoutOptions): Promise<void>
  /**
   * `fetch`, where the gateway's refusals on this origin reject with a CoatcheckError. Those that may pass are tried
   * once more, after `Retry-After` if that is 10 seconds at most, unless the API could act twice.
   */
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>
  /** Lets go of everything, so that another client can be created: for hot reload and tests. */
  close(): void
}

const ANSWER_MS = 15_000
/** A page that is being left is gone before. */
const LEAVING_MS = 10_000
/** A sign-in that does not help would be started again and again. */
const SIGN_IN_AGAIN_MS = 15_000

/** One for a page. Throws `misuse` where there is no page, or a client already. */
export const createClient = ({
  prefix = '/bff',
  endpoints,
  onSignedOut = 'navigate',
}: ClientOptions = {}): Client => {
  if (typeof document === 'undefined')
    throw misuse('createClient() needs a page: not a server, not a worker')
  const at: Endpoints = {
    session: `${prefix}/session`,
    login: `${prefix}/login`,
    logout: `${prefix}/logout`,
    events: `${prefix}/events`,
    ...endpoints,
  }
  const name = `coatcheck:${at.session}`
  // Where every copy of this module finds it.
  const taken = document as unknown as Record<string, true>
  if (taken[name]) throw misuse('createClient() was called twice; create one client and import it')
  taken[name] = true
  const shared = createSharedSession(name, at.session, at.events)
  let leaving: Promise<void> | undefined

  const login = ({ returnTo = here() as ReturnTo, ...parameters }: LoginOptions = {}): void => {
    const url = leadingBack(at.login, checkedReturnTo(returnTo))
    for (const [parameter, value] of Object.entries(parameters))
      if (value !== undefined) url.searchParams.set(parameter, String(value))
    location.assign(url)
  }

  const logout = async ({ returnTo = '/' }: LogoutOptions = {}): Promise<void> => {
    checkedReturnTo(returnTo)
    if (typeof at.logout !== 'string')
      return location.assign(leadingBack(at.logout(shared.state.user), returnTo))
    const response = await call(
      new Request(at.logout, {
        method: 'POST',
        headers: { accept: 'application/json', 'content-type': 'application/json' },
        body: JSON.stringify({ returnTo }),
        signal: AbortSignal.timeout(ANSWER_MS),
      }),
      { isIdempotent: true },
    ).catch((thrown: unknown) => {
      throw asProblem(thrown)
    })
    if (!response.ok) throw unexpectedAnswer(response)
    const { redirectTo = returnTo } = await response.json().catch(() => ({}))
    shared.tell({ status: 'signed-out', user: null, reason: 'logout' })
    location.assign(redirectTo)
  }

  const fetchHere: Client['fetch'] = async (input, init) => {
    const request = new Request(input, init)
    if (new URL(request.url).origin !== location.origin) return fetch(request)
    try {
      const response = await call(request)
      // Other gateways say no more than this; of ours it is the API's own, and the session is as it was.
      if (response.status === 401 && shared.state.status === 'signed-in') shared.read('afresh')
      return response
    } catch (thrown) {
      if (
        thrown instanceof CoatcheckError &&
        /^session_(required|expired|ended)$/.test(thrown.code)
      )
        await signedOut(thrown)
      throw thrown
    }
  }

  const signedOut = async (error: CoatcheckError): Promise<void> => {
    shared.read('afresh')
    if (typeof onSignedOut === 'function') onSignedOut(error)
    else if (onSignedOut === 'navigate' && (leaving || maySignIn())) {
      leaving ??= leave()
      await leaving
    }
  }

  /** Every call that finds out waits with the first one, and none fails on a page that is going away. */
  const leave = async (): Promise<void> => {
    login()
    await pause(LEAVING_MS)
    leaving = undefined
  }

  /** Tabs that nobody looks at stay: they would all sign in at once. */
  const maySignIn = (): boolean => {
    if (document.hidden) return false
    try {
      const last = Number(sessionStorage.getItem(name))
      if (Date.now() - last < SIGN_IN_AGAIN_MS) return false
      sessionStorage.setItem(name, `${Date.now()}`)
      return true
    } catch {
      // A browser that keeps nothing for this page keeps no session cookie either.
      return false
    }
  }

  return {
    get state() {
      return shared.state
    },
    session: () => shared.read(),
    subscribe: shared.subscribe,
    login,
    logout,
    fetch: fetchHere,
    close: () => {
      shared.close()
      delete taken[name]
    },
  }
}
