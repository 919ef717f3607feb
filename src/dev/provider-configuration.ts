/** What oidc-provider is told: the development provider's policies, lifetimes and features. */

import type { ClientMetadata, Configuration, errors } from 'oidc-provider'
import { messagePage, signOutPage } from './provider-pages.ts'
import { type DevelopmentUser, ONE_TIME_CODE_ACR, PASSWORD_ACR, sendPage } from './sign-in.ts'

export interface DevelopmentClient {
  readonly clientId: string
  readonly clientSecret: string
  readonly redirectUris: readonly string[]
  readonly postLogoutRedirectUris?: readonly string[]
  /**
   * The client gets access tokens for the provider's `resource` without asking: RFC 9068 JWTs, and because such a
   * token opens no UserInfo, oidc-provider then puts the claims into the ID token. Without it a client has the
   * thin ID token of OIDC Core §5.4 and an opaque token for UserInfo, unless each request names the resource.
   */
  readonly resource?: boolean
  readonly backchannelLogoutUri?: string
  readonly tokenEndpointAuthMethod?: 'client_secret_basic' | 'client_secret_post'
}

/**
 * `strict`: each refresh token is good for one refresh, reuse ends the grant. `tolerant`: reuse within 10 seconds of
 * the first use is one more refresh, as Auth0 and Okta can be set to. `none`: it stays the same.
 */
export type RefreshRotation = 'strict' | 'tolerant' | 'none'

export interface ProviderPolicy {
  readonly users: readonly DevelopmentUser[]
  readonly resource: string
  readonly audience: string
  readonly accessTokenClaims: 'none' | 'all'
  readonly resourceScopes: readonly string[]
  readonly hasResource: (clientId: string) => boolean
  readonly accessTokenLifetimeSeconds: number
  readonly idTokenLifetimeSeconds: number
  readonly refreshRotation: RefreshRotation
  readonly grants: 'per-authorization' | 'per-session'
  readonly InvalidTarget: typeof errors.InvalidTarget
}

const TWO_WEEKS_SECONDS = 14 * 24 * 60 * 60

export const clientMetadata = (client: DevelopmentClient): ClientMetadata => ({
  client_id: client.clientId,
  client_secret: client.clientSecret,
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: [...client.redirectUris],
  post_logout_redirect_uris: [...(client.postLogoutRedirectUris ?? [])],
  token_endpoint_auth_method: client.tokenEndpointAuthMethod ?? 'client_secret_basic',
  ...(client.backchannelLogoutUri === undefined
    ? {}
    : {
        backchannel_logout_uri: client.backchannelLogoutUri,
        // This is also what puts `sid` into the client's ID tokens.
        backchannel_logout_session_required: true,
      }),
})

export const providerConfiguration = (policy: ProviderPolicy): Configuration => ({
  acrValues: [PASSWORD_ACR, ONE_TIME_CODE_ACR],
  allowOmittingSingleRegisteredRedirectUri: false,
  claims: {
    openid: ['sub', 'acr', 'amr', 'auth_time'],
    profile: profileClaims(policy.users),
    email: EMAIL_CLAIMS,
    iss: null,
    sid: null,
  },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
  clientBasedCORS: () => false,
  // By it coatcheck/testing knows that users may sign in here without a page.
  discovery: { coatcheck_development_provider: true },
  // One clock on one machine: a token that has expired has expired.
  clockTolerance: 0,
  extraTokenClaims: (_ctx, token) => {
    if (policy.accessTokenClaims === 'none' || !('accountId' in token)) return undefined
    const user = policy.users.find(({ claims }) => claims.sub === token.accountId)
    if (user === undefined) return undefined
    const { sub, ...claims } = user.claims
    return claims
  },
  expiresWithSession: (_ctx, source) =>
    policy.grants === 'per-session' && !source.scopes.has('offline_access'),
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    pushedAuthorizationRequests: { enabled: true },
    resourceIndicators: resourceIndicators(policy),
    revocation: {
      enabled: true,
      allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
    },
    rpInitiatedLogout: signOut,
    userinfo: { enabled: true },
  },
  findAccount: (_ctx, subject) => {
    const user = policy.users.find(({ claims }) => claims.sub === subject)
    return user && { accountId: subject, claims: async () => ({ ...user.claims }) }
  },
  // Refresh is there to be seen: a refresh token comes with every sign-in, `offline_access` or not.
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  loadExistingGrant: grantWithoutQuestion(policy),
  pkce: { required: () => true },
  renderError: (ctx, out) =>
    sendPage(
      ctx,
      ctx.status,
      messagePage('This did not work', `${out.error}: ${out.error_description ?? ''}`),
    ),
  responseTypes: ['code'],
  rotateRefreshToken: policy.refreshRotation !== 'none',
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  ttl: {
    AccessToken: policy.accessTokenLifetimeSeconds,
    AuthorizationCode: 60,
    Grant: TWO_WEEKS_SECONDS,
    IdToken: policy.idTokenLifetimeSeconds,
    Interaction: 60 * 60,
    RefreshToken: TWO_WEEKS_SECONDS,
    Session: TWO_WEEKS_SECONDS,
  },
})

