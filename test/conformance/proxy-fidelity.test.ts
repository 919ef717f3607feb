/**
 * The data plane of the whole gateway, signed in, byte for byte: what a client sends reaches the upstream and what
 * that answers reaches the client, but for what a gateway must change (RFC 9110 §7.6, §7.7).
 */

import { createHash } from 'node:crypto'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type RawUpstream, rawExchange, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from '../hostile/raw-request.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let upstream: RawUpstream
let whole: WholeGateway
let identity: string
/** What the upstream answers with, as latin1. */
let answer: string
/** What it was sent, as latin1: line and headers, and the body in its framing. */
let seen: { head: string; body: string }[]

beforeAll(async () => {
  upstream = await startRawUpstream(({ socket }) => {
    let received = ''
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      const end = received.indexOf('\r\n\r\n')
      if (end === -1) return
      const head = received.slice(0, end + 2)
      const body = received.slice(end + 4)
      const length = Number(/^content-length: (\d+)\r$/im.exec(head)?.[1] ?? 0)
      const isChunked = /^transfer-encoding: chunked\r$/im.test(head)
      if (isChunked ? !body.endsWith('0\r\n\r\n') : body.length < length) return
      received = ''
      seen.push({ head, body })
      socket.end(answer, 'latin1')
    })
  })
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: upstream.url },
    file: () => ({
      routes: [
        { path: '/cached', upstream: upstream.url, cache: 'upstream' },
        { path: '/cookies', upstream: upstream.url, setCookies: ['a', 'b', 'c'] },
        { path: '/slashes', upstream: upstream.url, encodedSlash: true },
      ],
    }),
  })
  identity = [cookieLine(await whole.signedIn()), ...SAME_ORIGIN_FETCH].join('\r\n')
})
afterAll(async () => {
  await whole.close()
  await upstream.close()
})
beforeEach(() => {
  seen = []
  answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
})

/** The whole answer to one request, as latin1. */
const exchange = async (
  requestLine: string,
  {
    lines = '',
    body = '',
    version = '1.1',
  }: { lines?: string; body?: string; version?: string } = {},
) =>
  rawExchange(
    whole.port,
    `${requestLine} HTTP/${version}\r\nHost: localhost:${whole.port}\r\n${identity}\r\n${lines}Connection: close\r\n\r\n${body}`,
  )

const bodyOf = (text: string) => text.slice(text.indexOf('\r\n\r\n') + 4)
const headOf = (text: string) => text.slice(0, text.indexOf('\r\n\r\n') + 2)
/** All lines of a field, in order. */
const linesOf = (text: string, name: string) =>
  headOf(text)
    .split('\r\n')
    .filter((line) => line.toLowerCase().startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).trim())
const unchunked = (body: string): string => {
  const size = Number.parseInt(body, 16)
  const from = body.indexOf('\r\n') + 2
  return size > 0 ? body.slice(from, from + size) + unchunked(body.slice(from + size + 2)) : ''
}

describe('RFC 9110 §9 methods', () => {
  it.each([
    ...['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY'],
    ...['PROPFIND', 'REPORT', 'SEARCH', 'MKCOL', 'LOCK', 'PURGE', 'LINK', 'M-SEARCH'],
  ])('%s passes as it is, with its body', async (method) => {
    const text = await exchange(`${method} /api/items`, {
      lines: 'Content-Type: text/plain\r\nContent-Length: 4\r\n',
      body: 'body',
    })
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(bodyOf(text)).toBe('ok')
    expect(seen).toHaveLength(1)
    expect(seen[0]?.head).toMatch(new RegExp(`^${method} /api/items HTTP/1\\.1\r\n`))
    expect(seen[0]?.body).toBe('body')
  })

  it.each(['TRACE', 'CONNECT'])('§9.3.8 %s is not for a gateway to pass on', async (method) => {
    const text = await exchange(
      `${method} ${method === 'CONNECT' ? 'a.example:443' : '/api/items'}`,
    )
    expect(text).toMatch(/^HTTP\/1\.1 405 /)
    expect(seen).toEqual([])
  })

  it('§9.3.2 HEAD: the length of what GET would have, and no body', async () => {
    answer = 'HTTP/1.1 200 OK\r\nContent-Length: 123456\r\nETag: "v1"\r\n\r\n'
    const text = await exchange('HEAD /api/items')
    expect(linesOf(text, 'content-length')).toEqual(['123456'])
    expect(linesOf(text, 'etag')).toEqual(['"v1"'])
    expect(linesOf(text, 'transfer-encoding')).toEqual([])
    expect(bodyOf(text)).toBe('')
  })

  it('§9.3.2 HEAD without a length gets none made up', async () => {
    answer = 'HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: close\r\n\r\n'
    const text = await exchange('HEAD /api/items')
    expect(linesOf(text, 'content-length')).toEqual([])
    expect(bodyOf(text)).toBe('')
  })
})

