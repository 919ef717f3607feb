/** The OpenID Provider behind its port: openid-client makes the requests, every answer is judged here. */

import * as client from 'openid-client'
import { GatewayError } from '../../errors.ts'
import type {
  AuthorizationRequest,
  CodeExchange,
  EndSessionRequest,
  ExchangeAnswer,
  LogoutTokenAnswer,
  Provider,
  ProviderFacts,
  RefreshAnswer,
  RefreshRequest,
  UserInfoAnswer,
} from '../../oidc/provider.ts'
import type { Claims } from '../../session/session.ts'
import type { Clock, Seconds } from '../../time.ts'
import { milliseconds, seconds, toMs } from '../../time.ts'
import { type ClientAuthenticationMethod, clientAuthentication } from './client-authentication.ts'
import { type Fault, faultOf } from './faults.ts'
import {
  type IdTokenRules,
  nonceOfVerified,
  REFRESH_CLOCK_TOLERANCE_SECONDS,
  SIGN_IN_CLOCK_TOLERANCE_SECONDS,
  verifyIdToken,
} from './id-token.ts'
import { LOGOUT_CLOCK_TOLERANCE_SECONDS, verifyLogoutToken } from './logout-token.ts'
import { discover, isLoopback, type Metadata } from './metadata.ts'
import { RemoteCopy } from './remote-copy.ts'
import { type SignatureRules, SigningKeyUnknown, TokenRefused } from './signed-token.ts'
import { fetchSigningKeys, type SigningKeys } from './signing-keys.ts'
import {
  parseTokenAnswer,
  type TokenAnswer,
  type TokenAnswerContext,
  TokenAnswerRefused,
  withoutChallenge,
  withoutOptionalMembers,
} from './token-answer.ts'
import { createWire, type Wire } from './wire.ts'

export interface OpenIdProviderOptions {
  readonly issuer: string
  readonly clientId: string
  /** Read at every call: the secret may be replaced while the gateway runs. */
  readonly clientSecret: { readonly current: string }
  readonly clientAuthentication: ClientAuthenticationMethod
  /** For each request but those for tokens, and for waiting for metadata or keys. */
  readonly timeout: Seconds
  /** For a code exchange or a refresh from its call to its answer, whatever that takes. */
  readonly tokenTimeout: Seconds
  readonly connectTo?: { readonly host: string; readonly port: number }
  /** RFC 8707: sent with the authorization request, the code exchange and every refresh. */
  readonly resource?: string
  readonly idTokenAlgorithms: readonly string[]
  /** Audiences beside this client that ID tokens may name (OIDC Core §3.1.3.7). */
  readonly trustedAudiences?: readonly string[]
  /** `compatible` also takes logout tokens without `typ` or `exp`. */
  readonly logoutTokens?: 'strict' | 'compatible'
  readonly clock: Clock
  /** Something for the operator; each notice is given once. */
  readonly notice: (notice: string, detail: string) => void
}

/** Makes no request before the first call. */
export const createOpenIdProvider = (options: OpenIdProviderOptions): Provider =>
  new OpenIdProvider(options)

const METADATA_FRESH_MS = milliseconds(60 * 60 * 1000)
/** A key that the provider has withdrawn is believed for so long at most, while the key set can be had. */
const KEYS_FRESH_MS = milliseconds(10 * 60 * 1000)
const KEPT_MS = milliseconds(24 * 60 * 60 * 1000)
/** A sign-in waits a moment for new keys when those at hand are old. Nobody waits for newer metadata. */
const KEYS_PATIENCE_MS = milliseconds(1000)
const REVOCATION_WAIT_MAX_MS = 5_000
const KEYS_RETRY_MS = 200

/** What one call adds to the rules for its ID token. */
type CallRules = Pick<
  IdTokenRules,
  'accessToken' | 'nonce' | 'maxAgeSeconds' | 'clockToleranceSeconds'
>

class OpenIdProvider implements Provider {
  readonly #options: OpenIdProviderOptions
  readonly #wire: Wire
  /** Refreshes have connections of their own: no crowd of sign-ins makes a signed-in user wait. */
  readonly #refreshWire: Wire
  readonly #metadata: RemoteCopy<Metadata>
  readonly #keys: RemoteCopy<SigningKeys>
  readonly #authentication: client.ClientAuth
  readonly #resource: { readonly resource?: string }
  readonly #noticed = new Set<string>()
  readonly #closing = new AbortController()

