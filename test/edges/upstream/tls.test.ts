/** TLS towards upstreams: whom the gateway believes, as whom it comes, and files that are renewed meanwhile. */

import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { createUpstreamDispatch } from '../../../src/edges/upstream/dispatcher.ts'
import {
  createUpstreamTls,
  tlsFault,
  type UpstreamTlsSettings,
} from '../../../src/edges/upstream/tls.ts'
import { milliseconds } from '../../../src/time.ts'
import type { UpstreamFault } from '../../../src/upstream/forward.ts'
import { type Certificate, createAuthority } from '../../support/certificates.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const authority = createAuthority('ours')
const foreign = createAuthority('foreign')

interface TlsUpstream {
  readonly origin: string
  /** Of each request: the name that was asked for, and whether the client's certificate was one of ours. */
  readonly seen: readonly { readonly name: unknown; readonly authorized: boolean }[]
  show(certificate: Certificate): void
}

const startUpstream = async (
  certificate: Certificate,
  clientCertificates: 'required' | 'none' = 'none',
): Promise<TlsUpstream> => {
  const seen: { name: unknown; authorized: boolean }[] = []
  const server = createServer(
    {
      ...certificate,
      ...(clientCertificates === 'required'
        ? { requestCert: true, rejectUnauthorized: true, ca: authority.cert }
        : {}),
    },
    (req, res) => {
      const { servername, authorized } = req.socket as TLSSocket & { servername: unknown }
      seen.push({ name: servername, authorized })
      res.end('ok')
    },
  )
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve))
  cleanups.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    origin: `https://localhost:${port}`,
    seen,
    show: (next) => server.setSecureContext(next),
  }
}

const gatewayWith = (settings: UpstreamTlsSettings = {}) => {
  let unusable = 0
  const dispatch = createUpstreamDispatch({
    tls: createUpstreamTls(settings, () => {
      unusable += 1
    }),
  })
  cleanups.push(() => dispatch.close())
  return {
    unusable: () => unusable,
    /** The status, or the reason why there is none. On a connection of its own where that is asked for. */
    call: (origin: string, connection: 'any' | 'new' = 'any') =>
      new Promise<number | string>((resolve) => {
        let status = 0
        dispatch(
          {
            origin,
            path: '/',
            method: 'GET',
            headers: ['host', 'app.example.com'],
            body: null,
            endsAtMs: undefined,
            connection,
            isAgain: false,
            timeouts: {
              connectMs: milliseconds(2_000),
              firstByteMs: milliseconds(2_000),
              idleMs: milliseconds(2_000),
            },
          },
          {
            onHead: (head) => {
              status = head
            },
            onChunk: () => undefined,
            onEnd: () => resolve(status),
            onFault: (fault: UpstreamFault) =>
              resolve('reason' in fault ? fault.reason : fault.kind),
          },
        )
      }),
  }
}

describe('RFC 9110 §4.3.4 an upstream that a private authority vouches for', () => {
  it('is believed with that authority, and not without', async () => {
    const { origin } = await startUpstream(authority.issue('localhost'))
    expect(await gatewayWith({ ca: { current: authority.cert } }).call(origin)).toBe(200)
    expect(await gatewayWith().call(origin)).toBe('tls_untrusted')
    expect(await gatewayWith({ ca: { current: foreign.cert } }).call(origin)).toBe('tls_untrusted')
  })

  it('authorities of the system do not count beside it', async () => {
    const before = getCACertificates()
    setDefaultCACertificates([...before, foreign.cert])
    cleanups.push(() => setDefaultCACertificates(before))
    const { origin } = await startUpstream(foreign.issue('localhost'))
    expect(await gatewayWith().call(origin)).toBe(200)
    expect(await gatewayWith({ ca: { current: authority.cert } }).call(origin)).toBe(
      'tls_untrusted',
    )
  })

  it('must have the name of its host, or the one that is set, which is asked for', async () => {
    const ca = { current: authority.cert }
    const { origin, seen } = await startUpstream(authority.issue('api.internal'))
    expect(await gatewayWith({ ca }).call(origin)).toBe('tls_other_name')
    expect(await gatewayWith({ ca, serverName: 'other.internal' }).call(origin)).toBe(
      'tls_other_name',
    )
    expect(await gatewayWith({ ca, serverName: 'api.internal' }).call(origin)).toBe(200)
    expect(seen).toEqual([expect.objectContaining({ name: 'api.internal' })])
  })
})

