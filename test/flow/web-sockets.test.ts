/** WebSockets on routes: the handshake's way, what passes untouched, and who ends them. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { waitFor, within } from '../support/wait.ts'
import {
  openPageSocket,
  type PageSocket,
  type PageSocketOptions,
  refusedPageSocket,
  startWebSocketApi,
  type WebSocketApi,
} from '../support/web-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let api: WebSocketApi
let gateway: WholeGateway
let browser: Browser
const opened: PageSocket[] = []
beforeAll(async () => {
  api = await startWebSocketApi()
  gateway = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: api.url, COATCHECK_WEB_SOCKETS_PER_SESSION: '3' },
  })
  browser = await gateway.signedIn()
})
afterEach(async () => {
  api.refuseWith(undefined)
  for (const { socket } of opened.splice(0)) socket.terminate()
  await waitFor('all are closed', () => api.server.clients.size === 0)
})
afterAll(async () => {
  await gateway.close()
  await api.close()
})

const cookieOf = (from: Browser): string => {
  const { name, value } = sessionCookie(from) ?? expect.unreachable()
  return `${name}=${value}`
}

const asPage = (options: Partial<PageSocketOptions> = {}): PageSocketOptions => ({
  port: gateway.port,
  origin: gateway.url,
  cookie: cookieOf(browser),
  ...options,
})

const open = async (options: Partial<PageSocketOptions> = {}): Promise<PageSocket> => {
  const socket = await openPageSocket(asPage(options))
  opened.push(socket)
  return socket
}

const lastHandshake = () => api.handshakes.at(-1) ?? expect.unreachable()

describe('a signed-in page opens a WebSocket', () => {
  it('and the API sees a fresh Bearer token, and nothing of the gateway’s cookie', async () => {
    const socket = await open({
      path: '/api/live?room=a%2Fb',
      headers: { 'x-user-id': 'admin', authorization: 'Bearer forged' },
    })
    const { headers, url } = lastHandshake()
    expect(url).toBe('/api/live?room=a%2Fb')
    expect(headers.authorization).toMatch(/^Bearer ey/)
    expect(headers).toMatchObject({
      host: new URL(api.url).host,
      origin: gateway.url,
      'x-forwarded-host': `localhost:${gateway.port}`,
    })
    expect(headers.cookie).toBeUndefined()
    expect(headers['x-user-id']).toBeUndefined()
    socket.socket.send('hello')
    await waitFor('the echo', () => socket.messages.length === 1)
    expect(socket.messages).toEqual(['hello'])
  })

  it('RFC 6455 §1.9, RFC 7692 subprotocol and compression are the two ends’ own', async () => {
    const { socket, messages } = await open({ protocols: ['other', 'chat'] })
    expect(socket.protocol).toBe('chat')
    expect(socket.extensions).toContain('permessage-deflate')
    const text = 'the same again '.repeat(10_000)
    socket.send(text)
    await waitFor('the echo', () => messages.length === 1)
    expect(messages[0]).toBe(text)
  })

  it('RFC 6455 §7.4 close codes pass in both directions', async () => {
    const first = await open()
    first.socket.close(4321, 'bye')
    expect(await within(3_000, 'closed', first.closed)).toMatchObject({ code: 4321, reason: 'bye' })
    await waitFor('the API hears it', () => api.closes.at(-1)?.code === 4321)
    const second = await open()
    for (const client of api.server.clients) client.close(4999, 'go')
    expect(await within(3_000, 'closed', second.closed)).toMatchObject({ code: 4999, reason: 'go' })
  })

  it('with Fetch Metadata, as new browsers send it', async () => {
    await open({ headers: { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'websocket' } })
  })

  it('and is counted, while it is open and when it was closed', async () => {
    const { socket } = await open()
    socket.close()
    const line = await waitFor('its line', () =>
      gateway.log.findLast(({ event }) => event === 'web_socket_closed'),
    )
    expect(line).toMatchObject({ route: '/api', reason: 'client', level: 'debug' })
    expect(gateway.log.some(({ event }) => event === 'web_socket_opened')).toBe(true)
  })
})

describe('what never reaches the API', () => {
  it.each([
    ['a page of another origin', { origin: 'https://evil.example' }, 403, 'csrf_rejected'],
    ['a page of a sibling', { headers: { 'sec-fetch-site': 'same-site' } }, 403, 'csrf_rejected'],
    ['an opaque origin', { origin: 'null' }, 403, 'csrf_rejected'],
    ['a cookie without an Origin', { origin: null }, 403, 'csrf_rejected'],
    [
      'no Origin, whatever else is said',
      { origin: null, headers: { 'sec-fetch-site': 'same-origin', 'x-csrf': '1' } },
      403,
      'csrf_rejected',
    ],
    [
      'an opaque origin that calls itself the same',
      { origin: null, headers: { origin: 'null', 'sec-fetch-site': 'same-origin' } },
      403,
      'csrf_rejected',
    ],
    [
      'another origin without a cookie',
      { origin: 'https://evil.example', cookie: undefined },
      403,
      'csrf_rejected',
    ],
    ['our page, signed out', { cookie: undefined }, 401, 'session_required'],
    ['a route without WebSocket', { path: '/bff/session' }, 404, 'route_not_found'],
  ] as const)('%s', async (_, options, status, code) => {
    const before = api.handshakes.length
    const origin = options as Partial<PageSocketOptions>
    const refusal = await refusedPageSocket({
      ...asPage(origin),
      ...(origin.origin === 'null' ? { origin: null, headers: { origin: 'null' } } : {}),
    })
    expect(refusal).toMatchObject({ status, code })
    expect(refusal.headers['cache-control']).toBe('no-store')
    expect(api.handshakes.length).toBe(before)
  })

  it('more WebSockets of one session than it may have, until one is closed', async () => {
    const first = await open()
    await open()
    await open()
    const before = api.handshakes.length
    const refusal = await refusedPageSocket(asPage())
    expect(refusal).toMatchObject({ status: 429, code: 'too_many_web_sockets' })
    expect(refusal.headers['retry-after']).toBe('1')
    expect(api.handshakes.length).toBe(before)
    first.socket.close()
    await within(3_000, 'closed', first.closed)
    await waitFor('there is room', () => api.server.clients.size === 2)
    await open()
  })
})

describe('the API refuses', () => {
  it('and its status, headers and body are passed, under the route’s policy', async () => {
    api.refuseWith(
      () =>
        'HTTP/1.1 418 Teapot\r\nServer: secret\r\nX-Why: tea\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n\r\n',
    )
    const refusal = await refusedPageSocket(asPage())
    expect(refusal).toMatchObject({ status: 418, body: 'short' })
    expect(refusal.headers).toMatchObject({ 'x-why': 'tea', 'cache-control': 'private, no-store' })
    expect(refusal.headers.server).toBeUndefined()
    expect(refusal.headers['transfer-encoding']).toBeUndefined()
  })

  it('a token as invalid: one refresh, one more handshake', async () => {
    const other = await gateway.signedIn()
    const tokens = new Set<string | undefined>()
    api.refuseWith(({ headers }) => {
      tokens.add(headers.authorization)
      return tokens.size === 1
        ? 'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 0\r\n\r\n'
        : undefined
    })
    await open({ cookie: cookieOf(other) })
    expect(tokens.size).toBe(2)
  })

  it('every token: its own 401 is passed, after one refresh', async () => {
    const other = await gateway.signedIn()
    const before = api.handshakes.length
    api.refuseWith(
      () =>
        'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\nContent-Length: 2\r\n\r\nno',
    )
    const refusal = await refusedPageSocket(asPage({ cookie: cookieOf(other) }))
    expect(refusal).toMatchObject({ status: 401, body: 'no', code: undefined })
    expect(api.handshakes.length).toBe(before + 2)
  })

  it('to be there: 502', async () => {
    api.refuseWith(() => 'no HTTP at all\r\n\r\n')
    expect(await refusedPageSocket(asPage())).toMatchObject({
      status: 502,
      code: 'upstream_unreachable',
    })
  })
})

describe('the session ends', () => {
  it('and its WebSockets are closed with 4401, at both ends, nobody else’s', async () => {
    const other = await gateway.signedIn()
    const mine = await open({ cookie: cookieOf(other) })
    const bystander = await open()
    const startedAt = performance.now()
    await other.fetch(`${gateway.url}/bff/logout`, { method: 'POST' })
    const closed = await within(3_000, 'closed', mine.closed)
    expect(closed).toMatchObject({ code: 4401, reason: 'logout' })
    expect(closed.at - startedAt).toBeLessThan(1_000)
    await waitFor('the API hears it', () => api.closes.at(-1)?.code === 4401)
    await sleep(300)
    expect(bystander.hasClosed()).toBe(false)
  })

  it('during the handshake: 401, and the API’s connection ends', async () => {
    const other = await gateway.signedIn()
    const arrived = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const listeners = api.http.listeners('upgrade')
    api.http.removeAllListeners('upgrade')
    api.http.once('upgrade', async (...handshake) => {
      arrived.resolve()
      await release.promise
      for (const listener of listeners) listener(...handshake)
    })
    const refused = refusedPageSocket(asPage({ cookie: cookieOf(other) }))
    await within(3_000, 'the API is dialled', arrived.promise)
    await other.fetch(`${gateway.url}/bff/logout`, { method: 'POST' })
    await sleep(100)
    release.resolve()
    expect(await refused).toMatchObject({ status: 401, code: 'session_ended' })
    for (const listener of listeners) api.http.on('upgrade', listener as () => void)
    await waitFor('the API’s end is closed', () => api.server.clients.size === 0)
  })
})
