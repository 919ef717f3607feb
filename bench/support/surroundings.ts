/**
 * What stands around the gateways of a benchmark, in a process of its own: an API, and a provider that rotates refresh
 * tokens strictly, ends a grant on reuse, and takes as long for a refresh as it is told.
 */

import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { startChild } from '../../test/support/child.ts'
import { waitFor } from '../../test/support/wait.ts'

/** What the provider did so far. */
export interface ProviderLog {
  /** Token requests that reached it, whatever became of them. */
  readonly calls: number
  readonly refreshed: number
  /** Spent tokens that came again; each ends its grant. */
  readonly reused: number
  readonly refused: number
  readonly inFlightMax: number
  readonly firstRefreshedAt: number
  readonly lastRefreshedAt: number
  /** When it was called while it was unavailable. */
  readonly refusedAt: readonly number[]
}

export interface ProviderBehaviour {
  readonly delayMs: number
  readonly unavailable: boolean
}

export interface Surroundings {
  readonly issuer: string
  readonly apiUrl: string
  readonly pid: number
  behave(behaviour: ProviderBehaviour): Promise<void>
  log(): Promise<ProviderLog>
  close(): Promise<void>
}

/** The grant of a user begins with whatever token of turn 0 is presented first. */
export const firstRefreshToken = (subject: string): string =>
  `${subject}.0.${randomBytes(24).toString('base64url')}`

export const startSurroundings = async (options: {
  readonly clientId: string
  readonly accessTokenSeconds: number
}): Promise<Surroundings> => {
  const child = await startChild(process.execPath, [
    fileURLToPath(import.meta.url),
    options.clientId,
    String(options.accessTokenSeconds),
  ])
  const [issuer = '', apiUrl = ''] = await waitFor('provider and API listen', () =>
    child.stdout[0]?.split(' '),
  )
  return {
    issuer,
    apiUrl,
    pid: child.pid,
    behave: async (behaviour) => {
      await fetch(`${issuer}/behaviour`, { method: 'POST', body: JSON.stringify(behaviour) })
    },
    log: async () => (await fetch(`${issuer}/log`)).json() as Promise<ProviderLog>,
    close: child.kill,
  }
}

// ── the process ───────────────────────────────────────────────────────────────────────────────────────────────

const listen = async (listener: RequestListener): Promise<string> => {
  const server = createServer({ keepAliveTimeout: 120_000 }, listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const API_ANSWER = JSON.stringify({ items: 'x'.repeat(1_000) })

const serveApi: RequestListener = (req, res) => {
  const status = req.headers.authorization?.startsWith('Bearer ') === true ? 200 : 401
  res.writeHead(status, { 'content-type': 'application/json' }).end(API_ANSWER)
}

const createProvider = (clientId: string, accessTokenSeconds: number) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'ES256', use: 'sig' }
  /** The token that each grant takes next; null once it was ended. */
  const grants = new Map<string, string | null>()
  let behaviour: ProviderBehaviour = { delayMs: 0, unavailable: false }
  let inFlight = 0
  const log = {
    calls: 0,
    refreshed: 0,
    reused: 0,
    refused: 0,
    inFlightMax: 0,
    firstRefreshedAt: 0,
    lastRefreshedAt: 0,
    refusedAt: [] as number[],
  }

  const idToken = (issuer: string, subject: string, accessToken: string): string => {
    const now = Math.floor(Date.now() / 1000)
    const digest = createHash('sha256').update(accessToken).digest().subarray(0, 16)
    const text = [
      { alg: 'ES256', kid: 'bench', typ: 'JWT' },
      {
        iss: issuer,
        sub: subject,
        aud: clientId,
        iat: now,
        exp: now + 3_600,
        at_hash: digest.toString('base64url'),
        name: 'Ana Abara',
      },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
    const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
    return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`
  }

  /** Undefined for a token that is good for nothing. */
  const rotate = (issuer: string, presented: string): object | undefined => {
    const [subject = '', turn = ''] = presented.split('.')
    const expected = grants.has(subject) ? grants.get(subject) : turn === '0' ? presented : null
    if (expected !== presented) {
      log.reused += 1
      grants.set(subject, null)
      return undefined
    }
    const next = `${subject}.${Number(turn) + 1}.${randomBytes(24).toString('base64url')}`
    grants.set(subject, next)
    const accessToken = randomBytes(768).toString('base64url')
    return {
      access_token: accessToken,
      token_type: 'Bearer',
      expires_in: accessTokenSeconds,
      refresh_token: next,
      id_token: idToken(issuer, subject, accessToken),
    }
  }

  const answerToken = async (issuer: string, body: string): Promise<[number, object]> => {
    log.calls += 1
    if (behaviour.unavailable) {
      log.refused += 1
      log.refusedAt.push(Date.now())
      return [503, { error: 'temporarily_unavailable' }]
    }
    inFlight += 1
    log.inFlightMax = Math.max(log.inFlightMax, inFlight)
    // Spent as soon as it is here: whoever sends it again while this call is under way is found out.
    const tokens = rotate(issuer, new URLSearchParams(body).get('refresh_token') ?? '')
    await new Promise((resolve) => setTimeout(resolve, behaviour.delayMs))
    inFlight -= 1
    if (tokens === undefined) return [400, { error: 'invalid_grant' }]
    log.refreshed += 1
    log.lastRefreshedAt = Date.now()
    log.firstRefreshedAt ||= log.lastRefreshedAt
    return [200, tokens]
  }

  const answer = async (issuer: string, path: string, body: string): Promise<[number, object]> => {
    switch (path) {
      case '/.well-known/openid-configuration':
        return [
          200,
          {
            issuer,
            authorization_endpoint: `${issuer}/authorize`,
            token_endpoint: `${issuer}/token`,
            jwks_uri: `${issuer}/jwks`,
            response_types_supported: ['code'],
            subject_types_supported: ['public'],
            id_token_signing_alg_values_supported: ['ES256'],
            code_challenge_methods_supported: ['S256'],
          },
        ]
      case '/jwks':
        return [200, { keys: [jwk] }]
      case '/token':
        return answerToken(issuer, body)
      case '/log':
        return [200, log]
      case '/behaviour':
        behaviour = JSON.parse(body) as ProviderBehaviour
        return [200, {}]
      default:
        return [404, {}]
    }
  }

  const listener: RequestListener = async (req, res) => {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    const issuer = `http://${req.headers.host}`
    const [status, body] = await answer(issuer, req.url ?? '/', Buffer.concat(chunks).toString())
    res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    res.end(JSON.stringify(body))
  }
  return listener
}

if (import.meta.main) {
  const [clientId = '', accessTokenSeconds = ''] = process.argv.slice(2)
  const issuer = await listen(createProvider(clientId, Number(accessTokenSeconds)))
  console.log(`${issuer} ${await listen(serveApi)}`)
}
