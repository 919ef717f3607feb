import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import {
  spliceUpgrade,
  type UpgradeRequest,
  type UpgradeResult,
} from '../../../src/edges/upstream/upgrade.ts'
import { GatewayError } from '../../../src/errors.ts'
import { selfSigned } from '../../support/certificates.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient, rawExchange, startRawUpstream } from './raw-sockets.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

type Outcome = UpgradeResult | GatewayError

interface Splicer {
  readonly port: number
  readonly url: string
  readonly outcomes: Outcome[]
  readonly sockets: Duplex[]
}

/** A server that sends every handshake on to the origin and notes what became of it. */
const startSplicer = async (
  origin: string,
  options: Partial<UpgradeRequest> = {},
): Promise<Splicer> => {
  const outcomes: Outcome[] = []
  const sockets: Duplex[] = []
  const server = createServer((_req, res) => res.end('alive'))
  server.on('upgrade', (req: IncomingMessage, socket, head) => {
    sockets.push(socket)
    const handshake = req.rawHeaders.flatMap((name, index) =>
      index % 2 === 0 && /^sec-/i.test(name) ? [name, req.rawHeaders[index + 1] ?? ''] : [],
    )
    spliceUpgrade({
      origin,
      path: req.url ?? '',
      headers: ['Host', new URL(origin).host, ...handshake],
      socket,
      head,
      answerMs: 2_000,
      responseHeaders: (_status, rawHeaders) =>
        rawHeaders.flatMap((name, index) =>
          index % 2 === 0 && !/^(?:connection|upgrade|transfer-encoding|keep-alive)$/i.test(name)
            ? [name, rawHeaders[index + 1] ?? '']
            : [],
        ),
      ...options,
    }).then(
      (result) => outcomes.push(result),
      (error: unknown) => {
        outcomes.push(error as GatewayError)
        socket.destroy()
      },
    )
  })
  await listen(server)
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return { port, url: `ws://127.0.0.1:${port}`, outcomes, sockets }
}

const listen = (server: Server) =>
  new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))

interface Echo {
  readonly origin: string
  readonly server: WebSocketServer
  readonly http: Server
}

const startEcho = async (http = createServer()): Promise<Echo> => {
  const server = new WebSocketServer({
    server: http,
    perMessageDeflate: true,
    handleProtocols: (protocols) => (protocols.has('chat') ? 'chat' : false),
  })
  server.on('connection', (webSocket) => {
    webSocket.on('error', () => undefined)
    webSocket.on('message', (message, isBinary) => webSocket.send(message, { binary: isBinary }))
  })
  await listen(http)
  closers.push(() => {
    for (const client of server.clients) client.terminate()
    server.close()
    http.close()
    http.closeAllConnections()
  })
  const { port } = http.address() as AddressInfo
  return { origin: `http://127.0.0.1:${port}`, server, http }
}

const opened = async (url: string, protocols: string[] = []): Promise<WebSocket> => {
  const webSocket = new WebSocket(url, protocols)
  webSocket.on('error', () => undefined)
  closers.push(() => webSocket.terminate())
  await within(3_000, 'the WebSocket opens', once(webSocket, 'open'))
  return webSocket
}

const HANDSHAKE =
  'GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

