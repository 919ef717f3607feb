/** The dispatcher alone: what it promises its caller, and whom it believes over TLS. */

import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import type { UpstreamDispatchOptions } from '../../../src/edges/upstream/dispatcher.ts'
import { createUpstreamDispatch } from '../../../src/edges/upstream/dispatcher.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import type { UpstreamObserver, UpstreamRequest } from '../../../src/upstream/forward.ts'
import { selfSigned } from '../../support/certificates.ts'
import { waitFor, within } from '../../support/wait.ts'
import { startRawUpstream } from './raw-sockets.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
const dispatcher = (options: UpstreamDispatchOptions = {}) => {
  const dispatch = createUpstreamDispatch(options)
  cleanups.push(() => dispatch.close())
  return dispatch
}
const rawUpstream = async (script: Parameters<typeof startRawUpstream>[0]) => {
  const upstream = await startRawUpstream(script)
  cleanups.push(() => upstream.close())
  return upstream
}

const requestTo = (origin: string, more: Partial<UpstreamRequest> = {}): UpstreamRequest => ({
  origin,
  path: '/',
  method: 'GET',
  headers: ['host', new URL(origin).host],
  body: null,
  connection: 'any',
  isAgain: false,
  timeouts: {
    connectMs: milliseconds(2_000),
    firstByteMs: milliseconds(2_000),
    idleMs: milliseconds(2_000),
  },
  endsAtMs: undefined,
  ...more,
})

/** Notes what it is told, word by word. */
const notes = () => {
  const told: unknown[] = []
  const observer: UpstreamObserver = {
    onHead: (status) => told.push(status),
    onChunk: (chunk) => told.push(chunk.toString()),
    onEnd: () => told.push('end'),
    onFault: (fault) => told.push(fault),
  }
  return { told, observer }
}

describe('a call', () => {
  it('is told of its end once, and of no limit after it', async () => {
    const { url } = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    const { told, observer } = notes()
    const limit = milliseconds(100)
    dispatcher()(
      requestTo(url, { timeouts: { connectMs: limit, firstByteMs: limit, idleMs: limit } }),
      observer,
    )
    await waitFor('the end', () => told.includes('end'))
    await sleep(250)
    expect(told).toEqual([200, 'ok', 'end'])
  })

  it('goes on as long as something comes within the idle limit', async () => {
    const { url } = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n')
      for (const part of 'abcdef') {
        await sleep(120)
        connection.socket.write(part)
      }
    })
    const { told, observer } = notes()
    const [connectMs, idleMs] = [milliseconds(1_000), milliseconds(400)]
    dispatcher()(
      requestTo(url, { timeouts: { connectMs, firstByteMs: connectMs, idleMs } }),
      observer,
    )
    await waitFor('the end', () => told.includes('end'))
    expect(told.join(' ')).toBe('200 a b c d e f end')
  })

  it('that is aborted before it has a connection is told nothing, and gives the connection up', async () => {
    const { url, connections } = await rawUpstream(() => undefined)
    const { told, observer } = notes()
    dispatcher()(requestTo(url), observer).abort()
    // The system may have connected it all the same.
    await sleep(100)
    await within(2_000, 'its end', Promise.all(connections.map(({ closed }) => closed)))
    expect(connections.map((connection) => connection.received()).join('')).toBe('')
    expect(told).toEqual([])
  })

  it('that HTTP does not allow is refused after dispatch has returned', async () => {
    const { url } = await rawUpstream(() => undefined)
    const { told, observer } = notes()
    dispatcher()(requestTo(url, { headers: ['host', 'a', 'x', 'b\nc'] }), observer)
    expect(told).toEqual([])
    await waitFor('the refusal', () => told.length === 1)
    expect(told[0]).toMatchObject({ kind: 'unsendable' })
  })

  it.each(['any', 'new'] as const)('ends when the dispatcher closes: %s', async (connection) => {
    const { url, connections } = await rawUpstream(() => undefined)
    const dispatch = createUpstreamDispatch()
    const { told, observer } = notes()
    dispatch(requestTo(url, { connection }), observer)
    await waitFor('the request', () => connections[0]?.received().includes('GET /'))
    await within(2_000, 'close', dispatch.close())
    await waitFor('the fault', () => told.length === 1)
    expect(told[0]).toMatchObject({ kind: 'unreachable' })
  })
})

