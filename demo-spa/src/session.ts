/** The one client of this page: who is signed in, the way in and out, and `fetch`. There is no token code anywhere. */

import { createClient } from 'coatcheck/client'

export { CoatcheckError, type SessionState, type SignedIn, type User } from 'coatcheck/client'

// #region client
/** This page shows what happened: it asks before it leaves for a sign-in. */
export const coatcheck = createClient({ onSignedOut: 'throw' })

/** Leaves for the provider, and comes back to this very place. */
export const signIn = () => coatcheck.login()

/** Ends the session here and at the provider. */
export const signOut = () => coatcheck.logout()
// #endregion
