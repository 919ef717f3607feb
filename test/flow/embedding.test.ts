/** The gateway inside somebody else's server: plain node:http, and Hono on @hono/node-server. */

import { once } from 'node:events'
import http, { createServer, type Server } from 'node:http'
import { serve } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DevelopmentProvider, startDevelopmentProvider } from '../../src/dev/provider.ts'
import { createGateway, type Gateway, loadConfig } from '../../src/embedding.ts'
import { rawRequest } from '../hostile/raw-request.ts'
import { type Browser, createBrowser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { freePort } from '../support/free-port.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'
import { openPageSocket, startWebSocketApi, type WebSocketApi } from '../support/web-sockets.ts'
import { clientOf, sidecarEnvironment } from '../support/whole-gateway.ts'

/** Starts the program's own server on a port, with the gateway in it. */
type Mount = (gateway: Gateway, port: number) => Promise<Server>

const onNode: Mount = async (gateway, port) => {
  const server = createServer({ maxHeaderSize: gateway.limits.headBytesMax }, (req, res) => {
    if (req.url === '/own') res.end('my own page')
    else gateway.listener(req, res)
  })
  server.on('upgrade', gateway.upgrade)
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const onHono: Mount = async (gateway, port) => {
  const app = new Hono<{
    Bindings: { incoming: http.IncomingMessage; outgoing: http.ServerResponse }
  }>()
  app.get('/own', (context) => context.text('my own page'))
  app.all('*', ({ env }) => {
    gateway.listener(env.incoming, env.outgoing)
    return RESPONSE_ALREADY_SENT
  })
  const server = serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }) as Server
  server.on('upgrade', gateway.upgrade)
  if (!server.listening) await once(server, 'listening')
  return server
}

let api: WebSocketApi
beforeAll(async () => {
  api = await startWebSocketApi()
})
afterAll(() => api.close())

describe.each([
  ['node:http', onNode],
  ['Hono', onHono],
])('mounted in %s', (_, mount) => {
  let port: number
  let url: string
  let provider: DevelopmentProvider
  let gateway: Gateway
  let server: Server
  let browser: Browser
  beforeAll(async () => {
    port = await freePort()
    url = `http://localhost:${port}`
    provider = await startDevelopmentProvider({ clients: [clientOf(url)] })
    const env = { ...sidecarEnvironment(port, provider, api), COATCHECK_LOGGING_LEVEL: 'error' }
    gateway = createGateway(loadConfig({ env, cwd: import.meta.dirname }).config)
    server = await mount(gateway, port)
    browser = createBrowser()
  })
  afterAll(async () => {
    server.close()
    server.closeAllConnections()
    await provider.close()
  })

  it('before ready() everything of the gateway’s is refused, with a code that says so', async () => {
    const answer = await rawRequest(port, { target: '/bff/session', lines: ['X-CSRF: 1'] })
    expect([answer.status, answer.json().code]).toEqual([503, 'gateway_not_serving'])
    const handshake = await rawRequest(port, {
      target: '/api/live',
      lines: [
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        `Origin: ${url}`,
      ],
    })
    expect([handshake.status, handshake.json().code]).toEqual([503, 'gateway_not_serving'])
    await gateway.ready()
  })

  it('signs in, calls the API with a token, posts a body and leaves the rest alone', async () => {
    await signIn(browser, url)
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({
      authenticated: true,
      user: { sub: 'alice' },
    })
    const answer = await browser.fetch('/api/items', { method: 'POST', body: '{"a":1}' })
    expect([answer.status, answer.json()]).toEqual([200, { ok: true }])
    expect((await browser.fetch('/own')).text).toBe('my own page')
  })

  it('opens WebSockets, and close() ends them and serves nothing more', async () => {
    const { name, value } = sessionCookie(browser) ?? expect.unreachable()
    const page = await openPageSocket({ port, origin: url, cookie: `${name}=${value}` })
    page.socket.send('hello')
    await waitFor('the echo', () => page.messages.length === 1)
    expect(api.handshakes.at(-1)?.headers.authorization).toMatch(/^Bearer ey/)
    let code = 0
    page.socket.once('close', (closed) => {
      code = closed
    })
    const end = gateway.close()
    expect(gateway.close()).toBe(end)
    await end
    await waitFor('its end', () => code !== 0)
    expect(code).toBe(1001)
    const answer = await browser.fetch('/api/items')
    expect([answer.status, answer.json()]).toMatchObject([503, { code: 'gateway_not_serving' }])
    await expect(gateway.ready()).rejects.toThrow('createGateway()')
  })
})