describe('a connection of its own', () => {
  it('carries one call, says so, and is closed after it', async () => {
    const { url, connections } = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    const dispatch = dispatcher()
    for (const index of [0, 1]) {
      const { told, observer } = notes()
      dispatch(requestTo(url, { connection: 'new' }), observer)
      await waitFor('the end', () => told.includes('end'))
      await within(2_000, 'its close', connections[index]?.closed ?? Promise.reject())
    }
    expect(
      connections.map((connection) => /^connection: close\r$/im.test(connection.received())),
    ).toEqual([true, true])
  })

  it('is closed where the call is given up', async () => {
    const { url, connections } = await rawUpstream(() => undefined)
    const { told, observer } = notes()
    const call = dispatcher()(requestTo(url, { connection: 'new' }), observer)
    await waitFor('the request', () => connections[0]?.received().includes('GET /'))
    call.abort()
    await within(2_000, 'its close', connections[0]?.closed ?? Promise.reject())
    expect(told).toEqual([])
  })
})

describe('places at one upstream', () => {
  const busy = (reason: string) => [{ kind: 'busy', reason }]
  const silentUpstream = () => rawUpstream(() => undefined)
  const heads = (upstream: Awaited<ReturnType<typeof silentUpstream>>) =>
    upstream.connections.filter((connection) => connection.received().includes('\r\n\r\n')).length

  it('beyond connections and queue a call is refused at once, and nothing of it is sent', async () => {
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 2, queue: 1 } })
    for (let call = 0; call < 3; call += 1) dispatch(requestTo(upstream.url), notes().observer)
    await waitFor('two calls', () => heads(upstream) === 2)
    const { told, observer } = notes()
    dispatch(requestTo(upstream.url), observer)
    expect(told).toEqual([])
    await waitFor('the refusal', () => told.length === 1)
    expect(told).toEqual(busy('queue_full'))
    expect([...dispatch.counts()]).toEqual([[upstream.url, { taken: 2, waiting: 1 }]])
    expect(upstream.connections).toHaveLength(2)
  })

  it('whoever waits gets the place of a call that ends, first come first served', async () => {
    const upstream = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
    })
    const dispatch = dispatcher({ limits: { connections: 1, queue: 2 } })
    const first = dispatch(requestTo(upstream.url, { path: '/first' }), notes().observer)
    const second = dispatch(requestTo(upstream.url, { path: '/second' }), notes().observer)
    dispatch(requestTo(upstream.url, { path: '/third' }), notes().observer)
    await waitFor('the first call', () => heads(upstream) === 1)
    first.abort()
    await waitFor('the second call', () => heads(upstream) === 2)
    expect(upstream.connections[1]?.received()).toContain('GET /second ')
    second.abort()
    await waitFor('the third call', () => heads(upstream) === 3)
    expect(upstream.connections[2]?.received()).toContain('GET /third ')
  })

  it('a call that is sent again goes before those that wait, and finds no queue full', async () => {
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 1, queue: 1 } })
    const holding = dispatch(requestTo(upstream.url, { path: '/holds' }), notes().observer)
    dispatch(requestTo(upstream.url, { path: '/waits' }), notes().observer)
    const again = notes()
    dispatch(requestTo(upstream.url, { path: '/again', isAgain: true }), again.observer)
    await waitFor('the first', () => heads(upstream) === 1)
    expect(again.told).toEqual([])
    holding.abort()
    await waitFor('the next', () => heads(upstream) === 2)
    expect(upstream.connections.at(-1)?.received()).toContain('/again')
  })

  it('a call that leaves the queue takes nobody’s place', async () => {
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 1, queue: 1 } })
    const first = dispatch(requestTo(upstream.url), notes().observer)
    dispatch(requestTo(upstream.url), notes().observer).abort()
    const { told, observer } = notes()
    dispatch(requestTo(upstream.url, { path: '/next' }), observer)
    await waitFor('the first call', () => heads(upstream) === 1)
    first.abort()
    await waitFor('the next call', () => heads(upstream) === 2)
    expect(upstream.connections[1]?.received()).toContain('GET /next ')
    expect(told).toEqual([])
  })

  it('waits no longer than it may take to connect', async () => {
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 1, queue: 5 } })
    dispatch(requestTo(upstream.url), notes().observer)
    const { told, observer } = notes()
    const [connectMs, rest] = [milliseconds(100), milliseconds(2_000)]
    dispatch(
      requestTo(upstream.url, { timeouts: { connectMs, firstByteMs: rest, idleMs: rest } }),
      observer,
    )
    await waitFor('the refusal', () => told.length === 1)
    expect(told).toEqual(busy('queue_timeout'))
  })

  it('a place is given back by every kind of end', async () => {
    const answers = ['HTTP/1.1 204 No Content\r\n\r\n', 'nonsense\r\n\r\n', 'close', 'silence']
    const upstream = await rawUpstream(async (connection) => {
      const request = await connection.receives('\r\n\r\n')
      const answer = answers[Number(/ \/(\d) /.exec(request)?.[1])]
      if (answer === 'close') connection.socket.destroy()
      else if (answer !== 'silence') connection.socket.write(answer ?? '')
    })
    const dispatch = dispatcher({ limits: { connections: 1, queue: 100 } })
    const limit = milliseconds(100)
    const timeouts = { connectMs: milliseconds(20_000), firstByteMs: limit, idleMs: limit }
    const calls = Array.from({ length: 12 }, (_, index) => {
      const { told, observer } = notes()
      dispatch(requestTo(upstream.url, { path: `/${index % 4}`, timeouts }), observer)
      return told
    })
    await waitFor('every end', () => calls.every((told) => told.length > 0))
    expect(calls.flat()).not.toContainEqual(expect.objectContaining({ kind: 'busy' }))
  })

  it('attempts to connect that came to nothing are in nobody’s way once the upstream is back', async () => {
    // As behind a firewall or a pod that is gone: connections are taken, and nobody speaks TLS.
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 2, queue: 0 } })
    const timeouts = {
      connectMs: milliseconds(100),
      firstByteMs: milliseconds(2_000),
      idleMs: milliseconds(2_000),
    }
    const origin = upstream.url.replace('http:', 'https:')
    const inVain = [1, 2].map(() => notes())
    for (const { observer } of inVain) dispatch(requestTo(origin, { timeouts }), observer)
    await waitFor('both give up', () => inVain.every(({ told }) => told.length === 1))
    await within(
      2_000,
      'the end of both attempts',
      Promise.all(upstream.connections.map(({ closed }) => closed)),
    )
    const later = notes()
    dispatch(requestTo(origin, { timeouts }), later.observer)
    await waitFor('a new attempt', () => upstream.connections.length === 3)
  })

  it('a call that is given up together with the one before it leaves no attempt to connect behind', async () => {
    const upstream = await silentUpstream()
    const dispatch = dispatcher({ limits: { connections: 1, queue: 1 } })
    const origin = upstream.url.replace('http:', 'https:')
    const calls = [1, 2].map(() => dispatch(requestTo(origin), notes().observer))
    await waitFor('the first attempt', () => upstream.connections.length === 1)
    for (const call of calls) call.abort()
    await sleep(200)
    const ends = upstream.connections.map(({ closed }) => closed)
    await within(1_000, 'the end of every attempt', Promise.all(ends))
  })

  it('an upstream that hangs takes none of another’s', async () => {
    const slow = await silentUpstream()
    const { url } = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    })
    const dispatch = dispatcher({ limits: { connections: 2, queue: 2 } })
    for (let call = 0; call < 10; call += 1) dispatch(requestTo(slow.url), notes().observer)
    const { told, observer } = notes()
    dispatch(requestTo(url), observer)
    await waitFor('the answer', () => told.includes('end'))
    expect(told).toEqual([200, 'ok', 'end'])
  })
})