describe('RFC 9110 §15 status codes', () => {
  it.each([
    ...[200, 201, 202, 203, 206, 207, 208, 226, 299],
    ...[300, 301, 302, 303, 305, 306, 307, 308, 399],
    ...[400, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417],
    ...[418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499],
    ...[500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 599, 600, 999],
  ])('%i passes with headers and body', async (status) => {
    answer = `HTTP/1.1 ${status} Whatever\r\nX-A: b\r\nContent-Type: application/problem+json\r\nContent-Length: 4\r\n\r\nbody`
    const text = await exchange('GET /api/items')
    expect(text.slice(0, 13)).toBe(`HTTP/1.1 ${status} `)
    expect(linesOf(text, 'x-a')).toEqual(['b'])
    expect(linesOf(text, 'content-type')).toEqual(['application/problem+json'])
    expect(bodyOf(text)).toBe('body')
    expect(seen).toHaveLength(1)
  })

  it.each([
    [204, 'X-A: b\r\n'],
    [304, 'X-A: b\r\nContent-Length: 1234\r\n'],
  ])('§15.3.5, §15.4.5 %i has no body and no framing of one', async (status, fields) => {
    answer = `HTTP/1.1 ${status} X\r\n${fields}\r\n`
    const text = await exchange('GET /api/items')
    expect(text.slice(0, 13)).toBe(`HTTP/1.1 ${status} `)
    expect(linesOf(text, 'transfer-encoding')).toEqual([])
    expect(bodyOf(text)).toBe('')
  })

  it.each([
    ['103 Early Hints', 'Link: </style.css>; rel=preload\r\nX-Early: 1\r\n'],
    ['102 Processing', ''],
    ['199 Odd', 'X-Early: 1\r\n'],
  ])('§15.2 an interim %s is dropped, and the final answer follows', async (status, fields) => {
    const interim = `HTTP/1.1 ${status}\r\n${fields}\r\n`
    answer = `${interim}${interim}HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok`
    for (const version of ['1.1', '1.0']) {
      const text = await exchange('PUT /api/items', { version })
      expect(text).toMatch(/^HTTP\/1\.1 201 /)
      expect(text).not.toMatch(/early|link:/i)
      expect(bodyOf(text)).toBe('ok')
    }
  })
})

describe('RFC 9110 §15.2.1 a 100 that nobody asked for', () => {
  it('is no answer (Expect is never passed on), and harms no other request', async () => {
    answer = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
    expect(await exchange('PUT /api/items')).toMatch(/^HTTP\/1\.1 502 /)
    answer = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
    expect(await exchange('PUT /api/items')).toMatch(/^HTTP\/1\.1 200 /)
    expect(seen.map(({ head }) => /^expect:/im.test(head))).toEqual([false, false])
  })
})

