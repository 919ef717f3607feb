/**
 * Automatic retries (RFC 9110 §9.2.2, RFC 9112 §9.3.1): the keep-alive race. An upstream may close a connection that
 * it held open at the very moment when the next request is on its way; a reader cannot tell this from a crash.
 */

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request as httpRequest } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import {
  createServer as createTlsServer,
  getCACertificates,
  setDefaultCACertificates,
} from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { rawClient, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import { routeTo, startSmallGateway } from '../edges/upstream/small-gateway.ts'
import { selfSigned } from '../support/certificates.ts'
import { waitFor, within } from '../support/wait.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** How a kept-alive connection ends under its second request. */
type End = 'fin' | 'reset' | 'late_fin'

interface StaleUpstream {
  readonly port: number
  /** Of every request that came, as often as it came: the value of its `X-Call`. */
  readonly calls: readonly string[]
}

/**
 * Answers the first request of each connection and keeps it open; the second kills it unanswered. So every
 * connection that lies in the gateway's pool is stale.
 */
const startStaleUpstream = async (
  end: End,
  listen: (serve: (socket: Socket) => void) => Server = (serve) => createServer(serve),
): Promise<StaleUpstream> => {
  const calls: string[] = []
  const sockets = new Set<Socket>()
  const server = listen((socket) => {
    sockets.add(socket)
    let received = ''
    let heads = 0
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      for (;;) {
        const head = received.indexOf('\r\n\r\n')
        if (head === -1) return
        calls.push(/^x-call: (.*)$/im.exec(received.slice(0, head))?.[1] ?? '?')
        received = received.slice(head + 4)
        heads += 1
        if (heads === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
        else if (end === 'reset') socket.destroy()
        else if (end === 'fin') socket.end()
        else setTimeout(() => socket.end(), 5)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
  cleanups.push(async () => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await within(5_000, 'the upstream closes', closed)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { port: address.port, calls }
}

const gatewayTo = async (url: string) => {
  const gateway = await startSmallGateway([routeTo(url)])
  cleanups.push(() => gateway.close())
  return gateway
}

const call = async (
  gateway: { readonly url: string },
  { method, name, body = '' }: { method: string; name: string; body?: string },
): Promise<number> => {
  const request = httpRequest(`${gateway.url}/api/items`, {
    agent: false,
    method,
    headers: {
      'x-call': name,
      ...(body === '' ? {} : { 'content-length': String(body.length) }),
    },
  })
  request.end(body)
  const [response] = (await within(10_000, 'an answer', once(request, 'response'))) as [
    IncomingMessage,
  ]
  await text(response)
  return response.statusCode ?? 0
}

const PARALLEL = 20

/** As many connections in the pool as there will be calls at a time, and each of them stale. */
const fillPool = async (gateway: { readonly url: string }) => {
  const statuses = await Promise.all(
    Array.from({ length: PARALLEL }, (_, i) => call(gateway, { method: 'GET', name: `fill-${i}` })),
  )
  expect(statuses.every((status) => status === 200)).toBe(true)
}

describe('RFC 9112 §9.3.1 an upstream that closes every kept-alive connection under the next request', () => {
  it.each(['fin', 'reset', 'late_fin'] as const)(
    'never shows on 200 idempotent calls, %s',
    async (end) => {
      const upstream = await startStaleUpstream(end)
      const gateway = await gatewayTo(`http://localhost:${upstream.port}`)
      await fillPool(gateway)
      const methods = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'QUERY']
      const statuses: number[] = []
      for (let round = 0; round < 10; round += 1) {
        statuses.push(
          ...(await Promise.all(
            Array.from({ length: PARALLEL }, (_, i) => {
              const method = methods[(round + i) % methods.length] ?? 'GET'
              const body = method === 'PUT' || method === 'QUERY' ? 'small body' : ''
              return call(gateway, { method, name: `${round}-${i}`, body })
            }),
          )),
        )
      }
      expect(statuses.filter((status) => status !== 200)).toEqual([])
      // The race was really there, and no call came more than twice.
      const times = Map.groupBy(upstream.calls, (name) => name)
      const sent = [...times.values()].map((all) => all.length)
      expect(sent.filter((count) => count === 2).length).toBeGreaterThan(0)
      expect(Math.max(...sent)).toBe(2)
    },
  )

  it('RFC 9110 §9.2.2 sends no POST twice, whatever becomes of it', async () => {
    const upstream = await startStaleUpstream('reset')
    const gateway = await gatewayTo(`http://localhost:${upstream.port}`)
    const statuses: number[] = []
    for (let round = 0; round < 5; round += 1) {
      await fillPool(gateway)
      statuses.push(
        ...(await Promise.all(
          Array.from({ length: PARALLEL }, (_, i) =>
            call(gateway, {
              method: i % 2 === 0 ? 'POST' : 'PATCH',
              name: `post-${round}-${i}`,
              body: 'x',
            }),
          ),
        )),
      )
    }
    expect(new Set(statuses)).toEqual(new Set([200, 502]))
    const posts = upstream.calls.filter((name) => name.startsWith('post'))
    expect(posts.length).toBeGreaterThan(0)
    expect(new Set(posts).size).toBe(posts.length)
  })

  it('RFC 9110 §9.2.2 a body that was half read goes out whole again, also what comes later', async () => {
    const bodies: string[] = []
    const upstream = await startRawUpstream(async (connection, index) => {
      await connection.receives(index === 0 ? 'first half' : 'second half')
      bodies.push(connection.received().split('\r\n\r\n')[1] ?? '')
      if (index === 0) connection.socket.resetAndDestroy()
      else connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    cleanups.push(() => upstream.close())
    const gateway = await gatewayTo(upstream.url)
    const client = await rawClient(
      gateway.port,
      'PUT /api HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\nConnection: close\r\n\r\nfirst half ',
    )
    await waitFor('the second sending', () => upstream.connections.length === 2)
    client.socket.write('second half')
    await client.receives('HTTP/1.1 200 ')
    expect(bodies).toEqual(['first half ', 'first half second half'])
    // Of its own, and told so.
    expect(upstream.connections[1]?.received()).toMatch(/^connection: close\r$/im)
  })

  it('over TLS as well', async () => {
    const certificate = selfSigned('localhost')
    const before = getCACertificates()
    setDefaultCACertificates([...before, certificate.cert])
    cleanups.push(async () => setDefaultCACertificates(before))
    const upstream = await startStaleUpstream('reset', (serve) =>
      createTlsServer(certificate, serve),
    )
    const gateway = await gatewayTo(`https://localhost:${upstream.port}`)
    await fillPool(gateway)
    const statuses = await Promise.all(
      Array.from({ length: PARALLEL }, (_, i) =>
        call(gateway, { method: 'GET', name: `tls-${i}` }),
      ),
    )
    expect(statuses.filter((status) => status !== 200)).toEqual([])
    expect(new Set(upstream.calls).size).toBeLessThan(upstream.calls.length)
  })

  it('RFC 9110 §9.2.2 a large idempotent upload does not meet a stale connection', async () => {
    const upstream = await startStaleUpstream('fin')
    const gateway = await gatewayTo(`http://localhost:${upstream.port}`)
    await fillPool(gateway)
    const statuses = await Promise.all(
      Array.from({ length: PARALLEL }, (_, i) =>
        call(gateway, { method: 'PUT', name: `put-${i}`, body: 'x'.repeat(300_000) }),
      ),
    )
    expect(statuses.filter((status) => status !== 200)).toEqual([])
    const puts = upstream.calls.filter((name) => name.startsWith('put'))
    expect(new Set(puts).size).toBe(puts.length)
  })
})
