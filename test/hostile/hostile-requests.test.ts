/**
 * Attack: requests that two parsers read differently, so that what one takes for a body the other takes for the next
 * request, answers go to the wrong one, or a guard is passed by. Byte for byte against the whole gateway, with a live
 * session: its routes, its own endpoints and the files of its app. The API behind it is stricter than any real one, and
 * a canary on a connection of its own must never notice.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { rawClient, rawExchange } from '../edges/upstream/raw-sockets.ts'
import { within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { type Canary, startCanary } from './canary.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { type StrictUpstream, startStrictUpstream } from './strict-upstream.ts'

const directory = mkdtempSync(join(tmpdir(), 'coatcheck-app-'))
writeFileSync(join(directory, 'index.html'), '<!doctype html><title>App</title>')

let upstream: StrictUpstream
let whole: WholeGateway
let canary: Canary
/** Session and origin are in order, so that only HTTP itself is judged. */
let credentials: string
let host: string
beforeAll(async () => {
  upstream = await startStrictUpstream()
  whole = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: upstream.url, COATCHECK_SPA: directory },
  })
  const browser = await whole.signedIn()
  credentials = [cookieLine(browser), ...SAME_ORIGIN_FETCH].map((line) => `${line}\r\n`).join('')
  host = `Host: localhost:${whole.port}\r\n`
  canary = await startCanary(whole.port, get)
})
afterAll(async () => {
  canary.close()
  await whole.close()
  await upstream.close()
  rmSync(directory, { recursive: true })
})
beforeEach(() => upstream.forget())

const get = (target: string, fields = '') =>
  `GET ${target} HTTP/1.1\r\n${host}${credentials}${fields}\r\n`
const post = (target: string, fields: string, body: string) =>
  `POST ${target} HTTP/1.1\r\n${host}${credentials}${fields}\r\n${body}`
const CLOSE = 'Connection: close\r\n'
const targetsSeen = () => upstream.requests.map(({ target }) => target)
const statusesOf = (answer: string) =>
  [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))

/** Every kind of destination: a refusal must not depend on who would have answered. */
const DESTINATIONS = ['/api/x', '/bff/session', '/index.html']

/** Sent with a request behind it, which must be served by nobody. */
const expectRefused = async (bytes: string, status: number, where = '') => {
  const answer = await rawExchange(whole.port, bytes + get('/api/smuggled', CLOSE))
  expect([where, statusesOf(answer)]).toEqual([where, [status]])
  expect(answer).toMatch(/\r\nconnection: close\r\n/i)
  expect(answer).toMatch(/\r\ncontent-type: application\/problem\+json/i)
  expect(upstream.received()).not.toContain('smuggled')
  expect([targetsSeen(), upstream.faults]).toEqual([[], []])
  await canary.sings()
  upstream.forget()
}

type Framing = readonly [name: string, fields: string, body: string, status: number]

