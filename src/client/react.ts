/** `coatcheck/react`: the session as a React application sees it. */

import {
  createContext,
  createElement,
  Fragment,
  type ReactElement,
  type ReactNode,
  useContext,
  useMemo,
  useSyncExternalStore,
} from 'react'
import { type Client, createClient } from './client.ts'
import { misuse } from './problem.ts'
import { LOADING, type Loading, type SessionState, type User } from './session-state.ts'

/** What is known of the session, and what can be done about it. `status` tells the forms apart. */
export type Session = (SessionState | Loading) & Pick<Client, 'login' | 'logout' | 'fetch'>

export interface SessionProviderProps {
  /** What `createClient` gave. Default: one with the default options, made when it is first needed. */
  readonly client?: Client | undefined
  readonly children?: ReactNode
}

const ClientOfPage = createContext<Client | undefined>(undefined)

/** Goes around everything that asks for the session, once. */
export const SessionProvider = ({ client, children }: SessionProviderProps): ReactElement =>
  createElement(ClientOfPage.Provider, { value: client ?? defaultClient() }, children)

/** The session now; the component is rendered again whenever that changes. Throws `misuse` outside a SessionProvider. */
export const useSession = (): Session => {
  const client = useContext(ClientOfPage)
  if (client === undefined) throw misuse('useSession() needs a <SessionProvider> around it')
  const state = useSyncExternalStore(client.subscribe, () => client.state, stateOnServer)
  return useMemo(() => {
    const { login, logout, fetch } = client
    return { ...state, login, logout, fetch }
  }, [client, state])
}

export interface SignedInProps {
  /** Or a function of the user. */
  readonly children?: ReactNode | ((user: User) => ReactNode)
}

/** Shown while somebody is signed in, also while the gateway cannot be asked whether that is still so. */
export const SignedIn = ({ children }: SignedInProps): ReactElement | null => {
  const { user } = useSession()
  if (user === null) return null
  return createElement(Fragment, null, typeof children === 'function' ? children(user) : children)
}

/** Shown once it is known that nobody is signed in: not while the first answer is under way, nor while none comes. */
export const SignedOut = ({ children }: { readonly children?: ReactNode }): ReactElement | null =>
  useSession().status === 'signed-out' ? createElement(Fragment, null, children) : null

let ofPage: Client | undefined

/** The one of the page, however often StrictMode renders. A server renders what is shown while nothing is known. */
const defaultClient = (): Client => {
  if (typeof document === 'undefined') return ON_SERVER
  ofPage ??= createClient()
  return ofPage
}

const stateOnServer = (): Loading => LOADING

const onServer = (): never => {
  throw misuse('this needs a page; on a server there is no session of the user to act on')
}
const ON_SERVER: Client = {
  state: LOADING,
  subscribe: () => () => {},
  session: onServer,
  login: onServer,
  logout: onServer,
  fetch: onServer,
  close: () => {},
}
