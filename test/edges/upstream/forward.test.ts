/** Forwarding between real sockets: streams, truncation, departures, early answers, retries, limits. */

import { once } from 'node:events'
import type { ClientRequest, IncomingMessage } from 'node:http'
import { Agent, request as httpRequest } from 'node:http'
import type { Socket } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { RouteDefinition } from '../../../src/routing/route-table.ts'
import { milliseconds } from '../../../src/time.ts'
import type { UpstreamAnswer } from '../../support/upstream-api.ts'
import { startUpstreamApi } from '../../support/upstream-api.ts'
import { waitFor, within } from '../../support/wait.ts'
import type { RawConnection } from './raw-sockets.ts'
import { rawClient, rawExchange, startRawUpstream } from './raw-sockets.ts'
import type { Outcome, SmallGateway, SmallGatewayOptions } from './small-gateway.ts'
import { ACCESS_TOKEN, routeTo, startSmallGateway } from './small-gateway.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
const cleanedUp = async <T extends { close(): Promise<void> }>(
  starting: Promise<T>,
): Promise<T> => {
  const started = await starting
  cleanups.push(() => started.close())
  return started
}

const gatewayBefore = async (
  answer: UpstreamAnswer,
  overrides: Partial<RouteDefinition> = {},
  options: SmallGatewayOptions = {},
) => {
  const upstream = await cleanedUp(startUpstreamApi({ answer }))
  const gateway = await cleanedUp(startSmallGateway([routeTo(upstream.url, overrides)], options))
  return { upstream, gateway }
}

const gatewayBeforeRaw = async (
  script: (connection: RawConnection, index: number) => unknown,
  overrides: Partial<RouteDefinition> = {},
) => {
  const upstream = await cleanedUp(startRawUpstream(script))
  const gateway = await cleanedUp(startSmallGateway([routeTo(upstream.url, overrides)]))
  return { upstream, gateway }
}

/** A client may see its end of an exchange before the gateway has noted what became of it. */
const outcomesOf = async (gateway: SmallGateway, count = 1): Promise<readonly Outcome[]> => {
  await waitFor('the outcome', () => gateway.outcomes.length >= count)
  return gateway.outcomes
}

const send = (
  url: string,
  init: { method?: string; headers?: Record<string, string>; agent?: Agent } = {},
): ClientRequest => httpRequest(url, { agent: false, ...init })

const answerTo = async (request: ClientRequest): Promise<IncomingMessage> => {
  const [response] = (await within(5_000, 'an answer', once(request, 'response'))) as [
    IncomingMessage,
  ]
  return response
}

const GET = (path: string, extra = '') =>
  `GET ${path} HTTP/1.1\r\nHost: app.example.com\r\n${extra}Connection: close\r\n\r\n`

