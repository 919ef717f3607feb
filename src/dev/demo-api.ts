/** The demo API: a small protected resource that knows nothing of the gateway and believes only its Bearer tokens. */

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer, type ServerType } from '@hono/node-server'
import { type Context, Hono, type MiddlewareHandler } from 'hono'
import { streamSSE } from 'hono/streaming'
import { AccessTokenVerifier, type Verification, type VerifiedAccessToken } from './access-token.ts'
import type { Breakage } from './breakage.ts'
import { breakageRoutes } from './breakage-routes.ts'
import { startEcho } from './echo-socket.ts'
import { ItemShelf } from './item-shelf.ts'
import { tokenFingerprint } from './token-fingerprint.ts'
import { TokenSightings } from './token-sightings.ts'

export interface DemoApiOptions {
  readonly host?: string
  /** 0 takes a free port. */
  readonly port?: number
  readonly issuer: string
  readonly jwksUri: string
  readonly audience: string
  /** Scopes that reading and changing items take; without them any valid token is enough. */
  readonly readScope?: string
  readonly writeScope?: string
  /** Adds `/api/demo/…`, by which the demo's page breaks things for its own session. */
  readonly breakage?: Breakage
}

export interface DemoApi {
  readonly origin: string
  readonly port: number
  /** Ends at once: open streams are cut. */
  close(): Promise<void>
}

export interface DemoApiEnv {
  Variables: { accessToken: VerifiedAccessToken }
}
type Env = DemoApiEnv

const SLOW_MS_MAX = 30_000
const TICK_MS = 1_000
/** A forgotten stream ends by itself; an EventSource simply reconnects. */
const STREAM_TICKS_MAX = 3_600
const BODY_BYTES_MAX = 16 * 1024

export const startDemoApi = async (options: DemoApiOptions): Promise<DemoApi> => {
  const host = options.host ?? '127.0.0.1'
  const verifier = new AccessTokenVerifier(options)
  const app = demoApi(options, verifier)
  const server: ServerType = createAdaptorServer({ fetch: app.fetch, overrideGlobalObjects: false })
  const echo = startEcho('/api/echo', async ({ headers }) => {
    const outcome = await verifier.verify(headers.authorization)
    return outcome.kind === 'verified'
  })
  server.on('upgrade', echo.upgrade)
  server.listen(options.port ?? 0, host)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://${host}:${port}`,
    port,
    close: async () => {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      if ('closeAllConnections' in server) server.closeAllConnections()
      echo.close()
      await closed
    },
  }
}

const demoApi = (options: DemoApiOptions, verifier: AccessTokenVerifier): Hono<Env> => {
  const app = new Hono<Env>()
  const items = new ItemShelf()
  const sightings = new TokenSightings()
  const read = requireScope(options.readScope)
  const write = requireScope(options.writeScope)

  app.onError((error, c) => {
    // What went wrong here is for the terminal that runs the demo; the caller learns only that it did.
    console.error(error)
    return problem(c, 500, 'internal', 'The demo API failed.')
  })
  app.notFound((c) => problem(c, 404, 'not_found', 'There is no such resource.'))
  app.use('/api/*', authenticate(verifier, options.breakage))
  app.use('/api/*', async (c, next) => {
    sightings.note(c.var.accessToken)
    await next()
  })

  app.get('/api/whoami', (c) => {
    const { claims, fingerprint } = c.var.accessToken
    return c.json({
      subject: claims.sub,
      scope: claims.scope ?? null,
      token: { fingerprint, issuedAt: claims.iat ?? null, expiresAt: claims.exp },
      /** How many different access tokens of this subject the API has seen since it started. */
      tokensSeen: sightings.countOf(c.var.accessToken),
      claims,
      headers: headersWithoutToken(c.req.raw.headers),
    })
  })

  app.get('/api/items', read, (c) => c.json({ items: items.all() }))
  app.post('/api/items', write, async (c) => {
    const reading = await readTitle(c.req.raw)
    if (reading.kind === 'too_large') return tooLarge(c)
    if (reading.kind === 'invalid') return titleRequired(c)
    const item = items.add(reading.title, c.var.accessToken.claims.sub)
    if (item === undefined) return problem(c, 409, 'shelf_full', 'Delete an item first.')
    c.header('Location', `/api/items/${item.id}`)
    return c.json(item, 201)
  })
  app.get('/api/items/:id', read, (c) => {
    const item = items.get(c.req.param('id'))
    return item === undefined ? noSuchItem(c) : c.json(item)
  })
  app.put('/api/items/:id', write, async (c) => {
    const reading = await readTitle(c.req.raw)
    if (reading.kind === 'too_large') return tooLarge(c)
    if (reading.kind === 'invalid') return titleRequired(c)
    const item = items.rename(c.req.param('id'), reading.title)
    return item === undefined ? noSuchItem(c) : c.json(item)
  })
  app.delete('/api/items/:id', write, (c) =>
    items.remove(c.req.param('id')) ? c.body(null, 204) : noSuchItem(c),
  )

  if (options.breakage !== undefined) app.route('/api/demo', breakageRoutes(options.breakage))

  app.get('/api/slow', async (c) => {
    const ms = Number(c.req.query('ms') ?? 1_000)
    if (!Number.isInteger(ms) || ms < 0 || ms > SLOW_MS_MAX) {
      return problem(c, 400, 'ms_invalid', `ms must be a whole number from 0 to ${SLOW_MS_MAX}.`)
    }
    await pause(ms, c.req.raw.signal)
    return c.json({ sleptMs: ms })
  })

  app.get('/api/stream', (c) => {
    const { claims, fingerprint } = c.var.accessToken
    c.header('Cache-Control', 'no-store')
    return streamSSE(c, async (stream) => {
      for (let tick = 1; tick <= STREAM_TICKS_MAX && !stream.aborted; tick += 1) {
        await stream.writeSSE({
          id: String(tick),
          event: 'tick',
          data: JSON.stringify({ tick, subject: claims.sub, token: fingerprint }),
        })
        await stream.sleep(TICK_MS)
      }
    })
  })
  return app
}

