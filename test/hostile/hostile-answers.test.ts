/**
 * Attack: an API, or who speaks in its place, answers with what is not HTTP, or with more than it was asked for, so that
 * a browser takes a part of an answer for the whole, gets fields that nobody sent, or gets what was meant for the next
 * user of the same connection. The upstream is a raw socket; the gateway is whole, with a live session.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type RawConnection,
  type RawUpstream,
  rawClient,
  rawExchange,
  startRawUpstream,
} from '../edges/upstream/raw-sockets.ts'
import { within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { type Canary, startCanary } from './canary.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { echo } from './strict-upstream.ts'

type Script = (connection: RawConnection) => unknown

let upstream: RawUpstream
let whole: WholeGateway
let canary: Canary
let credentials: string
const scripts = new Map<string, Script>()
/** How often each target was asked for, and on which connection last. */
const asked = new Map<string, { count: number; connection: RawConnection }>()

const serve: Script = (connection) => {
  let read = 0
  connection.socket.on('data', () => {
    for (;;) {
      const end = connection.received().indexOf('\r\n\r\n', read)
      if (end === -1) return
      const [method = '', target = ''] = connection.received().slice(read, end).split(' ')
      read = end + 4
      asked.set(target, { count: (asked.get(target)?.count ?? 0) + 1, connection })
      const script = scripts.get(target)
      if (script !== undefined) script(connection)
      else connection.socket.write(echo({ method, target, fields: [], body: '' }))
    }
  })
}

beforeAll(async () => {
  upstream = await startRawUpstream(serve)
  whole = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: upstream.url,
      COATCHECK_UPSTREAM_TIMEOUT_FIRST_BYTE: '1s',
      COATCHECK_UPSTREAM_TIMEOUT_IDLE: '1s',
    },
  })
  const browser = await whole.signedIn()
  credentials = [cookieLine(browser), ...SAME_ORIGIN_FETCH].map((line) => `${line}\r\n`).join('')
  canary = await startCanary(whole.port, (target) => request('GET', target))
})
afterAll(async () => {
  canary.close()
  await whole.close()
  await upstream.close()
})

const request = (method: string, target: string, fields = '') =>
  `${method} ${target} HTTP/1.1\r\nHost: localhost:${whole.port}\r\n${credentials}${fields}\r\n`

let asks = 0
/** Asks for something that the upstream answers so. */
const askFor = async (script: Script, method = 'GET') => {
  asks += 1
  const target = `/api/attack-${asks}`
  scripts.set(target, script)
  const answer = await rawExchange(whole.port, request(method, target, 'Connection: close\r\n'))
  const { count, connection } = asked.get(target) ?? never(`${target} did not reach the upstream`)
  const refusals = whole.log.filter((line) => line.event === 'request_refused')
  return { answer, count, connection, reason: refusals.at(-1)?.reason }
}
const never = (what: string): never => {
  throw new Error(what)
}

const writes =
  (bytes: string): Script =>
  ({ socket }) =>
    socket.write(bytes, 'latin1')
const writesAndEnds =
  (bytes: string): Script =>
  ({ socket }) =>
    socket.end(bytes, 'latin1')
/** The same over and over for as long as somebody listens, never more than a few hundred KiB at once. */
const writesForEver =
  (first: string, again: string): Script =>
  ({ socket }) => {
    socket.write(first, 'latin1')
    const timer = setInterval(() => socket.write(again, 'latin1'), 5)
    socket.once('close', () => clearInterval(timer))
  }

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])

const isWhole = (answer: string): boolean => {
  const headEnd = answer.indexOf('\r\n\r\n')
  const [head, body] = [answer.slice(0, headEnd), answer.slice(headEnd + 4)]
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1]
  return length === undefined ? /(?:^|\r\n)0\r\n\r\n$/.test(body) : body.length === Number(length)
}