describe('the total limit', () => {
  const soon = () => milliseconds(systemClock.monotonicMs() + 150)

  it.each([
    ['in the queue', { connections: 1, queue: 1 }, () => undefined],
    ['before the answer', { connections: 2, queue: 1 }, () => undefined],
  ])('ends a call %s', async (_, limits, script) => {
    const { url } = await rawUpstream(script)
    const dispatch = dispatcher({ limits })
    dispatch(requestTo(url), notes().observer)
    const { told, observer } = notes()
    dispatch(requestTo(url, { endsAtMs: soon() }), observer)
    await waitFor('the fault', () => told.length === 1)
    expect(told).toEqual([{ kind: 'timeout', reason: 'total' }])
  })

  it('ends an answer that moves, and its connection', async () => {
    const { url, connections } = await rawUpstream(async (connection) => {
      await connection.receives('\r\n\r\n')
      connection.socket.write('HTTP/1.1 200 OK\r\n\r\n')
      while (!connection.socket.destroyed) {
        connection.socket.write('x')
        await sleep(20)
      }
    })
    const { told, observer } = notes()
    dispatcher()(requestTo(url, { endsAtMs: soon() }), observer)
    await waitFor('the fault', () => typeof told.at(-1) === 'object')
    expect(told[0]).toBe(200)
    expect(told.at(-1)).toEqual({ kind: 'timeout', reason: 'total' })
    await within(2_000, 'its end', connections[0]?.closed ?? Promise.reject())
  })
})