describe('a body of which it is not clear where it ends', () => {
  const chunked = 'Transfer-Encoding: chunked\r\n'
  const end = '0\r\n\r\n'
  const FRAMINGS: readonly Framing[] = [
    ['§6.1 length and coding', `Content-Length: 5\r\n${chunked}`, end, 400],
    ['§6.1 coding and length', `${chunked}Content-Length: 5\r\n`, end, 400],
    ['§6.1 a coding beside chunked', 'Transfer-Encoding: gzip, chunked\r\n', end, 501],
    ['§6.1 an empty element', 'Transfer-Encoding: ,chunked\r\n', end, 501],
    ['§6.1 chunked and a coding', 'Transfer-Encoding: chunked, gzip\r\n', end, 400],
    ['§6.1 chunked twice', 'Transfer-Encoding: chunked, chunked\r\n', end, 400],
    ['§6.1 chunked on two lines', chunked + chunked, end, 400],
    ['§6.1 identity behind chunked', `${chunked}Transfer-Encoding: identity\r\n`, end, 400],
    ['§6.1 identity', 'Transfer-Encoding: identity\r\n', end, 501],
    ['§6.1 xchunked', 'Transfer-Encoding: xchunked\r\n', end, 501],
    ['§6.1 chunked with a parameter', 'Transfer-Encoding: chunked;q=1\r\n', end, 501],
    ['§6.1 chunked in quotes', 'Transfer-Encoding: "chunked"\r\n', end, 501],
    ['§6.1 chunked behind a vertical tab', 'Transfer-Encoding: \vchunked\r\n', end, 400],
    ['§6.1 a coding without a name', 'Transfer-Encoding:\r\n', end, 400],
    ['§5.1 coding with a space before the colon', 'Transfer-Encoding : chunked\r\n', end, 400],
    ['§5.2 coding on a folded line', 'X: 1\r\n Transfer-Encoding: chunked\r\n', end, 400],
    ['§6.3 two equal lengths', 'Content-Length: 2\r\nContent-Length: 2\r\n', 'hi', 400],
    ['§6.3 two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n', 'hi', 400],
    ['§6.3 a list of lengths', 'Content-Length: 2, 2\r\n', 'hi', 400],
    ['§6.3 a signed length', 'Content-Length: +2\r\n', 'hi', 400],
    ['§6.3 a negative length', 'Content-Length: -2\r\n', 'hi', 400],
    ['§6.3 a hexadecimal length', 'Content-Length: 0x2\r\n', 'hi', 400],
    ['§6.3 a length in two words', 'Content-Length: 2 2\r\n', 'hi', 400],
    ['§6.3 a length with a fraction', 'Content-Length: 2.0\r\n', 'hi', 400],
    ['§6.3 a length with an exponent', 'Content-Length: 2e0\r\n', 'hi', 400],
    ['§6.3 a length without digits', 'Content-Length: \r\n', 'hi', 400],
    ['§6.3 a length beyond 64 bits', 'Content-Length: 18446744073709551618\r\n', 'hi', 400],
    ['§7.1 a size in another notation', chunked, `0x2\r\nhi\r\n${end}`, 400],
    ['§7.1 a negative size', chunked, `-2\r\nhi\r\n${end}`, 400],
    ['§7.1 a size beyond 64 bits', chunked, `10000000000000002\r\nhi\r\n${end}`, 400],
    ['§7.1 a size with blanks', chunked, `2 \r\nhi\r\n${end}`, 400],
    ['§7.1 a size behind a blank', chunked, ` 2\r\nhi\r\n${end}`, 400],
    ['§7.1 no size', chunked, `\r\nhi\r\n${end}`, 400],
    ['§7.1 a bare LF behind the size', chunked, `2\nhi\r\n${end}`, 400],
    ['§7.1 a bare CR behind the size', chunked, `2\rhi\r\n${end}`, 400],
    ['§7.1 a bare LF behind the data', chunked, `2\r\nhi\n${end}`, 400],
    ['§7.1 nothing behind the data', chunked, `2\r\nhi${end}`, 400],
    ['§7.1 more data than its size', chunked, `2\r\nhip\r\n${end}`, 400],
    ['§7.1 a bare LF at the end', chunked, '2\r\nhi\r\n0\n\n', 400],
    ['§7.1.1 a bare LF in an extension', chunked, `2;a\nhi\r\n${end}`, 400],
    ['§7.1.1 a bare CR in an extension', chunked, `2;a\rb\r\nhi\r\n${end}`, 400],
    ['§7.1.1 a line end in a quoted extension', chunked, `2;a="\r\nhi\r\n${end}`, 400],
    ['§7.1.1 an extension of 20 KiB', chunked, `2;${'a'.repeat(20_480)}\r\nhi\r\n${end}`, 413],
    ['§7.1.2 framing in a trailer', chunked, '0\r\nContent-Length: 99\r\n\r\n', 400],
    ['§7.1.2 a coding in a trailer', chunked, `0\r\n${chunked}\r\n`, 400],
    ['§7.1.2 a folded trailer', chunked, '0\r\nX: 1\r\n 2\r\n\r\n', 400],
    ['§7.1.2 a trailer with a bare LF', chunked, '0\r\nX: 1\nY: 2\r\n\r\n', 400],
    ['§7.1.2 trailers without end', chunked, `0\r\n${'X: 1\r\n'.repeat(8_000)}`, 431],
  ]

  it.each(FRAMINGS)('RFC 9112 %s is refused', async (_name, fields, body, status) => {
    await expectRefused(post('/api/x', fields, body), status)
  })

  // An endpoint or a file may have been answered, or be refused for its method, before a body that it never reads is
  // over: then the answer is not about the body, but the connection ends with it all the same.
  it.each(FRAMINGS)(
    'RFC 9112 %s: nothing behind it is served elsewhere either',
    async (_name, fields, body) => {
      for (const target of ['/bff/session', '/index.html']) {
        const answer = await rawExchange(
          whole.port,
          post(target, fields, body) + get('/api/smuggled', CLOSE),
        )
        const [status, ...further] = statusesOf(answer)
        expect([target, [400, 405, 413, 431, 501].includes(status ?? 0), further]).toEqual([
          target,
          true,
          [],
        ])
        expect(upstream.received()).toBe('')
      }
      await canary.sings()
    },
  )

  it('RFC 9112 §6.1 a coding in HTTP/1.0 is refused, kept alive or not', async () => {
    for (const fields of ['', 'Connection: keep-alive\r\n', 'Content-Length: 5\r\n'])
      await expectRefused(
        post('/api/x', fields + chunked, end).replace('HTTP/1.1', 'HTTP/1.0'),
        400,
        fields,
      )
  })

  it('RFC 9112 §7.1 a chunk larger than any number has no more room than any other body', async () => {
    const client = await rawClient(whole.port, post('/api/x', chunked, '20000000000000\r\n'))
    const block = 'x'.repeat(1024 * 1024)
    for (let sent = 0; sent < 24 && !client.socket.destroyed; sent += 1) client.socket.write(block)
    await within(15_000, 'the end of the connection', client.closed)
    expect(statusesOf(client.received()).every((status) => status === 413)).toBe(true)
    expect([targetsSeen(), upstream.faults]).toEqual([[], []])
    await canary.sings()
  })

  it('a length that no body can have is refused by its number', async () => {
    await expectRefused(post('/api/x', 'Content-Length: 9007199254740993\r\n', ''), 413)
  })

  it.each([
    ['a tab before the length', 'Content-Length:\t2\r\n', 'hi', 'hi'],
    ['blanks behind the length', 'Content-Length: 2 \t\r\n', 'hi', 'hi'],
    ['a length with zeros in front', 'Content-Length: 0002\r\n', 'hi', 'hi'],
    ['chunked in capitals', 'Transfer-Encoding: CHUNKED\r\n', `2\r\nhi\r\n${end}`, 'hi'],
    ['a size with zeros in front', chunked, `${'0'.repeat(40)}2\r\nhi\r\n${end}`, 'hi'],
    ['a chunk extension', chunked, `2;a="b";c\r\nhi\r\n${end}`, 'hi'],
    ['trailers', chunked, '2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\nX-User: eve\r\n\r\n', 'hi'],
    [
      'names that only look like framing',
      'Transfer_Encoding: chunked\r\nContent_Length: 99\r\nContent-Length: 2\r\n',
      'hi',
      'hi',
    ],
  ])('RFC 9112 §6 %s: one request goes on, framed anew', async (_name, fields, body, expected) => {
    const answer = await rawExchange(
      whole.port,
      post('/api/first', fields, body) + get('/api/second', CLOSE),
    )
    expect(statusesOf(answer)).toEqual([200, 200])
    expect(upstream.requests.map((seen) => [seen.method, seen.target, seen.body])).toEqual([
      ['POST', '/api/first', expected],
      ['GET', '/api/second', ''],
    ])
    expect(upstream.faults).toEqual([])
    expect(upstream.received()).not.toMatch(/Bearer x|eve|_encoding|_length/i)
  })

  it('RFC 9110 §9.3.1 a body of GET or HEAD stays one, and is no request', async () => {
    const inner = get('/api/inner')
    for (const method of ['GET', 'HEAD', 'DELETE', 'OPTIONS']) {
      upstream.forget()
      const answer = await rawExchange(
        whole.port,
        post('/api/outer', `Content-Length: ${inner.length}\r\n`, inner).replace('POST', method) +
          get('/api/next', CLOSE),
      )
      expect([method, statusesOf(answer), targetsSeen()]).toEqual([
        method,
        [200, 200],
        ['/api/outer', '/api/next'],
      ])
      expect(upstream.requests[0]?.body).toBe(inner)
    }
  })
})

