/**
 * The ID token, verified in full (OIDC Core §3.1.3.7, §12.2; RFC 8725): the signature too, which the
 * specification lets a back channel skip, against the provider's own keys and nothing that the token brings along.
 */

import { createHash } from 'node:crypto'
import { decodeJwt, type JWTPayload } from 'jose'
import type { Claims } from '../../session/session.ts'
import type { RemoteCopy } from './remote-copy.ts'
import {
  checkAudience,
  checkInstants,
  checkIssuedAt,
  refuse,
  type SignatureRules,
  verifiedSubject,
  verifySignature,
} from './signed-token.ts'
import type { SigningKeys } from './signing-keys.ts'

/** How far two clocks may be apart when somebody signs in. */
export const SIGN_IN_CLOCK_TOLERANCE_SECONDS = 30
/** At a refresh the identity is what counts: a clock that drifts must not sign everybody out. */
export const REFRESH_CLOCK_TOLERANCE_SECONDS = 600

export interface IdTokenRules extends SignatureRules {
  /** For `at_hash`. */
  readonly accessToken: string
  readonly nonce:
    | { readonly kind: 'required'; readonly value: string }
    /** For refresh (§12.2): absent or as it was, if that is known. */
    | { readonly kind: 'unchanged'; readonly value: unknown }
  readonly maxAgeSeconds: number | undefined
}

/** Throws TokenRefused, or what `keys` throws when no keys can be had. */
export const verifyIdToken = async (
  idToken: string,
  keys: RemoteCopy<SigningKeys>,
  rules: IdTokenRules,
  deadline: AbortSignal,
): Promise<Claims & { readonly sub: string }> => {
  const { payload, protectedHeader } = await verifySignature(
    { name: 'id_token', token: idToken, requiredClaims: ['exp', 'iat'] },
    keys,
    rules,
    deadline,
  )
  // `typ` keeps access tokens (at+jwt) and logout tokens (logout+jwt) of the same issuer out (RFC 8725 §3.11).
  if (!/^(application\/)?jwt$/i.test(protectedHeader.typ ?? 'JWT')) refuse('typ_mismatch')

  const subject = verifiedSubject(payload)
  checkAudience(payload, rules)
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

const checkTimes = (payload: JWTPayload, rules: IdTokenRules): void => {
  checkInstants(payload, ['exp', 'iat', 'nbf', 'auth_time'])
  checkIssuedAt(payload, rules)

  const nowSeconds = rules.now / 1000
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
