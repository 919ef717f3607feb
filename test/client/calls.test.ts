/** Which calls are made twice, over real sockets. What an API could do twice is never sent twice by the client. */

import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { call } from '../../src/client/calls.ts'
import { problemDocument } from '../../src/edges/http/problem.ts'
import type { ErrorCode } from '../../src/errors.ts'

interface Heard {
  readonly method: string
  readonly csrf: unknown
  readonly body: string
}

let heard: Heard[] = []
let answers: RequestListener[] = []
const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString()
    heard.push({ method: request.method ?? '', csrf: request.headers['x-csrf'], body })
    const answer = answers.shift() ?? answerOk
    answer(request, response)
  })
})
let url = ''

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  heard = []
  answers = []
})

const answerOk: RequestListener = (_request, response) => void response.end('good')
const hangUp: RequestListener = (request) => request.socket.destroy()
const problem =
  (code: ErrorCode, retryAfter?: number): RequestListener =>
  (_request, response) => {
    const document = problemDocument(code)
    response.statusCode = document.status
    response.setHeader('content-type', 'application/problem+json')
    if (retryAfter !== undefined) response.setHeader('retry-after', retryAfter)
    response.end(JSON.stringify({ ...document, requestId: 'r-1' }))
  }

describe('a call', () => {
  it('says that script of a page made it', async () => {
    await call(new Request(url))
    expect(heard).toEqual([{ method: 'GET', csrf: '1', body: '' }])
  })

  it('rejects with what the gateway refused', async () => {
    answers = [problem('session_expired')]
    await expect(call(new Request(url))).rejects.toMatchObject({
      name: 'CoatcheckError',
      code: 'session_expired',
      status: 401,
      title: 'The session has expired',
      requestId: 'r-1',
      retryable: false,
    })
  })

  it.each([
    ['a problem document of its own', 'application/problem+json', '{"type":"about:blank"}'],
    ['a problem document that is none', 'application/problem+json', 'not JSON'],
    ['JSON', 'application/json', '{"type":"urn:coatcheck:problem:session_required"}'],
  ])('passes an API’s own error on, unread: %s', async (_form, type, body) => {
    answers = [
      (_request, response) => void response.writeHead(401, { 'content-type': type }).end(body),
    ]
    const response = await call(new Request(url))
    expect(response.status).toBe(401)
    expect(await response.text()).toBe(body)
  })
})

describe('a second try', () => {
  const post = () => new Request(url, { method: 'POST', body: 'order' })
  const put = () => new Request(url, { method: 'PUT', body: 'order' })

  it.each([
    ['GET', () => new Request(url), 'upstream_unreachable'],
    ['PUT', put, 'upstream_timeout'],
    ['POST, which the gateway had no place for', post, 'upstream_busy'],
    ['POST, while the provider was away', post, 'provider_unavailable'],
    ['POST, while the store was away', post, 'store_unavailable'],
    ['POST, of too many', post, 'rate_limited'],
  ] as const)('is made for %s', async (_what, request, code) => {
    answers = [problem(code, 0)]
    const response = await call(request())
    expect(await response.text()).toBe('good')
    expect(heard).toHaveLength(2)
    expect(heard[1]).toEqual(heard[0])
  })

  it.each([
    ['POST that the API may have got', post, problem('upstream_unreachable', 0)],
    ['POST that the API may still work on', post, problem('upstream_timeout', 0)],
    ['POST whose connection broke', post, hangUp],
    ['GET that is not retryable', () => new Request(url), problem('csrf_rejected', 0)],
    ['GET that would have to wait too long', () => new Request(url), problem('rate_limited', 11)],
  ])('is not made for %s', async (_what, request, answer) => {
    answers = [answer]
    await expect(call(request())).rejects.toMatchObject({ name: 'CoatcheckError' })
    expect(heard).toHaveLength(1)
  })

  it('is the last', async () => {
    answers = [problem('store_unavailable', 0), problem('store_unavailable', 0)]
    await expect(call(new Request(url))).rejects.toMatchObject({ code: 'store_unavailable' })
    expect(heard).toHaveLength(2)
  })

  it('comes after Retry-After', async () => {
    answers = [problem('store_unavailable', 1)]
    const from = performance.now()
    await call(new Request(url))
    expect(performance.now() - from).toBeGreaterThan(950)
  })

  it('is not waited for by who has given up', async () => {
    answers = [problem('store_unavailable', 10)]
    const given = new AbortController()
    const calling = call(new Request(url, { signal: given.signal }))
    while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    given.abort()
    await expect(calling).rejects.toThrow(/abort/)
  })

  it('is not made for a call that was aborted, and its reason is the caller’s', async () => {
    const reason = new Error('changed my mind')
    await expect(call(new Request(url, { signal: AbortSignal.abort(reason) }))).rejects.toBe(reason)
    expect(heard).toHaveLength(0)
  })
})
