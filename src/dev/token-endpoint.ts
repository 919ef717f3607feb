/** What tests may break at the token endpoint, and the provider's own log of what happened there. */

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { KoaContextWithOIDC, Provider } from 'oidc-provider'
import { tokenFingerprint } from './token-fingerprint.ts'

export interface TokenRequest {
  readonly grantType: string
  readonly body: URLSearchParams
}

/** What becomes of a token request, or of the provider's answer to it. */
export type TokenRequestFate =
  | 'continue'
  /** The connection is reset without an answer. */
  | 'reset'
  /** No answer ever comes; the caller has to give up. */
  | 'hang'
  /** This answer instead of the provider's own. */
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string | object
    }
  | { readonly delayMs: number; readonly then?: TokenRequestFate }

export interface TokenEndpointHooks {
  /** Asked before the provider sees the request: nothing is spent unless the fate is `continue`. */
  readonly onTokenRequest?: (request: TokenRequest) => Promise<TokenRequestFate>
  /** Asked after the provider has worked, so that a refresh token is spent whatever becomes of the answer. */
  readonly afterTokenRequest?: (
    request: TokenRequest,
    answer: { readonly status: number },
  ) => Promise<TokenRequestFate>
}

export interface TokenRequestRecord {
  /** Arrival, in milliseconds since the epoch. */
  readonly at: number
  readonly grantType: string
  readonly clientId: string | undefined
  /** Status that the provider decided on, or that a fault answered; undefined where there was no answer. */
  readonly status: number | undefined
  /** OAuth error code of the provider's answer. */
  readonly error: string | undefined
  /** The refresh token that was presented. */
  readonly refreshTokenFingerprint: string | undefined
  /** The refresh token in the answer: the next one under rotation, else the same as was presented. */
  readonly issuedRefreshTokenFingerprint: string | undefined
  readonly issuedAccessTokenFingerprint: string | undefined
  /** The presented refresh token is spent: using it again ends the grant. */
  readonly consumed: boolean
  readonly grantId: string | undefined
  /** The provider's own name of the browser session that the tokens come from. */
  readonly sessionUid: string | undefined
  /** False as long as the provider's own answer has not been handed to the connection. */
  readonly delivered: boolean
  /** What the request came on; the same object for all requests of one connection. */
  readonly connection: CallerConnection
}

export interface CallerConnection {
  /** In milliseconds since the epoch; undefined while it is open. A caller that is killed closes it at once. */
  readonly closedAt: number | undefined
}

/** Long enough for every test and soak run; older entries fall off. */
const RECORDS_MAX = 100_000
/** oidc-provider's own limit for a form. */
const FORM_BYTES_MAX = 56 * 1024

export class TokenEndpoint {
  readonly #records: Mutable<TokenRequestRecord>[] = []
  readonly #connections = new WeakMap<Socket, CallerConnection>()
  readonly #hooks: TokenEndpointHooks
  readonly #closed: AbortSignal
  #faultBefore: TokenRequestFate = 'continue'
  #faultAfter: TokenRequestFate = 'continue'

  constructor(hooks: TokenEndpointHooks, closed: AbortSignal) {
    this.#hooks = hooks
    this.#closed = closed
  }

  records(): readonly TokenRequestRecord[] {
    return this.#records.slice()
  }

  setFault(fate: TokenRequestFate, moment: 'before' | 'after'): void {
    if (moment === 'before') this.#faultBefore = fate
    else this.#faultAfter = fate
  }

  /** Koa middleware in front of oidc-provider's own. */
  readonly middleware: Parameters<Provider['use']>[0] = async (ctx, next) => {
    if (ctx.path !== '/token' || ctx.method !== 'POST') return next()
    const request = await readTokenRequest(ctx.req)
    const record = this.#open(request, this.#connectionOf(ctx.req.socket))

    const fateOfRequest = await this.#settle(
      this.#faultBefore,
      () => this.#hooks.onTokenRequest?.(request),
      ctx.req,
    )
    if (fateOfRequest !== 'continue') {
      if (typeof fateOfRequest === 'object') record.status = fateOfRequest.status
      return answerInstead(ctx, fateOfRequest)
    }

    await next()
    complete(record, ctx as KoaContextWithOIDC)

