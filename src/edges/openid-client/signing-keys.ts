/** The provider's public keys (OIDC Core §10.1), ready for verifying. */

import { createLocalJWKSet, type JSONWebKeySet } from 'jose'
import type { CustomFetch } from 'openid-client'
import { GatewayError } from '../../errors.ts'

/** Picks the key by `kid`, `alg` and `use`; symmetric and private keys are never picked. */
export type SigningKeys = ReturnType<typeof createLocalJWKSet>

export const fetchSigningKeys = async (
  jwksUri: string,
  fetch: CustomFetch,
): Promise<SigningKeys> => {
  const response = await fetch(jwksUri, {
    method: 'GET',
    headers: { accept: 'application/jwk-set+json, application/json' },
    body: undefined,
    redirect: 'manual',
  })
  if (response.status !== 200) throw unusable(`status_${response.status}`)
  const jwks = (await response.json().catch(() => undefined)) as Partial<JSONWebKeySet> | undefined
  if (!Array.isArray(jwks?.keys)) throw unusable('answer_malformed')
  // One member that is no JWK would fail the whole set; it counts as absent.
  return createLocalJWKSet({ keys: jwks.keys.filter((jwk) => typeof jwk?.kty === 'string') })
}

const unusable = (reason: string): GatewayError =>
  new GatewayError('provider_unavailable', { reason })
