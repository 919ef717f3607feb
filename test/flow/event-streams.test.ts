/** `GET /bff/events` on one gateway with sessions in memory, where each change is told: what a page hears, and when. */

import { Agent } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startListener } from '../../src/edges/http/listener.ts'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from '../hostile/raw-request.ts'
import { signInAtOnce } from '../hostile/sign-in-steps.ts'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import {
  type EventStream,
  type EventStreamRequest,
  openEventStream,
} from '../support/event-source.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { waitFor } from '../support/wait.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const ADMIN_TOKEN = 'an-admin-token-of-more-than-32-characters'

let whole: WholeGateway
let operations: Awaited<ReturnType<typeof startListener>>
beforeAll(async () => {
  whole = await startWholeGateway({
    env: { COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:9', COATCHECK_ADMIN_TOKEN: ADMIN_TOKEN },
  })
  operations = await startListener({
    listener: whole.gateway.operations,
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
})
afterAll(async () => {
  await operations.close()
  await whole.close()
})

const cookieOf = (browser: Browser) => {
  const cookie = sessionCookie(browser)
  return cookie === undefined ? undefined : `${cookie.name}=${cookie.value}`
}
const open = (browser: Browser, request: Partial<EventStreamRequest> = {}): Promise<EventStream> =>
  openEventStream({ port: whole.port, cookie: cookieOf(browser), ...request })
const openStreams = async () => {
  const response = await fetch(`http://127.0.0.1:${operations.address.port}/metrics`)
  return Number(/^coatcheck_event_streams (\d+)$/m.exec(await response.text())?.[1])
}

describe('the stream', () => {
  it('begins with where the session stands, and is stored, sniffed and buffered by nobody', async () => {
    const browser = await whole.signedIn()
    const stream = await open(browser)
    expect(stream.status).toBe(200)
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer',
      'x-request-id': expect.stringMatching(/^[\w-]{36}$/),
    })
    expect(stream.headers['content-encoding']).toBeUndefined()
    const { data } = await stream.next('session')
    const { session, links } = (await browser.fetch('/bff/session')).json() as {
      session: { expiresIn: number; idleExpiresIn: number }
      links: { events: string }
    }
    expect(Object.keys(data)).toEqual(['expiresIn', 'idleExpiresIn'])
    expect(data.expiresIn).toBeGreaterThanOrEqual(session.expiresIn)
    expect(data.idleExpiresIn).toBeGreaterThanOrEqual(session.idleExpiresIn)
    expect(links.events).toBe('/bff/events')
    expect(Number(/^retry: (\d+)\n/.exec(stream.text())?.[1])).toBeGreaterThanOrEqual(1_000)
    stream.close()
  })

  it('leaves nothing behind when its page goes', async () => {
    const browser = await whole.signedIn()
    await waitFor('no stream is open', async () => (await openStreams()) === 0)
    const streams = [await open(browser), await open(await whole.signedIn())]
    expect(await openStreams()).toBe(2)
    for (const stream of streams) stream.close()
    await waitFor('no stream is open', async () => (await openStreams()) === 0)
  })

  it('over HTTP/1.0 ends with the connection', async () => {
    const browser = await whole.signedIn()
    const cookie = cookieOf(browser)
    const socket = connect(whole.port, '127.0.0.1')
    let text = ''
    socket.on('data', (chunk) => {
      text += String(chunk)
    })
    socket.write(`GET /bff/events HTTP/1.0\r\nX-CSRF: 1\r\nCookie: ${cookie}\r\n\r\n`)
    await waitFor('the first event', () => text.includes('event: session'))
    expect(text).not.toMatch(/transfer-encoding/i)
    await browser.fetch('/bff/logout', { method: 'POST' })
    await waitFor('the connection ends', () => socket.readableEnded)
    expect(text).toMatch(/event: ended\ndata: \{"reason":"logout"\}\n\n$/)
    socket.destroy()
  })
})

describe('an end', () => {
  it.each<[string, string, (browser: Browser) => Promise<unknown>]>([
    ['signing out', 'logout', (browser) => browser.fetch('/bff/logout', { method: 'POST' })],
    [
      'the operator',
      'admin',
      () =>
        fetch(`http://127.0.0.1:${operations.address.port}/admin/sessions?subject=alice`, {
          method: 'DELETE',
          headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
        }),
    ],
    [
      'another device of the user',
      'ended_elsewhere',
      async () => (await whole.signedIn()).fetch('/bff/sessions', { method: 'DELETE' }),
    ],
    [
      'the next sign-in in the same browser',
      'replaced_at_login',
      (browser) => browser.navigate('/bff/login?returnTo=/', { from: `${whole.url}/` }),
    ],
  ])('by %s is told as %s to each of its pages, whose streams end', async (_, reason, end) => {
    const browser = await whole.signedIn()
    const cookie = cookieOf(browser)
    const streams = [await open(browser), await open(browser)]
    const bystander = await open(await whole.signedIn('bob'))
    await end(browser)
    for (const stream of streams) {
      expect((await stream.next('ended')).data).toEqual({ reason })
      await stream.ended()
      expect(stream.events.at(-1)?.event).toBe('ended')
    }
    expect(bystander.hasEnded()).toBe(false)
    bystander.close()
    // What an EventSource hears that comes back with the old cookie: it gives up.
    const again = await open(browser, { cookie })
    expect(again.status).toBe(401)
    expect(again.headers['content-type']).toBe('application/problem+json')
    if (reason !== 'replaced_at_login') return
    // Here the browser has the new session's cookie by then, and the same EventSource goes on with that.
    const onward = await open(browser)
    expect((await onward.next('session')).data).toMatchObject({ expiresIn: expect.any(Number) })
    onward.close()
  })

  it('leaves a connection that serves the next request', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const browser = await whole.signedIn()
    const stream = await open(browser, { agent })
    await browser.fetch('/bff/logout', { method: 'POST' })
    await stream.ended()
    const next = await open(await whole.signedIn(), { agent })
    expect(next.status).toBe(200)
    next.close()
    agent.destroy()
  })
})

