/** The listener over TLS: versions, renewed certificates, and clients that speak something else or nothing. */

import { once } from 'node:events'
import { request } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import {
  LISTENER_LIMITS,
  type ListenerOptions,
  type ListeningServer,
  startListener,
  type TlsIdentity,
} from '../../../src/edges/http/listener.ts'
import { createAuthority } from '../../support/certificates.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient } from '../upstream/raw-sockets.ts'

const authority = createAuthority()
const one = authority.issue('localhost')
const other = authority.issue('localhost')

const started: ListeningServer[] = []
afterEach(async () => {
  await within(5_000, 'every listener closes', Promise.all(started.splice(0).map((s) => s.close())))
})

const start = async (options: Partial<ListenerOptions> & { minVersion?: 'TLSv1.3' } = {}) => {
  let identity: TlsIdentity = one
  const listeners = new Set<(renewed: TlsIdentity) => void>()
  const errors: unknown[] = []
  const server = await startListener({
    listener: (req, res) => void res.end(`over ${'encrypted' in req.socket ? 'TLS' : 'TCP'}`),
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => errors.push(error),
    tls: {
      identity: {
        get current() {
          return identity
        },
        subscribe: (listener) => {
          listeners.add(listener)
          return () => void listeners.delete(listener)
        },
      },
      minVersion: options.minVersion ?? 'TLSv1.2',
    },
    ...options,
  })
  started.push(server)
  return {
    server,
    port: server.address.port,
    errors,
    listeners,
    renew: (renewed: TlsIdentity) => {
      identity = renewed
      for (const listener of listeners) listener(renewed)
    },
  }
}

const handshake = async (port: number, options: ConnectionOptions = {}): Promise<TLSSocket> => {
  const socket = connect({
    host: '127.0.0.1',
    port,
    ca: authority.cert,
    servername: 'localhost',
    ...options,
  })
  await within(3_000, 'the handshake ends', once(socket, 'secureConnect'))
  return socket
}

const fingerprint = (socket: TLSSocket) => socket.getPeerX509Certificate()?.toString().trim()

const get = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      ca: authority.cert,
      servername: 'localhost',
      agent: false,
    }
    request(options, async (response) => {
      let body = ''
      for await (const chunk of response) body += chunk
      resolve(`${response.statusCode} ${body}`)
    })
      .once('error', reject)
      .end()
  })

/** A record of 512 bytes is announced, and nothing of it comes. */
const HELLO_BEGUN = '\x16\x03\x01\x02\x00'

const limits = { ...LISTENER_LIMITS, headMs: 300 }

describe('TLS', () => {
  it('serves HTTP/1.1 over it', async () => {
    const { port } = await start()
    expect(await get(port)).toBe('200 over TLS')
    const socket = await handshake(port, { ALPNProtocols: ['h2', 'http/1.1'] })
    expect(socket.alpnProtocol).toBe('http/1.1')
    socket.destroy()
  })

  it('speaks no version below the lowest', async () => {
    const { port } = await start({ minVersion: 'TLSv1.3' })
    await expect(handshake(port, { maxVersion: 'TLSv1.2' })).rejects.toMatchObject({
      code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
    })
    const socket = await handshake(port)
    expect(socket.getProtocol()).toBe('TLSv1.3')
    socket.destroy()
  })

  it('shows a renewed certificate to new connections, while old ones go on', async () => {
    const { port, renew, server, listeners } = await start()
    const before = await handshake(port)
    expect(fingerprint(before)).toBe(one.cert.trim())
    renew(other)
    const after = await handshake(port)
    expect(fingerprint(after)).toBe(other.cert.trim())
    before.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const [answer] = await within(2_000, 'the old connection answers', once(before, 'data'))
    expect(String(answer)).toMatch(/^HTTP\/1\.1 200/)
    for (const socket of [before, after]) socket.destroy()
    await server.close()
    expect(listeners.size).toBe(0)
  })

  it('keeps the lowest version when the certificate is renewed', async () => {
    const { port, renew } = await start({ minVersion: 'TLSv1.3' })
    renew(other)
    await expect(handshake(port, { maxVersion: 'TLSv1.2' })).rejects.toThrow()
  })
})

describe('clients that speak no TLS', () => {
  it('plain HTTP is ended at once and answered by nobody, and the next client is served', async () => {
    const { port, errors } = await start()
    const client = await rawClient(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await within(1_000, 'the connection ends', client.closed)
    expect(client.received()).not.toContain('HTTP/1.1')
    expect(await get(port)).toBe('200 over TLS')
    expect(errors).toEqual([])
  })

  it('a handshake that does not end is ended, however many there are', async () => {
    const { port } = await start({ limits })
    const silent = await Promise.all(Array.from({ length: 50 }, () => rawClient(port, '')))
    const begun = await rawClient(port, HELLO_BEGUN)
    expect(await get(port)).toBe('200 over TLS')
    for (const { closed } of [...silent, begun]) await within(3_000, 'the connection ends', closed)
  })

  it('a client that leaves in the middle costs nothing but itself', async () => {
    const { port, errors } = await start()
    const socket = connectTcp(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.write(HELLO_BEGUN, 'latin1')
    socket.resetAndDestroy()
    expect(await get(port)).toBe('200 over TLS')
    expect(errors).toEqual([])
  })

  it('a client that says nothing after the handshake is ended too', async () => {
    const { port } = await start({ limits })
    const socket = await handshake(port)
    socket.resume()
    await within(3_000, 'the connection ends', once(socket, 'close'))
  })
})

describe('drain over TLS', () => {
  it('whoever is in the middle of a handshake may end it and is served', async () => {
    const { port, server } = await start()
    const tcp = connectTcp(port, '127.0.0.1')
    await once(tcp, 'connect')
    const drained = server.drain({ delayMs: 200, deadlineMs: 10_000 })
    await waitFor('nobody listens any more', async () => {
      const probe = connectTcp(port, '127.0.0.1')
      const outcome = await Promise.race([
        once(probe, 'connect').then(() => 'accepted'),
        once(probe, 'error').then(() => 'refused'),
      ]).catch(() => 'refused')
      probe.destroy()
      return outcome === 'refused'
    })
    const socket = connect({ socket: tcp, ca: authority.cert, servername: 'localhost' })
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk
    })
    const closed = once(socket, 'close')
    await within(2_000, 'drained', Promise.all([drained, closed]))
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*connection: close[\s\S]*over TLS$/i)
  })

  it('a handshake that hangs is cut at the deadline', async () => {
    const { port, server } = await start()
    const client = await rawClient(port, '')
    await within(2_000, 'drained', server.drain({ deadlineMs: 300 }))
    await within(1_000, 'the connection is cut', client.closed)
  })
})
