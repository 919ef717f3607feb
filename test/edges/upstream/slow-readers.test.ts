/** What answers leave in memory while their clients read slowly, counted in bytes of buffers that are in use. */

import { connect, type Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, expect, it } from 'vitest'
import { createUpstreamReads } from '../../../src/edges/upstream/upstream-reads.ts'
import { startUpstreamApi } from '../../support/upstream-api.ts'
import { waitFor } from '../../support/wait.ts'
import { routeTo, startSmallGateway } from './small-gateway.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const READERS = 80
const CHUNK = Buffer.alloc(64 * 1024)
const ANSWER_BYTES = 64 * 1024 * 1024
/** One portion of 64 KiB, and as much again as that for everything else. */
const BYTES_EACH_MAX = 128 * 1024

setFlagsFromString('--expose_gc')
const collectGarbage = runInNewContext('gc') as () => void
const bufferBytes = (): number => {
  collectGarbage()
  return process.memoryUsage().arrayBuffers
}

/** Reads a sip of 4 KiB and no more. */
const slowReader = (port: number): Socket => {
  const socket = connect({
    host: '127.0.0.1',
    port,
    onread: { buffer: Buffer.alloc(4096), callback: () => false },
  })
  socket.on('error', () => undefined)
  socket.write('GET /api HTTP/1.1\r\nHost: app.example.com\r\n\r\n')
  return socket
}

it('a reader that stops leaves one portion behind, whatever the size of the answer', async () => {
  let writtenBytes = 0
  const upstream = await startUpstreamApi({
    answer: (_request, response) => {
      response.writeHead(200, { 'content-length': ANSWER_BYTES })
      let left = ANSWER_BYTES
      const write = () => {
        while (left > 0 && !response.destroyed) {
          left -= CHUNK.length
          writtenBytes += CHUNK.length
          if (!response.write(CHUNK)) return
        }
      }
      response.on('drain', write)
      write()
    },
  })
  cleanups.push(() => upstream.close())
  const gateway = await startSmallGateway([
    routeTo(upstream.url, { timeout: { ...routeTo(upstream.url).timeout, idle: 0 as never } }),
  ])
  cleanups.push(() => gateway.close())

  const before = bufferBytes()
  const readers = Array.from({ length: READERS }, () => slowReader(gateway.port))
  cleanups.push(() => {
    for (const reader of readers) reader.destroy()
  })
  let last = -1
  await waitFor(
    'nothing moves any more',
    () => {
      const isStill = upstream.requests.length === READERS && writtenBytes === last
      last = writtenBytes
      return isStill
    },
    { intervalMs: 500, timeoutMs: 30_000 },
  )
  expect(writtenBytes).toBeLessThan(READERS * ANSWER_BYTES)
  // A busy machine frees what nobody holds any more a moment later.
  let each = Number.POSITIVE_INFINITY
  await waitFor('little is held', () => {
    each = (bufferBytes() - before) / READERS
    return each < BYTES_EACH_MAX
  }).catch(() => undefined)
  expect(each).toBeGreaterThan(0)
  expect(each).toBeLessThan(BYTES_EACH_MAX)
}, 60_000)

it('the more answers are held back, the smaller the portions', () => {
  const { onread, countHeld } = createUpstreamReads()
  const portion = () => (onread.buffer as () => Uint8Array)().length
  const portions = [portion()]
  for (let held = 1; held <= 4_000; held += 1) {
    countHeld(1)
    if (portion() !== portions.at(-1)) portions.push(portion())
    expect(held * portion()).toBeLessThanOrEqual(Math.max(4 * 2 ** 20, held * 8 * 1024))
  }
  expect(portions).toEqual([65_536, 32_768, 16_384, 8_192])
  for (let held = 4_000; held > 0; held -= 1) countHeld(-1)
  expect(portion()).toBe(65_536)
})
