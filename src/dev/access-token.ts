/** How the demo API judges a Bearer token: RFC 6750 for the header, RFC 9068 §4 for the JWT. */

import { createRemoteJWKSet, errors, type JWTPayload, jwtVerify } from 'jose'
import { tokenFingerprint } from './token-fingerprint.ts'

export interface VerifiedAccessToken {
  readonly claims: JWTPayload & { readonly sub: string; readonly exp: number }
  readonly scopes: ReadonlySet<string>
  readonly fingerprint: string
}

export type Verification =
  | { readonly kind: 'verified'; readonly accessToken: VerifiedAccessToken }
  | { readonly kind: 'absent' }
  /** `reason` may stand in a challenge: no quotes, nothing of the token. */
  | { readonly kind: 'invalid'; readonly reason: string }
  /** The issuer's keys could not be had, which says nothing about the token. */
  | { readonly kind: 'unavailable' }

export interface AccessTokenRules {
  readonly issuer: string
  readonly jwksUri: string
  readonly audience: string
}

// `typ` is at+jwt by RFC 9068, JWT or nothing at providers that do not follow it (Keycloak). What must never
// pass is another kind of token that says so, such as a logout token; an ID token fails by its audience.
const TYPES = new Set([undefined, 'at+jwt', 'application/at+jwt', 'jwt'])

export class AccessTokenVerifier {
  readonly #rules: AccessTokenRules
  readonly #keys: ReturnType<typeof createRemoteJWKSet>

  constructor(rules: AccessTokenRules) {
    this.#rules = rules
    this.#keys = createRemoteJWKSet(new URL(rules.jwksUri), { timeoutDuration: 5_000 })
  }

  async verify(authorization: string | undefined): Promise<Verification> {
    const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(authorization ?? '')?.[1]
    if (token === undefined) return { kind: 'absent' }
    try {
      const { payload, protectedHeader } = await jwtVerify(token, this.#keys, {
        issuer: this.#rules.issuer,
        audience: this.#rules.audience,
        algorithms: ['ES256', 'RS256', 'PS256'],
        requiredClaims: ['sub', 'exp'],
      })
      if (!TYPES.has(protectedHeader.typ?.toLowerCase())) {
        return { kind: 'invalid', reason: 'the token is no access token' }
      }
      return { kind: 'verified', accessToken: verified(token, payload) }
    } catch (cause) {
      return refusal(cause)
    }
  }
}

const verified = (token: string, payload: JWTPayload): VerifiedAccessToken => ({
  // `requiredClaims` has checked that both are there, jose that `exp` is a number.
  claims: payload as VerifiedAccessToken['claims'],
  scopes: new Set(typeof payload.scope === 'string' ? payload.scope.split(' ') : []),
  fingerprint: tokenFingerprint(token),
})

const refusal = (cause: unknown): Verification => {
  if (cause instanceof errors.JWTExpired) return { kind: 'invalid', reason: 'the token expired' }
  if (cause instanceof errors.JWTClaimValidationFailed) {
    return { kind: 'invalid', reason: `the claim ${cause.claim} is not acceptable` }
  }
  if (
    cause instanceof errors.JWSSignatureVerificationFailed ||
    cause instanceof errors.JWKSNoMatchingKey
  ) {
    return { kind: 'invalid', reason: 'the signature does not verify' }
  }
  if (
    cause instanceof errors.JWSInvalid ||
    cause instanceof errors.JWTInvalid ||
    cause instanceof errors.JOSEAlgNotAllowed ||
    cause instanceof errors.JOSENotSupported
  ) {
    return { kind: 'invalid', reason: 'the token is not a signed JWT that this API accepts' }
  }
  return { kind: 'unavailable' }
}
