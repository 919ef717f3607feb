/** Server-sent events and long polls of an API, through the whole gateway: what passes, when, and what ends them. */

import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import {
  type EventStream,
  type EventStreamRequest,
  openEventStream,
} from '../support/event-source.ts'
import type { UpstreamAnswer } from '../support/upstream-api.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const WITHIN_A_SECOND_MS = 1_000
/** Far below what a silent stream is left alone for here. */
const IDLE_MS = 300

let whole: WholeGateway
let alice: Browser
beforeAll(async () => {
  whole = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: undefined,
      COATCHECK_CSRF: 'header',
      COATCHECK_UPSTREAM_TIMEOUT_IDLE: `${IDLE_MS}ms`,
      COATCHECK_UPSTREAM_TIMEOUT_FIRST_BYTE: '2s',
    },
    file: ({ api }) => ({
      routes: [
        { path: '/api', upstream: api },
        { path: '/feed', upstream: api, eventSource: true },
        { path: '/open', upstream: api, accept: ['session', 'anonymous'], eventSource: true },
      ],
    }),
  })
  alice = await whole.signedIn()
})
afterAll(() => whole.close())
beforeEach(() => whole.api.forgetRequests())

const cookieOf = (browser: Browser): string => {
  const cookie = sessionCookie(browser)
  return `${cookie?.name}=${cookie?.value}`
}

const open = (path: string, request: Partial<EventStreamRequest> = {}): Promise<EventStream> =>
  within(
    WITHIN_A_SECOND_MS,
    'the head of the answer',
    openEventStream({ port: whole.port, cookie: cookieOf(alice), path, ...request }),
  )

/** Sends the head, then nothing that `more` does not say. */
const streams =
  (more: (send: (text: string) => void, end: () => void) => void = () => {}): UpstreamAnswer =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
    response.flushHeaders()
    more(
      (text) => void response.write(text),
      () => response.end(),
    )
  }

const tick = (number: number) => `id: ${number}\nevent: tick\ndata: {"number":${number}}\n\n`

describe('an event stream', () => {
  it('passes its head before any event, and each event as it comes', async () => {
    let send: (text: string) => void = () => undefined
    whole.api.answerWith(
      streams((toSend) => {
        send = toSend
      }),
    )
    const stream = await open('/feed')
    expect(stream.headers['content-type']).toBe('text/event-stream; charset=utf-8')
    expect(stream.text()).toBe('')
    for (const number of [1, 2, 3]) {
      send(tick(number))
      await stream.next('tick', WITHIN_A_SECOND_MS)
      await within(
        WITHIN_A_SECOND_MS,
        `event ${number}`,
        (async () => {
          while (stream.events.length < number) await sleep(5)
        })(),
      )
    }
    expect(stream.text()).toBe([1, 2, 3].map(tick).join(''))
    stream.close()
  })

  it('is asked for with the id of the last event, and without the header that other calls need', async () => {
    whole.api.answerWith(streams())
    const headers = {
      accept: 'text/event-stream',
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'cors',
      'last-event-id': '41',
    }
    const stream = await open('/feed/orders', { headers })
    expect(stream.status).toBe(200)
    const [seen] = whole.api.requests
    expect(seen?.header('last-event-id')).toBe('41')
    expect(seen?.header('authorization')).toMatch(/^Bearer /)
    stream.close()
    expect((await open('/api/orders', { headers })).status).toBe(403)
  })

  it('may be silent for as long as it likes', async () => {
    whole.api.answerWith(streams())
    const stream = await open('/feed')
    await sleep(4 * IDLE_MS)
    expect(stream.hasEnded()).toBe(false)
    stream.close()
  })

  it('ends when the upstream ends it', async () => {
    whole.api.answerWith(
      streams((send, end) => {
        send(tick(1))
        end()
      }),
    )
    const stream = await open('/feed')
    await stream.ended(WITHIN_A_SECOND_MS)
    expect(stream.text()).toBe(tick(1))
  })

  it('whose page leaves ends at the upstream within a second', async () => {
    whole.api.answerWith(streams())
    const stream = await open('/feed')
    const seen = await whole.api.request(0)
    stream.close()
    await within(WITHIN_A_SECOND_MS, 'the upstream sees the end', seen.aborted)
  })
})

describe('a client that closes its side of the connection', () => {
  it('has left: nothing of its call stays open', async () => {
    whole.api.answerWith(streams((send) => send(tick(1))))
    const client = connect(whole.port, '127.0.0.1')
    const closed = once(client, 'close')
    client.resume()
    client.write(
      `GET /feed HTTP/1.1\r\nHost: localhost:${whole.port}\r\nCookie: ${cookieOf(alice)}\r\n` +
        'Sec-Fetch-Site: same-origin\r\n\r\n',
    )
    const seen = await whole.api.request(0)
    client.end()
    await within(WITHIN_A_SECOND_MS, 'both sides close', Promise.all([seen.aborted, closed]))
  })
})