const EMAIL_CLAIMS = ['email', 'email_verified']
const PROFILE_CLAIMS = [
  ...['name', 'given_name', 'family_name', 'preferred_username', 'picture', 'locale', 'groups'],
]

/** What the users have beyond the standard's own, such as roles, comes with their profile. */
const profileClaims = (users: readonly DevelopmentUser[]): string[] => {
  const known = new Set(['sub', ...EMAIL_CLAIMS, ...PROFILE_CLAIMS])
  const own = new Set(users.flatMap(({ claims }) => Object.keys(claims)))
  return [...PROFILE_CLAIMS, ...[...own].filter((name) => !known.has(name))]
}

type Features = NonNullable<Configuration['features']>

const resourceIndicators = (
  policy: ProviderPolicy,
): NonNullable<Features['resourceIndicators']> => ({
  enabled: true,
  // `granted` names what the grant holds, which can only be the one resource.
  defaultResource: (_ctx, client, granted) =>
    granted !== undefined || policy.hasResource(client.clientId) ? policy.resource : undefined,
  useGrantedResource: (ctx) =>
    ctx.oidc.client !== undefined && policy.hasResource(ctx.oidc.client.clientId),
  getResourceServerInfo: (_ctx, indicator) => {
    if (indicator !== policy.resource) throw new policy.InvalidTarget()
    return {
      audience: policy.audience,
      scope: policy.resourceScopes.join(' '),
      accessTokenTTL: policy.accessTokenLifetimeSeconds,
      accessTokenFormat: 'jwt',
      jwt: { sign: { alg: 'ES256' } },
    }
  },
})

const signOut: NonNullable<Features['rpInitiatedLogout']> = {
  enabled: true,
  logoutSource: (ctx, form) => {
    const { entities, params, session, issuer } = ctx.oidc
    const redirectUri = params?.post_logout_redirect_uri
    sendPage(
      ctx,
      200,
      signOutPage({
        host: new URL(issuer).host,
        form,
        redirectOrigin: typeof redirectUri === 'string' ? new URL(redirectUri).origin : undefined,
        confirmed: entities.IdTokenHint?.payload.sub === session?.accountId,
      }),
    )
  },
  postLogoutSuccessSource: (ctx) =>
    sendPage(ctx, 200, messagePage('Signed out', 'You are signed out and can close this page.')),
}

/** The clients are first-party: what they ask for is granted, and nobody sees a consent page. */
const grantWithoutQuestion =
  (policy: ProviderPolicy): NonNullable<Configuration['loadExistingGrant']> =>
  async (ctx) => {
    const { client, session, provider, requestParamScopes } = ctx.oidc
    if (client === undefined || session?.accountId === undefined) return undefined
    const sharedId =
      policy.grants === 'per-session' ? session.grantIdFor(client.clientId) : undefined
    const grant =
      (sharedId === undefined ? undefined : await provider.Grant.find(sharedId)) ??
      new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
    grant.addOIDCScope([...ctx.oidc.requestParamOIDCScopes].join(' '))
    grant.addOIDCClaims([...ctx.oidc.requestParamClaims])
    grant.addResourceScope(
      policy.resource,
      policy.resourceScopes.filter((scope) => requestParamScopes.has(scope)).join(' '),
    )
    await grant.save()
    return grant
  }