    const fateOfAnswer = await this.#settle(
      this.#faultAfter,
      () => this.#hooks.afterTokenRequest?.(request, { status: ctx.status }),
      ctx.req,
    )
    if (fateOfAnswer !== 'continue') return answerInstead(ctx, fateOfAnswer)
    record.delivered = true
  }

  #connectionOf(socket: Socket): CallerConnection {
    const known = this.#connections.get(socket)
    if (known !== undefined) return known
    const connection: Mutable<CallerConnection> = { closedAt: undefined }
    socket.once('close', () => {
      connection.closedAt = Date.now()
    })
    this.#connections.set(socket, connection)
    return connection
  }

  #open(request: TokenRequest, connection: CallerConnection): Mutable<TokenRequestRecord> {
    const refreshToken = request.body.get('refresh_token')
    const record: Mutable<TokenRequestRecord> = {
      at: Date.now(),
      grantType: request.grantType,
      clientId: undefined,
      status: undefined,
      error: undefined,
      refreshTokenFingerprint: refreshToken === null ? undefined : tokenFingerprint(refreshToken),
      issuedRefreshTokenFingerprint: undefined,
      issuedAccessTokenFingerprint: undefined,
      consumed: false,
      grantId: undefined,
      sessionUid: undefined,
      delivered: false,
      connection,
    }
    this.#records.push(record)
    if (this.#records.length > RECORDS_MAX) this.#records.shift()
    return record
  }

  /** Waits out delays; a fault that was set wins over the hook. */
  async #settle(
    fault: TokenRequestFate,
    hook: () => Promise<TokenRequestFate> | undefined,
    req: IncomingMessage,
  ): Promise<SettledFate> {
    let fate = fault === 'continue' ? ((await hook()) ?? 'continue') : fault
    while (typeof fate === 'object' && 'delayMs' in fate) {
      // A closing provider stops waiting; a client that leaves does not make the provider forget its request.
      await sleep(fate.delayMs, undefined, { signal: this.#closed }).catch(() => undefined)
      fate = fate.then ?? 'continue'
    }
    if (fate !== 'hang') return fate
    if (!req.socket.destroyed) {
      await once(req.socket, 'close', { signal: this.#closed }).catch(() => undefined)
    }
    return 'reset'
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type SettledFate = Exclude<TokenRequestFate, 'hang' | { readonly delayMs: number }>

const answerInstead = (
  ctx: Parameters<Parameters<Provider['use']>[0]>[0],
  fate: Exclude<SettledFate, 'continue'>,
): void => {
  if (fate === 'reset') {
    ctx.respond = false
    ctx.req.socket.resetAndDestroy()
    return
  }
  ctx.status = fate.status
  ctx.body = fate.body ?? ''
  for (const [name, value] of Object.entries(fate.headers ?? {})) ctx.set(name, value)
}

const complete = (record: Mutable<TokenRequestRecord>, ctx: KoaContextWithOIDC): void => {
  const body: unknown = ctx.body
  const answer = (typeof body === 'object' && body !== null ? body : {}) as {
    readonly error?: string
    readonly access_token?: string
    readonly refresh_token?: string
  }
  const { AuthorizationCode, Grant, RefreshToken, RotatedRefreshToken } = ctx.oidc.entities
  record.status = ctx.status
  record.error = answer.error
  record.clientId = ctx.oidc.client?.clientId
  record.grantId = Grant?.jti
  record.sessionUid = (AuthorizationCode ?? RefreshToken)?.sessionUid
  record.consumed = RotatedRefreshToken !== undefined
  record.issuedRefreshTokenFingerprint = fingerprintOf(answer.refresh_token)
  record.issuedAccessTokenFingerprint = fingerprintOf(answer.access_token)
}

const fingerprintOf = (token: string | undefined): string | undefined =>
  token === undefined ? undefined : tokenFingerprint(token)

/**
 * Reads the form and puts it back, so that oidc-provider reads it again: it would otherwise warn on the console.
 * Only a body of known length can be put back, because the end of the stream must not have been seen.
 */
const readTokenRequest = async (req: IncomingMessage): Promise<TokenRequest> => {
  const lengthBytes = Number(req.headers['content-length'] ?? 0)
  const chunks: Buffer[] = []
  if (lengthBytes > 0 && lengthBytes <= FORM_BYTES_MAX) {
    let missingBytes = lengthBytes
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      chunks.push(chunk)
      missingBytes -= chunk.length
      if (missingBytes <= 0) break
    }
    req.unshift(Buffer.concat(chunks))
  }
  const body = new URLSearchParams(Buffer.concat(chunks).toString())
  return { grantType: body.get('grant_type') ?? '', body }
}
