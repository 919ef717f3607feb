import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { createUpstreamTls } from '../../../src/edges/upstream/tls.ts'
import { createShakeHands } from '../../../src/edges/upstream/upgrade.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { OpenSocket, UpstreamHandshake } from '../../../src/upstream/web-socket.ts'
import { selfSigned } from '../../support/certificates.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient, rawExchange, startRawUpstream } from './raw-sockets.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

type Outcome =
  | { readonly kind: 'open'; readonly socket: OpenSocket; readonly ended: Promise<string> }
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'client_left' }
  | GatewayError

interface Splicer {
  readonly port: number
  readonly url: string
  readonly outcomes: Outcome[]
  readonly sockets: Duplex[]
}

const withoutFraming = (rawHeaders: readonly string[]): string[] =>
  rawHeaders.flatMap((name, index) =>
    index % 2 === 0 && !/^(?:connection|upgrade|transfer-encoding|keep-alive)$/i.test(name)
      ? [name, rawHeaders[index + 1] ?? '']
      : [],
  )

const outcomeOf = async (handshake: UpstreamHandshake): Promise<Outcome> => {
  const answer = await createShakeHands(createUpstreamTls())(handshake)
  if (answer.kind === 'client_left') return answer
  const headers = withoutFraming(answer.rawHeaders)
  if (answer.kind === 'refused') {
    await answer.pass(headers)
    return { kind: 'refused', status: answer.status }
  }
  const ended = Promise.withResolvers<string>()
  const socket = answer.open(headers, {
    fromClient() {},
    fromUpstream() {},
    ended: ended.resolve,
  })
  return { kind: 'open', socket, ended: ended.promise }
}

