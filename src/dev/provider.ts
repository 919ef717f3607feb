/** The development identity provider: a real OpenID Provider with two users, short tokens and its own pages. */

import { generateKeyPair, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { promisify } from 'node:util'
import type { JWK, Provider } from 'oidc-provider'
import {
  clientMetadata,
  type DevelopmentClient,
  providerConfiguration,
  type RefreshRotation,
} from './provider-configuration.ts'
import { ProviderStore } from './provider-store.ts'
import { type DevelopmentUser, signInPolicy, signInRoutes } from './sign-in.ts'
import {
  TokenEndpoint,
  type TokenEndpointHooks,
  type TokenRequestFate,
  type TokenRequestRecord,
} from './token-endpoint.ts'

export interface DevelopmentProviderOptions extends TokenEndpointHooks {
  /** Address to listen on. */
  readonly host?: string
  /** 0 takes a free port. */
  readonly port?: number
  /** An origin; the provider calls itself so whatever address a request came to. */
  readonly issuer?: string
  readonly clients?: readonly DevelopmentClient[]
  readonly users?: readonly DevelopmentUser[]
  /** The one protected resource (RFC 8707), audience of its access tokens. */
  readonly resource?: string
  /** `aud` of those tokens; the resource where absent, which must be a URI, as an audience need not. */
  readonly audience?: string
  readonly resourceScopes?: readonly string[]
  /** Whether access tokens carry the user's claims, roles and groups among them, as many providers let them. */
  readonly accessTokenClaims?: 'none' | 'all'
  readonly accessTokenLifetimeSeconds?: number
  readonly idTokenLifetimeSeconds?: number
  readonly refreshRotation?: RefreshRotation
  /**
   * `per-authorization`: every sign-in has a grant of its own. `per-session`: sign-ins of one browser share a
   * grant, as oidc-provider does by default, so that revoking a token of the older ends the newer too.
   */
  readonly grants?: 'per-authorization' | 'per-session'
}

export interface RevokedGrant {
  readonly at: number
  readonly grantId: string
}

export interface DevelopmentProvider {
  readonly issuer: string
  readonly jwksUri: string
  readonly port: number
  /** Adds a client, or replaces the one of the same id. */
  registerClient(client: DevelopmentClient): Promise<void>
  /** The provider's log of its token endpoint, oldest first. */
  tokenRequests(): readonly TokenRequestRecord[]
  /** Grants ended by revocation, reuse or sign-out, oldest first. */
  revokedGrants(): readonly RevokedGrant[]
  /** Every token request meets this fate until `continue` is set; `after`: once the provider has worked. */
  setFault(fate: TokenRequestFate, moment?: 'before' | 'after'): void
  /** Ends all grants of a user; their number. */
  revokeGrantsOf(subject: string): number
  /** Ends one grant, refresh token included; false where it is gone already. */
  revokeGrant(grantId: string): boolean
  /**
   * Signs one browser out here, and tells every client that it signed in to by back-channel logout. Resolves once
   * all of them have answered; false where nobody is signed in. Grants stay, as OpenID Connect has it.
   */
  endSession(sessionUid: string): Promise<boolean>
  /** Ends at once: open connections are cut. */
  close(): Promise<void>
}

export const DEVELOPMENT_USERS: readonly DevelopmentUser[] = [
  {
    login: 'alice',
    password: 'alice',
    claims: {
      sub: 'alice',
      name: 'Alice Archer',
      given_name: 'Alice',
      family_name: 'Archer',
      preferred_username: 'alice',
      email: 'alice@example.com',
      email_verified: true,
      locale: 'en',
      groups: ['staff', 'admins'],
    },
  },
  {
    login: 'bob',
    password: 'bob',
    claims: {
      sub: 'bob',
      name: 'Bob Baker',
      given_name: 'Bob',
      family_name: 'Baker',
      preferred_username: 'bob',
      email: 'bob@example.com',
      email_verified: true,
      locale: 'en',
      groups: ['guests'],
    },
  },
]

/** The protected resource unless another is named: audience of the access tokens. */
export const DEVELOPMENT_RESOURCE = 'urn:coatcheck:demo-api'
export const DEVELOPMENT_RESOURCE_SCOPES = ['items:read', 'items:write'] as const

/** The container image leaves oidc-provider out. */
export const isProviderInstalled = (): boolean => {
  try {
    import.meta.resolve('oidc-provider')
    return true
  } catch {
    // That is how a package that is not there shows.
    return false
  }
}

/** Counted from the first use of a refresh token. */
const REUSE_TOLERATED_SECONDS = 10

export const startDevelopmentProvider = async (
  options: DevelopmentProviderOptions = {},
): Promise<DevelopmentProvider> => {
  // Loaded here and nowhere else: `coatcheck serve` must not need the package.
  const oidc = await import('oidc-provider')
  const keys = await signingKeys()

  const server = createServer({ keepAliveTimeout: 72_000 })
  const listenHost = options.host ?? '127.0.0.1'
  server.listen(options.port ?? 0, listenHost)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const issuer = options.issuer ?? `http://${listenHost}:${port}`

  const users = options.users ?? DEVELOPMENT_USERS
  const clients = new Map<string, DevelopmentClient>()
  const revokedGrants: RevokedGrant[] = []
  const store = new ProviderStore(
    {
      grantRevoked: (grantId) => revokedGrants.push({ at: Date.now(), grantId }),
      refuseReuse: () => new oidc.errors.InvalidGrant('refresh token already used'),
    },
    options.refreshRotation === 'tolerant' ? REUSE_TOLERATED_SECONDS : 0,
  )
  const closing = new AbortController()
  const tokenEndpoint = new TokenEndpoint(options, closing.signal)

  const provider = new oidc.Provider(issuer, {
    ...providerConfiguration({
      users,
      resource: options.resource ?? DEVELOPMENT_RESOURCE,
      audience: options.audience ?? options.resource ?? DEVELOPMENT_RESOURCE,
      accessTokenClaims: options.accessTokenClaims ?? 'none',
      resourceScopes: options.resourceScopes ?? DEVELOPMENT_RESOURCE_SCOPES,
      hasResource: (clientId) => clients.get(clientId)?.resource === true,
      accessTokenLifetimeSeconds: options.accessTokenLifetimeSeconds ?? 20,
      idTokenLifetimeSeconds: options.idTokenLifetimeSeconds ?? 3600,
      refreshRotation: options.refreshRotation ?? 'strict',
      grants: options.grants ?? 'per-authorization',
      InvalidTarget: oidc.errors.InvalidTarget,
    }),
    adapter: store.adapter,
    jwks: { keys },
    // Cookies ignore ports, so that two providers on one host need two names.
    cookies: {
      keys: [randomBytes(32).toString('base64url')],
      names: {
        session: `development-provider-${port}`,
        interaction: `development-provider-${port}-interaction`,
        resume: `development-provider-${port}-resume`,
      },
    },
    interactions: {
      url: (_ctx, interaction) => `/interaction/${interaction.uid}`,
      policy: signInPolicy(oidc.interactionPolicy),
    },
    fetch: (url, init) => {
      const { href, hostname } = new URL(String(url))
      const own = [...clients.values()].some((client) => client.backchannelLogoutUri === href)
      if (!own || !isLoopback(hostname)) return fetch(url, init)
      // oidc-provider's dispatcher refuses loopback addresses; back-channel logout of our own clients may go there.
      const direct = { ...init }
      delete direct.dispatcher
      return fetch(url, direct)
    },
  })
  // URLs in answers come from the issuer, never from the Host of a request.
  provider.proxy = true
  provider.use(tokenEndpoint.middleware)
  provider.use(signInRoutes(provider, users))
  const { host, protocol } = new URL(issuer)
  const respond = provider.callback()
  server.on('request', (req, res) => {
    req.headers.host = host
    req.headers['x-forwarded-host'] = host
    req.headers['x-forwarded-proto'] = protocol.slice(0, -1)
    void respond(req, res)
  })

  const registerClient = async (client: DevelopmentClient) => {
    clients.set(client.clientId, client)
    await store.adapter('Client').upsert(client.clientId, clientMetadata(client))
  }
  for (const client of options.clients ?? []) await registerClient(client)

  return {
    issuer,
    jwksUri: new URL('/jwks', issuer).href,
    port,
    registerClient,
    tokenRequests: () => tokenEndpoint.records(),
    revokedGrants: () => revokedGrants.slice(),
    setFault: (fate, moment = 'before') => tokenEndpoint.setFault(fate, moment),
    revokeGrantsOf: (subject) => store.revokeGrantsOf(subject),
    revokeGrant: (grantId) => store.revokeGrant(grantId),
    endSession: (sessionUid) => endSession(provider, sessionUid),
    close: async () => {
      closing.abort()
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** oidc-provider's own method, which its types do not tell of. */
interface BackchannelClient {
  backchannelLogout(subject: string, providerSessionId: string | undefined): Promise<void>
}

const endSession = async (provider: Provider, sessionUid: string): Promise<boolean> => {
  const session = await provider.Session.findByUid(sessionUid)
  const subject = session?.accountId
  if (session === undefined || subject === undefined) return false
  const told = Object.keys(session.authorizations ?? {}).map(async (clientId) => {
    const client = await provider.Client.find(clientId)
    if (client?.backchannelLogoutUri === undefined) return
    await (client as unknown as BackchannelClient).backchannelLogout(
      subject,
      session.sidFor(clientId),
    )
  })
  await session.destroy()
  // A client that cannot be reached stays signed in: that is its loss, and no reason to keep the session here.
  await Promise.allSettled(told)
  return true
}

const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname)

/** RS256 for ID tokens, which every client must be able to verify (OIDC Core §15.1); ES256 for access tokens. */
const signingKeys = async (): Promise<JWK[]> => {
  const generate = promisify(generateKeyPair)
  const [rsa, ec] = await Promise.all([
    generate('rsa', { modulusLength: 2048 }),
    generate('ec', { namedCurve: 'P-256' }),
  ])
  return [
    { ...rsa.privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' },
    { ...ec.privateKey.export({ format: 'jwk' }), alg: 'ES256', use: 'sig' },
  ] as JWK[]
}