describe('a WebSocket through the splice', () => {
  it('RFC 6455 §4.2.2 subprotocol and compression are what the upstream chose', async () => {
    const echo = await startEcho()
    const { url, outcomes } = await startSplicer(echo.origin)
    const webSocket = await opened(url, ['other', 'chat'])
    expect(webSocket.protocol).toBe('chat')
    expect(webSocket.extensions).toContain('permessage-deflate')
    expect(outcomes).toMatchObject([{ kind: 'open' }])
  })

  it('large messages come back whole, both ways at once', async () => {
    const echo = await startEcho()
    const { url } = await startSplicer(echo.origin)
    const webSocket = await opened(url)
    const message = Buffer.alloc(5 * 1024 * 1024, 'abcdefg')
    const received: Buffer[] = []
    webSocket.on('message', (chunk: Buffer) => received.push(chunk))
    webSocket.send(message)
    webSocket.send('text')
    await waitFor('both messages are back', () => received.length === 2)
    expect(received[0]?.equals(message)).toBe(true)
    expect(received[1]?.toString()).toBe('text')
  })

  it('RFC 6455 §7 close codes pass in both directions, and both sockets end', async () => {
    const echo = await startEcho()
    const { url, outcomes } = await startSplicer(echo.origin)

    const first = await opened(url)
    const atUpstream = once([...echo.server.clients][0] as WebSocket, 'close')
    first.close(4321, 'bye')
    expect((await within(2_000, 'closed upstream', atUpstream))[0]).toBe(4321)

    const second = await opened(url)
    const atClient = once(second, 'close')
    for (const client of echo.server.clients) client.close(4999, 'go')
    expect((await within(2_000, 'closed at the client', atClient))[0]).toBe(4999)

    for (const outcome of outcomes) {
      if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
      await within(4_000, 'both sockets closed', outcome.ended)
    }
  })

  it('a client that resets takes the upstream down with it, and the other way round', async () => {
    const echo = await startEcho()
    const { url } = await startSplicer(echo.origin)

    const first = await opened(url)
    const atUpstream = once([...echo.server.clients][0] as WebSocket, 'close')
    first.terminate()
    expect((await within(4_000, 'closed upstream', atUpstream))[0]).toBe(1006)

    const second = await opened(url)
    const atClient = once(second, 'close')
    for (const client of echo.server.clients) client.terminate()
    expect((await within(4_000, 'closed at the client', atClient))[0]).toBe(1006)
  })

  it('what either side says directly behind the handshake is not lost', async () => {
    const upstream = await startRawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfrom-upstream',
      )
    })
    closers.push(() => upstream.close())
    const { port } = await startSplicer(upstream.url)
    const client = await rawClient(port, `${HANDSHAKE}from-client`)
    await client.receives('from-upstream')
    await upstream.connections[0]?.receives('from-client')
    client.socket.destroy()
  })

  it('the last bytes before an end arrive', async () => {
    const last = 'x'.repeat(1024 * 1024)
    const upstream = await startRawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.end(
        `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${last}`,
      )
    })
    closers.push(() => upstream.close())
    const { port } = await startSplicer(upstream.url)
    const answer = await rawExchange(port, HANDSHAKE)
    expect(answer.endsWith(last)).toBe(true)
  })

  it('a reader that stalls holds back the writer, not the memory', async () => {
    let writable = 0
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
      )
      const chunk = Buffer.alloc(1024 * 1024)
      const pump = () => {
        while (writable < 200 && socket.write(chunk)) writable += 1
      }
      socket.on('drain', () => {
        writable += 1
        pump()
      })
      pump()
    })
    closers.push(() => upstream.close())
    const { port, sockets } = await startSplicer(upstream.url)
    const client = await rawClient(port, HANDSHAKE)
    await client.receives('101')
    client.socket.pause()
    let before = -1
    await waitFor(
      'the writer stands still',
      () => {
        const isStill = writable === before
        before = writable
        return isStill
      },
      { intervalMs: 300 },
    )
    expect(writable).toBeLessThan(100)
    expect(sockets[0]?.writableLength).toBeLessThan(4 * 1024 * 1024)
    client.socket.destroy()
  })
})

describe('what the upstream gets', () => {
  it('RFC 9110 §7.8 Connection and Upgrade made anew, the given headers, GET and the path', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() => socket.end('HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n')),
    )
    closers.push(() => upstream.close())
    const { port } = await startSplicer(upstream.url, {
      headers: ['Host', 'app.internal', 'X-One', 'a', 'X-One', 'b'],
      path: '/hub?x=%2F',
    })
    await rawExchange(port, HANDSHAKE)
    expect(upstream.connections[0]?.received()).toBe(
      'GET /hub?x=%2F HTTP/1.1\r\nHost: app.internal\r\nX-One: a\r\nX-One: b\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n',
    )
  })
})

