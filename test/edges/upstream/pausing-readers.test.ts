/**
 * Thousands of answers over few connections, to readers that pause, resume and leave in every way: each byte comes, once
 * and in order, to each that stays, and no connection is handed on paused.
 */

import { Agent, createServer, request as httpRequest, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { createUpstreamDispatch } from '../../../src/edges/upstream/dispatcher.ts'
import { milliseconds } from '../../../src/time.ts'
import type { UpstreamCall, UpstreamDispatch } from '../../../src/upstream/forward.ts'
import { waitFor } from '../../support/wait.ts'
import { routeTo, startSmallGateway } from './small-gateway.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const CONNECTIONS = 6
const WAIT = milliseconds(60_000)

/** Park and Miller's generator: the same turns in each run. */
const randomFrom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
}

/** 251 is prime: no portion of an answer looks like the same portion of another one. */
const pattern = Buffer.from(Array.from({ length: 64 * 1024 + 251 }, (_, index) => index % 251))
const isPart = (part: Buffer, call: number, offset: number): boolean => {
  for (let at = 0; at < part.length; at += 64 * 1024) {
    const slice = part.subarray(at, at + 64 * 1024)
    const from = (call + offset + at) % 251
    if (!slice.equals(pattern.subarray(from, from + slice.length))) return false
  }
  return true
}

/** `/CALL/BYTES`: with a length or in chunks, in pieces of many sizes, at once or bit by bit. */
const give = (res: ServerResponse, call: number, bytes: number): void => {
  const random = randomFrom(call + 1)
  res.writeHead(200, call % 3 === 0 ? {} : { 'content-length': bytes })
  let sent = 0
  const write = () => {
    while (sent < bytes && !res.destroyed) {
      const from = (call + sent) % 251
      const piece = pattern.subarray(from, from + Math.min(bytes - sent, 1 + random(65_536)))
      sent += piece.length
      if (!res.write(piece)) {
        res.once('drain', write)
        return
      }
      if (random(8) === 0) {
        setImmediate(write)
        return
      }
    }
    res.end()
  }
  write()
}