  constructor(options: OpenIdProviderOptions) {
    const { issuer, clientId, clientSecret, clock, connectTo, resource } = options
    this.#options = options
    const wire = {
      issuer: new URL(issuer),
      // Half of the shortest call, so that a host that swallows packets is known not to have got the request.
      connectTimeout: milliseconds(toMs(options.tokenTimeout) / 2),
      ...(connectTo === undefined ? {} : { connectTo }),
    }
    this.#wire = createWire(wire)
    this.#refreshWire = createWire(wire)
    this.#metadata = new RemoteCopy({
      name: 'discovery',
      fetch: () => discover(issuer, this.#sendWithin(within(options.timeout))),
      clock,
      freshFor: METADATA_FRESH_MS,
      patience: milliseconds(0),
      keptFor: KEPT_MS,
      failed: (reason, why) => this.#notice(reason, `the metadata could not be had: ${why}`),
    })
    this.#keys = new RemoteCopy({
      name: 'signing_keys',
      fetch: async () => {
        const deadline = within(options.timeout)
        const { server } = await this.#metadata.get(deadline)
        return fetchSigningKeys(String(server.jwks_uri), this.#sendWithin(deadline))
      },
      clock,
      freshFor: KEYS_FRESH_MS,
      patience: KEYS_PATIENCE_MS,
      keptFor: KEPT_MS,
      failed: (reason, why) => this.#notice(reason, `the signing keys could not be had: ${why}`),
    })
    this.#authentication = clientAuthentication(
      options.clientAuthentication,
      clientId,
      clientSecret,
    )
    this.#resource = resource === undefined ? {} : { resource }
  }

  async facts(): Promise<ProviderFacts> {
    return (await this.#available(within(this.#options.timeout))).facts
  }

  knownFacts(): ProviderFacts | undefined {
    return this.#metadata.known()?.facts
  }

  health(): 'ok' | 'unavailable' | 'unknown' {
    if (this.#metadata.isFailing()) return 'unavailable'
    return this.#metadata.known() === undefined ? 'unknown' : 'ok'
  }

  async authorizationUrl(request: AuthorizationRequest): Promise<URL> {
    const deadline = within(this.#options.timeout)
    const metadata = await this.#available(deadline)
    // A challenge beside a refusal would hide the refusal's own words, `invalid_client` among them.
    const configuration = this.#configure(metadata, async (url, request) =>
      withoutChallenge(await this.#wire.send(url, request, deadline)),
    )
    const parameters = {
      ...this.#resource,
      ...request.parameters,
      response_type: 'code',
      redirect_uri: normalized(request.redirectUri),
      scope: request.scope,
      state: request.state,
      nonce: request.nonce,
      code_challenge: await client.calculatePKCECodeChallenge(request.codeVerifier),
      code_challenge_method: 'S256',
      ...(request.responseMode === 'query' ? {} : { response_mode: request.responseMode }),
    }
    if (metadata.facts.pushedAuthorizationRequests === 'unsupported') {
      return client.buildAuthorizationUrl(configuration, parameters)
    }
    try {
      return await client.buildAuthorizationUrlWithPAR(configuration, parameters)
    } catch (thrown) {
      // Never the plain request instead: who can make the push fail would choose what is protected (RFC 9126 §5).
      const fault = this.#faultOf(thrown)
      if (fault.kind === 'configuration') {
        this.#notice(`par_${fault.reason}`, `a pushed request failed: ${fault.cause.message}`)
      }
      throw unavailable(`par_${fault.reason}`, fault)
    }
  }

  async exchangeCode(exchange: CodeExchange): Promise<ExchangeAnswer> {
    const deadline = within(this.#options.tokenTimeout)
    const metadata = await this.#available(deadline)
    let received: string | undefined
    try {
      // An answer that cannot be verified is an answer lost, so the keys come before the code is spent.
      await this.#keys.get(deadline)
      const sentAt = this.#options.clock.now()
      const granted = await client.authorizationCodeGrant(
        this.#configure(metadata, this.#sendForTokens(deadline)),
        callbackUrl(exchange),
        { pkceCodeVerifier: exchange.codeVerifier, expectedState: exchange.response.state },
        this.#resource,
      )
      const { tokens, idToken } = this.#parse(granted, { sentAt, scope: exchange.scope })
      received = tokens.refreshToken
      if (idToken === undefined) throw new TokenRefused('id_token_missing')
      const idTokenClaims = await this.#verify(idToken, deadline, {
        accessToken: tokens.accessToken,
        nonce: { kind: 'required', value: exchange.nonce },
        maxAgeSeconds: exchange.maxAgeSeconds,
        clockToleranceSeconds: SIGN_IN_CLOCK_TOLERANCE_SECONDS,
      })
      const subject = idTokenClaims.sub
      return {
        kind: 'signed_in',
        signIn: { tokens: { ...tokens, idToken }, subject, idTokenClaims },
      }
    } catch (thrown) {
      if (received !== undefined) void this.revoke(received)
      return this.#failedExchange(thrown)
    }
  }

  async refresh(request: RefreshRequest): Promise<RefreshAnswer> {
    const { issuer, tokenTimeout, clock } = this.#options
    // The lease of the caller is computed from the token timeout, so nothing here may outlast it.
    const deadline = within(tokenTimeout)
    if (request.issuer !== issuer) {
      // A refresh token of another provider, from before the configuration changed: not to be sent here.
      const cause = new TokenRefused('iss_mismatch')
      return { kind: 'identity_changed', reason: cause.reason, cause }
    }
    let metadata: Metadata
    try {
      metadata = await this.#metadata.get(deadline)
      // As for a code: what cannot be verified would be a rotated refresh token lost.
      await this.#keys.get(deadline)
    } catch (thrown) {
      return unavailableAnswer(this.#faultOf(thrown), 'no')
    }
    let received: string | undefined
    try {
      const sentAt = clock.now()
      const granted = await client.refreshTokenGrant(
        this.#configure(metadata, this.#sendForTokens(deadline, this.#refreshWire)),
        request.tokens.refreshToken,
        this.#resource,
      )
      const { scope } = request.tokens
      const answer = this.#parse(granted, { sentAt, scope, previous: request.tokens })
      const { tokens, idToken } = answer
      received = tokens.refreshToken
      if (idToken === undefined) return { kind: 'tokens', tokens, idTokenClaims: undefined }
      const idTokenClaims = await this.#verifyPatiently(idToken, deadline, {
        accessToken: tokens.accessToken,
        nonce: { kind: 'unchanged', value: nonceOfVerified(request.tokens.idToken) },
        maxAgeSeconds: undefined,
        clockToleranceSeconds: REFRESH_CLOCK_TOLERANCE_SECONDS,
      })
      checkSameSignIn(request, idTokenClaims)
      return { kind: 'tokens', tokens: { ...tokens, idToken }, idTokenClaims }
    } catch (thrown) {
      const failed = this.#failedRefresh(thrown)
      if (failed.kind === 'identity_changed' && received !== undefined) void this.revoke(received)
      return failed
    }
  }

  async revoke(refreshToken: string): Promise<'revoked' | 'failed' | 'unsupported'> {
    for (let attempt = 1; ; attempt += 1) {
      const deadline = within(this.#options.timeout)
      try {
        const metadata = await this.#metadata.get(deadline)
        if (!metadata.facts.revocation) return 'unsupported'
        const configuration = this.#configure(metadata, this.#sendWithin(deadline))
        await client.tokenRevocation(configuration, refreshToken, {
          token_type_hint: 'refresh_token',
        })
        return 'revoked'
      } catch (thrown) {
        const { reason, retryAfter } = this.#faultOf(thrown)
        if (reason === 'unsupported_token_type') return 'unsupported'
        // RFC 7009 §2.2.1: with a 503 the token still exists, and the client may try again.
        if (reason !== 'status_503' || attempt > 1) return 'failed'
        const waitMs = Math.min(toMs(retryAfter ?? seconds(1)), REVOCATION_WAIT_MAX_MS)
        await this.#options.clock.sleep(milliseconds(waitMs), this.#closing.signal)
      }
    }
  }

  async userInfo(accessToken: string, subject: string): Promise<UserInfoAnswer> {
    const deadline = within(this.#options.timeout)
    try {
      const metadata = await this.#metadata.get(deadline)
      if (!metadata.facts.userInfo) {
        const cause = new Error('the provider has no UserInfo endpoint')
        return { kind: 'unusable', reason: 'unsupported', cause }
      }
      const configuration = this.#configure(metadata, this.#sendWithin(deadline))
      const claims = await client.fetchUserInfo(configuration, accessToken, subject)
      return { kind: 'claims', claims }
    } catch (thrown) {
      const { reason, cause } = this.#faultOf(thrown)
      return { kind: 'unusable', reason, cause }
    }
  }

  async endSessionUrl(request: EndSessionRequest): Promise<URL | undefined> {
    const deadline = within(this.#options.timeout)
    const metadata = await this.#available(deadline)
    if (!metadata.facts.endSession) return undefined
    return client.buildEndSessionUrl(this.#configure(metadata, this.#sendWithin(deadline)), {
      post_logout_redirect_uri: request.postLogoutRedirectUri,
      state: request.state,
      ...(request.idTokenHint === undefined ? {} : { id_token_hint: request.idTokenHint }),
    })
  }

  async verifyLogoutToken(logoutToken: string): Promise<LogoutTokenAnswer> {
    const deadline = within(this.#options.timeout)
    const rules = {
      ...this.#signatureRules(),
      clockToleranceSeconds: LOGOUT_CLOCK_TOLERANCE_SECONDS,
      form: this.#options.logoutTokens ?? 'strict',
    }
    try {
      const facts = await verifyLogoutToken(logoutToken, this.#keys, rules, deadline)
      return { kind: 'logout', ...facts }
    } catch (thrown) {
      if (thrown instanceof TokenRefused)
        return { kind: 'refused', reason: thrown.reason, cause: thrown }
      const { reason, cause } = this.#faultOf(thrown)
      return { kind: 'unavailable', reason, cause }
    }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await Promise.all([this.#wire.close(), this.#refreshWire.close()])
  }

  /** One per call: it knows how much time the call has left. */
  #configure({ server }: Metadata, fetch: client.CustomFetch): client.Configuration {
    const { issuer, clientId } = this.#options
    const configuration = new client.Configuration(
      server,
      clientId,
      undefined,
      this.#authentication,
    )
    // Without this the library believes a signed UserInfo answer, and any ID token, unread.
    client.enableNonRepudiationChecks(configuration)
    if (isLoopback(issuer)) client.allowInsecureRequests(configuration)
    configuration[client.customFetch] = fetch
    return configuration
  }

  #sendWithin(deadline: AbortSignal): client.CustomFetch {
    return (url, request) => this.#wire.send(url, request, deadline)
  }

  #sendForTokens(deadline: AbortSignal, wire = this.#wire): client.CustomFetch {
    return async (url, request) => {
      const response = await wire.send(url, request, deadline)
      return response.status === 200 ? withoutOptionalMembers(response) : withoutChallenge(response)
    }
  }

  /** Metadata, or `provider_unavailable`, also when the deadline comes first. */
  async #available(deadline: AbortSignal): Promise<Metadata> {
    try {
      return await this.#metadata.get(deadline)
    } catch (thrown) {
      if (thrown instanceof GatewayError) throw thrown
      const fault = this.#faultOf(thrown)
      throw unavailable(`discovery_${fault.reason}`, fault)
    }
  }

  #parse(granted: client.TokenEndpointResponse, context: TokenAnswerContext): TokenAnswer {
    const answer = parseTokenAnswer(granted, context)
    if (!answer.lifetimeWasStated) {
      const assumed = answer.tokens.accessTokenLifetime
      this.#notice('expires_in_unusable', `no usable expires_in; ${assumed} s are assumed`)
    }
    return answer
  }

  #verify(
    idToken: string,
    deadline: AbortSignal,
    rules: CallRules,
  ): Promise<Claims & { readonly sub: string }> {
    return verifyIdToken(idToken, this.#keys, { ...this.#signatureRules(), ...rules }, deadline)
  }

  #signatureRules(): Omit<SignatureRules, 'clockToleranceSeconds'> {
    const { issuer, clientId, idTokenAlgorithms: algorithms, clock } = this.#options
    const trustedAudiences = this.#options.trustedAudiences ?? []
    return { issuer, clientId, algorithms, trustedAudiences, now: clock.now() }
  }

  /**
   * A provider that changed its key and can't show the new one just now: the refresh token is spent already, so the
   * answer is kept and tried again for as long as the call may take.
   */
  async #verifyPatiently(
    idToken: string,
    deadline: AbortSignal,
    rules: CallRules,
  ): Promise<Claims & { readonly sub: string }> {
    let first: unknown
    for (;;) {
      try {
        return await this.#verify(idToken, deadline, rules)
      } catch (thrown) {
        const isPassing = thrown instanceof SigningKeyUnknown || thrown instanceof GatewayError
        first ??= thrown
        if (!isPassing || deadline.aborted) throw deadline.aborted ? first : thrown
      }
      await this.#options.clock.sleep(milliseconds(KEYS_RETRY_MS), deadline)
      await this.#keys.renew(deadline).catch(() => {
        // Backing off, or out of time: the next look says which.
      })
      if (deadline.aborted) throw first
    }
  }

  #failedExchange(thrown: unknown): ExchangeAnswer {
    if (thrown instanceof TokenRefused || thrown instanceof TokenAnswerRefused) {
      return { kind: 'refused', reason: thrown.reason, cause: thrown }
    }
    const { kind, reason, cause } = this.#faultOf(thrown)
    return kind === 'rejected' || kind === 'unacceptable'
      ? { kind: 'refused', reason, cause }
      : { kind: 'unavailable', reason, cause }
  }

  #failedRefresh(thrown: unknown): RefreshAnswer {
    // Perhaps a new key that may not be fetched at this moment: no reason to end a session.
    if (thrown instanceof SigningKeyUnknown || thrown instanceof TokenAnswerRefused) {
      this.#notice(thrown.reason, 'an answer to a refresh could not be used')
      const { reason } = thrown
      return unavailableAnswer({ reason, retryAfter: undefined, cause: thrown }, 'unknown')
    }
    if (thrown instanceof TokenRefused) {
      return { kind: 'identity_changed', reason: thrown.reason, cause: thrown }
    }
    const fault = this.#faultOf(thrown)
    const { kind, reason, cause } = fault
    if (kind === 'rejected') return { kind, cause }
    if (kind === 'configuration') return { kind: 'misconfigured', reason, cause }
    // A GatewayError is about keys that were missing once the answer was there.
    return unavailableAnswer(fault, thrown instanceof GatewayError ? 'unknown' : fault.acted)
  }

  #faultOf(thrown: unknown): Fault {
    return faultOf(thrown, this.#options.clock.now())
  }

  #notice(notice: string, detail: string): void {
    if (this.#noticed.has(notice)) return
    this.#noticed.add(notice)
    this.#options.notice(notice, `${this.#options.issuer}: ${detail}`)
  }
}

