/**
 * Front-channel logout (OIDC Front-Channel Logout 1.0): the provider's page loads this in a frame. Nobody vouches for
 * who asks, so it ends sessions here alone, revokes nothing at the provider and writes nothing but the end itself.
 */

import type { Emit } from '../events.ts'
import type { SessionReading } from '../guard/by-session.ts'
import type { Roster } from '../session/roster.ts'
import { providerSessionIndex } from '../session/session-index.ts'
import type { Vault } from '../session/vault.ts'

export interface FrontchannelLogoutRequest {
  readonly iss: string | undefined
  readonly sid: string | undefined
  /** The session of the cookie, which most frames do not carry (`Strict`, third-party cookie rules). */
  readonly current: () => Promise<SessionReading>
  readonly requestId: string
}

/** How many sessions ended. */
export type FrontchannelLogout = (request: FrontchannelLogoutRequest) => Promise<number>

export const createFrontchannelLogout = (dependencies: {
  readonly vault: Vault
  readonly roster: Roster
  readonly emit: Emit
  readonly issuer: string
}): FrontchannelLogout => {
  const { vault, roster, emit, issuer } = dependencies

  /** Only the provider and its user know a `sid`. */
  const endNamed = (iss: string, sid: string): Promise<number> | number =>
    iss === issuer ? roster.endListed(providerSessionIndex(issuer, sid), 'frontchannel_logout') : 0

  /** A provider that gave the session a `sid` names it here too; who does not is not that provider. */
  const endCurrent = async (current: FrontchannelLogoutRequest['current']): Promise<number> => {
    const reading = await current()
    if (reading.kind !== 'live' || reading.open.session.providerSessionId !== undefined) return 0
    return (await vault.end(reading.open, 'frontchannel_logout')) ? 1 : 0
  }

  return async ({ iss, sid, current, requestId }) => {
    // Both or neither (§2).
    if ((iss === undefined) !== (sid === undefined)) return 0
    const ended =
      iss !== undefined && sid !== undefined ? await endNamed(iss, sid) : await endCurrent(current)
    if (ended > 0) emit({ type: 'logout_received', requestId, channel: 'front', ended })
    return ended
  }
}