/** A server that sends every handshake on to the origin and notes what became of it. */
const startSplicer = async (
  origin: string,
  options: Partial<UpstreamHandshake> = {},
): Promise<Splicer> => {
  const outcomes: Outcome[] = []
  const sockets: Duplex[] = []
  const server = createServer((_req, res) => res.end('alive'))
  server.on('upgrade', (req: IncomingMessage, socket, head) => {
    sockets.push(socket)
    const handshake = req.rawHeaders.flatMap((name, index) =>
      index % 2 === 0 && /^sec-/i.test(name) ? [name, req.rawHeaders[index + 1] ?? ''] : [],
    )
    outcomeOf({
      origin,
      path: req.url ?? '',
      headers: ['Host', new URL(origin).host, ...handshake],
      socket,
      head,
      connectMs: 2_000,
      answerMs: 2_000,
      ...options,
    }).then(
      (outcome) => outcomes.push(outcome),
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

/** RFC 6455 §1.3: the answer to that very key. */
const AGREED =
  'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n'

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
      connection.socket.write(`${AGREED}from-upstream`)
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
      connection.socket.end(`${AGREED}${last}`)
    })
    closers.push(() => upstream.close())
    const { port } = await startSplicer(upstream.url)
    const answer = await rawExchange(port, HANDSHAKE)
    expect(answer.endsWith(last)).toBe(true)
  })

  describe('the last bytes before an end, whose reader stands still', () => {
    const LAST = 'the very last'
    const PART = 'x'.repeat(32 * 1024)

    /** The kernel takes nothing more for the client, a last part waits in the gateway, and the upstream is gone. */
    const startStandstill = async () => {
      let sent = ''
      const paused = Promise.withResolvers<void>()
      const waiting = () => splicer.sockets[0]?.writableLength ?? 0
      const upstream = await startRawUpstream(async ({ socket, receives }) => {
        await receives('\r\n\r\n')
        socket.write(AGREED)
        await paused.promise
        while (waiting() === 0) {
          socket.write(PART)
          sent += PART
          await sleep(1)
        }
        sent += LAST
        socket.end(LAST)
      })
      closers.push(() => upstream.close())
      const splicer = await startSplicer(upstream.url)
      const client = await rawClient(splicer.port, HANDSHAKE)
      await client.receives('101')
      client.socket.pause()
      paused.resolve()
      const isEnding = () => splicer.sockets[0]?.writableEnded
      await waitFor('the end has come', isEnding, { timeoutMs: 20_000 })
      const outcome = splicer.outcomes[0] ?? expect.unreachable()
      if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
      return { client, outcome, sent: () => sent }
    }

    it('wait for it', async () => {
      const { client, sent } = await startStandstill()
      await sleep(3_000)
      client.socket.resume()
      await within(5_000, 'closed', client.closed)
      expect(client.received().endsWith(`\r\n\r\n${sent()}`)).toBe(true)
    })

    it('hold up no last word of the gateway', async () => {
      const { client, outcome } = await startStandstill()
      outcome.socket.close(4401, 'logout')
      expect(await within(4_000, 'both connections are closed', outcome.ended)).toBe('upstream')
      client.socket.destroy()
    })
  })

  it('a reader that stalls holds back the writer, not the memory', async () => {
    let writable = 0
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(AGREED)
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

  it.each([
    ['no Sec-WebSocket-Accept', ''],
    ['that of another key', 'Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n'],
    [
      'two of them',
      'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n',
    ],
  ])('RFC 6455 §4.1 the upstream agrees with %s', async (_, accept) => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${accept}\r\n`,
        ),
      ),
    )
    closers.push(() => upstream.close())
    expect(await faultOf(await startSplicer(upstream.url))).toEqual({
      code: 'upstream_unreachable',
      reason: 'accept_mismatch',
    })
  })

  it('RFC 9112 §7 the upstream refuses in a transfer coding that nobody asked for', async () => {
    const upstream = await startRawUpstream(({ socket, receives }) =>
      receives('\r\n\r\n').then(() =>
        socket.write('HTTP/1.1 403 No\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'),
      ),
    )
    closers.push(() => upstream.close())
    expect(await faultOf(await startSplicer(upstream.url))).toEqual({
      code: 'upstream_unreachable',
      reason: 'transfer_coding',
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

/** Frames of a server: their lengths in all three forms, and payloads that look like headers. */
const messageFrame = (payload: Buffer): Buffer => {
  const long = Buffer.alloc(8)
  long.writeBigUInt64BE(BigInt(payload.length))
  return Buffer.concat([Buffer.from([0x82, 127]), long, payload])
}

describe('the last word of the gateway', () => {
  it('RFC 6455 §5.5.1 is a close frame to both ends, with its code and reason', async () => {
    const echo = await startEcho()
    const { url, outcomes } = await startSplicer(echo.origin)
    const webSocket = await opened(url)
    const atUpstream = once([...echo.server.clients][0] as WebSocket, 'close')
    const atClient = once(webSocket, 'close')
    const outcome = await waitFor('the outcome', () => outcomes[0])
    if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
    outcome.socket.close(4401, 'logout')
    for (const closed of [atClient, atUpstream]) {
      const [code, reason] = await within(3_000, 'closed', closed)
      expect([code, String(reason)]).toEqual([4401, 'logout'])
    }
    expect(await within(3_000, 'both connections are closed', outcome.ended)).toBe('gateway')
  })

  it('comes behind the frame that is on its way, however that is cut', async () => {
    const frame = messageFrame(Buffer.alloc(300_000, 0x88))
    const release = Promise.withResolvers<void>()
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(Buffer.concat([Buffer.from(AGREED), frame.subarray(0, 100_000)]))
      await release.promise
      // The rest of it, with another frame in the same breath, which comes too late.
      socket.write(Buffer.concat([frame.subarray(100_000), messageFrame(Buffer.from('late'))]))
    })
    closers.push(() => upstream.close())
    const { port, outcomes } = await startSplicer(upstream.url)
    const client = await rawClient(port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => outcomes[0])
    if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
    await waitFor('a part of the frame', () => client.received().length > 100_000)
    outcome.socket.close(1001, 'going away')
    release.resolve()
    const expected = `${frame.toString('latin1')}\x88\x0c\x03\xe9going away`
    await waitFor('the close frame', () => client.received().endsWith('going away'))
    expect(client.received().endsWith(expected)).toBe(true)
    await within(4_000, 'cut, for the client says nothing', outcome.ended)
  })

  it('is not said twice where an end has closed already', async () => {
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(Buffer.concat([Buffer.from(AGREED), Buffer.from([0x88, 0x02, 0x03, 0xe8])]))
    })
    closers.push(() => upstream.close())
    const { port, outcomes } = await startSplicer(upstream.url)
    const client = await rawClient(port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => outcomes[0])
    if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
    await client.receives('\x88\x02\x03\xe8')
    outcome.socket.close(4401, 'logout')
    expect(await within(4_000, 'both connections are closed', outcome.ended)).toBe('upstream')
    expect(client.received()).not.toContain('logout')
  })

  it('waits for no answer for ever, and not behind a frame without an end', async () => {
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(
        Buffer.concat([Buffer.from(AGREED), Buffer.from([0x82, 127]), Buffer.alloc(8, 1)]),
      )
    })
    closers.push(() => upstream.close())
    const { port, outcomes } = await startSplicer(upstream.url)
    const client = await rawClient(port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => outcomes[0])
    if (outcome instanceof GatewayError || outcome.kind !== 'open') expect.unreachable()
    outcome.socket.close(4401, 'logout')
    expect(await within(4_000, 'both connections are closed', outcome.ended)).toBe('gateway')
    await within(1_000, 'the client is closed', client.closed)
  })
})

describe('TLS', () => {
  it('an upstream whose certificate nobody vouches for is refused', async () => {
    const { key, cert } = selfSigned('localhost')
    const echo = await startEcho(createTlsServer({ key, cert }))
    const splicer = await startSplicer(echo.origin.replace('http://127.0.0.1', 'https://localhost'))
    await rawClient(splicer.port, HANDSHAKE)
    const outcome = await waitFor('the outcome', () => splicer.outcomes[0])
    expect(outcome).toMatchObject({ code: 'upstream_unreachable', reason: 'tls_untrusted' })
  })
})