describe('RFC 9110 §5 fields', () => {
  it('§5.2, §5.3 repeated ones keep number, order and spelling, both ways', async () => {
    answer =
      'HTTP/1.1 200 OK\r\nX-Dup: 1\r\nVary: Accept\r\nx-dup: 2\r\nLink: </a>\r\nvary: Origin\r\nX-DUP: 1\r\n' +
      'Link: </b>\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n'
    const text = await exchange('GET /api/items', {
      lines: 'X-Req: 1\r\nAccept: a/b\r\nx-req: 2\r\nAccept: c/d\r\nX-REQ: 1\r\nX-Empty:\r\n',
    })
    expect(text).toContain(
      'X-Dup: 1\r\nVary: Accept\r\nx-dup: 2\r\nLink: </a>\r\nvary: Origin\r\nX-DUP: 1\r\nLink: </b>\r\nX-Empty: \r\n',
    )
    expect(seen[0]?.head).toContain(
      'X-Req: 1\r\nAccept: a/b\r\nx-req: 2\r\nAccept: c/d\r\nX-REQ: 1\r\nX-Empty: \r\n',
    )
  })

  it('RFC 6265 §3 Set-Cookie lines are never joined', async () => {
    answer =
      'HTTP/1.1 200 OK\r\nSet-Cookie: b=1; Expires=Wed, 09 Jun 2031 10:18:14 GMT\r\nSet-Cookie: a=1\r\n' +
      'Set-Cookie: b=2; Path=/x\r\nSet-Cookie: other=1\r\nSet-Cookie2: c=1\r\nContent-Length: 0\r\n\r\n'
    const text = await exchange('GET /cookies')
    expect(linesOf(text, 'set-cookie')).toEqual([
      'b=1; Expires=Wed, 09 Jun 2031 10:18:14 GMT',
      'a=1',
      'b=2; Path=/x',
    ])
    expect(linesOf(text, 'set-cookie2')).toEqual([])
    expect(linesOf(await exchange('GET /api/items'), 'set-cookie')).toEqual([])
  })

  it('§5.5 every byte that a value may have is the same behind the gateway, both ways', async () => {
    const octets = Array.from({ length: 256 }, (_, octet) => octet)
      .filter((octet) => octet === 9 || (octet >= 0x20 && octet !== 0x7f))
      .map((octet) => String.fromCharCode(octet))
      .join('')
    const value = `[${octets}]`
    answer = `HTTP/1.1 200 OK\r\nX-Octets: ${value}\r\nContent-Length: 0\r\n\r\n`
    const text = await exchange('GET /api/items', { lines: `X-Octets: ${value}\r\n` })
    expect(linesOf(text, 'x-octets')).toEqual([value])
    expect(linesOf(`${seen[0]?.head}\r\n`, 'x-octets')).toEqual([value])
  })

  it('§5.4 an answer with more than 48 KiB of headers passes whole', async () => {
    const fields = Array.from({ length: 100 }, (_, i) => `X-${i}: ${'v'.repeat(490)}\r\n`).join('')
    answer = `HTTP/1.1 200 OK\r\n${fields}Content-Length: 2\r\n\r\nok`
    const text = await exchange('GET /api/items')
    expect(headOf(text)).toContain(fields)
    expect(bodyOf(text)).toBe('ok')
  })

  it('§5.4 so does a request with 16 KiB of them', async () => {
    const fields = Array.from({ length: 32 }, (_, i) => `X-${i}: ${'v'.repeat(500)}\r\n`).join('')
    await exchange('GET /api/items', { lines: fields })
    expect(seen[0]?.head).toContain(fields)
  })

  it('nothing is added to a request but what the gateway says', async () => {
    await exchange('GET /api/items', { lines: 'X-Mine: 1\r\n' })
    const names = (seen[0]?.head ?? '')
      .split('\r\n')
      .slice(1, -1)
      .map((line) => line.slice(0, line.indexOf(':')).toLowerCase())
    expect(names.toSorted()).toEqual([
      ...['authorization', 'connection', 'forwarded', 'host', 'sec-fetch-dest', 'sec-fetch-mode'],
      ...['sec-fetch-site', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto'],
      ...['x-mine', 'x-request-id'],
    ])
  })

  it('§6.6.1 an answer without a Date gets one, and one with a Date keeps it', async () => {
    expect(linesOf(await exchange('GET /api/items'), 'date')).toHaveLength(1)
    const date = 'Tue, 15 Nov 1994 08:12:31 GMT'
    answer = `HTTP/1.1 200 OK\r\nDate: ${date}\r\nContent-Length: 0\r\n\r\n`
    expect(linesOf(await exchange('GET /api/items'), 'date')).toEqual([date])
  })
})

describe('RFC 9110 §7.1, §7.7 the target', () => {
  it.each([
    '/api/items?',
    '/api/items?a=%2F%2f&b=+%20&c=%zz&d',
    '/api/items?q=a/../b//c?x=1?',
    '/api/items?a[]=1&a[]=2&b={"x":"y"}|^`',
    '/api/%7Euser/%41%62',
    '/api/caf%C3%A9/%e2%82%ac/%E2%82%AC',
    "/api/a;v=1/b,c/@d:e/!$&'()*+",
    '/api/a%20b/%25/100%25',
    '/api/items/',
    '/api',
    '/slashes/a%2Fb%2fc',
  ])('%s arrives as it was sent', async (target) => {
    const text = await exchange(`GET ${target}`)
    expect([target, text.slice(0, 12)]).toEqual([target, 'HTTP/1.1 200'])
    expect(seen[0]?.head.split('\r\n')[0]).toBe(`GET ${target} HTTP/1.1`)
  })

  it('RFC 9112 §3 with 8,000 octets arrives whole', async () => {
    const target = `/api/${'p'.repeat(4_000)}?${'q'.repeat(3_990)}`
    await exchange(`GET ${target}`)
    expect(seen[0]?.head.split('\r\n')[0]).toBe(`GET ${target} HTTP/1.1`)
  })

  it('RFC 9112 §3.2.2 in absolute form arrives in origin form', async () => {
    const text = await exchange(`GET http://localhost:${whole.port}/api/items?x=1`)
    if (text.startsWith('HTTP/1.1 200')) {
      expect(seen[0]?.head.split('\r\n')[0]).toBe('GET /api/items?x=1 HTTP/1.1')
    } else expect(text).toMatch(/^HTTP\/1\.1 400 /)
  })
})

describe('RFC 9110 §6.4, §8 content', () => {
  const everyOctet = Buffer.from(Array.from({ length: 4096 }, (_, i) => i % 256)).toString('latin1')

  it.each([
    ['with a length', `Content-Length: 4096\r\n`, everyOctet],
    [
      'in chunks',
      'Transfer-Encoding: chunked\r\n',
      `800;ext=1\r\n${everyOctet.slice(0, 2048)}\r\n800\r\n${everyOctet.slice(2048)}\r\n0\r\n\r\n`,
    ],
  ])('a body %s is the same octets, both ways', async (_, framing, body) => {
    answer = `HTTP/1.1 200 OK\r\n${framing}\r\n${body}`
    const text = await exchange('POST /api/items', { lines: framing, body })
    const isChunked = framing.startsWith('Transfer')
    expect(linesOf(text, isChunked ? 'transfer-encoding' : 'content-length')).toEqual([
      isChunked ? 'chunked' : '4096',
    ])
    expect(isChunked ? unchunked(bodyOf(text)) : bodyOf(text)).toBe(everyOctet)
    const sent = seen[0]
    const wasChunked = /transfer-encoding/i.test(sent?.head ?? '')
    expect(wasChunked ? unchunked(sent?.body ?? '') : sent?.body).toBe(everyOctet)
  })

  it('RFC 9112 §6.3 an answer that ends with its connection comes whole, to HTTP/1.0 as well', async () => {
    answer = `HTTP/1.0 200 OK\r\nContent-Type: a/b\r\n\r\n${everyOctet}`
    const text = await exchange('GET /api/items')
    expect(unchunked(bodyOf(text))).toBe(everyOctet)
    const old = await exchange('GET /api/items', { version: '1.0' })
    expect(linesOf(old, 'transfer-encoding')).toEqual([])
    expect(bodyOf(old)).toBe(everyOctet)
  })

  it.each([
    ['gzip', gzipSync('{"compressed":true}'.repeat(50))],
    ['br', brotliCompressSync('{"compressed":true}'.repeat(50))],
    ['zstd, gzip', Buffer.from('not even that')],
  ])('§8.4 %s is neither decoded nor encoded again', async (coding, bytes) => {
    answer = `HTTP/1.1 200 OK\r\nContent-Encoding: ${coding}\r\nETag: "abc"\r\nContent-Length: ${bytes.length}\r\n\r\n${bytes.toString('latin1')}`
    const text = await exchange('GET /api/items', {
      lines: 'Accept-Encoding: gzip, br, zstd;q=0.5\r\n',
    })
    expect(linesOf(text, 'content-encoding')).toEqual([coding])
    expect(linesOf(text, 'content-length')).toEqual([String(bytes.length)])
    expect(linesOf(text, 'etag')).toEqual(['"abc"'])
    expect(bodyOf(text)).toBe(bytes.toString('latin1'))
    expect(linesOf(`${seen[0]?.head}\r\n`, 'accept-encoding')).toEqual(['gzip, br, zstd;q=0.5'])
  })

  it('never compresses by itself, however well it would go: secrets beside an attacker’s text (BREACH)', async () => {
    const body = 'a'.repeat(100_000)
    for (const framing of [`Content-Length: ${body.length}\r\n`, '']) {
      answer = `HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n${framing}\r\n${body}`
      const text = await exchange('GET /api/items', {
        lines: 'Accept-Encoding: gzip, br, deflate, zstd\r\n',
      })
      expect(linesOf(text, 'content-encoding')).toEqual([])
      expect(framing === '' ? unchunked(bodyOf(text)) : bodyOf(text)).toBe(body)
    }
  })

  it('asks for no coding that the client did not ask for', async () => {
    await exchange('GET /api/items')
    expect(seen[0]?.head).not.toMatch(/accept-encoding|user-agent|accept:/i)
  })

  it('RFC 9530 §2 digests and §8.8.3 entity tags stay true', async () => {
    const digest = `sha-256=:${createHash('sha256').update('ok').digest('base64')}:`
    answer = `HTTP/1.1 200 OK\r\nETag: W/"weak"\r\nContent-Digest: ${digest}\r\nRepr-Digest: ${digest}\r\nLast-Modified: Tue, 15 Nov 1994 12:45:26 GMT\r\nContent-Length: 2\r\n\r\nok`
    const text = await exchange('GET /api/items')
    expect(text).toContain(
      `ETag: W/"weak"\r\nContent-Digest: ${digest}\r\nRepr-Digest: ${digest}\r\nLast-Modified: Tue`,
    )
  })

  it('§14 ranges and §13 conditions pass, and so do their answers', async () => {
    const lines =
      'Range: bytes=0-1,4-5\r\nIf-Range: "abc"\r\nIf-None-Match: W/"x", "y"\r\nIf-Match: *\r\nIf-Modified-Since: Tue, 15 Nov 1994 12:45:26 GMT\r\n'
    const body = '--x\r\nContent-Range: bytes 0-1/8\r\n\r\nab\r\n--x--\r\n'
    answer = `HTTP/1.1 206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\nAccept-Ranges: bytes\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    const text = await exchange('GET /api/items', { lines })
    expect(seen[0]?.head).toContain(lines)
    expect(linesOf(text, 'accept-ranges')).toEqual(['bytes'])
    expect(bodyOf(text)).toBe(body)
    answer = 'HTTP/1.1 416 X\r\nContent-Range: bytes */8\r\nContent-Length: 0\r\n\r\n'
    expect(linesOf(await exchange('GET /api/items', { lines }), 'content-range')).toEqual([
      'bytes */8',
    ])
  })

  it('§6.5.1 trailers are dropped both ways, and never become headers', async () => {
    answer =
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie, X-User-Id\r\n\r\n2\r\nok\r\n0\r\n' +
      'Set-Cookie: a=evil\r\nX-User-Id: root\r\nAuthorization: Bearer evil\r\n\r\n'
    const text = await exchange('POST /cookies', {
      lines: 'Transfer-Encoding: chunked\r\nTrailer: Authorization\r\nTE: trailers\r\n',
      body: '2\r\nhi\r\n0\r\nAuthorization: Bearer evil\r\nX-User-Id: root\r\nCookie: evil=1\r\n\r\n',
    })
    expect(unchunked(bodyOf(text))).toBe('ok')
    expect(text).not.toMatch(/evil|root|trailer/i)
    expect(seen[0]?.head + (seen[0]?.body ?? '')).not.toMatch(/evil|root|trailer/i)
    expect(linesOf(`${seen[0]?.head}\r\n`, 'authorization')).toHaveLength(1)
  })
})

describe('RFC 9111 caching', () => {
  const CACHEABLE =
    'Cache-Control: public, max-age=600\r\nExpires: Tue, 15 Nov 2033 12:45:26 GMT\r\nPragma: x\r\nAge: 3\r\nVary: Accept\r\n'

  it.each([200, 203, 206, 301, 404, 410, 501])(
    '§3.5 a cacheable %i to a cookie becomes private and not stored',
    async (status) => {
      answer = `HTTP/1.1 ${status} X\r\n${CACHEABLE}CDN-Cache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n`
      const text = await exchange('GET /api/items')
      expect(linesOf(text, 'cache-control')).toEqual(['private, no-store'])
      expect(text).not.toMatch(/^(?:expires|pragma|age|cdn-cache-control):/im)
      expect(linesOf(text, 'vary')).toEqual(['Accept'])
    },
  )

  it('§4.1 where the route leaves it to the upstream, Vary keeps users apart', async () => {
    answer = `HTTP/1.1 200 OK\r\n${CACHEABLE}Content-Length: 0\r\n\r\n`
    const text = await exchange('GET /cached')
    expect(text).toContain(CACHEABLE)
    expect(linesOf(text, 'vary').join(', ')).toBe('Accept, Cookie')
  })

  it('RFC 9110 §7.7 no-transform stays', async () => {
    answer = 'HTTP/1.1 200 OK\r\nCache-Control: public, no-transform\r\nContent-Length: 0\r\n\r\n'
    const text = await exchange('GET /api/items')
    expect(linesOf(text, 'cache-control')).toEqual(['private, no-store, no-transform'])
  })
})
