/**
 * socket.io and graphql-ws with their real clients and servers, through a gateway that variables alone configure: nothing
 * in either of them knows of it.
 */

import { once } from 'node:events'
import { createServer, type Server as HttpServer, type IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { buildSchema as BuildSchema, ExecutionResult } from 'graphql'
import { createClient, type Client as GraphqlClient } from 'graphql-ws'
import { useServer } from 'graphql-ws/use/ws'
import { Server as SocketIo } from 'socket.io'
import { type Socket as ClientSocket, io } from 'socket.io-client'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const BINARY_BYTES = 300_000

let http: HttpServer
let socketIo: SocketIo
let gateway: WholeGateway
const closers: (() => unknown)[] = []
beforeAll(async () => {
  http = createServer()
  socketIo = serveSocketIo(http)
  serveGraphql(http)
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const { port } = http.address() as AddressInfo
  gateway = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: `http://127.0.0.1:${port}`,
      COATCHECK_API_PATHS: '/socket.io,/graphql',
    },
  })
})
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})
afterAll(async () => {
  await gateway.close()
  await socketIo.close()
  http.closeAllConnections()
})

const bearerOf = ({ headers }: { headers: IncomingMessage['headers'] }) =>
  headers.authorization?.startsWith('Bearer ey') === true

/** Heartbeats as by default; `whoami` answers whether its handshake, or its poll, carried a token. */
const serveSocketIo = (server: HttpServer): SocketIo => {
  const served = new SocketIo(server, { serveClient: false })
  served.use((socket, next) => next(bearerOf(socket.handshake) ? undefined : new Error('no token')))
  served.on('connection', (socket) => {
    socket.on('echo', (value, answer) => answer(value))
    socket.on('shout', (text) => served.emit('heard', text))
  })
  return served
}

// The instance that graphql-ws loads: imported here it would be another one, whose schemas that one refuses.
const { buildSchema } = createRequire(import.meta.url)('graphql') as {
  buildSchema: typeof BuildSchema
}
const SCHEMA = buildSchema(
  'type Query { hello: String } type Subscription { counted(to: Int!): Int }',
)

const serveGraphql = (server: HttpServer): void => {
  const served = new WebSocketServer({ noServer: true })
  server.on('upgrade', (request, socket, head) => {
    if (request.url !== '/graphql') return
    served.handleUpgrade(request, socket, head, (webSocket) =>
      served.emit('connection', webSocket, request),
    )
  })
  useServer(
    {
      schema: SCHEMA,
      onConnect: ({ extra }) => bearerOf(extra.request),
      roots: {
        query: { hello: 'through the gateway' },
        subscription: {
          counted: async function* ({ to }: { to: number }) {
            for (let counted = 0; counted < to; counted += 1) {
              await sleep(50)
              yield { counted }
            }
          },
        },
      },
    },
    served,
  )
}

const cookieOf = (browser: Browser): string => {
  const { name, value } = sessionCookie(browser) ?? expect.unreachable()
  return `${name}=${value}`
}

describe('socket.io', () => {
  /** What a browser adds by itself to polls and handshakes alike. */
  const connect = async (
    browser: Browser,
    transports: readonly ('polling' | 'websocket')[],
  ): Promise<ClientSocket> => {
    const socket = io(gateway.url, {
      transports: [...transports],
      reconnection: false,
      forceNew: true,
      extraHeaders: {
        cookie: cookieOf(browser),
        origin: gateway.url,
        'sec-fetch-site': 'same-origin',
      },
    })
    closers.push(() => socket.disconnect())
    await within(
      5_000,
      'socket.io connects',
      new Promise<void>((resolve, reject) => {
        socket.on('connect', resolve)
        socket.on('connect_error', reject)
      }),
    )
    return socket
  }

  const transportOf = (socket: ClientSocket) => socket.io.engine.transport.name

  it.each([
    ['polling alone', ['polling'], 'polling'],
    ['WebSocket alone', ['websocket'], 'websocket'],
    ['polling that is upgraded, its default', ['polling', 'websocket'], 'websocket'],
  ] as const)('%s: acknowledgements, binary messages, broadcasts', async (_, transports, last) => {
    const browser = await gateway.signedIn()
    const [one, two] = [await connect(browser, transports), await connect(browser, transports)]
    await waitFor(
      `they talk by ${last}`,
      () => transportOf(one) === last && transportOf(two) === last,
    )
    const binary = Buffer.alloc(BINARY_BYTES, 'abcdefg')
    const echo = await one.timeout(5_000).emitWithAck('echo', { text: 'héllo', binary })
    expect(echo.text).toBe('héllo')
    expect(Buffer.compare(echo.binary, binary)).toBe(0)
    const heard = once(two as unknown as NodeJS.EventEmitter, 'heard')
    one.emit('shout', 'all of you')
    expect(await within(5_000, 'the broadcast', heard)).toEqual(['all of you'])
  })

  it('hears of a session that ends, and cannot come back', async () => {
    const browser = await gateway.signedIn()
    const socket = await connect(browser, ['websocket'])
    const closed = new Promise<CloseEvent>((resolve) =>
      socket.io.engine.on('close', (_reason, description) =>
        resolve((description as { context: CloseEvent }).context),
      ),
    )
    await browser.fetch(`${gateway.url}/bff/logout`, { method: 'POST' })
    expect((await within(3_000, 'the close', closed)).code).toBe(4401)
  })
})

describe('graphql-ws', () => {
  const clientOf = (browser: Browser): GraphqlClient => {
    const headers = { cookie: cookieOf(browser), origin: gateway.url }
    class PageWebSocket extends WebSocket {
      constructor(url: string, protocols: string[]) {
        super(url, protocols, { headers })
      }
    }
    const client = createClient({
      url: `${gateway.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: PageWebSocket,
      lazy: true,
      retryAttempts: 2,
    })
    closers.push(() => client.dispose())
    return client
  }

  const resultsOf = async (client: GraphqlClient, query: string): Promise<unknown[]> => {
    const results: unknown[] = []
    for await (const { data } of client.iterate({ query }) as AsyncIterable<ExecutionResult>)
      results.push(data)
    return results
  }

  it('queries and subscriptions', async () => {
    const client = clientOf(await gateway.signedIn())
    expect(await resultsOf(client, '{ hello }')).toEqual([{ hello: 'through the gateway' }])
    expect(await resultsOf(client, 'subscription { counted(to: 3) }')).toEqual([
      { counted: 0 },
      { counted: 1 },
      { counted: 2 },
    ])
  })

  it('a session that ends is its own 4401, for which it does not come back', async () => {
    const browser = await gateway.signedIn()
    const client = clientOf(browser)
    const closed = new Promise<CloseEvent>((resolve) =>
      client.on('closed', (event) => resolve(event as CloseEvent)),
    )
    const connected = new Promise<void>((resolve) => client.on('connected', () => resolve()))
    const failed = resultsOf(client, 'subscription { counted(to: 1000) }')
    failed.catch(() => undefined)
    await within(3_000, 'it connects', connected)
    await browser.fetch(`${gateway.url}/bff/logout`, { method: 'POST' })
    expect(await within(3_000, 'the close', closed)).toMatchObject({ code: 4401, reason: 'logout' })
    await expect(failed).rejects.toMatchObject({ code: 4401 })
  })
})