describe('an upstream that wants to know who comes', () => {
  it('sees the gateway’s certificate, on every kind of connection', async () => {
    const { cert, key } = authority.issue('gateway')
    const { origin, seen } = await startUpstream(authority.issue('localhost'), 'required')
    const gateway = gatewayWith({
      ca: { current: authority.cert },
      cert: { current: cert },
      key: { current: key },
    })
    expect(await gateway.call(origin)).toBe(200)
    expect(await gateway.call(origin, 'new')).toBe(200)
    expect(seen.map(({ authorized }) => authorized)).toEqual([true, true])
  })

  it('sends away whoever has none, or one that it does not know', async () => {
    const ca = { current: authority.cert }
    const { origin, seen } = await startUpstream(authority.issue('localhost'), 'required')
    const stranger = foreign.issue('gateway')
    const refused = /^(?:tls_client_refused|connection_lost)$/
    expect(await gatewayWith({ ca }).call(origin)).toMatch(refused)
    expect(
      await gatewayWith({
        ca,
        cert: { current: stranger.cert },
        key: { current: stranger.key },
      }).call(origin),
    ).toMatch(refused)
    expect(seen).toEqual([])
  })
})

describe('files that change while the gateway runs', () => {
  it('a new authority counts from the next connection on, and the former no longer', async () => {
    const ca = { current: authority.cert }
    const { origin, show } = await startUpstream(authority.issue('localhost'))
    const gateway = gatewayWith({ ca })
    expect(await gateway.call(origin, 'new')).toBe(200)
    ca.current = foreign.cert
    // The same server again, whose session the connector had remembered.
    expect(await gateway.call(origin, 'new')).toBe('tls_untrusted')
    show(foreign.issue('localhost'))
    expect(await gateway.call(origin, 'new')).toBe(200)
    expect(gateway.unusable()).toBe(0)
  })

  it('a certificate without its new key changes nothing, and is told once', async () => {
    const [one, two] = [authority.issue('gateway'), authority.issue('gateway')]
    const cert = { current: one.cert }
    const key = { current: one.key }
    const { origin, seen } = await startUpstream(authority.issue('localhost'), 'required')
    const gateway = gatewayWith({ ca: { current: authority.cert }, cert, key })
    cert.current = two.cert
    expect(await gateway.call(origin, 'new')).toBe(200)
    expect(await gateway.call(origin, 'new')).toBe(200)
    expect(gateway.unusable()).toBe(1)
    key.current = two.key
    expect(await gateway.call(origin, 'new')).toBe(200)
    expect(gateway.unusable()).toBe(1)
    expect(seen).toHaveLength(3)
  })
})

describe('why it failed', () => {
  it.each([
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'tls_untrusted'],
    ['SELF_SIGNED_CERT_IN_CHAIN', 'tls_untrusted'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'tls_untrusted'],
    ['CERT_REVOKED', 'tls_untrusted'],
    ['CERT_HAS_EXPIRED', 'tls_expired'],
    ['CERT_NOT_YET_VALID', 'tls_expired'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'tls_other_name'],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', 'tls_client_refused'],
    ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', 'tls_client_refused'],
    ['ERR_SSL_TLSV1_ALERT_UNKNOWN_CA', 'tls_client_refused'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'tls_failed'],
    ['EPROTO', 'tls_failed'],
    ['ECONNREFUSED', undefined],
    ['UND_ERR_SOCKET', undefined],
  ])('%s is %s', (code, reason) => {
    expect(tlsFault(code)).toBe(reason)
  })
})