describe('more than two streams of a session', () => {
  it('the oldest is superseded, and its EventSource is told to stay away', async () => {
    const browser = await whole.signedIn()
    const [first, second, third] = [await open(browser), await open(browser), await open(browser)]
    const superseded = await first.next('superseded')
    expect(superseded).toMatchObject({ id: 'superseded', data: {} })
    await first.ended()
    expect([second.hasEnded(), third.hasEnded()]).toEqual([false, false])
    const back = await open(browser, {
      headers: { 'sec-fetch-site': 'same-origin', 'last-event-id': superseded.id },
    })
    expect([back.status, back.text()]).toEqual([204, ''])
    expect(back.headers['content-length']).toBeUndefined()
    // It took nobody's place, and what is left hears the end.
    await browser.fetch('/bff/logout', { method: 'POST' })
    for (const stream of [second, third]) await stream.next('ended')
  })

  it('another session’s streams do not count', async () => {
    const [one, other] = [await whole.signedIn(), await whole.signedIn()]
    const streams = [await open(one), await open(one), await open(other), await open(other)]
    await sleep(50)
    for (const stream of streams) {
      expect(stream.hasEnded()).toBe(false)
      stream.close()
    }
  })
})

describe('what comes with an event id', () => {
  it.each([
    ['one of another release', ['Last-Event-ID: v2.17-a_b'], 200],
    ['an empty one', ['Last-Event-ID:'], 200],
    ['a space in it', ['Last-Event-ID: super seded'], 400],
    ['two lines', ['Last-Event-ID: superseded', 'Last-Event-ID: superseded'], 400],
    ['too long', [`Last-Event-ID: ${'a'.repeat(65)}`], 400],
    ['far too long', [`Last-Event-ID: ${'a'.repeat(20_000)}`], 400],
    ['not ASCII', ['Last-Event-ID: süper'], 400],
    ['markup', ['Last-Event-ID: <script>'], 400],
  ] as const)('%s gets a stable answer', async (_, lines, status) => {
    const browser = await whole.signedIn()
    const cookie = cookieOf(browser)
    const request = { lines: [`Cookie: ${cookie}`, ...SAME_ORIGIN_FETCH, ...lines] }
    const stop = setTimeout(() => browser.fetch('/bff/logout', { method: 'POST' }), 200)
    const answer = await rawRequest(whole.port, { target: '/bff/events', ...request })
    clearTimeout(stop)
    expect(answer.status).toBe(status)
    if (status === 400) expect(answer.json().code).toBe('request_invalid')
    expect(answer.whole).not.toContain('script')
  })
})