const OK = 'HTTP/1.1 200 OK\r\n'
const TWO = 'Content-Length: 2\r\n'
const CHUNKED = 'Transfer-Encoding: chunked\r\n'
const OK_CHUNKS = '2\r\nok\r\n0\r\n\r\n'

describe('a head that is not what RFC 9112 calls one', () => {
  const HEADS: readonly (readonly [name: string, script: Script, why?: string])[] = [
    ['§6.3 a length and a coding', writes(`${OK}${TWO}${CHUNKED}\r\n${OK_CHUNKS}`)],
    ['§6.3 a coding and a length', writes(`${OK}${CHUNKED}${TWO}\r\n${OK_CHUNKS}`)],
    ['§6.3 two equal lengths', writes(`${OK}${TWO}${TWO}\r\nok`)],
    ['§6.3 two lengths', writes(`${OK}${TWO}Content-Length: 3\r\n\r\nok`)],
    ['§6.3 a list of lengths', writes(`${OK}Content-Length: 2, 2\r\n\r\nok`)],
    ['§6.3 a signed length', writes(`${OK}Content-Length: +2\r\n\r\nok`)],
    ['§6.3 a negative length', writes(`${OK}Content-Length: -2\r\n\r\nok`)],
    ['§6.3 a hexadecimal length', writes(`${OK}Content-Length: 0x2\r\n\r\nok`)],
    ['§6.3 a length without digits', writes(`${OK}Content-Length:\r\n\r\nok`)],
    ['§6.3 a length beyond 64 bits', writes(`${OK}Content-Length: 18446744073709551618\r\n\r\nok`)],
    [
      '§6.1 xchunked',
      writes(`${OK}Transfer-Encoding: xchunked\r\n\r\n${OK_CHUNKS}`),
      'response_coding',
    ],
    [
      '§6.1 a coding before chunked',
      writes(`${OK}Transfer-Encoding: gzip, chunked\r\n\r\n${OK_CHUNKS}`),
      'response_coding',
    ],
    [
      '§6.1 a coding behind chunked',
      writes(`${OK}Transfer-Encoding: chunked, gzip\r\n\r\n${OK_CHUNKS}`),
      'response_coding',
    ],
    ['§6.1 chunked twice', writes(`${OK}${CHUNKED}${CHUNKED}\r\n${OK_CHUNKS}`), 'response_coding'],
    [
      '§6.1 a coding to the end',
      writesAndEnds(`${OK}Transfer-Encoding: gzip\r\n\r\nok`),
      'response_coding',
    ],
    [
      '§6.1 identity',
      writesAndEnds(`${OK}Transfer-Encoding: identity\r\n\r\nok`),
      'response_coding',
    ],
    [
      '§5.1 a coding with a space before the colon',
      writes(`${OK}Transfer-Encoding : chunked\r\n\r\n${OK_CHUNKS}`),
    ],
    ['§5.1 a space before the colon', writes(`${OK}X : a\r\n${TWO}\r\nok`)],
    ['§5.1 no name', writes(`${OK}: a\r\n${TWO}\r\nok`)],
    ['§5.1 no colon', writes(`${OK}X\r\n${TWO}\r\nok`)],
    ['§5.1 a name with a bracket', writes(`${OK}X(: a\r\n${TWO}\r\nok`)],
    ['§5.2 a folded line', writes(`${OK}X: a\r\n b\r\n${TWO}\r\nok`)],
    ['§5.2 a folded first line', writes(`${OK} X: a\r\n${TWO}\r\nok`)],
    ['§2.2 a bare CR', writes(`${OK}X: a\rSet-Cookie: a=b\r\n${TWO}\r\nok`)],
    ['§2.2 a bare LF', writes(`${OK}X: a\nSet-Cookie: a=b\r\n${TWO}\r\nok`)],
    ['§2.2 lines that end with LF', writes('HTTP/1.1 200 OK\nContent-Length: 2\n\nok')],
    ['RFC 9110 §5.5 NUL in a value', writes(`${OK}X: a\0b\r\n${TWO}\r\nok`)],
    ['RFC 9110 §5.5 a control byte in a value', writes(`${OK}X: a\x01b\r\n${TWO}\r\nok`)],
    ['RFC 9110 §5.5 DEL in a value', writes(`${OK}X: a\x7fb\r\n${TWO}\r\nok`)],
    ['§4 a status of two digits', writes(`HTTP/1.1 99 X\r\n${TWO}\r\nok`)],
    ['§4 a status of four digits', writes(`HTTP/1.1 2000 X\r\n${TWO}\r\nok`)],
    ['§4 a status of letters', writes(`HTTP/1.1 abc X\r\n${TWO}\r\nok`)],
    ['§4 status 000', writes(`HTTP/1.1 000 X\r\n${TWO}\r\nok`), 'connection_lost'],
    ['§4 no status', writes(`HTTP/1.1\r\n${TWO}\r\nok`)],
    ['§4 two spaces before the status', writes(`HTTP/1.1  200 OK\r\n${TWO}\r\nok`)],
    ['§4 a bare CR in the reason', writes(`HTTP/1.1 200 O\rK\r\n${TWO}\r\nok`)],
    ['§2.3 HTTP/1.2', writes(`HTTP/1.2 200 OK\r\n${TWO}\r\nok`)],
    ['§2.3 HTTP/3.0', writes(`HTTP/3.0 200 OK\r\n${TWO}\r\nok`)],
    ['§2.3 http in small letters', writes(`http/1.1 200 OK\r\n${TWO}\r\nok`)],
    ['§2.3 another protocol', writes(`ICY 200 OK\r\n${TWO}\r\nok`)],
    ['§4 a body alone (HTTP/0.9)', writesAndEnds('<html>hello</html>')],
    ['§4 a request', writes('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
    ['§4 an alert of TLS', writes('\x15\x03\x01\0\x02\x02\x0a')],
    ['§4 a greeting of SSH', writes('SSH-2.0-OpenSSH_9\r\n')],
    ['§4 frames of HTTP/2', writes('\0\0\x12\x04\0\0\0\0\0')],
    [
      'RFC 9110 §15.2.2 101 that nobody asked for',
      writes('HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframes'),
      'connection_lost',
    ],
    ['RFC 9110 §15.2 a body behind 103', writes(`HTTP/1.1 103 E\r\n${TWO}\r\nok${OK}${TWO}\r\nok`)],
    [
      'a field of 100 KiB',
      writes(`${OK}X: ${'x'.repeat(102_400)}\r\n${TWO}\r\nok`),
      'response_headers_too_large',
    ],
    [
      '2,000 fields',
      writes(`${OK}${'X: y\r\n'.repeat(2_000)}${TWO}\r\nok`),
      'response_headers_too_large',
    ],
    [
      'fields without end',
      writesForEver(OK, `X: ${'y'.repeat(1_000)}\r\n`.repeat(8)),
      'response_headers_too_large',
    ],
    [
      'a line without end',
      writesForEver(`${OK}X: `, 'y'.repeat(8_192)),
      'response_headers_too_large',
    ],
    ['an end in the head', writesAndEnds(`${OK}Content-Le`), 'connection_lost'],
    ['an end in the status line', writesAndEnds('HTT'), 'connection_lost'],
  ]

  const REFUSED = HEADS.map(
    ([name, script, why]) => [name, script, why ?? 'response_malformed'] as const,
  )
  it.each(REFUSED)('%s gets 502', async (_name, script, why) => {
    const { answer, reason, count, connection } = await askFor(script)
    expect([statusOf(answer), reason]).toEqual([502, why])
    expect(answer).toContain('"code":"upstream_unreachable"')
    expect(answer).not.toMatch(/\r\nset-cookie: /i)
    // An answer had begun: asking again could act twice, and would only be answered the same.
    expect(count).toBe(1)
    await within(2_000, 'the upstream connection ends', connection.closed)
    await canary.sings()
  })

  it.each([
    [
      'RFC 9110 §15.2 informational answers without end',
      writesForEver('', 'HTTP/1.1 103 E\r\nLink: <a>\r\n\r\n'.repeat(20)),
    ],
    ['a head that does not go on', writes(`${OK}X: y\r\n`)],
    ['a head that trickles', writesForEver(OK, 'X: y\r\n')],
  ])('%s: 504, for they are no answer', async (_name, script) => {
    const { answer, reason, connection } = await askFor(script)
    expect([statusOf(answer), reason]).toEqual([504, 'first_byte'])
    await within(2_000, 'the upstream connection ends', connection.closed)
    await canary.sings()
  })

  it.each([
    ['§2.3 a version of HTTP that this is not', `HTTP/2.0 200 OK\r\n${TWO}\r\nok`],
    ['§4 NUL in the reason', `HTTP/1.1 200 O\0K\r\n${TWO}\r\nok`],
    ['§2.2 a second CR for the LF of the status line', `HTTP/1.1 200 OK\r\rX: a\r\n${TWO}\r\nok`],
    ['§4 no reason', `HTTP/1.1 200\r\n${TWO}\r\nok`],
    ['§2.2 an empty line before it', `\r\n${OK}${TWO}\r\nok`],
    ['names of JavaScript', `${OK}__proto__: a\r\nconstructor: b\r\n${TWO}\r\nok`],
    [
      'RFC 9110 §7.6.1 a length that Connection names',
      `${OK}Connection: content-length\r\n${TWO}\r\nok`,
    ],
    [
      'RFC 9110 §7.8 an offer of another protocol',
      `${OK}Connection: upgrade\r\nUpgrade: h2c\r\n${TWO}\r\nok`,
    ],
  ])('%s: the browser gets plain HTTP/1.1', async (_name, bytes) => {
    const { answer } = await askFor(writes(bytes))
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(answer).toMatch(/\r\n\r\nok$/)
    expect(answer).toMatch(/\r\ncontent-length: 2\r\n/i)
    expect(answer).not.toMatch(/\r\nupgrade: /i)
    await canary.sings()
  })
})

describe('a body that is not what its head says', () => {
  const chunks = (body: string) => writes(`${OK}${CHUNKED}\r\n${body}`)
  const BROKEN: readonly (readonly [string, Script])[] = [
    ['§8 less than its length', writesAndEnds(`${OK}Content-Length: 5\r\n\r\nok`)],
    ['§8 less than its length, and silence', writes(`${OK}Content-Length: 5\r\n\r\nok`)],
    ['§8 a length beyond 2^53', writes(`${OK}Content-Length: 9007199254740993\r\n\r\nok`)],
    ['§8 an end in a chunk', writesAndEnds(`${OK}${CHUNKED}\r\n5\r\nok`)],
    ['§8 no last chunk', writesAndEnds(`${OK}${CHUNKED}\r\n2\r\nok\r\n`)],
    ['§8 no end of the last chunk', writesAndEnds(`${OK}${CHUNKED}\r\n2\r\nok\r\n0\r\n`)],
    ['§7.1 another notation', chunks('0x2\r\nok\r\n0\r\n\r\n')],
    ['§7.1 a negative size', chunks('-2\r\nok\r\n0\r\n\r\n')],
    ['§7.1 a blank behind the size', chunks('2 \r\nok\r\n0\r\n\r\n')],
    ['§7.1 a bare LF behind the size', chunks('2\nok\r\n0\r\n\r\n')],
    ['§7.1 a bare LF behind the data', chunks('2\r\nok\n0\r\n\r\n')],
    ['§7.1 more data than its size', chunks('2\r\noky\r\n0\r\n\r\n')],
    ['§7.1 no size', chunks('\r\nok\r\n0\r\n\r\n')],
    ['§7.1 a size beyond 64 bits', chunks('10000000000000002\r\nok\r\n0\r\n\r\n')],
    ['§7.1 a size that nobody sends', chunks('1000000000000000\r\nok')],
    ['§7.1.1 a bare LF in an extension', chunks('2;a\nok\r\n0\r\n\r\n')],
    ['§7.1.1 an extension without end', writesForEver(`${OK}${CHUNKED}\r\n2;`, 'a'.repeat(8_192))],
    ['§7.1.2 a trailer with a space before the colon', chunks('2\r\nok\r\n0\r\nX : y\r\n\r\n')],
    ['§7.1.2 a length in a trailer', chunks('2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n')],
    [
      '§7.1.2 trailers without end',
      writesForEver(`${OK}${CHUNKED}\r\n2\r\nok\r\n0\r\n`, 'X: y\r\n'.repeat(500)),
    ],
  ]

  it.each(BROKEN)('RFC 9112 %s: the browser sees that it is not whole', async (_name, script) => {
    const { answer, connection } = await askFor(script)
    expect(statusOf(answer)).toBe(200)
    expect(isWhole(answer)).toBe(false)
    await within(2_000, 'the upstream connection ends', connection.closed)
    await canary.sings()
  })

  it('a fetch of it fails', async () => {
    scripts.set('/api/cut', writesAndEnds(`${OK}${CHUNKED}\r\n2\r\nok\r\n`))
    const answer = await fetch(`${whole.url}/api/cut`, {
      headers: {
        cookie: credentials.split('\r\n')[0]?.slice('Cookie: '.length) ?? '',
        'sec-fetch-site': 'same-origin',
      },
    })
    expect(answer.status).toBe(200)
    await expect(answer.text()).rejects.toThrow()
  })

  it.each([
    ['§6.3 204', 'HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok', 'GET', 204],
    ['§6.3 204 in chunks', `HTTP/1.1 204 No Content\r\n${CHUNKED}\r\n${OK_CHUNKS}`, 'GET', 204],
    ['§6.3 204 without framing', 'HTTP/1.1 204 No Content\r\n\r\nok', 'GET', 204],
    ['§6.3 304', `HTTP/1.1 304 Not Modified\r\n${TWO}\r\nok`, 'GET', 304],
    ['§6.3 an answer to HEAD', `${OK}${TWO}\r\nok`, 'HEAD', 200],
    ['§6.3 an answer to HEAD in chunks', `${OK}${CHUNKED}\r\n${OK_CHUNKS}`, 'HEAD', 200],
  ])(
    'RFC 9112 %s has no body, and what comes instead is nobody’s',
    async (_name, bytes, method, status) => {
      const { answer, connection } = await askFor(writes(bytes), method)
      expect([statusOf(answer), answer.split('\r\n\r\n')[1]]).toEqual([status, ''])
      await within(2_000, 'the upstream connection ends', connection.closed)
      await canary.sings()
    },
  )
})

describe('RFC 9112 §9.2 more answers than requests', () => {
  const POISON = `${OK}Set-Cookie: sid=eve\r\nContent-Length: 6\r\n\r\nPOISON`
  const WHOLE = `${OK}${TWO}\r\nok`
  const EXTRA: readonly (readonly [string, Script])[] = [
    ['behind the answer', writes(WHOLE + POISON)],
    ['behind an answer in chunks', writes(`${OK}${CHUNKED}\r\n${OK_CHUNKS}${POISON}`)],
    ['behind an answer without content', writes(`${OK}Content-Length: 0\r\n\r\n${POISON}`)],
    [
      'behind an answer that ends the connection',
      writes(`${OK}Connection: close\r\n${TWO}\r\nok${POISON}`),
    ],
    ['many of them', writes(WHOLE + POISON.repeat(100))],
    ['a part of one', writes(`${WHOLE}HTTP/1.1 200 OK\r\nX-Poison: `)],
    ['bytes that are none', writes(`${WHOLE}POISON`)],
    ['an informational one', writes(`${WHOLE}HTTP/1.1 103 E\r\nLink: <POISON>\r\n\r\n`)],
    [
      'a moment later, while nobody asks',
      async ({ socket }) => {
        socket.write(WHOLE)
        await sleep(30)
        socket.write(POISON)
      },
    ],
  ]

  it.each(EXTRA)('%s: nobody gets them, and the connection ends', async (_name, script) => {
    // All at once before, so that other connections lie idle when the poison comes.
    const { answer, connection } = await askFor(script)
    expect(statusOf(answer)).toBe(200)
    expect(answer).not.toContain('POISON')
    await within(2_000, 'the upstream connection ends', connection.closed)
    for (let song = 0; song < 3; song += 1) await canary.sings()
  })

  it('a coding in a trailer, which leaves the parser at its end: whoever comes next is asked for elsewhere', async () => {
    const { answer } = await askFor(
      writes(`${OK}${CHUNKED}\r\n2\r\nok\r\n0\r\nTransfer-Encoding: identity\r\n\r\n`),
    )
    expect(isWhole(answer)).toBe(true)
    for (let song = 0; song < 3; song += 1) await canary.sings()
  })

  it('while other calls wait for their own: each gets its own', async () => {
    scripts.set('/api/poisoned', writes(WHOLE + POISON))
    const targets = Array.from({ length: 60 }, (_, index) =>
      index % 3 === 0 ? '/api/poisoned' : `/api/own-${index}`,
    )
    const answers = await Promise.all(
      targets.map((target) =>
        rawExchange(whole.port, request('GET', target, 'Connection: close\r\n')),
      ),
    )
    answers.forEach((answer, index) => {
      const expected = targets[index] === '/api/poisoned' ? 'ok' : targets[index]
      expect([targets[index], answer.split('\r\n\r\n')[1]]).toEqual([targets[index], expected])
    })
  })

  it('before anything was asked: whoever asks there may get it, and nobody else does', async () => {
    const hasty = await startRawUpstream((connection) => {
      connection.socket.write(WHOLE)
      serve(connection)
    })
    const second = await startWholeGateway({ env: { COATCHECK_UPSTREAM: hasty.url } })
    try {
      const cookie = cookieLine(await second.signedIn())
      for (let round = 0; round < 5; round += 1) {
        const target = `/api/hasty-${round}`
        const answer = await rawExchange(
          second.port,
          `GET ${target} HTTP/1.1\r\nHost: localhost\r\n${cookie}\r\n${SAME_ORIGIN_FETCH.join('\r\n')}\r\nConnection: close\r\n\r\n`,
        )
        expect(['ok', target]).toContain(answer.split('\r\n\r\n')[1])
      }
      // Each answer that came too early cost its connection.
      expect(hasty.connections.length).toBeGreaterThanOrEqual(5)
    } finally {
      await second.close()
      await hasty.close()
    }
  })
})

describe('beside all that', () => {
  it('an exchange that is under way is whole', async () => {
    const part = `${'x'.repeat(1_000)}\n`
    scripts.set('/api/long', async ({ socket }) => {
      socket.write(`${OK}Content-Length: ${part.length * 20}\r\n\r\n`)
      for (let sent = 0; sent < 20; sent += 1) {
        await sleep(20)
        socket.write(part)
      }
    })
    const long = await rawClient(whole.port, request('GET', '/api/long', 'Connection: close\r\n'))
    for (const bytes of [
      '\0',
      `${OK}${TWO}${TWO}\r\nok`,
      `${OK}${TWO}\r\nokPOISON`,
      'HTTP/1.1 101 S\r\n\r\n',
    ])
      await askFor(writes(bytes))
    await within(5_000, 'the long answer', long.closed)
    expect(long.received().split('\r\n\r\n')[1]).toBe(part.repeat(20))
    await canary.sings()
  })

  it('nothing of it is in the log, nor a fault of the gateway’s own', () => {
    expect(whole.logText()).not.toMatch(/POISON|OpenSSH|sid=eve/)
    expect(whole.log.filter((line) => line.code === 'internal' || line.level === 'fatal')).toEqual(
      [],
    )
  })
})
