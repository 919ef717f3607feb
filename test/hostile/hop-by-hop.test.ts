/**
 * Attack: `Connection` lists fields for the gateway to remove, so that the API misses what the gateway vouches
 * for (identity, forwarding, framing), or hop-by-hop fields pass through and desynchronise the next hop.
 * The upstream is a raw socket: what it receives is judged as bytes, not as a library's view of them.
 */

import { afterEach, describe, expect, it } from 'vitest'
import type { RawUpstream } from '../edges/upstream/raw-sockets.ts'
import { rawExchange, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import type { SmallGateway } from '../edges/upstream/small-gateway.ts'
import { ACCESS_TOKEN, routeTo, startSmallGateway } from '../edges/upstream/small-gateway.ts'

let upstream: RawUpstream
let gateway: SmallGateway

const start = async (answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok') => {
  upstream = await startRawUpstream(async (connection) => {
    await connection.receives('\r\n\r\n')
    connection.socket.end(answer, 'latin1')
  })
  gateway = await startSmallGateway([routeTo(upstream.url)])
}
afterEach(async () => {
  await gateway.close()
  await upstream.close()
})

const headSeenFor = async (requestHeaders: string, body = ''): Promise<string> => {
  await start()
  await rawExchange(
    gateway.port,
    `POST /api HTTP/1.1\r\nHost: app.example.com\r\n${requestHeaders}\r\n${body}`,
  )
  return upstream.connections[0]?.received() ?? ''
}

describe('RFC 9110 §7.6.1 towards the upstream', () => {
  it.each([
    'authorization',
    'Authorization, Cookie',
    'host',
    'forwarded, x-forwarded-for, x-forwarded-host, x-forwarded-proto',
    'via, x-request-id',
    'content-length',
    'AUTHORIZATION,,, ,host',
  ])('Connection: %s removes nothing that the gateway says', async (nominated) => {
    const head = await headSeenFor(`Connection: close, ${nominated}\r\nContent-Length: 2\r\n`, 'hi')
    expect(head).toContain(`authorization: Bearer ${ACCESS_TOKEN}\r\n`)
    expect(head).toMatch(/^POST \/api HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n/)
    expect(head).toContain('x-forwarded-for: 192.0.2.7\r\n')
    expect(head).toContain('forwarded: for=192.0.2.7;')
    expect(head).toContain('x-request-id: request-1\r\n')
    expect(head).toMatch(/via: 1\.1 coatcheck/)
    expect(head).toMatch(/content-length: 2\r\n\r\nhi$/i)
  })

  it('a nominated field of the client’s own goes, on however many lines', async () => {
    const head = await headSeenFor(
      'Connection: close\r\nX-Internal: 1\r\nConnection: X-INTERNAL\r\nx-internal: 2\r\nX-Kept: 3\r\n',
    )
    expect(head).not.toMatch(/x-internal/i)
    expect(head).toContain('X-Kept: 3\r\n')
  })

  it('upgrade and the fields of one connection do not pass', async () => {
    const head = await headSeenFor(
      'Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n' +
        'TE: trailers\r\nProxy-Connection: keep-alive\r\nKeep-Alive: timeout=9\r\n' +
        'Proxy-Authorization: Basic eHg=\r\n',
    )
    expect(head).not.toMatch(/upgrade|h2c|http2|proxy-|timeout=9|\r\nte:/i)
    expect(head.match(/\r\nconnection: /gi)).toHaveLength(1)
  })
})

describe('RFC 9112 §6.1 framing', () => {
  it.each([
    ['both framings', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'],
    ['two lengths', 'Content-Length: 4\r\nContent-Length: 5\r\n', 'abcde'],
    ['a list of lengths', 'Content-Length: 4, 5\r\n', 'abcd'],
    ['a signed length', 'Content-Length: +4\r\n', 'abcd'],
    ['chunked twice', 'Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'],
    ['another last coding', 'Transfer-Encoding: chunked, gzip\r\n', '0\r\n\r\n'],
    ['an unknown coding', 'Transfer-Encoding: xchunked\r\n', '0\r\n\r\n'],
    ['a space before the colon', 'Transfer-Encoding : chunked\r\n', '0\r\n\r\n'],
    ['a folded line', 'X-A: b\r\n Transfer-Encoding: chunked\r\n', '0\r\n\r\n'],
    ['a bare CR', 'X-A: b\rTransfer-Encoding: chunked\r\n', '0\r\n\r\n'],
    ['a bad chunk size', 'Transfer-Encoding: chunked\r\n', '0x2\r\nhi\r\n0\r\n\r\n'],
  ])('%s: no body of it is ever taken for a request', async (_name, framing, body) => {
    await start()
    const smuggled = 'GET /api/smuggled HTTP/1.1\r\nHost: a\r\n\r\n'
    const answer = await rawExchange(
      gateway.port,
      `POST /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${framing}\r\n${body}${smuggled}`,
    )
    const seen = upstream.connections.map((connection) => connection.received()).join('')
    expect(seen).not.toContain('/api/smuggled')
    expect(answer.match(/^HTTP\/1\.1 /gm)?.length).toBe(1)
  })

  it('names that only look like framing do not reach a server that would take them for it', async () => {
    const head = await headSeenFor(
      'Connection: close\r\nContent-Length: 2\r\nContent_Length: 99\r\nTransfer_Encoding: chunked\r\n',
      'hi',
    )
    // Ports and request ids may well have a 99 in them.
    expect(head).not.toMatch(/content[^-]length|: 99\r\n|transfer/i)
    expect(head).toMatch(/content-length: 2\r\n/i)
  })
})

describe('RFC 9110 §7.6.1 towards the browser', () => {
  it('fields of the upstream’s connection and those it nominates do not pass', async () => {
    await start(
      'HTTP/1.1 200 OK\r\nConnection: X-Internal, Cache-Control, close\r\nX-Internal: 10.0.0.5\r\n' +
        'Keep-Alive: timeout=99\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nTrailer: X-T\r\n' +
        'Cache-Control: public\r\nContent-Length: 2\r\n\r\nok',
    )
    const answer = await rawExchange(
      gateway.port,
      'GET /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    expect(answer).not.toMatch(/x-internal|timeout=99|proxy-|upgrade|trailer|public/i)
    expect(answer).toContain('cache-control: private, no-store\r\n')
  })
})
