/**
 * Attack: requests that are too large in one part or another, so that something is cut off, kept in memory or waited
 * for in vain. Each gets the status that its specification names, in a problem document with its code.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rawClient, rawExchange, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import type { Browser } from '../support/browser.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

const URL_BYTES = 2048
const HEADER_BYTES = 8192
const BODY_BYTES = 65_536

let silent: Awaited<ReturnType<typeof startRawUpstream>>
let whole: WholeGateway
let browser: Browser
beforeAll(async () => {
  silent = await startRawUpstream(() => undefined)
  whole = await startWholeGateway({
    env: {
      COATCHECK_LIMITS_URL_BYTES: '2KiB',
      COATCHECK_LIMITS_HEADER_BYTES: '8KiB',
      COATCHECK_LIMITS_BODY_BYTES: '64KiB',
      COATCHECK_UPSTREAM_LIMITS_CONNECTIONS: '1',
      COATCHECK_UPSTREAM_LIMITS_QUEUE: '0',
    },
    file: () => ({ routes: [{ path: '/silent', upstream: silent.url }] }),
  })
  browser = await whole.signedIn()
})
afterAll(async () => {
  await whole.close()
  await silent.close()
})

const lines = () => [cookieLine(browser), ...SAME_ORIGIN_FETCH]

describe('RFC 9110 §15.5.15 a target', () => {
  const long = (path: string, bytes: number) => path.padEnd(bytes, 'a%2Cb?c=;d')

  it('of the limit’s length reaches the upstream byte for byte', async () => {
    whole.api.forgetRequests()
    const target = long('/api/', URL_BYTES)
    expect((await rawRequest(whole.port, { target, lines: lines() })).status).toBe(200)
    expect((await whole.api.request(0)).url).toBe(target)
  })

  it.each(['/api/', '/bff/session?', '/app/', '/%zz'])(
    'of one byte more gets 414 with its code: %s…',
    async (path) => {
      whole.api.forgetRequests()
      const target = long(path, URL_BYTES + 1)
      const answer = await rawRequest(whole.port, { target, lines: lines() })
      expect(answer.status).toBe(414)
      expect(answer.json()).toMatchObject({ code: 'url_too_long', retryable: false })
      expect(whole.api.requests).toEqual([])
    },
  )

  it('of more than the parser takes gets 414 too, and its connection ends', async () => {
    const answer = await rawExchange(whole.port, `GET /${'a'.repeat(40_000)}`)
    expect(answer).toMatch(/^HTTP\/1\.1 414 URI Too Long\r\n/)
    expect(answer).toContain('"code":"url_too_long"')
  })
})

describe('RFC 6585 §5 header lines', () => {
  const filler = (bytes: number) => `X-Filler: ${'x'.repeat(bytes)}`

  it('below the limit pass, and above it get 431 with its code', async () => {
    const fits = { target: '/api/x', lines: [...lines(), filler(HEADER_BYTES - 2_000)] }
    expect((await rawRequest(whole.port, fits)).status).toBe(200)
    whole.api.forgetRequests()
    const answer = await rawRequest(whole.port, {
      target: '/api/x',
      lines: [...lines(), filler(HEADER_BYTES)],
    })
    expect(answer.status).toBe(431)
    expect(answer.json()).toMatchObject({ code: 'headers_too_large' })
    expect(whole.api.requests).toEqual([])
  })

  it('of more than the parser takes get 431 too, and their connection ends', async () => {
    const answer = await rawExchange(
      whole.port,
      `GET /api/x HTTP/1.1\r\nHost: localhost\r\n${filler(40_000)}`,
    )
    expect(answer).toMatch(/^HTTP\/1\.1 431 /)
    expect(whole.log.at(-1)).toMatchObject({
      event: 'request_refused',
      code: 'headers_too_large',
      reason: 'below_routes',
    })
    expect(answer).toContain('"code":"headers_too_large"')
  })
})

const post = (target: string, more: readonly string[]) =>
  `${[`POST ${target} HTTP/1.1`, `Host: localhost:${whole.port}`, ...more].join('\r\n')}\r\n\r\n`

describe('RFC 9110 §15.5.14 a body', () => {
  const chunk = (bytes: number) => `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`

  it('that says itself that it is too large is refused before the upstream hears of it', async () => {
    whole.api.forgetRequests()
    const client = await rawClient(
      whole.port,
      post('/api/x', [...lines(), `Content-Length: ${BODY_BYTES + 1}`]),
    )
    await client.receives(/^HTTP\/1\.1 413 [\s\S]*"code":"body_too_large"/)
    client.socket.destroy()
    expect(whole.api.requests).toEqual([])
  })

  it('in chunks passes on as it comes, and is refused when they are too many', async () => {
    whole.api.forgetRequests()
    const client = await rawClient(
      whole.port,
      `${post('/api/x', [...lines(), 'Transfer-Encoding: chunked'])}${chunk(BODY_BYTES)}`,
    )
    const request = await whole.api.request(0)
    await waitFor('all that is allowed', () => request.body.length === BODY_BYTES)
    client.socket.write(chunk(1))
    await client.receives(/^HTTP\/1\.1 413 [\s\S]*"code":"body_too_large"/)
    await within(2_000, 'the upstream call ends', request.aborted)
    client.socket.destroy()
  })
})

describe('RFC 9110 §10.1.1 who waits for 100 with a body', () => {
  const expecting = (target: string, more: readonly string[], bytes = 4) =>
    post(target, [...more, 'Expect: 100-continue', `Content-Length: ${bytes}`])

  it.each([
    ['401 without a session', 401, () => expecting('/api/x', [])],
    [
      '403 from another origin',
      403,
      () => expecting('/api/x', [cookieLine(browser), 'Origin: https://evil.example']),
    ],
    ['413 for too much', 413, () => expecting('/api/x', lines(), BODY_BYTES + 1)],
    ['414 for its target', 414, () => expecting(`/api/${'x'.repeat(URL_BYTES)}`, lines())],
    ['404 where nothing is', 404, () => expecting('/nothing', [])],
    ['403 at an endpoint', 403, () => expecting('/bff/logout', ['Origin: https://evil.example'])],
  ])('hears %s at once, and no 100', async (_, status, bytes) => {
    const answer = await rawExchange(whole.port, bytes())
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual([`HTTP/1.1 ${status}`])
    expect(answer).toMatch(/\r\nconnection: close\r\n/i)
  })

  it('hears 503 where the upstream is full, and no 100', async () => {
    const holding = await rawClient(
      whole.port,
      post('/silent/1', [...lines(), 'Content-Length: 0']),
    )
    await waitFor('the first call', () => silent.connections.length === 1)
    const answer = await rawExchange(whole.port, expecting('/silent/2', lines()))
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 503'])
    holding.socket.destroy()
  })

  it('hears 100 once the upstream takes the body, and then its answer', async () => {
    const client = await rawClient(whole.port, expecting('/api/x', lines()))
    await client.receives(/^HTTP\/1\.1 100 Continue\r\n\r\n/)
    client.socket.write('body')
    await client.receives(/\r\n\r\nHTTP\/1\.1 200 /)
    client.socket.destroy()
  })
})
