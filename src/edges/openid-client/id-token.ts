/**
 * The ID token, verified in full (OIDC Core §3.1.3.7, §12.2; RFC 8725): the signature too, which the
 * specification lets a back channel skip, against the provider's own keys and nothing that the token brings along.
 */

import { createHash } from 'node:crypto'
import {
  decodeJwt,
  decodeProtectedHeader,
  errors,
  type JWTPayload,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose'
import type { Claims } from '../../session/session.ts'
import type { EpochMs } from '../../time.ts'
import type { RemoteCopy } from './remote-copy.ts'
import type { SigningKeys } from './signing-keys.ts'

/** How far two clocks may be apart when somebody signs in. */
export const SIGN_IN_CLOCK_TOLERANCE_SECONDS = 30
/** At a refresh the identity is what counts: a clock that drifts must not sign everybody out. */
export const REFRESH_CLOCK_TOLERANCE_SECONDS = 600
/** An ID token is made for the answer that brings it; one so old was made for another. */
const ISSUED_WITHIN_SECONDS = 600
/** NumericDates end here (the year 5138): later ones are milliseconds, or nonsense that would overflow. */
const NUMERIC_DATE_MAX = 100_000_000_000
/** OIDC Core §2. */
const SUBJECT_MAX_CHARACTERS = 255

export interface IdTokenRules {
  readonly issuer: string
  readonly clientId: string
  /** Allow-list; none and HS* fail even if it names them, since a key set holds no secret. */
  readonly algorithms: readonly string[]
  /** For `at_hash`. */
  readonly accessToken: string
  readonly nonce:
    | { readonly kind: 'required'; readonly value: string }
    /** For refresh (§12.2): absent or as it was, if that is known. */
    | { readonly kind: 'unchanged'; readonly value: unknown }
  readonly maxAgeSeconds: number | undefined
  readonly clockToleranceSeconds: number
  /** Audiences beside this client that an ID token may name. */
  readonly trustedAudiences: readonly string[]
  readonly now: EpochMs
}

/** The ID token is not acceptable. */
export class IdTokenRefused extends Error {
  /** A stable word such as `nonce_mismatch`. */
  readonly reason: string

  constructor(reason: string) {
    super(`ID token refused: ${reason}`)
    this.name = 'IdTokenRefused'
    this.reason = reason
  }
}

/** Its `kid` is unknown, and the key set was fetched too recently to be fetched again for that. */
export class SigningKeyUnknown extends IdTokenRefused {
  constructor() {
    super('signing_key_unknown')
    this.name = 'SigningKeyUnknown'
  }
}

/** Throws IdTokenRefused, or what `keys` throws when no keys can be had. */
export const verifyIdToken = async (
  idToken: string,
  keys: RemoteCopy<SigningKeys>,
  rules: IdTokenRules,
  deadline: AbortSignal,
): Promise<Claims & { readonly sub: string }> => {
  const { payload, protectedHeader } = await verifySignature(idToken, keys, rules, deadline)
  // `typ` keeps access tokens (at+jwt) and logout tokens (logout+jwt) of the same issuer out (RFC 8725 §3.11).
  if (!/^(application\/)?jwt$/i.test(protectedHeader.typ ?? 'JWT')) refuse('typ_mismatch')

  const subject = payload.sub
  if (typeof subject !== 'string' || subject === '') refuse('sub_missing')
  if (subject.length > SUBJECT_MAX_CHARACTERS) refuse('sub_too_long')

  // jose found the client in `aud`; whoever else is in there must be known to be harmless.
  const trusted = [rules.clientId, ...rules.trustedAudiences]
  if ([payload.aud].flat().some((audience) => !trusted.includes(String(audience))))
    refuse('aud_untrusted')
  if (payload.azp !== undefined && payload.azp !== rules.clientId) refuse('azp_mismatch')

  checkTimes(payload, rules)

  const { nonce } = payload
  const unknown = nonce === undefined || rules.nonce.value === undefined
  if (nonce !== rules.nonce.value && !(rules.nonce.kind === 'unchanged' && unknown)) {
    refuse('nonce_mismatch')
  }
  if (
    payload.at_hash !== undefined &&
    payload.at_hash !== accessTokenHash(rules.accessToken, protectedHeader.alg)
  ) {
    refuse('at_hash_mismatch')
  }
  return { ...payload, sub: subject }
}

/** The nonce of an ID token that was verified when it came and has been sealed since. */
export const nonceOfVerified = (idToken: string | undefined): unknown =>
  idToken === undefined ? undefined : decodeJwt(idToken).nonce

const verifySignature = async (
  idToken: string,
  keys: RemoteCopy<SigningKeys>,
  rules: IdTokenRules,
  deadline: AbortSignal,
): Promise<JWTVerifyResult> => {
  const options = {
    issuer: rules.issuer,
    audience: rules.clientId,
    algorithms: [...rules.algorithms],
    requiredClaims: ['exp', 'iat'],
    currentDate: new Date(rules.now),
    clockTolerance: rules.clockToleranceSeconds,
  }
  try {
    return await jwtVerify(idToken, await keys.get(deadline), options)
  } catch (thrown) {
    if (!mayBeANewKey(thrown, idToken)) throw refusalOf(thrown)
  }
  const renewed = await keys.refetch(deadline)
  if (renewed === undefined) throw new SigningKeyUnknown()
  return jwtVerify(idToken, renewed, options).catch((thrown) => {
    throw refusalOf(thrown)
  })
}

/** A `kid` that the set lacks; or none at all, and the key that there was does not fit any more. */
const mayBeANewKey = (thrown: unknown, idToken: string): boolean =>
  thrown instanceof errors.JWKSNoMatchingKey ||
  (thrown instanceof errors.JWSSignatureVerificationFailed &&
    decodeProtectedHeader(idToken).kid === undefined)

/** What jose says in its error classes, in our words; anything else is no refusal and stays what it is. */
const refusalOf = (thrown: unknown): unknown => {
  if (thrown instanceof errors.JWTExpired) return new IdTokenRefused('exp_past')
  if (thrown instanceof errors.JWTClaimValidationFailed) {
    const what = { missing: 'missing', invalid: 'malformed', check_failed: 'mismatch' }
    return new IdTokenRefused(
      `${thrown.claim}_${what[thrown.reason as keyof typeof what] ?? 'mismatch'}`,
    )
  }
  if (thrown instanceof errors.JOSEAlgNotAllowed) return new IdTokenRefused('alg_not_allowed')
  if (thrown instanceof errors.JWSSignatureVerificationFailed) {
    return new IdTokenRefused('signature_invalid')
  }
  if (thrown instanceof errors.JWKSNoMatchingKey) return new IdTokenRefused('signing_key_unknown')
  // Keys that are private, too short or ambiguous come as other errors of jose, as a TypeError, or from WebCrypto.
  if (
    thrown instanceof errors.JOSEError ||
    thrown instanceof TypeError ||
    (thrown instanceof DOMException && thrown.name !== 'TimeoutError')
  ) {
    return new IdTokenRefused('id_token_malformed')
  }
  return thrown
}

const checkTimes = (payload: JWTPayload, rules: IdTokenRules): void => {
  for (const claim of ['exp', 'iat', 'nbf', 'auth_time'] as const) {
    const value: unknown = payload[claim]
    if (value === undefined) continue
    if (typeof value !== 'number' || !(value > 0 && value < NUMERIC_DATE_MAX)) {
      refuse(`${claim}_malformed`)
    }
  }
  const nowSeconds = rules.now / 1000
  const issuedAt = Number(payload.iat)
  if (issuedAt > nowSeconds + rules.clockToleranceSeconds) refuse('iat_future')
  if (issuedAt < nowSeconds - ISSUED_WITHIN_SECONDS - rules.clockToleranceSeconds)
    refuse('iat_past')

  const authTime = payload.auth_time as number | undefined
  if (authTime !== undefined && authTime > nowSeconds + rules.clockToleranceSeconds) {
    refuse('auth_time_future')
  }
  if (rules.maxAgeSeconds === undefined) return
  if (authTime === undefined) refuse('auth_time_missing')
  if (authTime + rules.maxAgeSeconds < nowSeconds - rules.clockToleranceSeconds) {
    refuse('auth_time_past')
  }
}

const AT_HASH_DIGESTS: Readonly<Record<string, string>> = {
  '256': 'sha256',
  '384': 'sha384',
  '512': 'sha512',
}

/** Left half of the access token's digest (OIDC Core §3.1.3.6); Ed25519 counts as SHA-512. */
const accessTokenHash = (accessToken: string, algorithm: string): string => {
  const digest = AT_HASH_DIGESTS[algorithm.slice(2)] ?? 'sha512'
  const whole = createHash(digest).update(accessToken, 'ascii').digest()
  return whole.subarray(0, whole.length / 2).toString('base64url')
}

function refuse(reason: string): never {
  throw new IdTokenRefused(reason)
}