describe('a refusal', () => {
  it('RFC 6455 §4.2.2 is passed with status, headers and body', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write(
          'HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nWWW-Authenticate: Bearer\r\nContent-Length: 9\r\n\r\nsign in 1',
        ),
      ),
    )
    closers.push(() => upstream.close())
    const { port, outcomes } = await startSplicer(upstream.url)
    const answer = await rawExchange(port, HANDSHAKE)
    expect(answer).toBe(
      'HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nWWW-Authenticate: Bearer\r\nContent-Length: 9\r\nconnection: close\r\n\r\nsign in 1',
    )
    await waitFor('the outcome', () => outcomes.length === 1)
    expect(outcomes).toEqual([{ kind: 'refused', status: 401 }])
  })

  it('a chunked body comes without its framing', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write('HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'),
      ),
    )
    closers.push(() => upstream.close())
    const { port } = await startSplicer(upstream.url)
    expect(await rawExchange(port, HANDSHAKE)).toBe(
      'HTTP/1.1 403 No\r\nconnection: close\r\n\r\nabc',
    )
  })

  it('a body that does not end is cut at the limit', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write('HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhalf'),
      ),
    )
    closers.push(() => upstream.close())
    const { port, outcomes } = await startSplicer(upstream.url, { answerMs: 300 })
    const answer = await rawExchange(port, HANDSHAKE)
    expect(answer).toMatch(/Content-Length: 10\r\n[\s\S]*half$/)
    await waitFor('the outcome', () => outcomes.length === 1)
  })
})

describe('a handshake that comes to nothing', () => {
  const faultOf = async (splicer: Splicer) => {
    const client = await rawClient(splicer.port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => splicer.outcomes[0])
    expect(client.received()).toBe('')
    expect(outcome).toBeInstanceOf(GatewayError)
    const { code, reason } = outcome as GatewayError
    return { code, reason }
  }

  it('nobody listens', async () => {
    const splicer = await startSplicer('http://127.0.0.1:1')
    expect(await faultOf(splicer)).toEqual({
      code: 'upstream_unreachable',
      reason: 'handshake_failed',
    })
  })

  it.each([
    ['hangs up', (socket: Duplex) => socket.destroy()],
    ['answers no HTTP', (socket: Duplex) => socket.end('hello\r\n\r\n')],
    ['ends in the middle of its head', (socket: Duplex) => socket.end('HTTP/1.1 101 Sw')],
  ])('the upstream %s', async (_, script) => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() => script(socket)),
    )
    closers.push(() => upstream.close())
    expect(await faultOf(await startSplicer(upstream.url))).toEqual({
      code: 'upstream_unreachable',
      reason: 'handshake_failed',
    })
  })

  it('the upstream agrees to another protocol', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
        ),
      ),
    )
    closers.push(() => upstream.close())
    expect(await faultOf(await startSplicer(upstream.url))).toEqual({
      code: 'upstream_unreachable',
      reason: 'other_protocol',
    })
  })

  it('the upstream says nothing in time, and its connection is closed', async () => {
    const upstream = await startRawUpstream(() => undefined)
    closers.push(() => upstream.close())
    const splicer = await startSplicer(upstream.url, { answerMs: 200 })
    expect(await faultOf(splicer)).toEqual({ code: 'upstream_timeout', reason: 'handshake' })
    await within(
      2_000,
      'the connection is closed',
      upstream.connections[0]?.closed ?? Promise.reject(),
    )
  })

  it('the client leaves first, and the upstream’s connection is closed', async () => {
    const upstream = await startRawUpstream(() => undefined)
    closers.push(() => upstream.close())
    const splicer = await startSplicer(upstream.url)
    const client = await rawClient(splicer.port, HANDSHAKE)
    const connection = await waitFor('the upstream is called', () => upstream.connections[0])
    client.socket.resetAndDestroy()
    splicer.sockets[0]?.resume()
    await within(2_000, 'the connection is closed', connection.closed)
    await waitFor('the outcome', () => splicer.outcomes.length === 1)
    expect(splicer.outcomes).toEqual([{ kind: 'client_left' }])
  })
})

describe('TLS', () => {
  it('an upstream whose certificate nobody vouches for is refused', async () => {
    const { key, cert } = selfSigned('localhost')
    const echo = await startEcho(createTlsServer({ key, cert }))
    const splicer = await startSplicer(echo.origin.replace('http://127.0.0.1', 'https://localhost'))
    await rawClient(splicer.port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => splicer.outcomes[0])
    expect(outcome).toMatchObject({ code: 'upstream_unreachable', reason: 'handshake_failed' })
  })
})
