/** Port: the OpenID Provider as the gateway needs it. Adapter: edges/openid-client. OAuth error strings stop there. */

import type { Claims, TokenSet } from '../session/session.ts'
import type { EpochMs, Seconds } from '../time.ts'

/** What discovery said, reduced to what rooms decide by. */
export interface ProviderFacts {
  readonly issuer: string
  readonly scopesSupported: readonly string[] | undefined
  readonly codeChallengeMethodsSupported: readonly string[] | undefined
  /** RFC 9207: a missing `iss` in an authorization response must then be refused. */
  readonly issParameterSupported: boolean
  readonly pushedAuthorizationRequests: 'required' | 'supported' | 'unsupported'
  readonly endSession: boolean
  readonly revocation: boolean
  readonly userInfo: boolean
}

export interface AuthorizationRequest {
  readonly redirectUri: string
  readonly scope: string
  readonly state: string
  readonly nonce: string
  readonly codeVerifier: string
  readonly responseMode: 'query' | 'form_post'
  /** `resource`, `audience`, configured extras and the caller's allow-listed parameters, already merged. */
  readonly parameters: Readonly<Record<string, string>>
}

declare const validated: unique symbol
/** Only `login/authorization-response.ts` makes one: `state` and `iss` were checked against the transaction. */
export interface ValidatedAuthorizationResponse {
  readonly code: string
  readonly state: string
  readonly iss: string | undefined
  readonly [validated]: true
}

export interface CodeExchange {
  readonly response: ValidatedAuthorizationResponse
  readonly redirectUri: string
  readonly codeVerifier: string
  readonly nonce: string
  /** Seconds, when `max_age` was asked for: `auth_time` is then required and checked (OIDC Core §3.1.3.7). */
  readonly maxAgeSeconds: number | undefined
  /** Scope that was asked for: granted scope where the answer names none. */
  readonly scope: string
}

/** A verified sign-in: ID token signature, iss, aud, exp, iat, nonce, at_hash, auth_time all checked. */
export interface SignIn {
  readonly tokens: TokenSet
  readonly subject: string
  /** All claims of the verified ID token. */
  readonly idTokenClaims: Claims
}

export type ExchangeAnswer =
  | { readonly kind: 'signed_in'; readonly signIn: SignIn }
  /** The answer or its ID token is not acceptable; `reason` is a stable private word such as `nonce_mismatch`. */
  | { readonly kind: 'refused'; readonly reason: string; readonly cause: unknown }
  /** Network, timeout, 5xx, 429, or our own configuration: nothing says that the user did anything wrong. */
  | { readonly kind: 'unavailable'; readonly reason: string; readonly cause: unknown }

export interface RefreshRequest {
  readonly issuer: string
  readonly subject: string
  readonly tokens: TokenSet & { readonly refreshToken: string }
  /** `auth_time` of the original ID token, which a refreshed one must keep (OIDC Core §12.2). */
  readonly authTime: number | undefined
}

export type RefreshAnswer =
  | {
      readonly kind: 'tokens'
      /** Old refresh token and ID token kept where the answer has none. */
      readonly tokens: TokenSet
      /** All claims of the verified new ID token, if the answer had one. */
      readonly idTokenClaims: Claims | undefined
    }
  /** `invalid_grant`: this refresh token is good for nothing any more. */
  | { readonly kind: 'rejected'; readonly cause: unknown }
  /** The new ID token is another user's, another issuer's or does not verify: tokens discarded. */
  | { readonly kind: 'identity_changed'; readonly reason: string; readonly cause: unknown }
  /** `invalid_client` and other faults of configuration: keep the session, call the operator. */
  | { readonly kind: 'misconfigured'; readonly reason: string; readonly cause: unknown }
  | {
      readonly kind: 'unavailable'
      /** `timeout`, `network`, `status_500`, `status_429` …: private. */
      readonly reason: string
      readonly retryAfter: Seconds | undefined
      /** Whether the provider may have consumed the refresh token all the same. */
      readonly spent: 'no' | 'unknown'
      readonly cause: unknown
    }

export type UserInfoAnswer =
  | { readonly kind: 'claims'; readonly claims: Claims }
  /** Refused, unavailable, or of another subject (discarded, OIDC Core §5.3.2). */
  | { readonly kind: 'unusable'; readonly reason: string; readonly cause: unknown }

/** At least one of subject and session id is there. */
export interface LogoutTokenFacts {
  readonly subject: string | undefined
  /** `sid`. */
  readonly providerSessionId: string | undefined
  /** `jti`: good once until `acceptableUntil`, after which the token is too old anyway. */
  readonly tokenId: string
  readonly acceptableUntil: EpochMs
}

export type LogoutTokenAnswer =
  | ({ readonly kind: 'logout' } & LogoutTokenFacts)
  /** `reason` is a stable private word such as `nonce_present`. */
  | { readonly kind: 'refused'; readonly reason: string; readonly cause: unknown }
  /** No keys to verify it with. */
  | { readonly kind: 'unavailable'; readonly reason: string; readonly cause: unknown }

export interface EndSessionRequest {
  readonly idTokenHint: string | undefined
  readonly postLogoutRedirectUri: string
  readonly state: string
}

/**
 * Discovery is lazy, retried with backoff and never blocks a start: methods marked (D) throw
 * `provider_unavailable` when no metadata could be had within the timeout. Everything has a time limit.
 */
export interface Provider {
  /** (D) */
  facts(): Promise<ProviderFacts>
  /** Metadata if it is there already; never goes to the network. */
  knownFacts(): ProviderFacts | undefined
  /** What the last look at its metadata says: `unknown` before the first. */
  health(): 'ok' | 'unavailable' | 'unknown'
  /** (D) With S256 always; pushed (RFC 9126) where the provider supports or requires it, without fallback. */
  authorizationUrl(request: AuthorizationRequest): Promise<URL>
  /** (D) */
  exchangeCode(exchange: CodeExchange): Promise<ExchangeAnswer>
  /** Never throws: what goes wrong is an answer. */
  refresh(request: RefreshRequest): Promise<RefreshAnswer>
  /** RFC 7009. Never throws. */
  revoke(refreshToken: string): Promise<'revoked' | 'failed' | 'unsupported'>
  /** Never throws. */
  userInfo(accessToken: string, subject: string): Promise<UserInfoAnswer>
  /** (D) OIDC RP-Initiated Logout 1.0; undefined where the provider has no end-session endpoint. */
  endSessionUrl(request: EndSessionRequest): Promise<URL | undefined>
  /** OIDC Back-Channel Logout 1.0 §2.6, all of it but the memory of `jti`. Never throws. */
  verifyLogoutToken(logoutToken: string): Promise<LogoutTokenAnswer>
  /** Ends background work and connections. */
  close(): Promise<void>
}
