/** Revoking a refresh token behind everybody's back: nobody waits for the provider, and one event tells what came of it. */

import type { Emit } from '../events.ts'
import type { Provider } from './provider.ts'

/** Does nothing without a token. `session` is the label that the event carries. */
export type Revoke = (refreshToken: string | undefined, session: string) => void

export const createRevoke =
  (provider: Pick<Provider, 'revoke'>, emit: Emit): Revoke =>
  (refreshToken, session) => {
    if (refreshToken === undefined) return
    void provider
      .revoke(refreshToken)
      .then((outcome) => emit({ type: 'token_revocation', session, outcome }))
  }
