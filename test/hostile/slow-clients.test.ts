/**
 * Attack: clients that are slow on purpose, hundreds at once: heads and bodies that trickle (slow loris), and answers
 * that nobody reads (slow read). Each is cut off within a limit and frees what it held, and nobody else notices.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from './raw-request.ts'

const MANY = 100
const MEGABYTES_32 = 32 * 1024 * 1024
const ENDS_WITHIN_MS = 8_000

let app: string
let whole: WholeGateway
let browser: Browser
beforeAll(async () => {
  app = await mkdtemp(join(tmpdir(), 'coatcheck-slow-clients-'))
  await writeFile(join(app, 'index.html'), '<!doctype html>')
  await writeFile(join(app, 'large.bin'), Buffer.alloc(MEGABYTES_32))
  whole = await startWholeGateway({
    env: { COATCHECK_SPA: app },
    file: ({ api }) => ({
      routes: [
        // No limit of its own inside an answer: what ends a reader there is the listener.
        { path: '/stream', upstream: api, eventSource: true },
        { path: '/upload', upstream: api, timeout: { firstByte: '300ms' } },
      ],
    }),
    limits: { headMs: 500, unreadBodyMs: 500, stalledMs: 1_000, keepAliveMs: 1_000 },
  })
  browser = await whole.signedIn()
})
afterAll(async () => {
  await whole.close()
  await rm(app, { recursive: true })
})

const open = new Set<Socket>()
afterEach(() => {
  for (const socket of open) socket.destroy()
  open.clear()
})

/** A client that writes these bytes, and reads nothing unless it is told to. */
const slowClient = (bytes: string) => {
  const socket = connect({ port: whole.port, host: '127.0.0.1' })
  open.add(socket)
  let received = ''
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  socket.write(bytes)
  return {
    socket,
    closed,
    received: () => received,
    read: () => void socket.on('data', (chunk) => (received += chunk.toString('latin1'))),
  }
}
type SlowClient = ReturnType<typeof slowClient>

const head = (method: string, target: string, ...lines: string[]) =>
  `${[`${method} ${target} HTTP/1.1`, `Host: localhost:${whole.port}`, ...lines].join('\r\n')}\r\n`
const signedIn = () => [cookieLine(browser), ...SAME_ORIGIN_FETCH]

/** Each sends a byte every now and then, so that its connection is never idle. */
const trickling = (clients: readonly SlowClient[], bytes: string) => {
  let at = 0
  const timer = setInterval(() => {
    at += 1
    for (const { socket } of clients)
      if (socket.writable) socket.write(bytes[at % bytes.length] ?? 'x')
  }, 50)
  return () => clearInterval(timer)
}

/** Ends when all are gone; until then, and once after it, everybody else is served. */
const allEnd = async (clients: readonly SlowClient[]) => {
  let isOver = false
  const others = async () => {
    do {
      expect((await browser.fetch('/api/items')).status).toBe(200)
      await sleep(100)
    } while (!isOver)
  }
  const served = others()
  try {
    await within(ENDS_WITHIN_MS, 'every end', Promise.all(clients.map(({ closed }) => closed)))
  } finally {
    isOver = true
  }
  await served
}

const many = (bytes: string): SlowClient[] => {
  const clients = Array.from({ length: MANY }, () => slowClient(bytes))
  for (const client of clients) client.read()
  return clients
}

