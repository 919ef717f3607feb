/** Limits towards upstreams as a user of the whole gateway meets them: in status, code, `Retry-After` and visible ends. */

import { afterAll, beforeAll, expect, it } from 'vitest'
import { rawClient, rawExchange, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import { cookieLine, rawRequest, SAME_ORIGIN_FETCH } from '../hostile/raw-request.ts'
import type { Browser } from '../support/browser.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let silent: Awaited<ReturnType<typeof startRawUpstream>>
let endless: Awaited<ReturnType<typeof startRawUpstream>>
let whole: WholeGateway
let browser: Browser
beforeAll(async () => {
  silent = await startRawUpstream(() => undefined)
  endless = await startRawUpstream(async (connection) => {
    await connection.receives('\r\n\r\n')
    connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n')
    const more = setInterval(() => connection.socket.write('x'), 20)
    connection.socket.once('close', () => clearInterval(more))
  })
  whole = await startWholeGateway({
    file: () => ({
      upstreamLimits: { connections: 2, queue: 1 },
      upstreamTimeout: { connect: '400ms' },
      routes: [
        { path: '/silent', upstream: silent.url },
        { path: '/limited', upstream: silent.url, timeout: { connect: '2s', total: '100ms' } },
        { path: '/endless', upstream: endless.url, timeout: { total: '300ms' } },
      ],
    }),
  })
  browser = await whole.signedIn()
})
afterAll(async () => {
  await whole.close()
  await Promise.all([silent.close(), endless.close()])
})

const lines = () => [cookieLine(browser), ...SAME_ORIGIN_FETCH]
const reasonOf = (code: string) => whole.log.findLast((line) => line.code === code)?.reason

it('an upstream that is full: 503 with Retry-After, others go on as ever, and its end lets the next in', async () => {
  const request = (n: number) =>
    `GET /silent/${n} HTTP/1.1\r\nHost: localhost:${whole.port}\r\n${lines().join('\r\n')}\r\n\r\n`
  const holding = await Promise.all([1, 2].map((n) => rawClient(whole.port, request(n))))
  await waitFor('both are there', () => silent.connections.length === 2)
  const waiting = await rawClient(whole.port, request(3))
  const refused = await waitFor('the queue is full', async () => {
    const answer = await rawRequest(whole.port, {
      target: '/silent/4',
      lines: lines(),
    })
    return reasonOf('upstream_busy') === 'queue_full' ? answer : undefined
  })
  expect(refused.status).toBe(503)
  expect(refused.json()).toMatchObject({ code: 'upstream_busy', retryable: true })
  expect(refused.header('retry-after')).toBe('1')
  expect((await browser.fetch('/api/items')).status).toBe(200)
  await waiting.receives(/^HTTP\/1\.1 503 /)
  expect(reasonOf('upstream_busy')).toBe('queue_timeout')
  expect(silent.connections).toHaveLength(2)
  for (const { socket } of holding) socket.destroy()
  await waitFor('their calls end', async () => {
    const next = await rawClient(whole.port, request(5))
    const arrived = await within(200, 'the next call', silentGot('/silent/5')).catch(() => false)
    next.socket.destroy()
    return arrived
  })
})

it('RFC 9110 §10.1.1: whoever waited in vain for a place hears no 100, and its connection ends', async () => {
  const holding = await Promise.all(
    [6, 7].map((n) =>
      rawClient(
        whole.port,
        `GET /silent/${n} HTTP/1.1\r\nHost: localhost:${whole.port}\r\n${lines().join('\r\n')}\r\n\r\n`,
      ),
    ),
  )
  await Promise.all([6, 7].map((n) => silentGot(`/silent/${n} `)))
  const answer = await rawExchange(
    whole.port,
    `POST /silent/8 HTTP/1.1\r\nHost: localhost:${whole.port}\r\n${lines().join('\r\n')}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`,
  )
  expect(answer).toMatch(/^HTTP\/1\.1 503 /)
  for (const { socket } of holding) socket.destroy()
})

const silentGot = (path: string) =>
  waitFor(path, () => silent.connections.some((connection) => connection.received().includes(path)))

it('the total limit before the answer: 504', async () => {
  const answer = await rawRequest(whole.port, { target: '/limited', lines: lines() })
  expect(answer.status).toBe(504)
  expect(answer.json()).toMatchObject({ code: 'upstream_timeout' })
  expect(reasonOf('upstream_timeout')).toBe('total')
})

it('the total limit inside an answer: it ends short of its length, and so does the upstream’s connection', async () => {
  const answer = await rawRequest(whole.port, { target: '/endless', lines: lines() })
  expect(answer.status).toBe(200)
  expect(answer.text.length).toBeLessThan(1_000_000)
  await within(2_000, 'its end', endless.connections[0]?.closed ?? Promise.reject())
  const told = () => whole.log.find(({ event }) => event === 'answer_cut')
  expect(await waitFor('the log', told)).toMatchObject({
    level: 'warn',
    requestId: answer.header('x-request-id'),
    route: '/endless',
    status: 200,
    reason: 'total',
  })
})