type ApiContext = Context<Env>

const problem = (
  c: Context,
  status: 400 | 401 | 403 | 404 | 409 | 413 | 500 | 503,
  error: string,
  detail: string,
) => c.json({ error, detail }, status)

const tooLarge = (c: Context) =>
  problem(c, 413, 'body_too_large', `The body may have ${BODY_BYTES_MAX} bytes.`)
const noSuchItem = (c: ApiContext) => problem(c, 404, 'item_not_found', 'There is no such item.')
const titleRequired = (c: ApiContext) =>
  problem(c, 400, 'title_invalid', 'Send JSON with a title of 1 to 200 characters.')

/** RFC 6750 §3: no error code for a request that carries no credentials at all. */
const authenticate =
  (verifier: AccessTokenVerifier, breakage?: Breakage): MiddlewareHandler<Env> =>
  async (c, next) => {
    c.header('Cache-Control', 'no-store')
    const outcome = judged(await verifier.verify(c.req.header('authorization')), breakage)
    switch (outcome.kind) {
      case 'verified':
        c.set('accessToken', outcome.accessToken)
        return next()
      case 'absent':
        c.header('WWW-Authenticate', 'Bearer realm="demo-api"')
        return problem(c, 401, 'token_required', 'Send an access token as Authorization: Bearer.')
      case 'invalid':
        c.header(
          'WWW-Authenticate',
          `Bearer realm="demo-api", error="invalid_token", error_description="${outcome.reason}"`,
        )
        return problem(c, 401, 'invalid_token', outcome.reason)
      case 'unavailable':
        c.header('Retry-After', '1')
        return problem(c, 503, 'keys_unavailable', 'The keys of the issuer could not be fetched.')
    }
  }

/** A token that the page made expire has expired here too: who sends it all the same is told. */
const judged = (outcome: Verification, breakage: Breakage | undefined): Verification =>
  outcome.kind === 'verified' && breakage?.isExpired(outcome.accessToken.fingerprint)
    ? { kind: 'invalid', reason: 'the token expired' }
    : outcome

const requireScope =
  (scope: string | undefined): MiddlewareHandler<Env> =>
  async (c, next) => {
    if (scope === undefined || c.var.accessToken.scopes.has(scope)) return next()
    c.header(
      'WWW-Authenticate',
      `Bearer realm="demo-api", error="insufficient_scope", scope="${scope}"`,
    )
    return problem(c, 403, 'insufficient_scope', `The access token lacks the scope ${scope}.`)
  }

type TitleReading =
  | { readonly kind: 'title'; readonly title: string }
  | { readonly kind: 'invalid' }
  | { readonly kind: 'too_large' }

/** Counts what arrives: hono's body limit fails on a body of unknown length beside native Request objects. */
const readTitle = async (request: Request): Promise<TitleReading> => {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  for await (const chunk of request.body ?? []) {
    sizeBytes += chunk.byteLength
    if (sizeBytes > BODY_BYTES_MAX) return { kind: 'too_large' }
    chunks.push(chunk)
  }
  const title = titleIn(Buffer.concat(chunks).toString())
  return title === undefined ? { kind: 'invalid' } : { kind: 'title', title }
}

const titleIn = (text: string): string | undefined => {
  try {
    const title: unknown = JSON.parse(text)?.title
    const isTitle = typeof title === 'string' && title.trim() !== '' && title.length <= 200
    return isTitle ? title.trim() : undefined
  } catch {
    // Text that is no JSON has no title either.
    return undefined
  }
}

/** What the API was sent, so that a visitor sees what the gateway adds and removes. */
const headersWithoutToken = (headers: Headers): [string, string][] =>
  [...headers].map(([name, value]) =>
    name === 'authorization'
      ? [
          name,
          value.replace(
            /^(\S+)\s+(.+)$/,
            (_all, scheme, token) => `${scheme} …${tokenFingerprint(token)}`,
          ),
        ]
      : [name, value],
  )

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', wake)
      resolve()
    }
    const timer = setTimeout(wake, ms)
    signal.addEventListener('abort', wake)
  })