describe('slow loris', () => {
  it.each([
    ['nothing at all', () => ''],
    ['half a request line', () => 'GET /api/ite'],
    ['header lines without end', () => head('GET', '/api/items', 'X-Slow: ')],
  ])('%s: every connection ends within the limit of a head', async (_, bytes) => {
    const clients = many(bytes())
    const stop = bytes() === '' ? () => undefined : trickling(clients, 'slow')
    await allEnd(clients)
    stop()
    for (const client of clients) expect(client.received()).toMatch(/^(?:HTTP\/1\.1 408 |$)/)
  })

  it('a body that stalls on its way to an API: 400, and its upstream call ends', async () => {
    whole.api.forgetRequests()
    const clients = many(`${head('POST', '/upload', ...signedIn(), 'Content-Length: 100')}\r\nhalf`)
    await allEnd(clients)
    for (const client of clients)
      expect(client.received()).toMatch(/^HTTP\/1\.1 400 [\s\S]*"code":"request_invalid"/)
    await waitFor('every upstream call', () => whole.api.requests.length >= MANY)
    await within(
      2_000,
      'the end of every upstream call',
      Promise.all(
        whole.api.requests.filter(({ url }) => url === '/upload').map(({ aborted }) => aborted),
      ),
    )
  })

  it('a body that trickles behind a refusal: the connection ends', async () => {
    const clients = many(`${head('POST', '/api/x', 'Content-Length: 100000')}\r\n`)
    const stop = trickling(clients, 'x')
    await allEnd(clients)
    stop()
    for (const client of clients) expect(client.received()).toMatch(/^HTTP\/1\.1 401 /)
  })

  it('a connection that is kept and never used again ends', async () => {
    await allEnd(many(`${head('GET', '/bff/session', ...SAME_ORIGIN_FETCH)}\r\n`))
  })
})

describe('slow read', () => {
  const megabytes = Buffer.alloc(MEGABYTES_32)
  const large = () => {
    whole.api.forgetRequests()
    whole.api.answerWith(async (request, response) => {
      if (!request.url.startsWith('/stream')) return void response.end('{}')
      response.end(megabytes)
    })
  }
  const streams = () => whole.api.requests.filter(({ url }) => url.startsWith('/stream'))
  /** The first byte that is sent to a closed connection makes its client hear of the end. */
  const FEELS = 'GET /bff/session HTTP/1.1\r\nHost: a\r\n\r\n'
  const feeling = (clients: readonly SlowClient[]) => {
    const timer = setInterval(() => {
      for (const { socket } of clients) if (socket.writable) socket.write(FEELS)
    }, 100)
    return () => clearInterval(timer)
  }

  it('an answer of an API that nobody reads: its upstream connection is freed, and others are served', async () => {
    large()
    const clients = Array.from({ length: 20 }, () =>
      slowClient(`${head('GET', '/stream/x', ...signedIn())}\r\n`),
    )
    await waitFor('every upstream call', () => streams().length === clients.length)
    const stop = feeling(clients)
    await Promise.all([
      allEnd(clients),
      within(ENDS_WITHIN_MS, 'the upstream calls', Promise.all(streams().map((s) => s.aborted))),
    ])
    stop()
  }, 20_000)

  it('a file of the app that nobody reads: the connection ends', async () => {
    const clients = Array.from({ length: 20 }, () => slowClient(`${head('GET', '/large.bin')}\r\n`))
    const stop = feeling(clients)
    await allEnd(clients)
    stop()
  }, 20_000)

  it('who reads slowly, but reads, is served to the end', async () => {
    large()
    const client = slowClient(`${head('GET', '/stream/x', ...signedIn(), 'Connection: close')}\r\n`)
    let bytes = 0
    client.socket.on('data', (chunk) => {
      bytes += chunk.length
      client.socket.pause()
      setTimeout(() => client.socket.resume(), 3)
    })
    await within(20_000, 'the end', client.closed)
    expect(bytes).toBeGreaterThan(MEGABYTES_32)
  }, 25_000)

  it('an event stream that is silent for longer than that is left alone', async () => {
    whole.api.answerWith(async (request, response) => {
      if (!request.url.startsWith('/stream')) return void response.end('{}')
      response.write('data: 1\n\n')
      await sleep(2_500)
      response.end('data: 2\n\n')
    })
    const client = slowClient(`${head('GET', '/stream/x', ...signedIn(), 'Connection: close')}\r\n`)
    client.read()
    await within(6_000, 'the end', client.closed)
    expect(client.received()).toContain('data: 2')
  })
})
