/** The adapter as the tests set it up, and requests as rooms would make them. */

import {
  createOpenIdProvider,
  type OpenIdProviderOptions,
} from '../../../src/edges/openid-client/provider.ts'
import type {
  CodeExchange,
  ExchangeAnswer,
  Provider,
  RefreshAnswer,
  RefreshRequest,
  ValidatedAuthorizationResponse,
} from '../../../src/oidc/provider.ts'
import { epochMs, seconds, systemClock } from '../../../src/time.ts'
import type { FakeProvider } from '../../support/fake-provider.ts'

export const REDIRECT_URI = 'https://app.example.com/bff/callback'
export const CODE_VERIFIER = 'verifier-verifier-verifier-verifier-verifier-1'
export const NONCE = 'nonce-of-this-sign-in'

export interface Notice {
  readonly notice: string
  readonly detail: string
}

export const adapterFor = (
  issuer: string,
  options: Partial<OpenIdProviderOptions> = {},
): Provider & { readonly notices: readonly Notice[] } => {
  const notices: Notice[] = []
  const provider = createOpenIdProvider({
    issuer,
    clientId: 'coatcheck',
    clientSecret: { current: 'a-secret-of-the-client' },
    clientAuthentication: 'client_secret_basic',
    timeout: seconds(2),
    tokenTimeout: seconds(2),
    idTokenAlgorithms: ['RS256', 'PS256', 'ES256'],
    clock: systemClock,
    notice: (notice, detail) => notices.push({ notice, detail }),
    ...options,
  })
  return Object.assign(provider, { notices })
}

/** Stands in for `login/authorization-response.ts`, the only one who makes these in the product. */
export const validatedResponse = (code: string, issuer: string) =>
  ({ code, state: 'state', iss: issuer }) as unknown as ValidatedAuthorizationResponse

/** Signs in with a code that the fake provider has just issued. */
export const exchangeAt = (
  fake: FakeProvider,
  provider: Provider,
  change: Partial<CodeExchange> = {},
): Promise<ExchangeAnswer> =>
  provider.exchangeCode({
    response: validatedResponse(fake.issueCode({ nonce: NONCE }), fake.issuer),
    redirectUri: REDIRECT_URI,
    codeVerifier: CODE_VERIFIER,
    nonce: NONCE,
    maxAgeSeconds: undefined,
    scope: 'openid profile',
    ...change,
  })

/** Refreshes with a refresh token that the fake provider has just issued. */
export const refreshAt = (
  fake: FakeProvider,
  provider: Provider,
  change: Partial<Omit<RefreshRequest, 'tokens'>> & {
    readonly tokens?: Partial<RefreshRequest['tokens']>
  } = {},
): Promise<RefreshAnswer> =>
  provider.refresh({
    issuer: fake.issuer,
    subject: 'alice',
    authTime: undefined,
    ...change,
    tokens: {
      accessToken: 'at-before',
      accessTokenExpiresAt: epochMs(0),
      accessTokenLifetime: seconds(60),
      scope: 'openid profile',
      refreshToken: fake.issueRefreshToken(),
      refreshTokenExpiresAt: undefined,
      idToken: undefined,
      ...change.tokens,
    },
  })
