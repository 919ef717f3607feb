/** What the rooms count on from an OpenID Provider, whichever product is behind the adapter. */

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type {
  AuthorizationRequest,
  CodeExchange,
  Provider,
  RefreshRequest,
  SignIn,
  ValidatedAuthorizationResponse,
} from '../../src/oidc/provider.ts'

export interface ProviderRig {
  readonly provider: Provider
  readonly issuer: string
  readonly redirectUri: string
  readonly postLogoutRedirectUri: string
  readonly scope: string
  /** Signs alice in at the authorization URL as her browser would; the parameters that come back. */
  authorize(url: URL): Promise<URLSearchParams>
  /** What the token endpoint does to every request from now on. */
  breakTokenEndpoint(how: 'answers_503' | 'resets' | 'works'): void
  close(): Promise<void>
}

const random = () => randomBytes(32).toString('base64url')

export const providerContract = (name: string, make: () => Promise<ProviderRig>): void => {
  describe(`provider contract: ${name}`, () => {
    let rig: ProviderRig
    let provider: Provider
    beforeAll(async () => {
      rig = await make()
      provider = rig.provider
    })
    afterAll(() => rig.close())

    /** As far as the code: the exchange that would redeem it. */
    const authorize = async (parameters: Record<string, string> = {}): Promise<CodeExchange> => {
      const request: AuthorizationRequest = {
        redirectUri: rig.redirectUri,
        scope: rig.scope,
        state: random(),
        nonce: random(),
        codeVerifier: random(),
        responseMode: 'query',
        parameters,
      }
      const answer = await rig.authorize(await provider.authorizationUrl(request))
      expect(answer.get('state')).toBe(request.state)
      return {
        response: {
          code: answer.get('code'),
          state: request.state,
          iss: answer.get('iss') ?? undefined,
        } as unknown as ValidatedAuthorizationResponse,
        redirectUri: request.redirectUri,
        codeVerifier: request.codeVerifier,
        nonce: request.nonce,
        maxAgeSeconds: undefined,
        scope: request.scope,
      }
    }

    const signIn = async (): Promise<SignIn> => {
      const answer = await provider.exchangeCode(await authorize())
      if (answer.kind !== 'signed_in') throw new Error(`${answer.kind}: ${answer.reason}`)
      return answer.signIn
    }

    const refreshOf = (
      { subject, tokens, idTokenClaims }: SignIn,
      refreshToken = tokens.refreshToken ?? '',
    ): RefreshRequest => ({
      issuer: rig.issuer,
      subject,
      tokens: { ...tokens, refreshToken },
      authTime: idTokenClaims.auth_time as number | undefined,
    })

    test('knows its facts', async () => {
      const facts = await provider.facts()
      expect(facts).toMatchObject({ issuer: rig.issuer, revocation: true, endSession: true })
      expect(provider.knownFacts()).toEqual(facts)
    })

    test('a code becomes a verified sign-in with tokens', async () => {
      const before = Date.now()
      const { subject, tokens, idTokenClaims } = await signIn()
      expect(subject).toBe('alice')
      expect(idTokenClaims).toMatchObject({ iss: rig.issuer, sub: 'alice' })
      expect(tokens).toMatchObject({
        accessToken: expect.any(String),
        refreshToken: expect.any(String),
        idToken: expect.any(String),
        scope: expect.stringContaining('openid'),
      })
      expect(tokens.accessTokenExpiresAt % 1000).toBe(0)
      const lifetimeMs = tokens.accessTokenLifetime * 1000
      expect(tokens.accessTokenExpiresAt).toBeGreaterThan(before + lifetimeMs - 1000)
      expect(tokens.accessTokenExpiresAt).toBeLessThanOrEqual(Date.now() + lifetimeMs)
    })

    test('max_age is asked for and checked', async () => {
      const exchange = await authorize({ max_age: '3600' })
      expect(await provider.exchangeCode({ ...exchange, maxAgeSeconds: 3600 })).toMatchObject({
        kind: 'signed_in',
        signIn: { idTokenClaims: { auth_time: expect.any(Number) } },
      })
    })

    test('a code is good once', async () => {
      const exchange = await authorize()
      expect(await provider.exchangeCode(exchange)).toMatchObject({ kind: 'signed_in' })
      expect(await provider.exchangeCode(exchange)).toMatchObject({
        kind: 'refused',
        reason: 'invalid_grant',
      })
    })

    test('a code of another sign-in is refused: verifier and nonce do not fit', async () => {
      const mine = await authorize()
      const stolen = await authorize()
      const { response } = stolen
      expect(await provider.exchangeCode({ ...mine, response })).toMatchObject({
        kind: 'refused',
        reason: 'invalid_grant',
      })
      const another = await authorize()
      expect(await provider.exchangeCode({ ...another, nonce: mine.nonce })).toMatchObject({
        kind: 'refused',
        reason: 'nonce_mismatch',
      })
    })

    test('a refresh token becomes new tokens, again and again', async () => {
      let signedIn = await signIn()
      for (let round = 0; round < 3; round += 1) {
        const answer = await provider.refresh(refreshOf(signedIn))
        expect(answer).toMatchObject({
          kind: 'tokens',
          tokens: { refreshToken: expect.any(String) },
        })
        if (answer.kind !== 'tokens') return
        expect(answer.tokens.accessToken).not.toBe(signedIn.tokens.accessToken)
        signedIn = { ...signedIn, tokens: answer.tokens }
      }
    })

    test('an unknown refresh token is rejected, once and for all', async () => {
      expect(await provider.refresh(refreshOf(await signIn(), 'nobody-knows-it'))).toMatchObject({
        kind: 'rejected',
      })
    })

    test('a revoked refresh token is rejected; revoking it again is no error', async () => {
      const signedIn = await signIn()
      const refreshToken = signedIn.tokens.refreshToken ?? ''
      expect(await provider.revoke(refreshToken)).toBe('revoked')
      expect(await provider.revoke(refreshToken)).toBe('revoked')
      expect(await provider.refresh(refreshOf(signedIn))).toMatchObject({ kind: 'rejected' })
    })

    test('a token endpoint in trouble is unavailable, and what was not spent works later', async () => {
      const signedIn = await signIn()
      const exchange = await authorize()
      rig.breakTokenEndpoint('answers_503')
      expect(await provider.refresh(refreshOf(signedIn))).toMatchObject({
        kind: 'unavailable',
        reason: 'status_503',
        spent: 'no',
      })
      expect(await provider.exchangeCode(exchange)).toMatchObject({ kind: 'unavailable' })
      rig.breakTokenEndpoint('resets')
      expect(await provider.refresh(refreshOf(signedIn))).toMatchObject({
        kind: 'unavailable',
        reason: 'network',
        spent: 'unknown',
      })
      rig.breakTokenEndpoint('works')
      expect(await provider.refresh(refreshOf(signedIn))).toMatchObject({ kind: 'tokens' })
    })

    test('UserInfo is of the subject that was asked for, or unusable', async () => {
      const { subject, tokens } = await signIn()
      expect(await provider.userInfo(tokens.accessToken, subject)).toMatchObject({
        kind: 'claims',
        claims: { sub: subject, name: 'Alice Archer' },
      })
      expect(await provider.userInfo(tokens.accessToken, 'bob')).toMatchObject({
        kind: 'unusable',
        reason: 'sub_mismatch',
      })
    })

    test('signing out is a URL of the provider with all that it needs', async () => {
      const { tokens } = await signIn()
      const url = await provider.endSessionUrl({
        idTokenHint: tokens.idToken,
        postLogoutRedirectUri: rig.postLogoutRedirectUri,
        state: 'the-state',
      })
      expect(url?.origin).toBe(new URL(rig.issuer).origin)
      expect(Object.fromEntries(url?.searchParams ?? [])).toMatchObject({
        id_token_hint: tokens.idToken,
        post_logout_redirect_uri: rig.postLogoutRedirectUri,
        state: 'the-state',
      })
    })
  })
}
