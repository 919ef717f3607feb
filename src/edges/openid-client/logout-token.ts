/** The logout token, verified in full (OIDC Back-Channel Logout 1.0 §2.6): a JWT that can pass for no other. */

import type { JWTPayload } from 'jose'
import type { LogoutTokenFacts } from '../../oidc/provider.ts'
import { epochMs } from '../../time.ts'
import type { RemoteCopy } from './remote-copy.ts'
import {
  checkAudience,
  checkInstants,
  checkIssuedAt,
  ISSUED_WITHIN_SECONDS,
  refuse,
  type SignatureRules,
  verifiedSubject,
  verifySignature,
} from './signed-token.ts'
import type { SigningKeys } from './signing-keys.ts'

/** How far two clocks may be apart. */
export const LOGOUT_CLOCK_TOLERANCE_SECONDS = 30
const LOGOUT_EVENT = 'http://schemas.openid.net/event/backchannel-logout'
const IDENTIFIER_MAX_CHARACTERS = 1024

export interface LogoutTokenRules extends SignatureRules {
  /** `compatible`: as providers made them before the specification was final, without `typ` or `exp`. */
  readonly form: 'strict' | 'compatible'
}

/** Throws TokenRefused, or what `keys` throws when no keys can be had. */
export const verifyLogoutToken = async (
  logoutToken: string,
  keys: RemoteCopy<SigningKeys>,
  rules: LogoutTokenRules,
  deadline: AbortSignal,
): Promise<LogoutTokenFacts> => {
  const { payload, protectedHeader } = await verifySignature(
    {
      name: 'logout_token',
      token: logoutToken,
      requiredClaims: rules.form === 'strict' ? ['exp', 'iat', 'jti'] : ['iat', 'jti'],
    },
    keys,
    rules,
    deadline,
  )
  checkType(protectedHeader.typ, rules)
  checkAudience(payload, rules)
  checkInstants(payload, ['exp', 'iat', 'nbf'])
  checkIssuedAt(payload, rules)
  checkEvents(payload.events)
  // §2.4: what an ID token has and a logout token must not, so that neither is ever taken for the other.
  if ('nonce' in payload) refuse('nonce_present')

  const subject = payload.sub === undefined ? undefined : verifiedSubject(payload)
  const providerSessionId = payload.sid === undefined ? undefined : identifier(payload, 'sid')
  if (subject === undefined && providerSessionId === undefined) refuse('sub_and_sid_missing')
  return {
    subject,
    providerSessionId,
    tokenId: identifier(payload, 'jti'),
    acceptableUntil: acceptableUntil(payload),
  }
}

/** Explicit typing (RFC 8725 §3.11) keeps every other JWT of the issuer out. */
const checkType = (typ: string | undefined, { form }: LogoutTokenRules): void => {
  const isLogoutToken = /^(application\/)?logout\+jwt$/i.test(typ ?? '')
  const isUntyped = typ === undefined || /^(application\/)?jwt$/i.test(typ)
  if (!isLogoutToken && !(form === 'compatible' && isUntyped)) refuse('typ_mismatch')
}

const checkEvents = (events: unknown): void => {
  if (!isObject(events)) refuse('events_malformed')
  if (!Object.hasOwn(events, LOGOUT_EVENT)) refuse('event_missing')
  if (!isObject(events[LOGOUT_EVENT])) refuse('event_malformed')
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const identifier = (payload: JWTPayload, claim: 'sid' | 'jti'): string => {
  const value = payload[claim]
  if (typeof value !== 'string' || value === '' || value.length > IDENTIFIER_MAX_CHARACTERS)
    refuse(`${claim}_malformed`)
  return value
}

/** `exp` may name any year; the age that is accepted ends the token's use sooner, so its `jti` is kept no longer. */
const acceptableUntil = ({ iat, exp }: JWTPayload) => {
  const oldEnough = Number(iat) + ISSUED_WITHIN_SECONDS
  const lastSecond = Math.min(oldEnough, exp ?? oldEnough) + LOGOUT_CLOCK_TOLERANCE_SECONDS
  return epochMs(Math.ceil(lastSecond) * 1000)
}