describe('the end of a session', () => {
  it('cuts its event streams within a second, and nobody else’s', async () => {
    whole.api.answerWith(streams((send) => send(tick(1))))
    const leaver = await whole.signedIn()
    const [mine, onOpenRoute, other] = [
      await open('/feed', { cookie: cookieOf(leaver) }),
      await open('/open', { cookie: cookieOf(leaver) }),
      await open('/feed'),
    ]
    const stranger = await open('/open', { cookie: undefined })
    const seen = await whole.api.request(0)
    for (const stream of [mine, onOpenRoute]) await stream.next('tick')
    await leaver.fetch('/bff/logout', {
      method: 'POST',
      from: whole.url,
      headers: { 'x-csrf': '1' },
    })
    await within(
      WITHIN_A_SECOND_MS,
      'both streams and the upstream call end',
      Promise.all([mine.ended(), onOpenRoute.ended(), seen.aborted]),
    )
    await sleep(IDLE_MS)
    expect([other.hasEnded(), stranger.hasEnded()]).toEqual([false, false])
    expect((await open('/feed', { cookie: cookieOf(leaver) })).status).toBe(401)
    for (const stream of [other, stranger]) stream.close()
  })

  it('leaves an answer alone that has an end of its own', async () => {
    let finish: () => void = () => undefined
    whole.api.answerWith((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' }).write('first half')
      finish = () => response.end(', second half')
    })
    const leaver = await whole.signedIn()
    const download = await open('/open', { cookie: cookieOf(leaver) })
    await leaver.fetch('/bff/logout', {
      method: 'POST',
      from: whole.url,
      headers: { 'x-csrf': '1' },
    })
    await sleep(IDLE_MS)
    finish()
    await download.ended()
    expect(download.text()).toBe('first half, second half')
  })
})

describe('a long poll', () => {
  const poll = (headers: Record<string, string> = {}) =>
    httpRequest({
      host: '127.0.0.1',
      port: whole.port,
      path: '/api/poll',
      headers: {
        host: `localhost:${whole.port}`,
        cookie: cookieOf(alice),
        'sec-fetch-site': 'same-origin',
        'x-csrf': '1',
        ...headers,
      },
    })

  it('waits for its answer up to the limit on the first byte', async () => {
    whole.api.answerWith(async (_request, response) => {
      await sleep(3 * IDLE_MS)
      response.end('news')
    })
    const answer = await alice.fetch('/api/poll', { headers: { 'x-csrf': '1' } })
    expect([answer.status, answer.text]).toEqual([200, 'news'])
  })

  it('whose page leaves while it waits ends at the upstream within a second', async () => {
    whole.api.answerWith(() => undefined)
    const request = poll()
    request.on('error', () => undefined)
    request.end()
    const seen = await whole.api.request(0)
    request.destroy()
    await within(WITHIN_A_SECOND_MS, 'the upstream sees the end', seen.aborted)
  })
})

describe('a replica that stops', () => {
  /** What the page has read in the end of a stream of which this had come, in this coding. */
  const opened = async (text: string, coding?: string) => {
    whole.api.answerWith((_request, response) => {
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        ...(coding === undefined ? {} : { 'content-encoding': coding }),
      })
      response.flushHeaders()
      if (text !== '') response.write(text)
    })
    const stream = await open('/feed')
    await waitFor('it has come', () => stream.text() === text)
    return stream
  }

  it('cuts event streams, says where a line can stand when to come back, and cuts later ones at once', async () => {
    const RETRY = /^retry: [1-5]\d{3}\n$/
    const cases: readonly (readonly [string, string | undefined, RegExp])[] = [
      ['', undefined, RETRY],
      [tick(1), undefined, RETRY],
      ['data: of an event that is not whole\n', undefined, RETRY],
      ['data: with the other end of lines\r', undefined, RETRY],
      ['data: in the middle of a li', undefined, /^$/],
      ['what a coding may look like\n', 'br', /^$/],
    ]
    const streams = []
    for (const [text, coding, added] of cases)
      streams.push({ text, added, stream: await opened(text, coding) })
    whole.gateway.endStreams()
    for (const { text, added, stream } of streams) {
      await stream.ended(WITHIN_A_SECOND_MS)
      expect(stream.text().slice(0, text.length)).toBe(text)
      expect(stream.text().slice(text.length)).toMatch(added)
    }
    const later = await open('/feed').catch((error: NodeJS.ErrnoException) => error.code)
    if (typeof later === 'object') await later.ended(WITHIN_A_SECOND_MS)
    else expect(later).toBe('ECONNRESET')
  })
})
