/** The realm's promises, asked of a running Keycloak by the protocol itself: openid-client and the sign-in form. */

import { equal, match, notEqual, ok, rejects } from 'node:assert/strict'
import { connect } from 'node:net'
import * as client from 'openid-client'
import { Agent, type RequestInit, fetch as undiciFetch } from 'undici'

interface ProviderUnderCheck {
  readonly issuer: string
  /** Where Keycloak really listens. */
  readonly port: number
  readonly clientId: string
  readonly clientSecret: string
  readonly redirectUri: string
  readonly audience: string
}

export interface Check {
  readonly promise: string
  readonly holds: () => Promise<void>
}

/** In this order: later checks use the tokens of earlier ones. */
export const providerChecks = async (provider: ProviderUnderCheck): Promise<readonly Check[]> => {
  const { issuer, clientId, clientSecret, redirectUri, audience } = provider
  const fetch = fetchThrough(provider.port)
  const config = await client.discovery(
    new URL(issuer),
    clientId,
    clientSecret,
    client.ClientSecretBasic(clientSecret),
    {
      execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
      [client.customFetch]: fetch,
    },
  )
  const codeVerifier = client.randomPKCECodeVerifier()
  const codeChallenge = await client.calculatePKCECodeChallenge(codeVerifier)
  const base = { redirect_uri: redirectUri, scope: 'openid profile email', state: 's', nonce: 'n' }
  const proof = { code_challenge: codeChallenge, code_challenge_method: 'S256' }
  const authorize = (parameters: Record<string, string>) =>
    fetch(client.buildAuthorizationUrl(config, parameters).href, { redirect: 'manual' })

  let signedIn: client.TokenEndpointResponse | undefined
  let refreshed: client.TokenEndpointResponse | undefined
  const refresh = (tokens: client.TokenEndpointResponse | undefined) =>
    client.refreshTokenGrant(config, tokens?.refresh_token ?? '')

  return [
    {
      promise: 'the issuer keeps its public name, whatever address it is asked at',
      async holds() {
        equal(config.serverMetadata().issuer, issuer)
        const path = `${new URL(issuer).pathname}/.well-known/openid-configuration`
        const direct = await undiciFetch(`http://127.0.0.1:${provider.port}${path}`)
        equal(((await direct.json()) as { issuer: string }).issuer, issuer)
      },
    },
    {
      promise: 'an authorization request without PKCE, or with `plain`, is refused',
      async holds() {
        const weaker = [{}, { code_challenge: codeVerifier, code_challenge_method: 'plain' }]
        for (const parameters of weaker) {
          const answer = await authorize({ ...base, ...parameters })
          match(answer.headers.get('location') ?? '', /error=invalid_request/)
        }
      },
    },
    {
      promise: 'another redirect URI is refused, and not redirected to',
      async holds() {
        const answer = await authorize({ ...base, ...proof, redirect_uri: `${redirectUri}/other` })
        equal(answer.status, 400)
        equal(answer.headers.get('location'), null)
      },
    },
    {
      promise: 'alice signs in through the form, and the code is exchanged',
      async holds() {
        const callback = await submitSignIn(fetch, await authorize({ ...base, ...proof }))
        signedIn = await client.authorizationCodeGrant(config, callback, {
          pkceCodeVerifier: codeVerifier,
          expectedState: base.state,
          expectedNonce: base.nonce,
          idTokenExpected: true,
        })
        const { aud, groups } = signedIn.id_token ? payloadOf(signedIn.id_token) : {}
        equal(aud, clientId)
        equal([groups].flat().sort().join(), 'admins,staff')
      },
    },
    {
      promise: 'the access token names the API as audience and lives 30 seconds',
      async holds() {
        const { aud, iat, exp } = payloadOf(signedIn?.access_token ?? '')
        equal(aud, audience)
        equal(Number(exp) - Number(iat), 30)
      },
    },
    {
      promise: 'a refresh replaces the refresh token',
      async holds() {
        refreshed = await refresh(signedIn)
        ok(refreshed.refresh_token)
        notEqual(refreshed.refresh_token, signedIn?.refresh_token)
      },
    },
    {
      promise:
        'a spent refresh token is refused, and its reuse ends the session (RFC 9700 §4.14.2)',
      async holds() {
        await rejects(refresh(signedIn), { error: 'invalid_grant' })
        await rejects(refresh(refreshed), { error: 'invalid_grant' })
      },
    },
  ]
}

/** What COATCHECK_PROVIDER_CONNECT_TO does: the URL and `Host` stay, the connection goes elsewhere. */
const fetchThrough = (port: number) => {
  const dispatcher = new Agent({
    allowH2: false,
    // No connection stays open behind the checks.
    pipelining: 0,
    connect(_options, callback) {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => callback(null, socket))
      socket.once('error', (error) => callback(error, null))
    },
  })
  return async (url: string, init: object = {}): Promise<Response> =>
    (await undiciFetch(url, { ...(init as RequestInit), dispatcher })) as unknown as Response
}

type Fetch = ReturnType<typeof fetchThrough>

const submitSignIn = async (fetch: Fetch, page: Response): Promise<URL> => {
  const [, action = ''] = /<form[^>]* action="([^"]+)"/.exec(await page.text()) ?? []
  const cookie = page.headers.getSetCookie().map((line) => line.split(';')[0])
  const answer = await fetch(action.replaceAll('&amp;', '&'), {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie: cookie.join('; ') },
    body: new URLSearchParams({ username: 'alice', password: 'alice' }),
  })
  return new URL(answer.headers.get('location') ?? 'about:blank')
}

const payloadOf = (jwt: string): Readonly<Record<string, unknown>> =>
  JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString())
