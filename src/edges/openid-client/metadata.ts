/** Provider metadata (OpenID Connect Discovery 1.0): asked for, checked, and reduced to facts. */

import * as client from 'openid-client'
import { GatewayError } from '../../errors.ts'
import type { ProviderFacts } from '../../oidc/provider.ts'
import { namesAnotherIssuer } from './faults.ts'

export interface Metadata {
  readonly server: client.ServerMetadata
  readonly facts: ProviderFacts
}

export const discover = async (issuer: string, fetch: client.CustomFetch): Promise<Metadata> => {
  // The library wants a client with every discovery; this one is used for nothing else.
  const found = await client.discovery(new URL(issuer), 'discovery', undefined, client.None(), {
    [client.customFetch]: fetch,
    execute: isLoopback(issuer) ? [client.allowInsecureRequests] : [],
  })
  const server = found.serverMetadata()
  checkMetadata(issuer, server)
  return { server, facts: factsOf(server) }
}

/** Plain HTTP is for a provider on this machine only. */
export const isLoopback = (url: string): boolean => {
  const { protocol, hostname } = new URL(url)
  return (
    protocol === 'http:' &&
    (hostname === 'localhost' ||
      hostname.endsWith('.localhost') ||
      hostname === '[::1]' ||
      /^127(\.\d{1,3}){3}$/.test(hostname))
  )
}

const REQUIRED_ENDPOINTS = ['authorization_endpoint', 'token_endpoint', 'jwks_uri'] as const
const OPTIONAL_ENDPOINTS = [
  'end_session_endpoint',
  'pushed_authorization_request_endpoint',
  'revocation_endpoint',
  'userinfo_endpoint',
] as const

const checkMetadata = (issuer: string, server: client.ServerMetadata): void => {
  // Discovery §4.3: equal, not equivalent. The library compares parsed URLs, for which a final slash is nothing.
  if (server.issuer !== issuer) {
    throw unusable('issuer_mismatch', namesAnotherIssuer(server.issuer))
  }
  for (const name of REQUIRED_ENDPOINTS) {
    if (server[name] === undefined) throw unusable(`${name}_missing`)
  }
  for (const name of [...REQUIRED_ENDPOINTS, ...OPTIONAL_ENDPOINTS]) {
    const endpoint: unknown = server[name]
    if (endpoint === undefined) continue
    if (typeof endpoint !== 'string' || !URL.canParse(endpoint)) throw unusable(`${name}_malformed`)
    const secure =
      new URL(endpoint).protocol === 'https:' || (isLoopback(issuer) && isLoopback(endpoint))
    if (!secure) throw unusable(`${name}_insecure`)
  }
}

const unusable = (reason: string, cause = new Error(`the metadata: ${reason}`)): GatewayError =>
  new GatewayError('provider_unavailable', { reason, cause })

const factsOf = (server: client.ServerMetadata): ProviderFacts => ({
  issuer: server.issuer,
  scopesSupported: strings(server.scopes_supported),
  codeChallengeMethodsSupported: strings(server.code_challenge_methods_supported),
  issParameterSupported: server.authorization_response_iss_parameter_supported === true,
  pushedAuthorizationRequests:
    server.require_pushed_authorization_requests === true
      ? 'required'
      : server.pushed_authorization_request_endpoint === undefined
        ? 'unsupported'
        : 'supported',
  endSession: server.end_session_endpoint !== undefined,
  revocation: server.revocation_endpoint !== undefined,
  userInfo: server.userinfo_endpoint !== undefined,
})

const strings = (value: unknown): readonly string[] | undefined =>
  Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined
