/** Event streams over real sockets on a clock of the test's own: heartbeats, slow readers, and the end of a replica. */

import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createEventStreams, type EventStreams } from '../../../src/edges/http/event-streams.ts'
import type { Exchange } from '../../../src/edges/http/exchange.ts'
import { createSessionWatch, type SessionWatch } from '../../../src/session/session-watch.ts'
import type { OpenSession } from '../../../src/session/vault.ts'
import { seconds } from '../../../src/time.ts'
import { openEventStream } from '../../support/event-source.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../../support/vaults.ts'
import { waitFor } from '../../support/wait.ts'

const LIFETIMES = { idle: seconds(100), absolute: seconds(10_000) }

let test: ReturnType<typeof createTestVault>
let watch: SessionWatch
let streams: EventStreams
let server: Server
let port: number
let openCount: number
let answers: ServerResponse[]
/** The session that every request is signed in to. */
let session: OpenSession
beforeEach(async () => {
  test = createTestVault(LIFETIMES)
  const { clock, vault } = test
  session = await vault.begin(newSession(tokenSet(clock.now(), 9_000), clock.now()), SEEN)
  watch = createSessionWatch({
    vault,
    changes: test.stores.changes,
    clock,
    lifetimes: LIFETIMES,
    random: () => 0,
  })
  openCount = 0
  streams = createEventStreams({
    guard: () => {},
    admission: { admit: () => {}, countFailure: () => {} },
    sessions: {
      atHand: () => undefined,
      presented: () => ({ kind: 'value', value: 'seal' }),
      read: async () => ({ kind: 'live', open: session, ringId: 0 }),
    },
    renewal: { renewed: async () => ['renewed=1; Secure'] },
    watch,
    clock,
    random: () => 0,
    lifetimes: LIFETIMES,
    outside: (requestId) => [['x-request-id', requestId]],
    observeStreams: (open) => {
      openCount = open
    },
  })
  answers = []
  server = createServer((req, res) => {
    answers.push(res)
    void streams.serve({
      req,
      res,
      requestId: 'request-1',
      client: { address: '127.0.0.1', shared: false },
      target: { path: '/bff/events', rawPath: '/bff/events', query: '', encodedSlash: false },
      method: req.method ?? '',
      header: (name) => req.headers[name] as string | undefined,
    } satisfies Exchange)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
afterEach(() => {
  watch.close()
  server.closeAllConnections()
  server.close()
})

const open = () => openEventStream({ port })

describe('a heartbeat', () => {
  it('is a comment every 15 seconds, and no activity: the idle end comes all the same', async () => {
    const stream = await open()
    await test.clock.advance(61_000)
    await waitFor('four heartbeats', () => (stream.text().match(/^:$/gm)?.length ?? 0) >= 4)
    expect(stream.text().match(/^:$/gm)?.length).toBeLessThanOrEqual(5)
    await test.clock.advance(20_000)
    expect((await stream.next('expiring')).data).toEqual({ reason: 'idle', expiresIn: 20 })
    await test.clock.advance(21_000)
    expect((await stream.next('ended')).data).toEqual({ reason: 'idle' })
    await stream.ended()
  })

  it('stops with the last stream', async () => {
    const stream = await open()
    await stream.next('session')
    stream.close()
    await waitFor('the stream is gone', () => openCount === 0)
    await test.clock.advance(2_000)
    expect(test.clock.sleeping).toBe(0)
  })
})

it('a cookie of an older secret is set again with the stream’s head', async () => {
  const stream = await open()
  expect(stream.headers['set-cookie']).toEqual(['renewed=1; Secure'])
  stream.close()
})

describe('a page that does not read', () => {
  const silent = async (): Promise<Socket> => {
    const socket = connect(port, '127.0.0.1')
    socket.pause()
    socket.on('error', () => {
      // Cut, as it should be.
    })
    socket.write('GET /bff/events HTTP/1.1\r\nHost: x\r\n\r\n')
    await waitFor('its stream is open', () => openCount === 1)
    return socket
  }
  const unsent = () => answers.at(-1)?.writableLength ?? 0

  /** Claims change until the kernel's buffers of both sides, some megabytes, take no more. */
  const fill = async (claimBytes: number) => {
    for (let turn = 0; turn < 5_000 && unsent() === 0; turn += 1) {
      const picture = String(turn).padEnd(claimBytes, 'x')
      const next = {
        ...session.session,
        generation: session.session.generation + 1,
        claims: { sub: 'alice', picture },
      }
      const replaced = await test.vault.replace(session, next, `attempt-${turn}`)
      if (replaced.kind === 'replaced') session = replaced.open
      await test.clock.advance(0)
    }
    await sleep(50)
    expect(unsent()).toBeGreaterThan(0)
  }

  it('is cut before anything is added to more than a little', async () => {
    const socket = await silent()
    await fill(400_000)
    expect(openCount).toBe(1)
    await test.vault.replace(
      session,
      { ...session.session, generation: session.session.generation + 1, claims: { sub: 'x' } },
      'attempt-last',
    )
    await test.clock.advance(0)
    await waitFor('it is cut', () => openCount === 0)
    socket.destroy()
  })

  it('is cut after two heartbeats that found the same little unsent', async () => {
    const socket = await silent()
    await fill(8_000)
    await test.clock.advance(15_000)
    expect(openCount).toBe(1)
    await test.clock.advance(16_000)
    await waitFor('it is cut', () => openCount === 0)
    socket.destroy()
  })

  it('that reads after all is kept', async () => {
    const socket = await silent()
    await test.clock.advance(10_000)
    await fill(8_000)
    await test.clock.advance(15_000)
    socket.resume()
    await waitFor('everything is sent', () => unsent() === 0)
    await test.clock.advance(45_000)
    expect(openCount).toBe(1)
    socket.destroy()
  })
})

describe('the end of a replica', () => {
  it('ends its streams with nothing but when the page is to come back', async () => {
    const opened = [await open(), await open()]
    streams.end()
    for (const stream of opened) {
      await stream.ended()
      expect(stream.events.map(({ event }) => event)).toEqual(['session'])
      const retries = [...stream.text().matchAll(/^retry: (\d+)$/gm)].map(([, ms]) => Number(ms))
      expect(retries).toHaveLength(2)
      expect(retries[1]).toBeGreaterThanOrEqual(1_000)
      expect(retries[1]).toBeLessThanOrEqual(5_000)
      expect(stream.text()).toMatch(/\n\nretry: \d+\n$/)
    }
    await waitFor('all are gone', () => openCount === 0)
  })

  it('breaks off later requests: an answer would make an EventSource give up', async () => {
    streams.end()
    await expect(open()).rejects.toMatchObject({ code: 'ECONNRESET' })
  })
})