const startUpstream = async () => {
  const server = createServer((req, res) => {
    const [, , call, bytes] = (req.url ?? '').split('/').map(Number)
    give(res, call ?? 0, bytes ?? 0)
  })
  server.keepAliveTimeout = 0
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}` }
}

const dispatchOverFew = () => {
  const dispatch = createUpstreamDispatch({ limits: { connections: CONNECTIONS, queue: 10_000 } })
  cleanups.push(() => dispatch.close())
  return dispatch
}

interface Outcome {
  readonly wrong: readonly string[]
  /** Numbers of the calls that did not come to an end in time. */
  readonly waiting: readonly number[]
}

/** So many calls, so many at a time. */
const inLanes = async (
  calls: number,
  lanes: number,
  run: (number: number) => Promise<string | undefined>,
): Promise<Outcome> => {
  const wrong: string[] = []
  const waiting = new Set<number>()
  let next = 0
  let ended = 0
  const lane = async () => {
    while (next < calls) {
      next += 1
      const number = next
      waiting.add(number)
      const fault = await run(number)
      if (fault !== undefined) wrong.push(fault)
      waiting.delete(number)
      ended += 1
    }
  }
  for (let count = 0; count < lanes; count += 1) void lane()
  const hasEnded = () => ended === calls || undefined
  await waitFor('all calls end', hasEnded, { timeoutMs: 45_000 }).catch(() => undefined)
  return { wrong, waiting: [...waiting] }
}

type Habit = (call: UpstreamCall, random: (below: number) => number) => 'stays' | 'left'

const later = (run: () => void, random: (below: number) => number): void => {
  const how = random(4)
  if (how === 0) queueMicrotask(run)
  else if (how === 1) process.nextTick(run)
  else if (how === 2) setImmediate(run)
  else setTimeout(run, random(4))
}

/** What a reader does with each chunk that it gets. */
const HABITS: readonly Habit[] = [
  () => 'stays',
  (call, random) => {
    call.pause()
    later(() => call.resume(), random)
    return 'stays'
  },
  (call) => {
    call.pause()
    call.resume()
    return 'stays'
  },
  (call, random) => {
    call.resume()
    call.pause()
    call.pause()
    // The second one may come when the call has long ended, and another one goes by its connection.
    later(() => call.resume(), random)
    setTimeout(() => call.resume(), random(20))
    return 'stays'
  },
  (call, random) => {
    if (random(3) > 0) return 'stays'
    call.abort()
    return 'left'
  },
  (call, random) => {
    call.pause()
    if (random(3) > 0) {
      later(() => call.resume(), random)
      return 'stays'
    }
    call.abort()
    call.resume()
    return 'left'
  },
]

/** Resolves to what is wrong with the answer; undefined where nothing is, or where the reader left. */
const read = (dispatch: UpstreamDispatch, origin: string, number: number, bytes: number) =>
  new Promise<string | undefined>((resolve) => {
    const random = randomFrom(number + 7)
    const habit = HABITS[number % HABITS.length] as Habit
    let received = 0
    const act = () => {
      if (habit(call, random) === 'left') resolve(undefined)
    }
    const call = dispatch(
      {
        origin,
        path: `/api/${number}/${bytes}`,
        method: 'GET',
        headers: ['host', new URL(origin).host],
        body: null,
        connection: 'any',
        isAgain: false,
        timeouts: { connectMs: WAIT, firstByteMs: milliseconds(0), idleMs: milliseconds(0) },
        endsAtMs: undefined,
      },
      {
        onHead: act,
        onChunk: (chunk) => {
          if (!isPart(chunk, number, received)) resolve(`${number}: wrong from ${received} on`)
          received += chunk.length
          act()
        },
        onEnd: () => {
          resolve(received === bytes ? undefined : `${number}: ${received} of ${bytes} came`)
          // Too late to mean anything, and at the connection of another call as soon as there is one.
          setTimeout(() => call.pause(), random(5))
        },
        onFault: (fault) => resolve(`${number}: ${JSON.stringify(fault)}`),
      },
    )
  })

it('every reader that stays gets every byte, whatever those before it did on its connection', async () => {
  const upstream = await startUpstream()
  const dispatch = dispatchOverFew()
  const outcome = await inLanes(1_500, 48, (number) => {
    const bytes = randomFrom(number + 13)(number % 10 === 0 ? 1_000_000 : 100_000)
    return read(dispatch, upstream.url, number, bytes)
  })
  expect(outcome).toEqual({ wrong: [], waiting: [] })
  expect([...dispatch.counts().values()]).toEqual([{ taken: 0, waiting: 0 }])
}, 60_000)

it('so does every client of the gateway, slow, fast or kept alive', async () => {
  const upstream = await startUpstream()
  const gateway = await startSmallGateway(
    [
      routeTo(upstream.url, {
        timeout: { ...routeTo(upstream.url).timeout, connect: WAIT, idle: 0 as never },
      }),
    ],
    { dispatch: dispatchOverFew() },
  )
  cleanups.push(() => gateway.close())
  const agent = new Agent({ keepAlive: true, maxSockets: 24 })
  cleanups.push(() => agent.destroy())

  const get = (number: number, bytes: number) =>
    new Promise<string | undefined>((resolve) => {
      const random = randomFrom(number + 29)
      const kind = number % 4
      let received = 0
      const call = httpRequest(
        { agent, host: '127.0.0.1', port: gateway.port, path: `/api/${number}/${bytes}` },
        (response) => {
          response.on('data', (part: Buffer) => {
            if (!isPart(part, number, received)) resolve(`${number}: wrong from ${received} on`)
            received += part.length
            if (kind === 1) {
              response.pause()
              setTimeout(() => response.resume(), random(3))
            } else if (kind === 2 && random(8) === 0) {
              resolve(undefined)
              call.destroy()
            }
          })
          response.on('end', () =>
            resolve(received === bytes ? undefined : `${number}: ${received} of ${bytes} came`),
          )
          response.on('error', (error) => resolve(`${number}: ${error.message}`))
        },
      )
      call.on('error', (error) => resolve(`${number}: ${error.message}`))
      call.end()
    })

  // Some answers are larger than what the kernel takes for a client that does not read.
  const outcome = await inLanes(400, 24, (number) =>
    get(number, randomFrom(number + 13)(number % 20 === 1 ? 2 ** 23 : 300_000)),
  )
  expect(outcome).toEqual({ wrong: [], waiting: [] })
}, 60_000)
