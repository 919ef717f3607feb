/**
 * An OpenID Provider that does as it is told: honest until a test makes it lie, in its tokens, in its answers or
 * on the wire. Signs with real keys; approves every authorization request at once.
 */

import { createHash, type JsonWebKey, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  CompactSign,
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWTHeaderParameters,
} from 'jose'

export type Endpoint =
  | 'discovery'
  | 'jwks'
  | 'authorize'
  | 'par'
  | 'token'
  | 'userinfo'
  | 'revoke'
  | 'end-session'
  /** Another key set, which no metadata names: whoever comes here was led by a token. */
  | 'mallory-jwks'

export interface FakeRequest {
  readonly endpoint: Endpoint
  readonly method: string
  readonly headers: IncomingMessage['headers']
  /** Query of a GET, form of a POST. */
  readonly parameters: URLSearchParams
  readonly body: string
}

export interface Reply {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** A string goes out as it is, anything else as JSON. */
  readonly body?: unknown
  readonly delayMs?: number
  /** `truncate` sends half of the body, then cuts the connection; `silence` never answers. */
  readonly fate?: 'reset' | 'truncate' | 'silence'
}

export type JsonObject = Readonly<Record<string, unknown>>

/** How ID tokens, or a logout token, differ from honest ones; a member `undefined` is left out. */
export interface IdTokenLie {
  readonly claims?: JsonObject | ((honest: JsonObject) => JsonObject)
  readonly header?: JsonObject
  /** `mallory`: another key under our `kid`. `flipped`: one bit of the signature. */
  readonly signature?: 'mallory' | 'flipped' | 'none' | 'hs256_with_public_key'
  /** Sent instead of any token. */
  readonly verbatim?: unknown
}

interface Grant {
  readonly nonce: string | undefined
  readonly codeChallenge: string | undefined
  readonly scope: string | undefined
  /** When the user authenticated: a refresh does not move it (OIDC Core §12.2). */
  readonly authTime: number
}

/** As long before the grant as a person may take from the password to the redirect. */
const justAuthenticated = (): number => Math.floor(Date.now() / 1000) - 5

export interface FakeProviderOptions {
  readonly clientId?: string
  readonly subject?: string
  /** Path of the issuer, e.g. `/realms/one/`. */
  readonly issuerPath?: string
  /** The issuer as the provider names itself, when it is reached under another address. */
  readonly issuer?: string
  readonly expiresInSeconds?: number
}

interface KeyPair {
  readonly privateKey: CryptoKey
  readonly publicKey: CryptoKey
}

const keyPairs = new Map<string, Promise<KeyPair>>()

/** RSA keys take about 100 ms each to make: providers of one test file share them, under a `kid` of their own. */
const keyPair = (name: 'first' | 'mallory'): Promise<KeyPair> => {
  const pair = keyPairs.get(name) ?? generateKeyPair('RS256', { extractable: true })
  keyPairs.set(name, pair)
  return pair
}

