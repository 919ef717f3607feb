/** WebSockets against whoever means ill at either end: nothing leaks, nothing grows, nobody else is harmed. */

import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  type RawConnection,
  type RawUpstream,
  rawClient,
  rawExchange,
  startRawUpstream,
} from '../edges/upstream/raw-sockets.ts'
import { sessionCookie } from '../support/cookies.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const MIB = 1024 * 1024
/** Socket buffers of the kernel on both connections, and what Node has read ahead. */
const IN_FLIGHT_MAX = 32 * MIB

let script: (connection: RawConnection) => unknown
let upstream: RawUpstream
let gateway: WholeGateway
let cookie: string
const clients: RawConnection[] = []
beforeAll(async () => {
  upstream = await startRawUpstream((connection) => script(connection))
  gateway = await startWholeGateway({ env: { COATCHECK_UPSTREAM: upstream.url } })
  const { name, value } = sessionCookie(await gateway.signedIn()) ?? expect.unreachable()
  cookie = `${name}=${value}`
})
afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy()
  // Whatever happened, the next one is served.
  script = async ({ socket, receives }) => {
    await receives('\r\n\r\n')
    socket.end('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary')
  }
  const alive = await rawExchange(
    gateway.port,
    `GET /api/alive HTTP/1.1\r\nHost: localhost:${gateway.port}\r\nCookie: ${cookie}\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n\r\n`,
  )
  expect(alive).toMatch(/canary$/)
})
afterAll(async () => {
  await gateway.close()
  await upstream.close()
})

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='

const handshake = (more = '', behind = ''): string =>
  [
    'GET /api/live HTTP/1.1',
    `Host: localhost:${gateway.port}`,
    `Origin: ${gateway.url}`,
    `Cookie: ${cookie}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${KEY}`,
    `${more}\r\n${behind}`,
  ].join('\r\n')

const connect = async (bytes: string): Promise<RawConnection> => {
  const client = await rawClient(gateway.port, bytes)
  clients.push(client)
  return client
}