const within = (limit: Seconds): AbortSignal => AbortSignal.timeout(Math.ceil(toMs(limit)))

/**
 * The library takes the callback's URL apart once more: it gets one that is built from what was validated, on the
 * configured redirect URI, never the request's own.
 */
const callbackUrl = ({ redirectUri, response }: CodeExchange): URL => {
  const url = new URL(normalized(redirectUri))
  url.searchParams.set('code', response.code)
  url.searchParams.set('state', response.state)
  if (response.iss !== undefined) url.searchParams.set('iss', response.iss)
  return url
}

/** As the library writes it in the code exchange: both requests must name the same octets (RFC 6749 §4.1.3). */
const normalized = (redirectUri: string): string => new URL(redirectUri).href

/** OIDC Core §12.2. That `iss` and `aud` are still this provider and this client has been verified. */
const checkSameSignIn = (request: RefreshRequest, claims: Claims): void => {
  if (claims.sub !== request.subject) throw new TokenRefused('sub_mismatch')
  const { auth_time: authTime } = claims
  if (authTime === undefined || request.authTime === undefined) return
  if (authTime !== request.authTime) throw new TokenRefused('auth_time_mismatch')
}

const unavailable = (reason: string, { retryAfter, cause }: Fault): GatewayError =>
  new GatewayError('provider_unavailable', {
    reason,
    cause,
    ...(retryAfter === undefined ? {} : { retryAfterSeconds: retryAfter }),
  })

const unavailableAnswer = (
  { reason, retryAfter, cause }: Pick<Fault, 'reason' | 'retryAfter' | 'cause'>,
  spent: 'no' | 'unknown',
): RefreshAnswer => ({ kind: 'unavailable', reason, retryAfter, spent, cause })