describe('a proxied exchange', () => {
  it('sends method, raw target, body and injected headers, and passes status, headers and body', async () => {
    const { upstream, gateway } = await gatewayBefore(async (request, response) => {
      const body = await request.wholeBody
      response.writeHead(201, { 'content-type': 'text/plain', 'x-answer': 'yes' })
      response.end(`got ${body.toString()}`)
    })
    const request = send(`${gateway.url}/api/a%7Eb//c?x=%zz&y=+`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain', 'content-length': '5', authorization: 'Basic eHg=' },
    })
    request.end('hello')
    const response = await answerTo(request)
    expect(response.statusCode).toBe(201)
    expect(response.headers['x-answer']).toBe('yes')
    expect(await text(response)).toBe('got hello')
    const seen = await upstream.request(0)
    expect(seen.method).toBe('POST')
    expect(seen.url).toBe('/api/a%7Eb//c?x=%zz&y=+')
    expect(seen.header('authorization')).toBe(`Bearer ${ACCESS_TOKEN}`)
    expect(seen.header('host')).toBe(new URL(upstream.url).host)
    expect(seen.header('content-length')).toBe('5')
    expect(await outcomesOf(gateway)).toEqual([{ kind: 'sent', status: 201 }])
  })

  it('passes repeated fields in their order and non-ASCII bytes unchanged, both ways', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(
      async (connection) => {
        await connection.receives('\r\n\r\n')
        connection.socket.end(
          'HTTP/1.1 200 OK\r\nX-Dup: 1\r\nSet-Cookie: a=1\r\nX-Dup: 2\r\nSet-Cookie: b=2\r\n' +
            'X-Bytes: \xe9\xff\r\nContent-Length: 0\r\n\r\n',
          'latin1',
        )
      },
      { setCookies: ['a', 'b'] },
    )
    const answer = await rawExchange(
      gateway.port,
      GET('/api', 'X-Req: 1\r\nX-Latin: \xc3\xa9\x80\r\nX-Req: 2\r\n'),
    )
    expect(answer).toMatch(
      /X-Dup: 1\r\nSet-Cookie: a=1\r\nX-Dup: 2\r\nSet-Cookie: b=2\r\nX-Bytes: \xe9\xff\r\n/,
    )
    const seen = upstream.connections[0]?.received()
    expect(seen).toContain('X-Req: 1\r\nX-Latin: \xc3\xa9\x80\r\nX-Req: 2\r\n')
  })

  it.each([
    ['HEAD', 200, 'content-length: 1234\r\n'],
    ['GET', 204, ''],
    ['GET', 304, 'etag: "v1"\r\n'],
    ['PUT', 204, ''],
  ])('RFC 9112 §6.3 answers %s with %i and no body', async (method, status, header) => {
    const { gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write(`HTTP/1.1 ${status} X\r\n${header}\r\n`)
    })
    const answer = await rawExchange(
      gateway.port,
      `${method} /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    )
    const [head, body] = answer.split('\r\n\r\n')
    expect(head).toContain(`HTTP/1.1 ${status} `)
    if (header !== '') expect(head).toContain(header.trim())
    expect(head?.toLowerCase()).not.toContain('transfer-encoding')
    expect(body).toBe('')
  })

  it('RFC 9110 §8.6 drops Content-Length from a 204', async () => {
    const { gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n')
    })
    expect(await rawExchange(gateway.port, GET('/api'))).not.toMatch(/content-length/i)
  })

  it('RFC 9110 §15.2 drops 1xx answers and passes the final one', async () => {
    const { gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write(
        'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n' +
          'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
      )
    })
    const answer = await rawExchange(gateway.port, GET('/api'))
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(answer).not.toContain('Link')
    expect(answer.endsWith('ok')).toBe(true)
  })

  it('RFC 9110 §6.5.1 merges no trailer into the headers, either way', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('hi')
      connection.socket.write(
        'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-User-Id\r\n\r\n' +
          '2\r\nok\r\n0\r\nX-Late: 1\r\n\r\n',
      )
    })
    const answer = await rawExchange(
      gateway.port,
      'POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n' +
        'Connection: close\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: Bearer mallory\r\n\r\n',
    )
    expect(answer).not.toMatch(/x-late|trailer/i)
    expect(upstream.connections[0]?.received()).not.toMatch(/mallory|trailer/i)
  })

  it('RFC 9110 §10.1.1 takes Expect: 100-continue and does not forward it', async () => {
    const { upstream, gateway } = await gatewayBefore(async (request, response) => {
      response.end(await request.wholeBody)
    })
    const client = await rawClient(
      gateway.port,
      'PUT /api HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n',
    )
    await client.receives('HTTP/1.1 100 Continue\r\n\r\n')
    client.socket.write('body')
    await within(5_000, 'the answer', client.closed)
    expect(client.received()).toMatch(/HTTP\/1\.1 200 OK[\s\S]*body/)
    expect((await upstream.request(0)).header('expect')).toBeUndefined()
  })

  it('frames bodies itself: whatever came, one framing goes out, and none where there is none', async () => {
    const { upstream, gateway } = await gatewayBefore((_request, response) => {
      response.end()
    })
    for (const [framing, body] of [
      ['Content-Length: 3\r\n', 'abc'],
      ['Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n0\r\n\r\n'],
      ['Content-Length: 0\r\n', ''],
      ['', ''],
    ] as const) {
      await rawExchange(
        gateway.port,
        `POST /api HTTP/1.1\r\nHost: a\r\n${framing}Connection: close\r\n\r\n${body}`,
      )
    }
    const framing = upstream.requests.map((request) => [
      request.header('content-length') ?? request.header('transfer-encoding'),
      request.headerLines('content-length').length +
        request.headerLines('transfer-encoding').length,
      request.body.toString(),
    ])
    expect(framing).toEqual([
      ['3', 1, 'abc'],
      // The length is known where the whole body has arrived before the upstream call begins.
      [expect.stringMatching(/^(?:3|chunked)$/), 1, 'abc'],
      ['0', 1, ''],
      ['0', 1, ''],
    ])
  })
})

describe('streaming', () => {
  it('sends the head at once and each event as it comes', async () => {
    const steps = Promise.withResolvers<void>()
    const { gateway } = await gatewayBefore(async (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.flushHeaders()
      await steps.promise
      response.end('data: 1\n\n')
    })
    const client = await rawClient(gateway.port, GET('/api/stream'))
    await client.receives('text/event-stream')
    expect(client.received()).not.toContain('data:')
    steps.resolve()
    await client.receives('data: 1')
  })

  it('passes the first part of an upload on before the second is there', async () => {
    const { upstream, gateway } = await gatewayBefore(async (request, response) => {
      response.end((await request.wholeBody).length.toString())
    })
    const request = send(`${gateway.url}/api`, { method: 'POST' })
    request.write('first ')
    const seen = await upstream.request(0)
    await waitFor('the first part', () => seen.body.toString() === 'first ')
    expect(seen.header('transfer-encoding')).toBe('chunked')
    request.end('second')
    expect(await text(await answerTo(request))).toBe('12')
  })

  it('holds the upstream back while the client does not read', async () => {
    let writtenBytes = 0
    const chunk = Buffer.alloc(64 * 1024)
    const { gateway } = await gatewayBefore(async (_request, response) => {
      const total = 64 * 1024 * 1024
      response.writeHead(200, { 'content-length': total })
      while (writtenBytes < total && !response.destroyed) {
        writtenBytes += chunk.length
        if (!response.write(chunk)) await once(response, 'drain').catch(() => undefined)
      }
      response.end()
    })
    const request = send(`${gateway.url}/api`)
    request.end()
    const response = await answerTo(request)
    // Nobody reads: what was written is what the sockets between here and there hold.
    let before = -1
    await waitFor(
      'the upstream to stop writing',
      () => {
        const isStill = writtenBytes === before
        before = writtenBytes
        return isStill
      },
      { intervalMs: 300, timeoutMs: 10_000 },
    )
    expect(writtenBytes).toBeLessThan(32 * 1024 * 1024)
    let readBytes = 0
    for await (const part of response) readBytes += (part as Buffer).length
    expect(readBytes).toBe(64 * 1024 * 1024)
  })

  it('holds the client back while the upstream does not read', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(
      (connection) => {
        connection.socket.pause()
      },
      { bodyBytesMax: 256 * 1024 * 1024 },
    )
    const request = send(`${gateway.url}/api`, {
      method: 'POST',
      headers: { 'content-length': String(128 * 1024 * 1024) },
    })
    request.on('error', () => undefined)
    const chunk = Buffer.alloc(64 * 1024)
    let writtenBytes = 0
    const write = () => {
      while (writtenBytes < 128 * 1024 * 1024) {
        writtenBytes += chunk.length
        if (!request.write(chunk)) return
      }
    }
    request.on('drain', write)
    write()
    let before = -1
    await waitFor(
      'the client to stop writing',
      () => {
        const isStill = writtenBytes === before
        before = writtenBytes
        return isStill
      },
      { intervalMs: 300, timeoutMs: 10_000 },
    )
    expect(writtenBytes).toBeLessThan(64 * 1024 * 1024)
    expect(upstream.connections).toHaveLength(1)
    request.destroy()
  })
})

describe('an answer that breaks off', () => {
  it.each([
    ['with a length', 'Content-Length: 100\r\n\r\nhalf'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n64\r\nhalf'],
  ])('stays visibly truncated %s', async (_name, rest) => {
    const { gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.end(`HTTP/1.1 200 OK\r\n${rest}`)
    })
    const request = send(`${gateway.url}/api`)
    request.end()
    const response = await answerTo(request)
    await expect(buffer(response)).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(await outcomesOf(gateway)).toEqual([
      { kind: 'truncated', status: 200, reason: 'connection_lost' },
    ])
  })

  it('is cut where the upstream falls silent for longer than the idle limit', async () => {
    const { gateway } = await gatewayBeforeRaw(
      async (connection) => {
        await connection.receives('\r\n\r\n')
        connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
      },
      {
        timeout: {
          connect: milliseconds(1_000),
          firstByte: milliseconds(1_000),
          idle: milliseconds(150),
          total: milliseconds(0),
        },
      },
    )
    const request = send(`${gateway.url}/api`)
    request.end()
    await expect(buffer(await answerTo(request))).rejects.toMatchObject({ code: 'ECONNRESET' })
    expect(await outcomesOf(gateway)).toEqual([{ kind: 'truncated', status: 200, reason: 'idle' }])
  })

  it('leaves an event stream alone where the idle limit is 0', async () => {
    const { gateway } = await gatewayBeforeRaw(
      async (connection) => {
        await connection.receives('\r\n\r\n')
        connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf')
        await sleep(400)
        connection.socket.write('rest')
      },
      {
        timeout: {
          connect: milliseconds(1_000),
          firstByte: milliseconds(200),
          idle: milliseconds(0),
          total: milliseconds(0),
        },
      },
    )
    const request = send(`${gateway.url}/api`)
    request.end()
    expect(await text(await answerTo(request))).toBe('halfrest')
  })

  it('is not cut by the idle limit while the client is who keeps it waiting', async () => {
    const size = 64 * 1024 * 1024
    const { gateway } = await gatewayBefore(
      (_request, response) => {
        response.writeHead(200, { 'content-length': size })
        response.end(Buffer.alloc(size))
      },
      {
        timeout: {
          connect: milliseconds(1_000),
          firstByte: milliseconds(2_000),
          idle: milliseconds(300),
          total: milliseconds(0),
        },
      },
    )
    const request = send(`${gateway.url}/api`)
    request.end()
    const answer = await answerTo(request)
    await sleep(1_000)
    let received = 0
    for await (const chunk of answer) received += (chunk as Buffer).length
    expect(received).toBe(size)
  })
})

describe('a client that leaves', () => {
  const leavesWhile = async (
    answer: UpstreamAnswer,
    until: (client: RawConnection) => Promise<unknown>,
    bytes = GET('/api'),
  ) => {
    const { upstream, gateway } = await gatewayBefore(answer)
    const client = await rawClient(gateway.port, bytes)
    const seen = await upstream.request(0)
    await until(client)
    client.socket.destroy()
    await within(2_000, 'the upstream call is aborted', seen.aborted)
    expect(await outcomesOf(gateway)).toEqual([{ kind: 'client_left' }])
  }

  it('before the answer begins: the upstream call is aborted', () =>
    leavesWhile(
      () => undefined,
      async () => undefined,
    ))

  it('in the middle of an answer: the upstream call is aborted', () =>
    leavesWhile(
      (_request, response) => {
        response.write('first')
      },
      (client) => client.receives('first'),
    ))

  it('in the middle of an answer that is paused: the upstream call is aborted', () =>
    leavesWhile(
      (_request, response) => {
        response.write(Buffer.alloc(64 * 1024 * 1024))
      },
      async (client) => {
        await client.receives('HTTP/1.1 200')
        client.socket.pause()
        await sleep(200)
      },
    ))

  it('in the middle of an upload: the upstream does not take it for the end', async () => {
    await leavesWhile(
      () => undefined,
      async () => undefined,
      'POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n',
    )
  })
})

const TOO_LARGE =
  'HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\nConnection: close\r\n\r\ntoo large'

describe('an upload', () => {
  it('is refused by its Content-Length before the upstream is called', async () => {
    const { upstream, gateway } = await gatewayBefore(() => undefined, { bodyBytesMax: 10 })
    const answer = await rawExchange(
      gateway.port,
      'POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nConnection: close\r\n\r\nhello world',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 413 /)
    expect(upstream.requests).toHaveLength(0)
  })

  it('passes with exactly the limit', async () => {
    const { gateway } = await gatewayBefore(
      async (request, response) => {
        response.end(await request.wholeBody)
      },
      { bodyBytesMax: 11 },
    )
    const request = send(`${gateway.url}/api`, { method: 'POST' })
    request.end('hello world')
    expect(await text(await answerTo(request))).toBe('hello world')
  })

  it('is refused in the middle when its chunks add up to too much, and the client hears so', async () => {
    const { upstream, gateway } = await gatewayBefore(() => undefined, { bodyBytesMax: 100_000 })
    const request = send(`${gateway.url}/api`, { method: 'POST' })
    request.write(Buffer.alloc(60_000))
    const seen = await upstream.request(0)
    request.write(Buffer.alloc(60_000))
    request.end()
    expect((await answerTo(request)).statusCode).toBe(413)
    await within(2_000, 'the upstream call is aborted', seen.aborted)
    expect(await outcomesOf(gateway)).toEqual([
      { kind: 'refused', code: 'body_too_large', reason: 'body_bytes' },
    ])
  })

  it.each([
    ['is refused', { bodyBytesMax: 100_000 }, 413, 120_000],
    ['has no upstream', { upstream: 'http://127.0.0.1:9' }, 502, 600_000],
  ] as const)('that %s leaves its connection usable', async (_name, route, status, bytes) => {
    const { gateway } = await gatewayBefore((request, response) => {
      if (request.method === 'GET') response.end('second')
    }, route)
    const client = await rawClient(
      gateway.port,
      'POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n' +
        `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`,
    )
    await client.receives(`HTTP/1.1 ${status} `)
    client.socket.write('5\r\nhello\r\n0\r\n\r\n')
    client.socket.write('GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n')
    await client.receives('HTTP/1.1 404 ')
  })

  it('may be answered early: the client hears it, and its connection can be used again', async () => {
    let calls = 0
    const { gateway } = await gatewayBefore((_request, response) => {
      calls += 1
      if (calls === 1) response.writeHead(409, { 'content-length': 5 }).end('early')
      else response.end('second')
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    cleanups.push(async () => agent.destroy())
    const first = send(`${gateway.url}/api`, { method: 'POST', agent })
    first.write('begin')
    const response = await answerTo(first)
    expect(response.statusCode).toBe(409)
    expect(await text(response)).toBe('early')
    const { socket } = first
    first.end(Buffer.alloc(1_000_000))
    const second = send(`${gateway.url}/api`, { agent })
    second.end()
    expect(await text(await answerTo(second))).toBe('second')
    expect(second.socket).toBe(socket)
  })

  it.each([
    ['and closes behind it', (socket: Socket) => socket.end(TOO_LARGE)],
    ['and closes without reading on', (socket: Socket) => socket.pause().end(TOO_LARGE)],
  ])('may be refused by an upstream that has read little of it %s', async (_name, refuse) => {
    const { gateway } = await gatewayBeforeRaw(
      async (connection) => {
        await connection.receives('begin')
        refuse(connection.socket)
      },
      { bodyBytesMax: 64 * 1024 * 1024 },
    )
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    cleanups.push(async () => agent.destroy())
    const upload = send(`${gateway.url}/api`, { method: 'POST', agent })
    upload.write('begin')
    const writing = setInterval(() => upload.write(Buffer.alloc(64 * 1024)), 5)
    cleanups.push(async () => clearInterval(writing))
    const response = await answerTo(upload)
    expect([response.statusCode, await text(response)]).toEqual([413, 'too large'])
    clearInterval(writing)
    upload.end()
    const second = send(`${gateway.url}/elsewhere`, { agent })
    second.end()
    expect((await answerTo(second)).statusCode).toBe(404)
  })

  it('may be refused by an upstream that breaks the connection behind its answer', async () => {
    const { gateway } = await gatewayBeforeRaw(
      async ({ socket }) => {
        await once(socket, 'data')
        socket.pause().write(TOO_LARGE, () => socket.resetAndDestroy())
      },
      { bodyBytesMax: 64 * 1024 * 1024 },
    )
    // It depends on what the kernel does first, so there are many of them.
    for (let count = 0; count < 40; count += 1) {
      const upload = send(`${gateway.url}/api`, { method: 'POST' })
      const answer = answerTo(upload)
      // Of what it still sends when it has its answer, and the gateway has closed the connection as it asked for.
      upload.on('error', () => undefined)
      upload.end(Buffer.alloc(4 * 1024 * 1024))
      const response = await answer
      expect([response.statusCode, await text(response)]).toEqual([413, 'too large'])
    }
  })

  it('that stalls is refused, and its upstream call ends', async () => {
    const { upstream, gateway } = await gatewayBefore(() => undefined, {
      timeout: {
        connect: milliseconds(1_000),
        firstByte: milliseconds(200),
        idle: milliseconds(1_000),
        total: milliseconds(0),
      },
    })
    const request = send(`${gateway.url}/api`, { method: 'POST' })
    request.on('error', () => undefined)
    request.write('begin')
    const seen = await upstream.request(0)
    expect((await answerTo(request)).statusCode).toBe(400)
    await within(2_000, 'the upstream call ends', seen.aborted)
    expect(await outcomesOf(gateway)).toEqual([
      { kind: 'refused', code: 'request_invalid', reason: 'body_stalled' },
    ])
    request.destroy()
  })

  it('that is slow but moves is not a late first byte', async () => {
    const { gateway } = await gatewayBefore(
      async (request, response) => {
        response.end((await request.wholeBody).toString())
      },
      {
        timeout: {
          connect: milliseconds(1_000),
          firstByte: milliseconds(400),
          idle: milliseconds(1_000),
          total: milliseconds(0),
        },
      },
    )
    const request = send(`${gateway.url}/api`, { method: 'POST' })
    for (const part of ['a', 'b', 'c', 'd', 'e', 'f']) {
      request.write(part)
      await sleep(120)
    }
    request.end()
    expect(await text(await answerTo(request))).toBe('abcdef')
  })
})

describe('a kept-alive connection that the upstream closes under a request', () => {
  /** The first connection answers once and dies under its second request; later ones answer everything. */
  const dyingOnce = (connection: RawConnection, index: number) => {
    let answered = 0
    connection.socket.on('data', () => {
      if (!connection.received().includes('\r\n\r\n')) return
      answered += 1
      if (index === 0 && answered === 2) connection.socket.resetAndDestroy()
      else connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
  }

  it.each(['GET', 'HEAD', 'OPTIONS', 'DELETE', 'PROPFIND', 'REPORT', 'SEARCH'])(
    'RFC 9110 §9.2.2 retries %s once',
    async (method) => {
      const { upstream, gateway } = await gatewayBeforeRaw(dyingOnce)
      const first = send(`${gateway.url}/api/1`)
      first.end()
      await text(await answerTo(first))
      const second = send(`${gateway.url}/api/2`, { method })
      second.end()
      expect((await answerTo(second)).statusCode).toBe(200)
      expect(upstream.connections).toHaveLength(2)
    },
  )

  it('sends a small idempotent body a second time', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(dyingOnce)
    const first = send(`${gateway.url}/api/1`)
    first.end()
    await text(await answerTo(first))
    const second = send(`${gateway.url}/api/2`, {
      method: 'PUT',
      headers: { 'content-length': '7' },
    })
    second.end('payload')
    expect((await answerTo(second)).statusCode).toBe(200)
    expect(upstream.connections[1]?.received()).toMatch(/content-length: 7\r\n\r\npayload$/i)
  })

  it.each(['POST', 'PATCH'])('RFC 9110 §9.2.2 never retries %s', async (method) => {
    const { upstream, gateway } = await gatewayBeforeRaw(dyingOnce)
    const first = send(`${gateway.url}/api/1`)
    first.end()
    await text(await answerTo(first))
    const second = send(`${gateway.url}/api/2`, { method })
    second.end()
    expect((await answerTo(second)).statusCode).toBe(502)
    expect(upstream.connections).toHaveLength(1)
    expect((await outcomesOf(gateway, 2))[1]).toEqual({
      kind: 'refused',
      code: 'upstream_unreachable',
      reason: 'connection_lost',
    })
  })

  it('does not send a large body a second time', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('xxx')
      connection.socket.resetAndDestroy()
    })
    const request = send(`${gateway.url}/api`, { method: 'PUT' })
    request.end('x'.repeat(100_000))
    expect((await answerTo(request)).statusCode).toBe(502)
    expect(upstream.connections).toHaveLength(1)
  })

  it('RFC 9112 §9.3.1 retries at most once', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.resetAndDestroy()
    })
    const request = send(`${gateway.url}/api`)
    request.end()
    expect((await answerTo(request)).statusCode).toBe(502)
    expect(upstream.connections).toHaveLength(2)
  })

  it('does not retry where an answer had begun', async () => {
    const { upstream, gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.end('HTTP/1.1 200 OK\r\nContent-Le')
    })
    const request = send(`${gateway.url}/api`)
    request.end()
    expect((await answerTo(request)).statusCode).toBe(502)
    expect(upstream.connections).toHaveLength(1)
  })
})

describe('an answer that the caller discards', () => {
  const unauthorized: UpstreamAnswer = async (request, response) => {
    await request.wholeBody
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end('no')
  }

  it('is never seen by the client, and the same body goes out again', async () => {
    let calls = 0
    const { upstream, gateway } = await gatewayBefore(
      async (request, response) => {
        calls += 1
        if (calls === 1) return unauthorized(request, response)
        response.end(await request.wholeBody)
      },
      {},
      { isUnwanted: (status) => status === 401 },
    )
    const request = send(`${gateway.url}/api`, { method: 'PUT' })
    request.end('the body')
    const response = await answerTo(request)
    expect(response.statusCode).toBe(200)
    expect(await text(response)).toBe('the body')
    expect(upstream.requests.map((seen) => seen.body.toString())).toEqual(['the body', 'the body'])
  })

  it('may come before the body is whole: the rest follows in the second sending', async () => {
    let calls = 0
    const { upstream, gateway } = await gatewayBefore(
      async (request, response) => {
        calls += 1
        if (calls === 1) response.writeHead(401).end()
        else response.end(await request.wholeBody)
      },
      {},
      { isUnwanted: (status) => status === 401 },
    )
    const request = send(`${gateway.url}/api`, { method: 'PUT' })
    request.write('first ')
    await upstream.request(1)
    request.end('second')
    expect(await text(await answerTo(request))).toBe('first second')
  })

  it('is judged once: the second answer is passed on whatever it is', async () => {
    const { upstream, gateway } = await gatewayBefore(
      unauthorized,
      {},
      { isUnwanted: (status) => status === 401 },
    )
    const request = send(`${gateway.url}/api`)
    request.end()
    expect((await answerTo(request)).statusCode).toBe(401)
    expect(upstream.requests).toHaveLength(2)
  })
})

describe('an upstream that cannot answer', () => {
  it('refuses the connection: 502', async () => {
    const upstream = await startRawUpstream(() => undefined)
    await upstream.close()
    const gateway = await cleanedUp(startSmallGateway([routeTo(upstream.url)]))
    expect(await rawExchange(gateway.port, GET('/api'))).toMatch(/^HTTP\/1\.1 502 /)
    expect(await outcomesOf(gateway)).toEqual([
      { kind: 'refused', code: 'upstream_unreachable', reason: 'connection_refused' },
    ])
  })

  it('has a name that does not resolve: 502', async () => {
    const gateway = await cleanedUp(startSmallGateway([routeTo('http://no-such-host.invalid')]))
    expect(await rawExchange(gateway.port, GET('/api'))).toMatch(/^HTTP\/1\.1 502 /)
  })

  it('does not begin its answer within the limit: 504', async () => {
    const { gateway } = await gatewayBeforeRaw(() => undefined, {
      timeout: {
        connect: milliseconds(1_000),
        firstByte: milliseconds(150),
        idle: milliseconds(1_000),
        total: milliseconds(0),
      },
    })
    expect(await rawExchange(gateway.port, GET('/api'))).toMatch(/^HTTP\/1\.1 504 /)
    expect(await outcomesOf(gateway)).toEqual([
      { kind: 'refused', code: 'upstream_timeout', reason: 'first_byte' },
    ])
  })

  it.each([
    ['bad Content-Length', 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    [
      'Transfer-Encoding and Content-Length',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n',
    ],
    ['a control byte in a value', 'HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 0\r\n\r\n'],
    ['a space in a name', 'HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 0\r\n\r\n'],
    ['a status of 42', 'HTTP/1.1 42 OK\r\n\r\n'],
    ['no HTTP at all', '220 smtp.example.com ESMTP\r\n'],
    ['an unasked upgrade', 'HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'],
    ['headers beyond 64 KiB', `HTTP/1.1 200 OK\r\nX-A: ${'a'.repeat(70_000)}\r\n\r\n`],
  ])('RFC 9112 §6.3 answers with %s: 502, and the next request works', async (_name, bytes) => {
    let calls = 0
    const { gateway } = await gatewayBeforeRaw(async (connection) => {
      await connection.receives('\r\n\r\n')
      calls += 1
      if (calls === 1) connection.socket.end(bytes, 'latin1')
      else connection.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    expect(await rawExchange(gateway.port, GET('/api'))).toMatch(/^HTTP\/1\.1 502 /)
    expect(await rawExchange(gateway.port, GET('/api'))).toMatch(/^HTTP\/1\.1 200 /)
  })
})

describe('a redirect', () => {
  it('is passed back and never followed', async () => {
    const { upstream, gateway } = await gatewayBefore((_request, response) => {
      response.writeHead(302, { location: 'http://127.0.0.1:1/secret' }).end()
    })
    const answer = await rawExchange(gateway.port, GET('/api'))
    expect(answer).toMatch(/^HTTP\/1\.1 302 /)
    expect(answer).toContain('location: http://127.0.0.1:1/secret')
    expect(upstream.requests).toHaveLength(1)
  })
})