describe('a head that is not what RFC 9112 calls one', () => {
  const line = (requestLine: string) => (target: string) =>
    `${requestLine.replace('TARGET', target)}\r\n${host}${credentials}\r\n`
  const field = (fields: string) => (target: string) => get(target, fields)
  const HEADS: readonly (readonly [string, (target: string) => string, number])[] = [
    ['§3.2 no Host', (t) => get(t).replace(host, ''), 400],
    [
      '§3.2 no Host beside an absolute target',
      (t) => get(`http://localhost${t}`).replace(host, ''),
      400,
    ],
    ['§3.2 two Hosts', field('Host: evil.example\r\n'), 400],
    ['§3.2 two equal Hosts', (t) => get(t, host), 400],
    ['§3.2 two Hosts in HTTP/1.0', (t) => get(t, host).replace('HTTP/1.1', 'HTTP/1.0'), 400],
    ['§3.2 an empty Host', (t) => get(t).replace(host, 'Host:\r\n'), 400],
    ['§3.2 a Host with a path', (t) => get(t).replace(host, 'Host: localhost/x\r\n'), 400],
    [
      '§3.2 a Host with a name before it',
      (t) => get(t).replace(host, 'Host: x@localhost\r\n'),
      400,
    ],
    ['§3.2 a Host with a bracket', (t) => get(t).replace(host, 'Host: [::1\r\n'), 400],
    ['§3.2 a Host with other letters', (t) => get(t).replace(host, 'Host: l\xf6calhost\r\n'), 400],
    ['§2.2 a bare CR in a value', field('X: a\rb\r\n'), 400],
    ['§2.2 a bare LF in a value', field('X: a\nY: b\r\n'), 400],
    ['§2.2 two CR before the LF', field('X: a\r\r\n'), 400],
    ['§2.2 lines that end with LF', (t) => get(t).replaceAll('\r', ''), 400],
    ['§2.2 a blank before the first field', (t) => get(t).replace('Host', ' Host'), 400],
    [
      '§2.2 a line of blanks before the first field',
      (t) => get(t).replace('Host', ' x\r\nHost'),
      400,
    ],
    ['§5.2 a folded line', field('X: a\r\n b\r\n'), 400],
    ['§5.2 a line folded by a tab', field('X: a\r\n\tb\r\n'), 400],
    ['§5.1 a space before the colon', field('X : a\r\n'), 400],
    ['§5.1 a tab before the colon', field('X\t: a\r\n'), 400],
    ['§5.1 a space in a name', field('X Y: a\r\n'), 400],
    ['§5.1 a field without a name', field(': a\r\n'), 400],
    ['§5.1 a line without a colon', field('X\r\n'), 400],
    ['RFC 9110 §5.1 a name with a bracket', field('X(: a\r\n'), 400],
    ['RFC 9110 §5.1 a name in quotes', field('"X": a\r\n'), 400],
    ['RFC 9110 §5.1 a name with a slash', field('X/Y: a\r\n'), 400],
    ['RFC 9110 §5.1 a name with other letters', field('X\xe9: a\r\n'), 400],
    ['RFC 9110 §5.1 a name with NUL', field('X\0: a\r\n'), 400],
    ['RFC 9110 §5.5 NUL in a value', field('X: a\0b\r\n'), 400],
    ['RFC 9110 §5.5 a control byte in a value', field('X: a\x01b\r\n'), 400],
    ['RFC 9110 §5.5 DEL in a value', field('X: a\x7fb\r\n'), 400],
    ['RFC 9110 §5.5 a vertical tab in a value', field('X: a\vb\r\n'), 400],
    ['RFC 9110 §15.6.6 HTTP/0.9 in name', line('GET TARGET HTTP/0.9'), 505],
    ['RFC 9110 §15.6.6 HTTP/2.0 in name', line('GET TARGET HTTP/2.0'), 505],
    ['§2.3 HTTP/1.2', line('GET TARGET HTTP/1.2'), 400],
    ['§2.3 HTTP/1.10', line('GET TARGET HTTP/1.10'), 400],
    ['§2.3 HTTP/01.1', line('GET TARGET HTTP/01.1'), 400],
    ['§2.3 HTTP/1', line('GET TARGET HTTP/1'), 400],
    ['§2.3 http in small letters', line('GET TARGET http/1.1'), 400],
    ['§3 HTTP/0.9, a target and no version', (t) => `GET ${t}\r\n\r\n`, 505],
    ['§3 a space at the end', line('GET TARGET HTTP/1.1 '), 400],
    ['§3 a word behind the version', line('GET TARGET HTTP/1.1 x'), 400],
    ['§3 a tab for a space', line('GET\tTARGET HTTP/1.1'), 400],
    ['§3 a space before the method', line(' GET TARGET HTTP/1.1'), 400],
    ['§3 a second CR', line('GET TARGET HTTP/1.1\r'), 400],
    ['§3.1 no method', line(' TARGET HTTP/1.1'), 400],
    ['§3.1 a method in small letters', line('get TARGET HTTP/1.1'), 400],
    ['§3.1 a method that nobody knows', line('GETS TARGET HTTP/1.1'), 400],
    ['§3.1 a method with a bracket', line('G(T TARGET HTTP/1.1'), 400],
    ['§3.2 a target with a space', line('GET TARGET /y HTTP/1.1'), 400],
    ['§3.2 a target with NUL', line('GET TARGET\0 HTTP/1.1'), 400],
    ['§3.2 a target with CR', line('GET TARGET\ry HTTP/1.1'), 400],
    ['§3.2 a target with other letters', line('GET TARGET\xc3\xa9 HTTP/1.1'), 400],
    [
      'RFC 9113 §3.4 the preface of HTTP/2',
      () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
      400,
    ],
    [
      'RFC 8446 §4.1.2 a handshake of TLS',
      () => `\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03${'a'.repeat(200)}`,
      400,
    ],
    ['RFC 9110 §9.3.6 CONNECT', line('CONNECT localhost:80 HTTP/1.1'), 405],
    ['RFC 6585 §5 a head of 40 KiB', field(`X: ${'x'.repeat(40_960)}\r\n`), 431],
    ['RFC 6585 §5 a name of 40 KiB', field(`${'X'.repeat(40_960)}: 1\r\n`), 431],
    ['RFC 6585 §5 300 fields', field('X: 1\r\n'.repeat(300)), 431],
    ['RFC 9110 §10.1.1 an impossible expectation', field('Expect: a-miracle\r\n'), 417],
  ]

  it.each(HEADS)('%s is refused', async (_name, head, status) => {
    for (const target of DESTINATIONS) await expectRefused(head(target), status, target)
  })

  it.each([
    ['§2.2 empty lines before the request line', (t: string) => `\r\n\r\n${get(t)}`],
    ['§3 more than one space', (t: string) => get(t).replace(`GET ${t} `, `GET  ${t}  `)],
    ['§5 bytes beyond ASCII in a value', (t: string) => get(t, 'X: \xff\xfe\r\n')],
    ['§5 names of JavaScript', (t: string) => get(t, '__proto__: a\r\nconstructor: b\r\n')],
    [
      '§5.1 names that only look like Host',
      (t: string) => get(t, 'Ho_st: a\r\nHost_: b\r\nX-Host: c\r\n'),
    ],
  ])('RFC 9112 %s are read, and the API gets a plain request', async (_name, head) => {
    const answer = await rawExchange(whole.port, head('/api/first') + get('/api/second', CLOSE))
    expect([statusesOf(answer), targetsSeen()]).toEqual([
      [200, 200],
      ['/api/first', '/api/second'],
    ])
    expect(upstream.faults).toEqual([])
    expect(upstream.requests[0]?.fields.filter(([name]) => /host/.test(name))).toEqual([
      ['host', new URL(upstream.url).host],
      ['x-forwarded-host', `localhost:${whole.port}`],
    ])
  })

  it.each(['GET /api/x RTSP/1.0', 'SOURCE /api/x ICE/1.0'])(
    'RFC 9112 §2.3 %s, which Node reads as HTTP/1.0, goes on as plain HTTP and ends the connection',
    async (requestLine) => {
      const answer = await rawExchange(
        whole.port,
        line(requestLine)('') + get('/api/smuggled', CLOSE),
      )
      expect([statusesOf(answer), upstream.faults]).toEqual([[200], []])
      expect(targetsSeen()).toEqual(['/api/x'])
    },
  )

  it('RFC 9112 §3.2.4 the asterisk names nothing here', async () => {
    for (const method of ['OPTIONS', 'GET']) {
      const answer = await rawExchange(whole.port, `${method} ${get('*', CLOSE).slice(4)}`)
      expect(statusesOf(answer)).toEqual([400])
      expect(answer).toContain('"code":"request_invalid"')
    }
    expect(upstream.received()).toBe('')
  })

  it('RFC 9112 §3.2.2 an absolute target is served by its path; neither authority chooses a host', async () => {
    await rawExchange(whole.port, get('http://evil.example:81/api/x?y', CLOSE))
    expect(targetsSeen()).toEqual(['/api/x?y'])
    expect(upstream.received()).not.toContain('evil.example')
  })
})

