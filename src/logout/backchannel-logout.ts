/**
 * Back-channel logout (OIDC Back-Channel Logout 1.0): verify the logout token → was it used before → end what it
 * names → remember that it was used. No browser is there, so no refresh token can be read: with the record its key's
 * half goes, and nobody opens it any more.
 */

import { createHash } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { LogoutTokenFacts, Provider } from '../oidc/provider.ts'
import type { Roster } from '../session/roster.ts'
import { providerSessionIndex, subjectIndex } from '../session/session-index.ts'
import type { OneTimeStore } from '../session/session-store.ts'
import { type Clock, seconds } from '../time.ts'

/** Throws `logout_token_invalid`; where keys or the store cannot be had, what says that trying again may help. */
export type BackchannelLogout = (logoutToken: string, requestId: string) => Promise<void>

export interface BackchannelLogoutDependencies {
  readonly provider: Pick<Provider, 'verifyLogoutToken'>
  readonly roster: Roster
  readonly once: OneTimeStore
  readonly clock: Clock
  readonly emit: Emit
  readonly issuer: string
}

export const createBackchannelLogout = (
  dependencies: BackchannelLogoutDependencies,
): BackchannelLogout => {
  const { provider, roster, once, clock, emit, issuer } = dependencies

  const endNamed = ({ subject, providerSessionId }: LogoutTokenFacts): Promise<number> => {
    if (providerSessionId !== undefined)
      return roster.endIndex(
        providerSessionIndex(issuer, providerSessionId),
        'backchannel_logout',
        (metadata) => subject === undefined || metadata.subject === subject,
      )
    if (subject !== undefined)
      return roster.endIndex(subjectIndex(issuer, subject), 'backchannel_logout')
    throw new TypeError('a verified logout token names a subject or a session')
  }

  return async (logoutToken, requestId) => {
    const verified = await provider.verifyLogoutToken(logoutToken)
    if (verified.kind !== 'logout')
      throw new GatewayError(
        verified.kind === 'refused' ? 'logout_token_invalid' : 'provider_unavailable',
        { reason: verified.reason, cause: verified.cause },
      )
    const { tokenId, acceptableUntil } = verified
    const claim = claimName(issuer, tokenId)
    if (await once.isClaimed(claim))
      throw new GatewayError('logout_token_invalid', { reason: 'jti_replayed' })
    const ended = await endNamed(verified)
    // Only now: what failed half-way may be sent again. Of two at once both end what one of them would.
    await once.claim(claim, seconds(Math.max(1, (acceptableUntil - clock.now()) / 1000)))
    emit({ type: 'logout_received', requestId, channel: 'back', ended })
  }
}

/** Cannot meet the claim of a `state`, which is hashed alone. */
const claimName = (issuer: string, tokenId: string): string =>
  createHash('sha256')
    .update(JSON.stringify(['logout', issuer, tokenId]))
    .digest('base64url')