describe('RFC 9110 §4.3.4 over TLS', () => {
  const startTls = async (...dnsNames: string[]) => {
    const { cert, key } = selfSigned(...dnsNames)
    const serverNames: unknown[] = []
    const server = createTlsServer({ cert, key, ALPNProtocols: ['h2', 'http/1.1'] }, (req, res) => {
      serverNames.push((req.socket as TLSSocket).servername)
      res.end('ok')
    })
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
    cleanups.push(async () => {
      server.closeAllConnections()
      server.close()
    })
    const { port } = server.address() as AddressInfo
    return { cert, port, serverNames }
  }
  const trusting = (cert: string) => {
    const before = getCACertificates()
    setDefaultCACertificates([...before, cert])
    cleanups.push(async () => setDefaultCACertificates(before))
  }
  const toldBy = async (request: UpstreamRequest) => {
    const { told, observer } = notes()
    dispatcher()(request, observer)
    await waitFor('an end', () => told.includes('end') || typeof told[0] === 'object')
    return told
  }

  it('refuses a certificate that nobody vouches for', async () => {
    const { port } = await startTls('localhost')
    expect(await toldBy(requestTo(`https://localhost:${port}`))).toEqual([
      expect.objectContaining({ kind: 'unreachable', reason: 'tls_untrusted' }),
    ])
  })

  it('refuses a certificate for another name', async () => {
    const { port, cert } = await startTls('other.example')
    trusting(cert)
    expect(await toldBy(requestTo(`https://localhost:${port}`))).toEqual([
      expect.objectContaining({ kind: 'unreachable', reason: 'tls_other_name' }),
    ])
  })

  it('names and checks the configured host, also where Host is the public one', async () => {
    const { port, cert, serverNames } = await startTls('localhost')
    trusting(cert)
    const request = requestTo(`https://localhost:${port}`, { headers: ['host', 'app.example.com'] })
    expect(await toldBy(request)).toEqual([200, 'ok', 'end'])
    expect(serverNames).toEqual(['localhost'])
  })

  it('does not take a certificate for the public host instead', async () => {
    const { port, cert } = await startTls('app.example.com')
    trusting(cert)
    const request = requestTo(`https://localhost:${port}`, { headers: ['host', 'app.example.com'] })
    expect(await toldBy(request)).toEqual([
      expect.objectContaining({ kind: 'unreachable', reason: 'tls_other_name' }),
    ])
  })
})