describe('who gets no stream', () => {
  it.each<[string, readonly string[]]>([
    ['another site', ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: cors']],
    ['a sibling', ['Sec-Fetch-Site: same-site', 'Sec-Fetch-Mode: cors']],
    ['a link on another site', navigation('cross-site')],
    ['an old browser on another site', ['Origin: https://evil.example']],
    ['a browser that says nothing', []],
  ])('%s: csrf_rejected before anything is opened', async (_, lines) => {
    const browser = await whole.signedIn()
    const answer = await rawRequest(whole.port, {
      target: '/bff/events',
      lines: [`Cookie: ${cookieOf(browser)}`, 'Last-Event-ID: superseded', ...lines],
    })
    expect(answer.status).toBe(403)
    expect(answer.text).toContain('csrf_rejected')
  })

  it.each<[string, () => Promise<string | undefined>, string]>([
    ['no cookie', async () => undefined, 'session_required'],
    [
      'a forged cookie',
      async () => `${cookieOf(await whole.signedIn())?.slice(0, -60)}${'A'.repeat(60)}`,
      'session_required',
    ],
    [
      'a cookie twice',
      async () => {
        const cookie = cookieOf(await whole.signedIn())
        return `${cookie}; ${cookie}`
      },
      'session_required',
    ],
    [
      'the cookie of an ended session',
      async () => {
        const browser = await whole.signedIn()
        const cookie = cookieOf(browser)
        await browser.fetch('/bff/logout', { method: 'POST' })
        return cookie
      },
      'session_ended',
    ],
  ])('%s: 401, never 200', async (_, cookie, code) => {
    const stream = await openEventStream({ port: whole.port, cookie: await cookie() })
    await stream.ended()
    expect(stream.status).toBe(401)
    expect((JSON.parse(stream.text()) as { code: string }).code).toBe(code)
  })

  it.each(['HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS'])('%s: 405', async (method) => {
    const browser = await whole.signedIn()
    const stream = await open(browser, { method })
    expect([stream.status, stream.headers.allow]).toEqual([405, 'GET'])
    stream.close()
  })

  it('a request with a body: 400, and its connection ends', async () => {
    const browser = await whole.signedIn()
    const answer = await rawRequest(whole.port, {
      target: '/bff/events',
      lines: [`Cookie: ${cookieOf(browser)}`, ...SAME_ORIGIN_FETCH, 'Connection: keep-alive'],
      body: 'x',
    })
    expect([answer.status, answer.json().code]).toEqual([400, 'request_invalid'])
  })
})

describe.concurrent('by time', () => {
  it('the page is told ahead of the idle end, and the open stream does not put it off', async ({
    onTestFinished,
  }) => {
    const own = await startWholeGateway({
      env: { COATCHECK_SESSION_IDLE: '5s', COATCHECK_SESSION_ABSOLUTE: '1h' },
    })
    onTestFinished(() => own.close())
    const browser = await own.signedIn()
    const stream = await open(browser, { port: own.port })
    const expiring = await stream.next('expiring', 8_000)
    expect(expiring.data).toEqual({ reason: 'idle', expiresIn: expect.toBeOneOf([0, 1]) })
    const ended = await stream.next('ended')
    expect(ended.data).toEqual({ reason: 'idle' })
    expect(ended.at).toBeGreaterThan(expiring.at)
    await stream.ended()
    expect(own.log.filter(({ event }) => event === 'session_ended')).toEqual([
      expect.objectContaining({ reason: 'idle' }),
    ])
  })

  it('an end that a call has put off is taken back', async ({ onTestFinished }) => {
    const own = await startWholeGateway({
      env: { COATCHECK_SESSION_IDLE: '10s', COATCHECK_SESSION_ABSOLUTE: '1h' },
    })
    onTestFinished(() => own.close())
    const browser = await own.signedIn()
    const stream = await open(browser, { port: own.port })
    await stream.next('expiring', 12_000)
    expect((await browser.fetch('/api/items')).status).toBe(200)
    const putOff = await waitFor('it is taken back', () =>
      stream.events.filter(({ event }) => event === 'session').at(1),
    )
    expect(putOff.data.idleExpiresIn).toBeGreaterThan(5)
    expect(stream.hasEnded()).toBe(false)
    stream.close()
  })

  it('the page is told ahead of the absolute end', async ({ onTestFinished }) => {
    const own = await startWholeGateway({
      env: { COATCHECK_SESSION_IDLE: '5s', COATCHECK_SESSION_ABSOLUTE: '5s' },
    })
    onTestFinished(() => own.close())
    const stream = await open(await own.signedIn(), { port: own.port })
    expect((await stream.next('expiring', 8_000)).data).toMatchObject({ reason: 'absolute' })
    expect((await stream.next('ended')).data).toEqual({ reason: 'absolute' })
  })
})

it('a refresh that brings other claims is told with the whole user, and one that brings none is not', async () => {
  const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 1 })
  const own = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
  })
  try {
    provider.lieInIdTokens({ claims: { name: 'Alice' } })
    const browser = own.browser()
    await signInAtOnce(own, browser)
    const stream = await open(browser, { port: own.port })
    const refresh = async () => {
      await sleep(1_050)
      expect((await browser.fetch('/api/items')).status).toBe(200)
    }
    await refresh()
    provider.lieInIdTokens({ claims: { name: 'Alice Liddell' } })
    await refresh()
    const { data } = await stream.next('claims')
    expect(data.user).toEqual(((await browser.fetch('/bff/session')).json() as Session).user)
    expect(data.user).toMatchObject({ name: 'Alice Liddell' })
    expect(stream.events.map(({ event }) => event)).toEqual(['session', 'claims'])
    stream.close()
  } finally {
    await own.close()
    await provider.close()
  }
})

interface Session {
  readonly user: object
}