describe('RFC 9112 §3.2.2 the authority of an absolute target', () => {
  it('stands for Host: a page under another host of this machine is sent to the public one', async () => {
    const page = (target: string, hostName: string) =>
      rawExchange(
        whole.port,
        `GET ${target} HTTP/1.1\r\nHost: ${hostName}\r\n${CLOSE}Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n\r\n`,
      )
    const [ours, other] = [`localhost:${whole.port}`, `127.0.0.1:${whole.port}`]
    expect(statusesOf(await page(`http://${ours}/index.html`, other))).toEqual([200])
    const sent = await page(`http://${other}/index.html`, ours)
    expect(statusesOf(sent)).toEqual([307])
    expect(sent).toContain(`\r\nlocation: http://${ours}/index.html\r\n`)
  })
})

describe('RFC 9110 §7.8 a protocol that is offered', () => {
  it.each(['h2c', 'h2c, websocket', 'TLS/1.3', 'websocket/13'])(
    '%s is not taken up: the request is answered and its connection ends',
    async (protocol) => {
      const offer = `Connection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABk\r\n`
      for (const target of DESTINATIONS) {
        upstream.forget()
        const answer = await rawExchange(whole.port, get(target, offer) + get('/api/smuggled'))
        expect([target, statusesOf(answer)]).toEqual([target, [200]])
        expect(answer).toMatch(/\r\nconnection: close\r\n/i)
        expect(upstream.received()).not.toMatch(/smuggled|upgrade|http2-settings/i)
      }
      await canary.sings()
    },
  )

  it('h2c: the end of a body, whose head the parser skipped, is not taken for a request', async () => {
    const inner = get('/api/smuggled')
    const client = await rawClient(
      whole.port,
      get('/api/x', 'Connection: Upgrade\r\nUpgrade: h2c\r\n') +
        post('/api/y', `Content-Length: ${inner.length}\r\n`, ''),
    )
    await client.receives('/api/x')
    client.socket.write(inner, 'latin1')
    await within(5_000, 'the end of the connection', client.closed)
    expect([statusesOf(client.received()), targetsSeen()]).toEqual([[200], ['/api/x']])
  })
})

