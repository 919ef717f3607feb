/** Sessions as real providers make them: RS256 tokens with the claims that providers put in, no two alike. */

import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { allowedClaims, DEFAULT_CLAIMS } from '../../src/login/claims.ts'
import type { NewSession } from '../../src/session/vault.ts'
import { epochMs, seconds } from '../../src/time.ts'

const GIVEN = 'Ana Ben Chloe David Elif Farid Grace Hugo Ines Jonas Katja Liam Maya Nils Olga Paul'
const FAMILY = 'Abara Becker Costa Dubois Eriksen Fischer Garcia Horvat Ivanova Jensen Kowalski'
const PERMISSIONS =
  'orders:read orders:write invoices:read invoices:approve customers:read customers:write reports:read reports:export stock:read stock:count'
const KEY_ID = randomBytes(20).toString('base64url')
const AGENT =
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'

const oneOf = (words: string): string => {
  const list = words.split(' ')
  return list[randomInt(list.length)] ?? ''
}

const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** An RSA signature is 256 bytes that nothing compresses; random ones are as long and as incompressible. */
const SIGNATURE_BYTES = 256

/** About 1 KiB. It is never verified here, so it need not be signed. */
const jwt = (typ: string, claims: object): string =>
  `${part({ alg: 'RS256', typ, kid: KEY_ID })}.${part(claims)}.${randomBytes(SIGNATURE_BYTES).toString('base64url')}`

export interface SignInOptions {
  readonly issuer: string
  readonly clientId: string
  readonly subject: string
  readonly accessTokenExpiresAt: number
  readonly accessTokenSeconds: number
  readonly refreshToken: string
}

export const newSignIn = (options: SignInOptions): NewSession => {
  const { issuer, clientId, subject, refreshToken } = options
  const now = Math.floor(Date.now() / 1000)
  const [given, family] = [oneOf(GIVEN), oneOf(FAMILY)]
  const providerSessionId = randomUUID()
  const common = { iss: issuer, sub: subject, iat: now, auth_time: now - 4, sid: providerSessionId }
  const idTokenClaims = {
    ...common,
    aud: clientId,
    exp: now + 3600,
    nonce: randomBytes(32).toString('base64url'),
    at_hash: randomBytes(16).toString('base64url'),
    name: `${given} ${family}`,
    given_name: given,
    family_name: family,
    preferred_username: `${given}.${family}.${randomInt(10_000)}`.toLowerCase(),
    email: `${given}.${family}@example.com`.toLowerCase(),
    email_verified: true,
  }
  const accessTokenClaims = {
    ...common,
    aud: 'https://api.example.com',
    client_id: clientId,
    exp: Math.floor(options.accessTokenExpiresAt / 1000),
    jti: randomUUID(),
    scope: 'openid profile email',
    permissions: Array.from({ length: 7 }, () => oneOf(PERMISSIONS)),
  }
  return {
    issuer,
    subject,
    providerSessionId,
    claims: allowedClaims(idTokenClaims, DEFAULT_CLAIMS),
    acr: undefined,
    amr: undefined,
    authTime: common.auth_time,
    signInStartedAt: epochMs((now - 8) * 1000),
    tokens: {
      accessToken: jwt('at+jwt', accessTokenClaims),
      accessTokenExpiresAt: epochMs(options.accessTokenExpiresAt),
      accessTokenLifetime: seconds(options.accessTokenSeconds),
      scope: 'openid profile email',
      refreshToken,
      refreshTokenExpiresAt: undefined,
      idToken: jwt('JWT', idTokenClaims),
    },
  }
}

/** What the gateway saw of the browser at sign-in. */
export const seenAtSignIn = () => ({
  device: AGENT,
  address: `198.51.${randomInt(256)}.${randomInt(256)}`,
})
