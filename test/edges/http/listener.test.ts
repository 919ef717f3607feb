import { once } from 'node:events'
import { createServer, type RequestListener, STATUS_CODES } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import {
  LISTENER_LIMITS,
  ListenError,
  type ListenerOptions,
  type ListeningServer,
  startListener,
} from '../../../src/edges/http/listener.ts'
import { ERRORS, type ErrorCode } from '../../../src/errors.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient, rawExchange } from '../upstream/raw-sockets.ts'

const started: ListeningServer[] = []
afterEach(async () => {
  await within(5_000, 'every listener closes', Promise.all(started.splice(0).map((s) => s.close())))
})

interface Started {
  readonly server: ListeningServer
  readonly port: number
  /** Request targets that reached the listener. */
  readonly served: string[]
  readonly errors: unknown[]
}

const ok: RequestListener = (_req, res) => {
  res.end('ok')
}

const start = async (
  listener: RequestListener = ok,
  options: Partial<ListenerOptions> = {},
): Promise<Started> => {
  const served: string[] = []
  const errors: unknown[] = []
  const server = await startListener({
    listener: (req, res) => {
      served.push(req.url ?? '')
      return listener(req, res)
    },
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => errors.push(error),
    ...options,
  })
  started.push(server)
  return { server, port: server.address.port, served, errors }
}