describe('RFC 6455 §7.2.2 a handshake whose client has ended its side already', () => {
  it('leaves nothing open, once the upstream has agreed', async () => {
    const handshake =
      'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
    for (const behind of ['', '\x81']) {
      const client = await rawClient(whole.port, get('/api/socket', handshake) + behind)
      client.socket.end()
      await within(5_000, 'the end of the connection', client.closed)
    }
    await canary.sings()
  })
})

describe('requests behind one another', () => {
  it('RFC 9112 §9.3.2 are answered in their order, one at a time', async () => {
    const targets = Array.from({ length: 20 }, (_, index) => `/api/n${index}`)
    const answer = await rawExchange(
      whole.port,
      targets.map((target) => get(target)).join('') + get('/api/last', CLOSE),
    )
    const echoed = [...answer.matchAll(/\r\nx-target: (\S+)/gi)].map(([, target]) => target)
    expect(echoed).toEqual([...targets, '/api/last'])
    expect(targetsSeen()).toEqual(echoed)
  })

  it('RFC 9112 §9.6 nothing behind `Connection: close` is served', async () => {
    const answer = await rawExchange(whole.port, get('/api/x', CLOSE) + get('/api/smuggled'))
    expect([statusesOf(answer), targetsSeen()]).toEqual([[200], ['/api/x']])
  })

  it('RFC 9112 §9.6 nothing behind an answer that ends the connection is served', async () => {
    const answer = await rawExchange(
      whole.port,
      post('/index.html', 'Content-Length: 2\r\n', 'hi') + get('/api/smuggled'),
    )
    expect([statusesOf(answer), targetsSeen()]).toEqual([[405], []])
  })

  it('RFC 9112 §9.3.2 what is broken behind a whole request does not take its answer', async () => {
    for (const poison of ['\0\0\0', 'GET /api/y HTTP/9\r\n\r\n', 'GET / HTTP/1.1\r\n : \r\n\r\n']) {
      upstream.forget()
      const answer = await rawExchange(whole.port, get('/api/x') + poison)
      expect([statusesOf(answer), targetsSeen()]).toEqual([[200], ['/api/x']])
      expect(answer).toContain('\r\n\r\n/api/x')
      await canary.sings()
    }
  })

  it('RFC 9110 §9.3.6 CONNECT behind a request does not take its answer', async () => {
    const answer = await rawExchange(
      whole.port,
      `${get('/api/x')}CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n`,
    )
    expect(statusesOf(answer)).not.toContain(405)
  })

  it('more of them than a client can mean are left to it', async () => {
    const many = Array.from({ length: 1_000 }, (_, index) => get(`/api/n${index}`)).join('')
    const client = await rawClient(whole.port, many)
    await within(5_000, 'the end of the connection', client.closed)
    const served = targetsSeen().filter((target) => target.startsWith('/api/n'))
    expect(served.length).toBeGreaterThan(1)
    expect(served.length).toBeLessThan(100)
    expect(served).toEqual(served.map((_, index) => `/api/n${index}`))
    await canary.sings()
  })
})
