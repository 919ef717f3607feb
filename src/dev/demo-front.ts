/** What the demo serves itself on the gateway's origin: fifty calls at once, and what became of a rival site's requests. */

import { type IncomingMessage, type RequestListener, request as sendRequest } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import type { Breakage } from './breakage.ts'
import { DEMO_PREFIX, onlyFromItsOwnPage } from './own-page.ts'
import type { RivalSite } from './rival-site.ts'

export interface Volley {
  readonly calls: number
  readonly ok: number
  readonly failed: number
  /** How many different access tokens the API was sent. */
  readonly tokens: number
  /** Of this session so far, when the last of them was answered. */
  readonly refreshes: number
}

const CALLS = 50
const CALL_MS_MAX = 15_000
const BODY_BYTES_MAX = 16 * 1024

export type Experiments = Hono

/** `port` is where the gateway, or the balancer before several, listens on `host`. */
export const experiments = (options: {
  readonly host: string
  readonly port: number
  readonly publicUrl: string
  readonly rival: RivalSite
  readonly breakage: Breakage
  readonly hasReplicas: boolean
}): Experiments => {
  const app = new Hono()
  const { rival } = options

  app.get(`${DEMO_PREFIX}about`, (c) => {
    c.header('Cache-Control', 'no-store')
    return c.json({ hasReplicas: options.hasReplicas })
  })

  app.get(`${DEMO_PREFIX}rival`, (c) => {
    c.header('Cache-Control', 'no-store')
    return c.json({ url: rival.url, ...rival.attempts() })
  })

  app.post(`${DEMO_PREFIX}mend`, (c) => {
    options.breakage.mend()
    return c.json({})
  })

  // A browser sends six requests at once to one host and keeps the others waiting: these are sent from here, as its.
  app.post(`${DEMO_PREFIX}volley`, async (c) => {
    const cookie = c.req.header('cookie') ?? ''
    const answers = await Promise.all(
      Array.from({ length: CALLS }, () => probe({ ...options, cookie })),
    )
    const good = answers.filter((answer) => answer.status === 200)
    return c.json({
      calls: CALLS,
      ok: good.length,
      failed: CALLS - good.length,
      tokens: new Set(good.map((answer) => answer.body?.token)).size,
      refreshes: Math.max(0, ...good.map((answer) => answer.body?.refreshes ?? 0)),
    } satisfies Volley)
  })
  return app
}

interface Probed {
  /** 0 where no answer came in time. */
  readonly status: number
  readonly body: { readonly token?: string; readonly refreshes?: number } | undefined
}

const probe = (from: {
  readonly host: string
  readonly port: number
  readonly publicUrl: string
  readonly cookie: string
}): Promise<Probed> =>
  new Promise((resolve) => {
    const { host, port, publicUrl, cookie } = from
    const request = sendRequest(
      {
        host,
        port,
        agent: false,
        path: '/api/demo/probe',
        headers: { host: new URL(publicUrl).host, cookie, 'sec-fetch-site': 'same-origin' },
        signal: AbortSignal.timeout(CALL_MS_MAX),
      },
      async (response) => {
        const body = await textOf(response)
        resolve({ status: response.statusCode ?? 0, body: jsonIn(body) })
      },
    )
    request.on('error', () => resolve({ status: 0, body: undefined }))
    request.end()
  })

const textOf = async (response: IncomingMessage): Promise<string> => {
  let text = ''
  try {
    for await (const chunk of response.setEncoding('utf8'))
      if (text.length < BODY_BYTES_MAX) text += chunk
  } catch {
    // Cut off: what has come is no whole answer, and counts as none.
  }
  return text
}

const jsonIn = (body: string): Probed['body'] => {
  try {
    return JSON.parse(body)
  } catch {
    // An answer that is not the API's.
    return undefined
  }
}

/** For one gateway; several have those of the fleet beside them. */
export const ownPaths = (publicUrl: string, others: Experiments): RequestListener => {
  const app = new Hono()
  app.use(onlyFromItsOwnPage(publicUrl))
  app.route('/', others)
  app.notFound((c) => c.json({ error: 'not_found' }, 404))
  return getRequestListener(app.fetch, { overrideGlobalObjects: false })
}

/** In front of one gateway in this process: the demo's own paths, and a look at what the rival's requests get. */
export const before =
  (gateway: RequestListener, own: RequestListener, rival: RivalSite): RequestListener =>
  (request, response) => {
    if (request.url?.startsWith(DEMO_PREFIX)) return own(request, response)
    if (rival.isFrom(request.headers.origin)) {
      const chunks: Buffer[] = []
      const end = response.end
      // Refusals are sent whole, by their last write.
      response.end = ((...args: unknown[]) => {
        const [last] = args
        if (typeof last === 'string' || Buffer.isBuffer(last)) chunks.push(Buffer.from(last))
        return Reflect.apply(end, response, args)
      }) as typeof end
      response.once('finish', () =>
        rival.note({
          method: request.method,
          path: request.url,
          headers: request.headers,
          status: response.statusCode,
          body: Buffer.concat(chunks).toString(),
        }),
      )
    }
    return gateway(request, response)
  }
