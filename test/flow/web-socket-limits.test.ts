/** How long WebSockets live, what counts as activity of their session, and what one session may have. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { within } from '../support/wait.ts'
import {
  openPageSocket,
  type PageSocket,
  startWebSocketApi,
  type WebSocketApi,
} from '../support/web-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let api: WebSocketApi
const gateways: WholeGateway[] = []
beforeAll(async () => {
  api = await startWebSocketApi()
})
afterAll(async () => {
  for (const gateway of gateways) await gateway.close()
  await api.close()
})

const start = async (
  env: Readonly<Record<string, string>>,
  webSockets: object = {},
): Promise<WholeGateway> => {
  const gateway = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: undefined, ...env },
    file: () => ({ routes: [{ path: '/api', upstream: api.url, webSocket: true, webSockets }] }),
  })
  gateways.push(gateway)
  return gateway
}

const open = (gateway: WholeGateway, browser: Browser): Promise<PageSocket> => {
  const { name, value } = sessionCookie(browser) ?? expect.unreachable()
  return openPageSocket({
    port: gateway.port,
    origin: gateway.url,
    cookie: `${name}=${value}`,
  })
}

/** Does it every so often until the socket is closed. */
const untilClosed = async (socket: PageSocket, everyMs: number, act: () => unknown) => {
  const startedAt = performance.now()
  while (!socket.hasClosed() && performance.now() - startedAt < 20_000) {
    act()
    await sleep(everyMs)
  }
  return { ...(await within(1_000, 'closed', socket.closed)), startedAt }
}

describe('limits of a WebSocket', () => {
  it('RFC 6455 §7.4.1 one that says nothing is closed with 1001, at both ends', async () => {
    const gateway = await start({ COATCHECK_WEB_SOCKETS_IDLE: '1s' })
    const socket = await open(gateway, await gateway.signedIn())
    expect(await within(5_000, 'closed', socket.closed)).toMatchObject({
      code: 1001,
      reason: 'idle',
    })
    expect(api.closes.at(-1)).toEqual({ code: 1001, reason: 'idle' })
  })

  it('a ping from either end keeps it open, until its longest life is over; a route has its own', async () => {
    const gateway = await start(
      { COATCHECK_WEB_SOCKETS_IDLE: '10ms', COATCHECK_WEB_SOCKETS_LIFETIME: '10ms' },
      { idle: '1s', lifetime: '3s' },
    )
    const socket = await open(gateway, await gateway.signedIn())
    const openedAt = performance.now()
    const { code, reason, at } = await untilClosed(socket, 300, () => {
      for (const client of api.server.clients) client.ping()
    })
    expect([code, reason]).toEqual([1001, 'lifetime'])
    expect(at - openedAt).toBeGreaterThan(2_900)
  })

  it('`origin: upstream` gives the API its own origin', async () => {
    const gateway = await start({}, { origin: 'upstream' })
    const { socket } = await open(gateway, await gateway.signedIn())
    expect(api.handshakes.at(-1)?.headers.origin).toBe(api.url)
    socket.terminate()
  })
})

describe('activity of the session', () => {
  const IDLE = { COATCHECK_SESSION_IDLE: '2s' }

  it('messages of the page are; it lives on for as long as they come', async () => {
    const gateway = await start(IDLE)
    const browser = await gateway.signedIn()
    const socket = await open(gateway, browser)
    for (let sent = 0; sent < 12; sent += 1) {
      socket.socket.send('still here')
      await sleep(300)
    }
    expect(socket.hasClosed()).toBe(false)
    const answer = await browser.fetch(`${gateway.url}/bff/session`)
    expect(JSON.parse(answer.text)).toMatchObject({ authenticated: true })
    socket.socket.terminate()
  })

  it.each([
    ['pings of the page', (page: PageSocket) => page.socket.ping()],
    [
      'messages of the API',
      () => {
        for (const client of api.server.clients) client.send('news')
      },
    ],
  ])('%s are not: 4401 when the session is idle', async (_, act) => {
    const gateway = await start(IDLE)
    const socket = await open(gateway, await gateway.signedIn())
    const { code, reason } = await untilClosed(socket, 200, () => act(socket))
    expect([code, reason]).toEqual([4401, 'idle'])
  })

  it('an absolute end closes it too', async () => {
    const gateway = await start({ COATCHECK_SESSION_ABSOLUTE: '3s' })
    const socket = await open(gateway, await gateway.signedIn())
    const { code, reason } = await untilClosed(socket, 200, () => socket.socket.send('busy'))
    expect([code, reason]).toEqual([4401, 'absolute'])
  })
})

describe('a route that takes anyone', () => {
  it('opens without a session and without a token, for our pages alone', async () => {
    const gateway = await startWholeGateway({
      env: { COATCHECK_UPSTREAM: undefined },
      file: () => ({
        routes: [{ path: '/api', upstream: api.url, webSocket: true, accept: ['anonymous'] }],
      }),
    })
    gateways.push(gateway)
    const { socket } = await openPageSocket({ port: gateway.port, origin: gateway.url })
    expect(api.handshakes.at(-1)?.headers.authorization).toBeUndefined()
    socket.terminate()
    const foreign = openPageSocket({ port: gateway.port, origin: 'https://evil.example' })
    await expect(foreign).rejects.toThrow('403')
  })
})