const agreed = (fields = ''): string => {
  const accept = createHash('sha1').update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept.digest('base64')}\r\n${fields}\r\n`
}

const agree = async (connection: RawConnection): Promise<void> => {
  await connection.receives('\r\n\r\n')
  connection.socket.write(agreed())
}

const lastConnection = () => upstream.connections.at(-1) ?? expect.unreachable()

describe('an upstream that does not speak WebSocket', () => {
  it.each([
    ['another protocol', agreed().replace('websocket', 'h2c')],
    ['an answer to another key', agreed().replace(/Accept: .{4}/, 'Accept: AAAA')],
    ['101 without Upgrade', 'HTTP/1.1 101 Switching Protocols\r\n\r\n'],
    [
      'a head without an end',
      `HTTP/1.1 101 Switching\r\n${'X-Fill: 1234567890\r\n'.repeat(5_000)}`,
    ],
    ['a header with a bare CR', agreed('X-A: 1\r2\r\n')],
  ])('RFC 6455 §4.1 %s: 502, and no byte of it reaches the page', async (_, answer) => {
    script = async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(`${answer}\x81\x06secret`)
    }
    const { closed, received, socket } = await connect(handshake())
    await within(5_000, 'the refusal', closed)
    socket.destroy()
    expect(received()).toMatch(/^HTTP\/1\.1 502 /)
    expect(received()).toContain('"code":"upstream_unreachable"')
    expect(received()).not.toContain('secret')
    await within(3_000, 'the upstream’s connection ends', lastConnection().closed)
  })
})

describe('a client that sends more than a handshake', () => {
  it('a request behind a refused handshake is served to nobody', async () => {
    script = async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.end('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno')
    }
    const before = upstream.connections.length
    const smuggled = `GET /api/smuggled HTTP/1.1\r\nHost: localhost:${gateway.port}\r\nCookie: ${cookie}\r\nSec-Fetch-Site: same-origin\r\n\r\n`
    const { closed, received } = await connect(handshake('', smuggled))
    await within(5_000, 'the refusal', closed)
    expect(received().match(/HTTP\/1\.1 /g)).toHaveLength(1)
    expect(received()).toMatch(/^HTTP\/1\.1 403 /)
    expect(upstream.connections.length).toBe(before + 1)
    expect(lastConnection().received()).not.toContain('smuggled')
  })

  it('what Connection names cannot take away what the gateway says (RFC 9110 §7.6.1)', async () => {
    script = agree
    const bytes = handshake('X-User-Id: admin\r\nAuthorization: Bearer forged\r\n').replace(
      'Connection: Upgrade',
      'Connection: Upgrade, authorization, sec-websocket-key, x-forwarded-for',
    )
    const client = await connect(bytes)
    // Without its key the handshake is nobody's: the upstream's answer does not fit it.
    await client.receives(/HTTP\/1\.1 \d+/)
    const sent = lastConnection().received()
    expect(sent).toMatch(/\r\nauthorization: Bearer ey/)
    expect(sent).not.toMatch(/forged|x-user-id|coatcheck-\d/i)
    expect(sent).toMatch(/\r\nx-forwarded-for: 127\.0\.0\.1/i)
    expect(sent.match(/\r\nconnection: /gi)).toHaveLength(1)
  })

  it('a value that reads like a name is no name', async () => {
    script = agree
    const note = 'X-Note: Sec-WebSocket-Key'
    const client = await connect(handshake().replace('Connection:', `${note}\r\nConnection:`))
    await client.receives('HTTP/1.1 ')
    expect(client.received()).toMatch(/^HTTP\/1\.1 101 /)
  })

  it('no token is in the request line', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    expect(lastConnection().received().split('\r\n')[0]).toBe('GET /api/live HTTP/1.1')
  })
})

describe('frames that are made to hurt', () => {
  it('a frame of 2^63 bytes passes as it comes, and nothing waits for its end', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    client.socket.write(Buffer.from([0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
    client.socket.write('mask and the first of very many bytes')
    await lastConnection().receives('very many bytes')
  })

  it('a flood of empty fragments passes, and others are served meanwhile', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    const flood = Buffer.alloc(6 * 300_000)
    for (let at = 0; at < flood.length; at += 6) flood[at + 1] = 0x80
    client.socket.write(flood)
    await waitFor('all of it is there', () => lastConnection().received().length > flood.length, {
      timeoutMs: 15_000,
    })
  })

  it('frames that no protocol has are for the two ends to judge', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    client.socket.write(Buffer.from([0xff, 0x05, 1, 2, 3, 4, 5, 0x0b, 0xfe]))
    await lastConnection().receives('\x0b\xfe')
  })
})

describe('a reader that stands still', () => {
  /** Writes until nothing moves any more; how much was taken. */
  const pump = async (connection: RawConnection): Promise<number> => {
    const chunk = Buffer.alloc(MIB)
    let written = 0
    let isMoving = true
    while (isMoving && written < 256 * MIB) {
      written += MIB
      const { promise, resolve } = Promise.withResolvers<boolean>()
      if (connection.socket.write(chunk)) resolve(true)
      else connection.socket.once('drain', () => resolve(true))
      isMoving = await Promise.race([promise, sleep(1_500).then(() => false)])
    }
    return written
  }

  it('the page: its API waits, memory does not grow', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    client.socket.pause()
    expect(await pump(lastConnection())).toBeLessThan(IN_FLIGHT_MAX)
  })

  it('the API: its page waits, memory does not grow', async () => {
    script = agree
    const client = await connect(handshake())
    await client.receives('101')
    lastConnection().socket.pause()
    expect(await pump(client)).toBeLessThan(IN_FLIGHT_MAX)
  })

  it('either of them does not hold up the end of the session', async () => {
    script = agree
    const browser = await gateway.signedIn()
    const { name, value } = sessionCookie(browser) ?? expect.unreachable()
    const client = await connect(handshake().replace(cookie, `${name}=${value}`))
    await client.receives('101')
    const atUpstream = lastConnection()
    client.socket.pause()
    await pump(atUpstream)
    await browser.fetch(`${gateway.url}/bff/logout`, { method: 'POST' })
    await within(5_000, 'the API’s connection ends', atUpstream.closed)
    await waitFor('the gateway has let it go', () =>
      gateway.log.some(
        ({ event, reason }) => event === 'web_socket_closed' && reason === 'session_ended',
      ),
    )
  })
})
