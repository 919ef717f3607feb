/** The request body on a real request: what is kept, cut and dropped. */

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import type { RequestBodyLimits } from '../../../src/upstream/request-body.ts'
import { createRequestBody } from '../../../src/upstream/request-body.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient } from './raw-sockets.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

/** A request as the server sees it, and the client that goes on writing it. */
const received = async (head: string, limits: Partial<RequestBodyLimits> = {}) => {
  const arrived = Promise.withResolvers<IncomingMessage>()
  const server = createServer((req) => arrived.resolve(req))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const client = await rawClient(
    (server.address() as AddressInfo).port,
    `${head}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`,
  )
  cleanups.push(() => {
    client.socket.destroy()
    server.close()
  })
  const req = await within(2_000, 'the request', arrived.promise)
  const body = createRequestBody(req, { bytesMax: 1_000, replayBytesMax: 100, ...limits })
  const write = (part: string) => client.socket.write(`${part.length.toString(16)}\r\n${part}\r\n`)
  return { body, req, client, write, end: () => client.socket.write('0\r\n\r\n') }
}

describe('a second stream', () => {
  it('begins at the first byte and goes on where the first one was cut', async () => {
    const { body, write, end } = await received('PUT / HTTP/1.1')
    const first = body.open()
    write('one ')
    if (first === null) throw new Error('no stream')
    const [chunk] = await within(2_000, 'a chunk', once(first, 'data'))
    expect(String(chunk)).toBe('one ')
    first.destroy()
    write('two ')
    expect(body.replayable()).toBe(true)
    const second = body.open()
    if (second === null) throw new Error('no stream')
    write('three')
    end()
    expect(await within(2_000, 'the body', text(second))).toBe('one two three')
    expect(first.destroyed).toBe(true)
  })

  it('has what came between the two, also where that is more than is kept', async () => {
    const { body, write, end } = await received('PUT / HTTP/1.1')
    const first = body.open()
    first?.resume()
    write('x'.repeat(90))
    await waitFor('all of it', () => first?.readableDidRead)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(body.replayable()).toBe(true)
    first?.destroy()
    write('y'.repeat(90))
    await new Promise((resolve) => setTimeout(resolve, 50))
    const second = body.open()
    if (second === null) throw new Error('no stream')
    end()
    expect(await within(2_000, 'the body', text(second))).toBe('x'.repeat(90) + 'y'.repeat(90))
  })

  it('fails where the body grew too large between the two', async () => {
    const { body, write, end } = await received('PUT / HTTP/1.1', { bytesMax: 100 })
    const first = body.open()
    first?.resume()
    write('x'.repeat(60))
    await waitFor('all of it', () => first?.readableDidRead)
    first?.destroy()
    write('y'.repeat(60))
    end()
    await waitFor('the limit', () => body.failure())
    const second = body.open()
    if (second === null) throw new Error('no stream')
    await expect(within(2_000, 'the failure', text(second))).rejects.toThrow()
    expect(body.failure()?.code).toBe('body_too_large')
  })

  it('is not to be had for a request that may not be sent twice', async () => {
    const { body } = await received('POST / HTTP/1.1')
    body.open()
    expect(body.replayable()).toBe(false)
    expect(() => body.open()).toThrow('opened once')
  })

  it('is not to be had beyond what is kept', async () => {
    const { body, write } = await received('PUT / HTTP/1.1')
    const stream = body.open()
    stream?.resume()
    write('x'.repeat(100))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(body.replayable()).toBe(true)
    write('x')
    await waitFor('the limit', () => !body.replayable())
    expect(() => body.open()).toThrow('opened once')
  })
})

describe('an end that is none', () => {
  it('the client leaves: the stream fails and does not end', async () => {
    const { body, client, write } = await received('PUT / HTTP/1.1')
    const stream = body.open()
    if (stream === null) throw new Error('no stream')
    write('half')
    const whole = text(stream)
    client.socket.destroy()
    await expect(within(2_000, 'the failure', whole)).rejects.toThrow('the client left')
  })

  it('the body grows too large: the stream fails, also where nobody listens for that', async () => {
    const { body, write } = await received('PUT / HTTP/1.1')
    const stream = body.open()
    stream?.read()
    write('x'.repeat(1_001))
    await waitFor('the failure', () => stream?.destroyed)
    expect(body.failure()).toMatchObject({ code: 'body_too_large' })
    expect(body.replayable()).toBe(false)
  })
})

it('nothing is read before the stream is, so that nobody is asked for what may not be wanted', async () => {
  const { body, req, write } = await received('PUT / HTTP/1.1')
  const stream = body.open()
  write('one')
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(req.readableFlowing).toBe(null)
  expect(body.awaitsClient()).toBe(false)
  const chunk = await within(2_000, 'a chunk', once(stream ?? expect.fail(), 'data'))
  expect(String(chunk)).toBe('one')
})

describe('what nobody wants any more', () => {
  it('is read up to the limit, so that the connection stays usable, and cut beyond it', async () => {
    const { body, req, client, write } = await received('PUT / HTTP/1.1')
    body.open()
    body.discard()
    write('x'.repeat(1_000))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(req.destroyed).toBe(false)
    write('x')
    await within(2_000, 'the cut', client.closed)
  })

  it('is read also where the request had been paused', async () => {
    const bytesMax = 1024 * 1024
    const { body, req, write, end } = await received('PUT / HTTP/1.1', { bytesMax })
    body.open()?.read()
    write('x'.repeat(256 * 1024))
    await waitFor('the pause', () => req.isPaused())
    body.discard()
    end()
    await waitFor('the end', () => req.readableEnded)
  })
})