const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`
const closing = 'Connection: close\r\n'
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])

describe('heads that RFC 9112 does not allow', () => {
  const head = (lines: string) => `${lines}\r\n\r\n`
  const REFUSED: readonly (readonly [string, string, number])[] = [
    ['§3.2 two Host lines', head('GET /x HTTP/1.1\r\nHost: a\r\nHost: b'), 400],
    ['§3.2 two equal Host lines', head('GET /x HTTP/1.1\r\nHost: a\r\nhOST: a'), 400],
    ['§3.2 no Host', head('GET /x HTTP/1.1\r\nAccept: */*'), 400],
    ['§3.2 an empty Host', head('GET /x HTTP/1.1\r\nHost:'), 400],
    ['§3.2 a Host with a path', head('GET /x HTTP/1.1\r\nHost: a/b'), 400],
    ['§3.2 a Host with user information', head('GET /x HTTP/1.1\r\nHost: u:p@evil'), 400],
    ['§3.2 a Host with a space', head('GET /x HTTP/1.1\r\nHost: a b'), 400],
    ['§3.2 a Host that is a list', head('GET /x HTTP/1.1\r\nHost: a, b'), 400],
    ['§3.2 a Host with a backslash', head('GET /x HTTP/1.1\r\nHost: a\\b'), 400],
    ['§3.2 a Host with a word for a port', head('GET /x HTTP/1.1\r\nHost: a:http'), 400],
    ['§3.2 a Host with percent signs', head('GET /x HTTP/1.1\r\nHost: a%2f'), 400],
    ['§5.1 a space before the colon', head('GET /x HTTP/1.1\r\nHost : a'), 400],
    ['§5.2 obs-fold', head('GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2'), 400],
    ['§2.2 a bare CR', head('GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r2'), 400],
    ['§2.2 a leading space', head('GET /x HTTP/1.1\r\n Host: a'), 400],
    ['§5 NUL in a value', head('GET /x HTTP/1.1\r\nHost: a\r\nX: 1\0'), 400],
    [
      '§6.1 Transfer-Encoding and Content-Length',
      `${head('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked')}0\r\n\r\n`,
      400,
    ],
    ['§6.3 two lengths', head('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2'), 400],
    ['§6.3 a signed length', head('POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +1'), 400],
    [
      '§6.3 chunked not last',
      head('POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip'),
      400,
    ],
    ['§3 no HTTP at all', 'hello\r\n\r\n', 400],
  ]

  it.each(REFUSED)('RFC 9112 %s is refused and the connection closed', async (_, bytes, status) => {
    const { port, served } = await start()
    const answer = await rawExchange(port, `${bytes}${get('/smuggled')}`)
    expect(statusOf(answer)).toBe(status)
    expect(answer).toMatch(/\r\nconnection: close\r\n/i)
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1)
    expect(served).toEqual([])
    expect(statusOf(await rawExchange(port, get('/alive', closing)))).toBe(200)
  })

  it.each(['example.com', 'example.com:8443', 'my_service:80', '127.0.0.1:1', '[::1]:3000'])(
    'RFC 9112 §3.2 serves Host: %s',
    async (host) => {
      const { port } = await start()
      const answer = await rawExchange(port, `GET /x HTTP/1.1\r\nHost: ${host}\r\n${closing}\r\n`)
      expect(statusOf(answer)).toBe(200)
    },
  )

  it('RFC 9112 §3.2 serves HTTP/1.0 without Host', async () => {
    const { port } = await start()
    expect(statusOf(await rawExchange(port, 'GET /x HTTP/1.0\r\n\r\n'))).toBe(200)
  })

  it('RFC 9112 §7.1 a broken chunk ends the connection without a second status line', async () => {
    const { port } = await start((req, res) => {
      res.write('first')
      req.on('error', () => undefined).resume()
    })
    const client = await rawClient(
      port,
      'POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n',
    )
    await client.receives('first')
    client.socket.write('zz\r\nnonsense')
    await within(2_000, 'the connection ends', client.closed)
    expect(client.received().match(/HTTP\/1\.1/g)).toHaveLength(1)
  })

  it('RFC 6585 §5 a head beyond 32 KiB gets 431, one below it is served', async () => {
    const { port, served } = await start()
    const filler = (bytes: number) => `X-Filler: ${'x'.repeat(bytes)}\r\n${closing}`
    expect(statusOf(await rawExchange(port, get('/large', filler(33_000))))).toBe(431)
    expect(statusOf(await rawExchange(port, get('/fits', filler(32_000))))).toBe(200)
    expect(served).toEqual(['/fits'])
  })

  const unread: readonly (readonly [number, ErrorCode, string])[] = [
    [400, 'request_invalid', 'nonsense\r\n\r\n'],
    [400, 'request_invalid', `GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n`],
    [405, 'method_not_allowed', 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n'],
    [417, 'expectation_failed', get('/x', 'Expect: the-impossible\r\n')],
    [431, 'headers_too_large', get('/x', `X: ${'x'.repeat(33_000)}\r\n`)],
    [431, 'headers_too_large', get('/x', 'X: 1\r\n'.repeat(300))],
    [501, 'coding_not_implemented', get('/x', 'Transfer-Encoding: gzip, chunked\r\n')],
    [505, 'version_not_supported', 'GET /x HTTP/2.0\r\nHost: a\r\n\r\n'],
  ]
  it.each(unread)(
    'RFC 9457 §3.1 what is refused unread is a problem (%i %s)',
    async (status, code, request) => {
      const refused: ErrorCode[] = []
      const { port } = await start(ok, { onRefused: (refusedWith) => refused.push(refusedWith) })
      const answer = await rawExchange(port, request)
      expect(refused).toEqual([code])
      const [head = '', body = ''] = answer.split('\r\n\r\n')
      expect(head.split('\r\n')[0]).toBe(`HTTP/1.1 ${status} ${STATUS_CODES[status]}`)
      expect(head.toLowerCase()).toContain('\r\ncontent-type: application/problem+json')
      expect(head.toLowerCase()).toContain(`\r\ncontent-length: ${Buffer.byteLength(body)}`)
      const { title, detail, retryable } = ERRORS[code]
      const type = `urn:coatcheck:problem:${code}`
      expect(JSON.parse(body)).toEqual({ type, title, status, code, detail, retryable })
    },
  )

  it('RFC 6585 §5 more lines than are read get 431, not a request without some of them', async () => {
    const { port, served } = await start()
    const lines = (count: number) => 'X: 1\r\n'.repeat(count - 2) + closing
    const { headerLinesMax } = LISTENER_LIMITS
    expect(statusOf(await rawExchange(port, get('/many', lines(headerLinesMax + 1))))).toBe(431)
    expect(statusOf(await rawExchange(port, get('/fits', lines(headerLinesMax))))).toBe(200)
    expect(served).toEqual(['/fits'])
  })
})

describe('slow clients', () => {
  const limits = { ...LISTENER_LIMITS, headMs: 300 }

  it('a head that does not end gets 408, however steadily it trickles', async () => {
    const { port, served } = await start(ok, { limits })
    const client = await rawClient(port, 'GET /x HTTP/1.1\r\nHost: a\r\n')
    const trickle = setInterval(() => client.socket.write('X: 1\r\n'), 50)
    try {
      await within(4_000, 'the slow head is ended', client.closed)
    } finally {
      clearInterval(trickle)
    }
    expect(statusOf(client.received())).toBe(408)
    expect(served).toEqual([])
  })

  it('a connection that never says anything is closed', async () => {
    const { port } = await start(ok, { limits })
    const client = await rawClient(port, '')
    await within(4_000, 'the silent connection is ended', client.closed)
  })

  it('a body that keeps moving may take longer than a head', async () => {
    const { port } = await start(
      async (req, res) => {
        let bytes = 0
        for await (const chunk of req) bytes += (chunk as Buffer).length
        res.end(String(bytes))
      },
      { limits },
    )
    const client = await rawClient(
      port,
      `POST /x HTTP/1.1\r\nHost: a\r\n${closing}Content-Length: 10\r\n\r\n`,
    )
    for (let sent = 0; sent < 10; sent += 1) {
      await sleep(100)
      client.socket.write('x')
    }
    await within(2_000, 'the answer', client.closed)
    expect(statusOf(client.received())).toBe(200)
  })
})

describe('what is not for a reverse proxy', () => {
  it('RFC 9110 §9.3.6 CONNECT is refused and its connection closed', async () => {
    const { port, served } = await start()
    const answer = await rawExchange(port, 'CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n')
    expect(statusOf(answer)).toBe(405)
    expect(answer).toMatch(/\r\nallow: \r\n/)
    expect(served).toEqual([])
  })

  it('RFC 9110 §10.1.1 an unknown expectation gets 417', async () => {
    const { port, served } = await start()
    const answer = await rawExchange(port, get('/x', `Expect: a-miracle\r\n${closing}`))
    expect(statusOf(answer)).toBe(417)
    expect(served).toEqual([])
  })

  it('RFC 9110 §10.1.1 100-continue is answered', async () => {
    const { port } = await start((req, res) => {
      req.resume().on('end', () => res.end('read'))
    })
    const client = await rawClient(
      port,
      `POST /x HTTP/1.1\r\nHost: a\r\n${closing}Expect: 100-continue\r\nContent-Length: 1\r\n\r\n`,
    )
    await client.receives('HTTP/1.1 100 Continue\r\n\r\n')
    client.socket.write('x')
    await client.receives('HTTP/1.1 200 OK')
  })

  it('RFC 9110 §7.8 an offered h2c is ignored and the request served', async () => {
    const { port, served } = await start(ok, { upgrade: (_req, socket) => socket.destroy() })
    const answer = await rawExchange(
      port,
      get(
        '/x',
        'Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n',
      ),
    )
    expect(statusOf(answer)).toBe(200)
    expect(served).toEqual(['/x'])
  })
})

const HANDSHAKE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

describe('WebSocket handshakes', () => {
  const open = (_req: unknown, socket: Duplex) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n')
  }

  it.each([
    ['another version', get('/x', HANDSHAKE.replace('13', '8')), 426],
    ['no version', get('/x', HANDSHAKE.replace('Sec-WebSocket-Version: 13\r\n', '')), 426],
    ['no key', get('/x', HANDSHAKE.replace(/Sec-WebSocket-Key.*\r\n/, '')), 400],
    ['a short key', get('/x', HANDSHAKE.replace('dGhlIHNhbXBsZSBub25jZQ==', 'abc=')), 400],
    ['POST', get('/x', HANDSHAKE).replace('GET', 'POST'), 400],
    ['a body', get('/x', `${HANDSHAKE}Content-Length: 5\r\n`), 400],
    ['two Host lines', get('/x', `Host: b\r\n${HANDSHAKE}`), 400],
  ])('RFC 6455 §4.2.1 %s is refused', async (_, bytes, status) => {
    const upgrades: unknown[] = []
    const { port } = await start(ok, { upgrade: (req) => upgrades.push(req) })
    const answer = await rawExchange(port, bytes)
    expect(statusOf(answer)).toBe(status)
    if (status === 426) expect(answer).toContain('sec-websocket-version: 13\r\n')
    expect(upgrades).toEqual([])
  })

  it('RFC 6455 §4.2.1 a correct one reaches the gateway with what follows it', async () => {
    const heads: string[] = []
    const { port } = await start(ok, {
      upgrade: (req, socket, head) => {
        heads.push(head.toString())
        open(req, socket)
      },
    })
    const client = await rawClient(port, `${get('/x', HANDSHAKE)}early`)
    await client.receives('101')
    expect(heads).toEqual(['early'])
    client.socket.destroy()
  })

  it('a handshake behind an unanswered request ends the connection', async () => {
    const upgrades: unknown[] = []
    const { port, served } = await start(() => undefined, { upgrade: (req) => upgrades.push(req) })
    expect(await rawExchange(port, get('/slow') + get('/ws', HANDSHAKE))).toBe('')
    expect(served).toEqual(['/slow'])
    expect(upgrades).toEqual([])
  })

  it('a client that resets its connection costs nothing but itself', async () => {
    const sockets: Duplex[] = []
    const { port } = await start(ok, {
      upgrade: (req, socket) => {
        sockets.push(socket)
        open(req, socket)
      },
    })
    const client = await rawClient(port, get('/x', HANDSHAKE))
    await client.receives('101')
    client.socket.resetAndDestroy()
    sockets[0]?.resume()
    await waitFor('the socket is gone', () => sockets[0]?.destroyed)
    expect(statusOf(await rawExchange(port, get('/alive', closing)))).toBe(200)
  })

  it('a client that keeps its side open after the end is cut', async () => {
    const sockets: Duplex[] = []
    const { port } = await start(ok, {
      upgrade: (_req, socket) => {
        sockets.push(socket)
        socket.end('HTTP/1.1 403 No\r\n\r\n')
      },
    })
    const client = await rawClient(port, '')
    client.socket.allowHalfOpen = true
    client.socket.write(get('/x', HANDSHAKE))
    await client.receives('403')
    await waitFor('the socket is gone', () => sockets[0]?.destroyed)
    client.socket.destroy()
  })

  it('a gateway that throws answers 500', async () => {
    const { port, errors } = await start(ok, {
      upgrade: () => {
        throw new Error('a fault')
      },
    })
    expect(statusOf(await rawExchange(port, get('/x', HANDSHAKE)))).toBe(500)
    expect(errors).toHaveLength(1)
  })
})

describe('the last net', () => {
  const FAULTS: readonly (readonly [string, RequestListener])[] = [
    [
      'throws',
      () => {
        throw new Error('a fault')
      },
    ],
    ['rejects', (async () => Promise.reject(new Error('a fault'))) as RequestListener],
  ]

  it.each(FAULTS)('a listener that %s costs its own request', async (_, fault) => {
    const { port, errors } = await start((req, res) => (req.url === '/x' ? fault : ok)(req, res))
    expect(statusOf(await rawExchange(port, get('/x')))).toBe(500)
    expect(errors).toHaveLength(1)
    expect(statusOf(await rawExchange(port, get('/alive', closing)))).toBe(200)
  })

  it('a fault after the head leaves the answer visibly cut', async () => {
    const { port } = await start((_req, res) => {
      res.writeHead(200, { 'content-length': 10 })
      res.write('half')
      throw new Error('a fault')
    })
    const answer = await rawExchange(port, get('/x'))
    expect(answer.match(/HTTP\/1\.1/g)?.length ?? 0).toBeLessThanOrEqual(1)
    expect(answer).not.toContain('500')
  })
})

describe('an address that cannot be had', () => {
  it('says in words that the port is taken', async () => {
    const holder = createServer().listen(0, '127.0.0.1')
    await once(holder, 'listening')
    const { port } = holder.address() as AddressInfo
    try {
      const attempt = start(ok, { address: { host: '127.0.0.1', port } })
      await expect(attempt).rejects.toThrow(
        `cannot listen on 127.0.0.1:${port}: another process uses this port`,
      )
      await expect(attempt).rejects.toBeInstanceOf(ListenError)
      await expect(attempt).rejects.toMatchObject({ code: 'EADDRINUSE' })
    } finally {
      holder.close()
    }
  })

  it('says that the machine does not have it', async () => {
    await expect(start(ok, { address: { host: '192.0.2.1', port: 0 } })).rejects.toMatchObject({
      code: 'EADDRNOTAVAIL',
    })
  })
})

describe('drain', () => {
  /** Answers `/slow` when told to, everything else at once. */
  const slow = () => {
    const finish: (() => void)[] = []
    const listener: RequestListener = (req, res) => {
      if (req.url === '/slow') finish.push(() => res.end('done'))
      else res.end('ok')
    }
    return { finish, listener }
  }

  it('a request in flight finishes, and its answer says that the connection ends', async () => {
    const { finish, listener } = slow()
    const { server, port, served } = await start(listener)
    const client = await rawClient(port, get('/slow'))
    await waitFor('the request is in flight', () => served.length === 1)
    const drained = server.drain({ deadlineMs: 10_000 })
    await sleep(150)
    finish[0]?.()
    await within(2_000, 'drained', drained)
    await within(2_000, 'the connection ends', client.closed)
    expect(client.received()).toMatch(
      /^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close\r\n[\s\S]*done$/i,
    )
  })

  it('an answer that began before ends whole, and its connection is not kept', async () => {
    let finish = () => {}
    const { server, port } = await start((_req, res) => {
      res.write('one ')
      finish = () => res.end('two')
    })
    const client = await rawClient(port, get('/x'))
    await client.receives('one ')
    const drained = server.drain({ deadlineMs: 10_000 })
    finish()
    await within(2_000, 'drained', drained)
    expect(client.received()).toMatch(/one [\s\S]*two\r\n0\r\n\r\n$/)
  })

  it('a client that was promised to be kept may ask once more, and is told then', async () => {
    let finish = () => {}
    const { server, port } = await start((req, res) => {
      if (req.url === '/next') return void res.end('next')
      res.write('one ')
      finish = () => res.end('two')
    })
    const client = await rawClient(port, get('/x'))
    await client.receives('one ')
    const drained = server.drain({ deadlineMs: 10_000 })
    await sleep(100)
    finish()
    await client.receives('two')
    // Longer than idle connections are looked for: who asks at once must not depend on luck.
    await sleep(150)
    client.socket.write(get('/next'))
    await within(2_000, 'drained', Promise.all([drained, client.closed]))
    expect(client.received()).toMatch(/two[\s\S]*200 OK[\s\S]*connection: close[\s\S]*next$/i)
  })

  it('whoever answers without end is told when nobody new comes any more, and not before', async () => {
    const order: string[] = []
    let end = () => {}
    const { server, port } = await start((req, res) => {
      if (req.url === '/stream') {
        res.write('begun')
        end = () => res.end()
      } else res.end('ok')
    })
    const client = await rawClient(port, get('/stream'))
    await client.receives('begun')
    const drained = server.drain({
      delayMs: 200,
      deadlineMs: 10_000,
      onClosed: () => {
        order.push('closed')
        end()
      },
    })
    const early = await rawClient(port, get('/x'))
    await early.receives('ok')
    expect(order).toEqual([])
    await within(2_000, 'drained', drained)
    expect(order).toEqual(['closed'])
  })

  it('a kept-alive connection that is idle is closed', async () => {
    const { server, port } = await start()
    const client = await rawClient(port, get('/x'))
    await client.receives('ok')
    await within(2_000, 'drained', server.drain({ deadlineMs: 10_000 }))
    await within(2_000, 'the idle connection ends', client.closed)
  })

  it('during the delay requests are served with `Connection: close`, afterwards nobody listens', async () => {
    const { server, port } = await start()
    const kept = await rawClient(port, get('/first'))
    await kept.receives('ok')
    const drained = server.drain({ delayMs: 400, deadlineMs: 10_000 })
    kept.socket.write(get('/second'))
    await within(2_000, 'the kept connection ends', kept.closed)
    expect(kept.received()).toMatch(/connection: close\r\n[\s\S]*ok$/i)
    expect(await rawExchange(port, get('/new'))).toMatch(/^HTTP\/1\.1 200[\s\S]*connection: close/i)
    await within(2_000, 'drained', drained)
    await expect(rawClient(port, '')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  it('a header that the answer sets itself does not keep the connection', async () => {
    let finish = () => {}
    const { server, port, served } = await start((_req, res) => {
      finish = () => {
        res.writeHead(200, ['content-length', '2'])
        res.end('ok')
      }
    })
    const client = await rawClient(port, get('/x'))
    await waitFor('the request is in flight', () => served.length === 1)
    const drained = server.drain({ deadlineMs: 10_000 })
    finish()
    await within(2_000, 'drained', drained)
    expect(client.received()).toMatch(/connection: close\r\n/i)
  })

  it('at the deadline what still hangs is cut', async () => {
    const { listener } = slow()
    const { server, port, served } = await start(listener)
    const client = await rawClient(port, get('/slow'))
    await waitFor('the request is in flight', () => served.length === 1)
    const startedMs = performance.now()
    await within(3_000, 'drained', server.drain({ delayMs: 5_000, deadlineMs: 300 }))
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(290)
    await within(2_000, 'the connection is cut', client.closed)
    expect(client.received()).toBe('')
  })

  it('WebSockets are taken as long as requests are, and cut in the end when no request is left', async () => {
    const { finish, listener } = slow()
    const { server, port, served } = await start(listener, {
      upgrade: (_req, socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n'),
    })
    const webSocket = await rawClient(port, get('/ws', HANDSHAKE))
    await webSocket.receives('101')
    await rawClient(port, get('/slow'))
    await waitFor('the request is in flight', () => served.length === 1)
    const drained = server.drain({ delayMs: 200, deadlineMs: 10_000 })
    const later = await rawClient(port, get('/ws', HANDSHAKE))
    await later.receives('101')
    await sleep(400)
    expect(webSocket.socket.destroyed).toBe(false)
    finish[0]?.()
    await within(4_000, 'drained', drained)
    for (const { closed } of [webSocket, later]) await within(2_000, 'the WebSocket is cut', closed)
  })

  it('a handshake that waits for its answer is a request in flight', async () => {
    const sockets: Duplex[] = []
    const { server, port } = await start(() => undefined, {
      upgrade: (_req, socket) => void sockets.push(socket),
    })
    const webSocket = await rawClient(port, get('/ws', HANDSHAKE))
    await waitFor('the handshake is in flight', () => sockets.length === 1)
    const drained = server.drain({ deadlineMs: 10_000 })
    // Longer than an open WebSocket gets to close.
    await sleep(3_500)
    sockets[0]?.end('HTTP/1.1 101 Switching Protocols\r\n\r\n')
    await webSocket.receives('101')
    await within(4_000, 'drained', drained)
  })

  it('a second drain joins the first, and `close` ends it at once', async () => {
    const { listener } = slow()
    const { server, port, served } = await start(listener)
    await rawClient(port, get('/slow'))
    await waitFor('the request is in flight', () => served.length === 1)
    const first = server.drain({ deadlineMs: 30_000 })
    const second = server.drain({ deadlineMs: 1 })
    await sleep(100)
    await within(2_000, 'closed', server.close())
    await within(2_000, 'both drained', Promise.all([first, second]))
  })
})

describe('RFC 9110 §10.1.1 Expect: 100-continue', () => {
  const expecting = (length = 4) =>
    `POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`

  it('a request that is refused gets its answer, no 100, and the end of its connection', async () => {
    const { port } = await start(async (_req, res) => {
      await sleep(50)
      res.writeHead(401).end('no')
    })
    const answer = await rawExchange(port, expecting())
    expect(answer).toMatch(/^HTTP\/1\.1 401 /)
    expect(answer).toMatch(/\r\nconnection: close\r\n/i)
    expect(answer).not.toContain('100 Continue')
  })

  it('and neither does one that sends its body unasked', async () => {
    const { port } = await start(async (_req, res) => {
      await sleep(100)
      res.writeHead(401).end('no')
    })
    const answer = await rawExchange(port, `${expecting()}body${get('/smuggled')}`)
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 401'])
  })

  it('100 comes when the body is read, and the connection can be used again', async () => {
    const { port, served } = await start(async (req, res) => {
      await sleep(50)
      req.resume().on('end', () => res.end('read'))
    })
    const client = await rawClient(port, expecting())
    await client.receives(/^HTTP\/1\.1 100 Continue\r\n\r\n$/)
    client.socket.write(`body${get('/next', closing)}`)
    await within(2_000, 'the end', client.closed)
    expect(client.received().match(/HTTP\/1\.1 \d+/g)).toEqual([
      'HTTP/1.1 100',
      'HTTP/1.1 200',
      'HTTP/1.1 200',
    ])
    expect(served).toEqual(['/x', '/next'])
  })

  it('a broken head gets its refusal alone', async () => {
    const { port, served } = await start()
    const answer = await rawExchange(port, expecting().replace('Host: a', 'Host: a b'))
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).not.toContain('100 Continue')
    expect(served).toEqual([])
  })
})

describe('a body that nobody wants', () => {
  const limits = { ...LISTENER_LIMITS, unreadBodyMs: 300 }

  it('is dropped for a while, then its connection is cut, however busily it comes', async () => {
    const { port } = await start((_req, res) => void res.writeHead(401).end('no'), { limits })
    const client = await rawClient(
      port,
      `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 999\r\n\r\n`,
    )
    await client.receives('HTTP/1.1 401')
    const trickle = setInterval(() => client.socket.write('x'), 20)
    await within(3_000, 'the cut', client.closed)
    clearInterval(trickle)
  })

  it('that comes whole in time leaves its connection usable', async () => {
    const { port, served } = await start((_req, res) => void res.writeHead(401).end('no'), {
      limits,
    })
    const client = await rawClient(port, `POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n`)
    await client.receives('HTTP/1.1 401')
    client.socket.write('body')
    await sleep(500)
    client.socket.write(get('/next', closing))
    await within(2_000, 'the end', client.closed)
    expect(served).toEqual(['/x', '/next'])
  })
})
