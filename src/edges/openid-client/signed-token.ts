/**
 * What ID tokens and logout tokens have in common (RFC 7519, RFC 8725): a signature by the provider's own keys and
 * nothing that the token brings along, its issuer, its audience, its times.
 */

import {
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose'
import type { EpochMs } from '../../time.ts'
import type { RemoteCopy } from './remote-copy.ts'
import type { SigningKeys } from './signing-keys.ts'

/** A token is made for the message that brings it; one so old was made for another. */
export const ISSUED_WITHIN_SECONDS = 600
/** NumericDates end here (the year 5138): later ones are milliseconds, or nonsense that would overflow. */
const NUMERIC_DATE_MAX = 100_000_000_000
/** OIDC Core §2. */
const SUBJECT_MAX_CHARACTERS = 255

export interface SignatureRules {
  readonly issuer: string
  readonly clientId: string
  /** Allow-list; none and HS* fail even if it names them, since a key set holds no secret. */
  readonly algorithms: readonly string[]
  /** Audiences beside this client that a token may name. */
  readonly trustedAudiences: readonly string[]
  readonly clockToleranceSeconds: number
  readonly now: EpochMs
}

export interface SignedToken {
  /** First half of the reason where it is not even a JWT. */
  readonly name: 'id_token' | 'logout_token'
  readonly token: string
  readonly requiredClaims: readonly string[]
}

/** The token is not acceptable. */
export class TokenRefused extends Error {
  /** A stable word such as `nonce_mismatch`. */
  readonly reason: string

  constructor(reason: string) {
    super(`token refused: ${reason}`)
    this.name = 'TokenRefused'
    this.reason = reason
  }
}

/** Its `kid` is unknown, and the key set was fetched too recently to be fetched again for that. */
export class SigningKeyUnknown extends TokenRefused {
  constructor() {
    super('signing_key_unknown')
    this.name = 'SigningKeyUnknown'
  }
}

export function refuse(reason: string): never {
  throw new TokenRefused(reason)
}

/** Signature, issuer, audience and expiry. Throws TokenRefused, or what `keys` throws when no keys can be had. */
export const verifySignature = async (
  signed: SignedToken,
  keys: RemoteCopy<SigningKeys>,
  rules: SignatureRules,
  deadline: AbortSignal,
): Promise<JWTVerifyResult> => {
  const { token } = signed
  const options = {
    issuer: rules.issuer,
    audience: rules.clientId,
    algorithms: [...rules.algorithms],
    requiredClaims: [...signed.requiredClaims],
    currentDate: new Date(rules.now),
    clockTolerance: rules.clockToleranceSeconds,
  }
  try {
    return await jwtVerify(token, await keys.get(deadline), options)
  } catch (thrown) {
    if (!mayBeANewKey(thrown, token)) throw refusalOf(thrown, signed)
  }
  const renewed = await keys.refetch(deadline)
  if (renewed === undefined) throw new SigningKeyUnknown()
  return jwtVerify(token, renewed, options).catch((thrown) => {
    throw refusalOf(thrown, signed)
  })
}

/** A `kid` that the set lacks; or none at all, and the key that there was does not fit any more. */
const mayBeANewKey = (thrown: unknown, token: string): boolean =>
  thrown instanceof errors.JWKSNoMatchingKey ||
  (thrown instanceof errors.JWSSignatureVerificationFailed &&
    decodeProtectedHeader(token).kid === undefined)

/** What jose says in its error classes, in our words; anything else is no refusal and stays what it is. */
const refusalOf = (thrown: unknown, { name }: SignedToken): unknown => {
  if (thrown instanceof errors.JWTExpired) return new TokenRefused('exp_past')
  if (thrown instanceof errors.JWTClaimValidationFailed) {
    const what = { missing: 'missing', invalid: 'malformed', check_failed: 'mismatch' }
    return new TokenRefused(
      `${thrown.claim}_${what[thrown.reason as keyof typeof what] ?? 'mismatch'}`,
    )
  }
  if (thrown instanceof errors.JOSEAlgNotAllowed) return new TokenRefused('alg_not_allowed')
  if (thrown instanceof errors.JWSSignatureVerificationFailed) {
    return new TokenRefused('signature_invalid')
  }
  if (thrown instanceof errors.JWKSNoMatchingKey) return new TokenRefused('signing_key_unknown')
  // Keys that are private, too short or ambiguous come as other errors of jose, as a TypeError, or from WebCrypto.
  if (
    thrown instanceof errors.JOSEError ||
    thrown instanceof TypeError ||
    (thrown instanceof DOMException && thrown.name !== 'TimeoutError')
  ) {
    return new TokenRefused(`${name}_malformed`)
  }
  return thrown
}

export const verifiedSubject = ({ sub }: JWTPayload): string => {
  if (typeof sub !== 'string' || sub === '') refuse('sub_missing')
  if (sub.length > SUBJECT_MAX_CHARACTERS) refuse('sub_too_long')
  return sub
}

/** jose found the client in `aud`; whoever else is in there must be known to be harmless. */
export const checkAudience = (payload: JWTPayload, rules: SignatureRules): void => {
  const trusted = [rules.clientId, ...rules.trustedAudiences]
  if ([payload.aud].flat().some((audience) => !trusted.includes(String(audience))))
    refuse('aud_untrusted')
}

/** Those that are there are NumericDates. */
export const checkInstants = (payload: JWTPayload, claims: readonly string[]): void => {
  for (const claim of claims) {
    const value: unknown = payload[claim]
    if (value === undefined) continue
    if (typeof value !== 'number' || !(value > 0 && value < NUMERIC_DATE_MAX)) {
      refuse(`${claim}_malformed`)
    }
  }
}

export const checkIssuedAt = (payload: JWTPayload, rules: SignatureRules): void => {
  const nowSeconds = rules.now / 1000
  const issuedAt = Number(payload.iat)
  if (issuedAt > nowSeconds + rules.clockToleranceSeconds) refuse('iat_future')
  if (issuedAt < nowSeconds - ISSUED_WITHIN_SECONDS - rules.clockToleranceSeconds)
    refuse('iat_past')
}