export class FakeProvider {
  // A caller that leaves in the middle of its request is answered with the end of the connection.
  readonly #server = createServer((req, res) => {
    this.#respond(req, res).catch(() => res.destroy())
  })
  readonly #scripts = new Map<Endpoint, (request: FakeRequest) => Reply | Promise<Reply>>()
  readonly #grants = new Map<string, Grant>()
  readonly #refreshTokens = new Map<string, Grant>()
  readonly #requests: FakeRequest[] = []
  readonly #options: FakeProviderOptions
  #key!: { kid: string; privateKey: CryptoKey; publicJwk: JsonWebKey }
  #idTokenLie: IdTokenLie = {}
  #tokenAnswer: (honest: JsonObject) => unknown = (honest) => honest

  issuer = ''
  port = 0
  /** Served by discovery; change its members at will. */
  metadata: Record<string, unknown> = {}
  /** Served as the key set; change it at will. */
  jwks: { keys: unknown[] } = { keys: [] }

  private constructor(options: FakeProviderOptions) {
    this.#options = options
  }

  static async start(options: FakeProviderOptions = {}): Promise<FakeProvider> {
    const provider = new FakeProvider(options)
    await provider.#start()
    return provider
  }

  async #start(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.port = (this.#server.address() as AddressInfo).port
    this.issuer =
      this.#options.issuer ?? `http://127.0.0.1:${this.port}${this.#options.issuerPath ?? ''}`
    const at = (endpoint: Endpoint) => new URL(`/${endpoint}`, this.issuer).href
    this.metadata = {
      issuer: this.issuer,
      authorization_endpoint: at('authorize'),
      token_endpoint: at('token'),
      jwks_uri: at('jwks'),
      userinfo_endpoint: at('userinfo'),
      revocation_endpoint: at('revoke'),
      end_session_endpoint: at('end-session'),
      response_types_supported: ['code'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
      scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
      code_challenge_methods_supported: ['S256'],
      authorization_response_iss_parameter_supported: true,
    }
    await this.#useKey(await keyPair('first'))
  }

  /** A new signing key; the old one is withdrawn. */
  async rotateKey(): Promise<void> {
    await this.#useKey(await generateKeyPair('RS256', { extractable: true }))
  }

  async #useKey({ privateKey, publicKey }: KeyPair): Promise<void> {
    const kid = randomBytes(6).toString('hex')
    const publicJwk = { ...(await exportJWK(publicKey)), kid, alg: 'RS256', use: 'sig' }
    this.#key = { kid, privateKey, publicJwk: publicJwk as JsonWebKey }
    this.jwks = { keys: [publicJwk] }
  }

  /** The private half of the signing key, as a careless provider would publish it. */
  async privateJwk(): Promise<JsonWebKey> {
    return { ...(await exportJWK(this.#key.privateKey)), kid: this.#key.kid } as JsonWebKey
  }

  /** Verifies what mallory signs. */
  async malloryJwk(): Promise<JsonWebKey> {
    const jwk = await exportJWK((await keyPair('mallory')).publicKey)
    return { ...jwk, kid: this.#key.kid, alg: 'RS256' } as JsonWebKey
  }

  /** Every request to the endpoint gets this answer until `answerHonestly`. */
  script(endpoint: Endpoint, answer: Reply | ((request: FakeRequest) => Reply | Promise<Reply>)) {
    this.#scripts.set(endpoint, typeof answer === 'function' ? answer : () => answer)
  }

  /** Token answers go through this; what it returns is sent. */
  alterTokenAnswer(alter: (honest: JsonObject) => unknown): void {
    this.#tokenAnswer = alter
  }

  lieInIdTokens(lie: IdTokenLie): void {
    this.#idTokenLie = lie
  }

  answerHonestly(): void {
    this.#scripts.clear()
    this.#idTokenLie = {}
    this.#tokenAnswer = (honest) => honest
  }

  /** A code, as from an authorization request with these parameters. */
  issueCode(grant: Partial<Grant> = {}): string {
    const code = randomBytes(16).toString('base64url')
    const { nonce, codeChallenge, scope, authTime = justAuthenticated() } = grant
    this.#grants.set(code, { nonce, codeChallenge, scope, authTime })
    return code
  }

  /** A refresh token that is good for one refresh. */
  issueRefreshToken(grant: Partial<Grant> = {}): string {
    const refreshToken = randomBytes(16).toString('base64url')
    const { nonce, codeChallenge, scope, authTime = justAuthenticated() } = grant
    this.#refreshTokens.set(refreshToken, { nonce, codeChallenge, scope, authTime })
    return refreshToken
  }

  requestsTo(endpoint: Endpoint): readonly FakeRequest[] {
    return this.#requests.filter((request) => request.endpoint === endpoint)
  }

  forgetRequests(): void {
    this.#requests.length = 0
  }

  async idToken(grant: Partial<Grant>, accessToken: string): Promise<unknown> {
    const lie = this.#idTokenLie
    if ('verbatim' in lie) return lie.verbatim
    const now = Math.floor(Date.now() / 1000)
    const honest: JsonObject = {
      iss: this.issuer,
      sub: this.#options.subject ?? 'alice',
      aud: this.#options.clientId ?? 'coatcheck',
      iat: now,
      exp: now + 3600,
      auth_time: grant.authTime ?? justAuthenticated(),
      nonce: grant.nonce,
      at_hash: createHash('sha256')
        .update(accessToken)
        .digest()
        .subarray(0, 16)
        .toString('base64url'),
    }
    const claims =
      typeof lie.claims === 'function' ? lie.claims(honest) : { ...honest, ...lie.claims }
    const header = { alg: 'RS256', kid: this.#key.kid, typ: 'JWT', ...lie.header }
    return this.#sign(JSON.stringify(claims), header, lie.signature)
  }

  /** An honest logout token of alice, but for the lie. */
  async logoutToken(lie: IdTokenLie = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1000)
    const honest: JsonObject = {
      iss: this.issuer,
      sub: this.#options.subject ?? 'alice',
      aud: this.#options.clientId ?? 'coatcheck',
      iat: now,
      exp: now + 120,
      jti: randomBytes(12).toString('base64url'),
      events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
    }
    const claims =
      typeof lie.claims === 'function' ? lie.claims(honest) : { ...honest, ...lie.claims }
    const header = { alg: 'RS256', kid: this.#key.kid, typ: 'logout+jwt', ...lie.header }
    return this.#sign(JSON.stringify(claims), header, lie.signature)
  }

  async #sign(
    claims: string,
    header: JsonObject,
    signature: IdTokenLie['signature'],
  ): Promise<string> {
    const encoded = (text: string) => Buffer.from(text).toString('base64url')
    if (signature === 'none') return `${encoded(JSON.stringify(header))}.${encoded(claims)}.`
    const sign = (head: JsonObject, key: CryptoKey | Uint8Array) =>
      new CompactSign(Buffer.from(claims))
        .setProtectedHeader(head as JWTHeaderParameters)
        .sign(key, { crit: { 'urn:example:unknown': true } })
    if (signature === 'hs256_with_public_key') {
      const publicKey = Buffer.from(JSON.stringify(this.#key.publicJwk))
      return sign({ ...header, alg: 'HS256' }, publicKey)
    }
    const key =
      signature === 'mallory' ? (await keyPair('mallory')).privateKey : this.#key.privateKey
    const token = await sign(header, key)
    if (signature !== 'flipped') return token
    const [head, payload, last = ''] = token.split('.')
    const bytes = Buffer.from(last, 'base64url')
    bytes[10] = (bytes[10] ?? 0) ^ 1
    return `${head}.${payload}.${bytes.toString('base64url')}`
  }

  async #respond(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', 'http://fake.invalid')
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks).toString('utf8')
    const endpoint = url.pathname.endsWith('/.well-known/openid-configuration')
      ? 'discovery'
      : (url.pathname.slice(1) as Endpoint)
    const request: FakeRequest = {
      endpoint,
      method: req.method ?? 'GET',
      headers: req.headers,
      parameters: req.method === 'POST' ? new URLSearchParams(body) : url.searchParams,
      body,
    }
    this.#requests.push(request)
    const reply = await (this.#scripts.get(endpoint)?.(request) ?? this.#honestReply(request))
    if (reply.delayMs !== undefined) await new Promise((done) => setTimeout(done, reply.delayMs))
    send(res, reply)
  }

  async #honestReply(request: FakeRequest): Promise<Reply> {
    switch (request.endpoint) {
      case 'discovery':
        return { body: this.metadata }
      case 'jwks':
        return { body: this.jwks }
      case 'authorize':
        return this.#approve(request.parameters)
      case 'par': {
        const requestUri = `urn:example:${randomBytes(8).toString('hex')}`
        return { status: 201, body: { request_uri: requestUri, expires_in: 60 } }
      }
      case 'token':
        return this.#tokens(request.parameters)
      case 'userinfo':
        return { body: { sub: this.#options.subject ?? 'alice', name: 'Alice Archer' } }
      case 'revoke':
        this.#refreshTokens.delete(request.parameters.get('token') ?? '')
        return { status: 200, body: '' }
      case 'end-session':
        return { status: 200, headers: { 'content-type': 'text/html' }, body: 'signed out' }
      case 'mallory-jwks':
        return { body: { keys: [await this.malloryJwk()] } }
      default:
        return { status: 404, body: '' }
    }
  }

  #approve(parameters: URLSearchParams): Reply {
    const target = new URL(parameters.get('redirect_uri') ?? '')
    const grant = {
      nonce: parameters.get('nonce') ?? undefined,
      codeChallenge: parameters.get('code_challenge') ?? undefined,
      scope: parameters.get('scope') ?? undefined,
    }
    target.searchParams.set('code', this.issueCode(grant))
    target.searchParams.set('state', parameters.get('state') ?? '')
    target.searchParams.set('iss', this.issuer)
    return { status: 302, headers: { location: target.href }, body: '' }
  }

  async #tokens(parameters: URLSearchParams): Promise<Reply> {
    const isRefresh = parameters.get('grant_type') === 'refresh_token'
    const credential = parameters.get(isRefresh ? 'refresh_token' : 'code') ?? ''
    const known = isRefresh ? this.#refreshTokens : this.#grants
    const grant = known.get(credential)
    known.delete(credential)
    const challenge = createHash('sha256')
      .update(parameters.get('code_verifier') ?? '')
      .digest('base64url')
    const provesPossession =
      isRefresh || grant?.codeChallenge === undefined || grant.codeChallenge === challenge
    if (grant === undefined || !provesPossession) {
      return { status: 400, body: { error: 'invalid_grant' } }
    }
    const accessToken = `at-${randomBytes(12).toString('base64url')}`
    const body = this.#tokenAnswer({
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: this.#options.expiresInSeconds ?? 60,
      refresh_token: this.issueRefreshToken(grant),
      id_token: await this.idToken(isRefresh ? { ...grant, nonce: undefined } : grant, accessToken),
      ...(grant.scope === undefined ? {} : { scope: grant.scope }),
    })
    return { headers: { 'cache-control': 'no-store' }, body }
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }
}

const send = (res: ServerResponse, { status = 200, headers, body = '', fate }: Reply): void => {
  if (fate === 'silence') return
  if (fate === 'reset') {
    res.socket?.resetAndDestroy()
    return
  }
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  res.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...headers,
  })
  if (fate !== 'truncate') {
    res.end(text)
    return
  }
  res.write(text.slice(0, Math.floor(text.length / 2)), () => res.socket?.destroy())
}
