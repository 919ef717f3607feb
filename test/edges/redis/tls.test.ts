/** TLS to Redis: who is trusted, as whom the gateway shows itself, and certificates that are renewed. */

import { describe, expect, it, onTestFinished } from 'vitest'
import { constant } from '../../../src/config/watched.ts'
import { createConnector } from '../../../src/edges/redis/connector.ts'
import { systemClock } from '../../../src/time.ts'
import { newDigest } from '../../contract/session-store.contract.ts'
import { createAuthority } from '../../support/certificates.ts'
import { freePort } from '../../support/free-port.ts'
import { createTlsFiles, startSentinels } from '../../support/redis-deployments.ts'
import { waitFor } from '../../support/wait.ts'
import {
  changeable,
  connect,
  connectPlainly,
  oneHourRecord,
  refusal,
  start,
  started,
  works,
} from './connected.ts'
import { certificatesOf } from './redis-rig.ts'

const startTls = async (names: readonly string[], args: readonly string[] = []) => {
  const files = await createTlsFiles(...names)
  onTestFinished(files.remove)
  const port = await freePort()
  const server = await start({ args: [...files.args, '--tls-port', String(port), ...args] })
  return { files, server, port, url: `rediss://127.0.0.1:${port}` }
}

const tlsFailure = { code: 'store_unavailable', reason: 'tls_failed' }

describe('a server whose certificate a private authority signed', () => {
  it('is trusted by that authority alone', async () => {
    const { files, url } = await startTls(['127.0.0.1'])
    const tls = certificatesOf(files)
    await works(connect(url, { tls }))
    const foreign = connect(url, { tls: { ...tls, ca: constant(createAuthority().cert) } })
    expect(await refusal(foreign.health.ping())).toMatchObject(tlsFailure)
    const system = connect(url, { tls: { ...tls, ca: undefined } })
    expect(await refusal(system.health.ping())).toMatchObject(tlsFailure)
    expect(system.notices).toEqual([['store_unreachable', expect.stringContaining('TLS')]])
  })

  it('must bear the name of its host, or the one that is set', async () => {
    const { files, url } = await startTls(['redis.test'])
    const tls = certificatesOf(files)
    expect(await refusal(connect(url, { tls }).health.ping())).toMatchObject(tlsFailure)
    await works(connect(url, { tls: { ...tls, serverName: 'redis.test' } }))
    const other = connect(url, { tls: { ...tls, serverName: 'other.test' } })
    expect(await refusal(other.health.ping())).toMatchObject(tlsFailure)
  })

  it('refuses a gateway without certificate, or with one of another authority', async () => {
    const { files, url } = await startTls(['127.0.0.1'])
    const ca = constant(files.ca)
    const bare = connect(url, { tls: { ca } })
    await waitFor('the refusal is known', async () => {
      const { reason } = await refusal(bare.health.ping())
      return reason === 'tls_failed'
    })
    const { cert, key } = createAuthority().issue('gateway')
    const foreign = connect(url, { tls: { ca, cert: constant(cert), key: constant(key) } })
    await waitFor('the refusal is known', async () => {
      const { reason } = await refusal(foreign.health.ping())
      return reason === 'tls_failed'
    })
  })

  it('is not spoken to in the clear, nor a plain one by TLS', async () => {
    const { server, port } = await startTls(['127.0.0.1'])
    const plain = connect(`redis://127.0.0.1:${port}`)
    expect(await refusal(plain.health.ping())).toMatchObject({ code: 'store_unavailable' })
    const encrypted = connect(`rediss://127.0.0.1:${server.port}`)
    expect(await refusal(encrypted.health.ping())).toMatchObject({ code: 'store_unavailable' })
  })
})

it('an error that a socket has after its first one ends nothing', async () => {
  const { url } = await startTls(['127.0.0.1'])
  const Connector = createConnector({ tls: {}, disconnectTimeout: 100 })
  const { hostname: host, port } = new URL(url)
  const socket = await new Connector({ host, port: Number(port) }).connect(() => {})
  await new Promise((resolve) => socket.once('close', resolve))
  expect(() => socket.emit('error', new Error('a late alert'))).not.toThrow()
})

describe('a certificate of the gateway', () => {
  it('that is renewed is shown from then on; a pair that does not match leaves the former in use', async () => {
    const { files, url, server } = await startTls(['127.0.0.1'])
    const [cert, key] = [changeable(files.client.cert), changeable(files.client.key)]
    const stores = connect(url, { tls: { ca: constant(files.ca), cert, key } })
    await works(stores)
    const connectionId = async () =>
      /\bid=(\d+)\b.* name=coatcheck /.exec(
        String(await connectPlainly(server.url).client('LIST')),
      )?.[1]
    const former = await connectionId()

    const renewed = files.issue('gateway')
    cert.change(renewed.cert)
    await waitFor('the operator was told', () => stores.notices.length > 0)
    expect(stores.notices).toEqual([['store_change_failed', expect.stringContaining('key')]])
    await works(stores)
    expect(await connectionId()).toBe(former)

    key.change(renewed.key)
    await waitFor('there is a new connection', async () => {
      const present = await connectionId()
      return present !== undefined && present !== former
    })
    await works(stores)
  })
})

it('rediss+sentinel encrypts the way to Sentinels and master alike', async () => {
  const files = await createTlsFiles('127.0.0.1')
  onTestFinished(files.remove)
  const { url } = await started(startSentinels({ tls: files }))
  expect(url).toMatch(/^rediss\+sentinel:/)
  const stores = connect(url, { tls: certificatesOf(files) })
  await works(stores)
  expect(await stores.sessions.create(newDigest(), oneHourRecord(), systemClock.now())).toBe(
    'created',
  )
  const bare = connect(url, { tls: { ca: constant(createAuthority().cert) } })
  expect(await refusal(bare.health.ping())).toMatchObject(tlsFailure)
})

it('rediss+cluster encrypts the way to every node, also to those that were learnt', async () => {
  const bus = [
    ...['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())],
    ...['--tls-cluster', 'yes'],
  ]
  const { files, server, port } = await startTls(['localhost', '127.0.0.1'], bus)
  const client = connectPlainly(server.url)
  await client.cluster('ADDSLOTSRANGE', 0, 16_383)
  await client.config('SET', 'cluster-announce-ip', '127.0.0.1')
  const stores = connect(`rediss+cluster://localhost:${port}`, { tls: certificatesOf(files) })
  await waitFor('the Cluster takes commands', () => works(stores))
  expect(await stores.sessions.create(newDigest(), oneHourRecord(), systemClock.now())).toBe(
    'created',
  )
  const bare = connect(`rediss+cluster://localhost:${port}`, {
    tls: { ca: constant(createAuthority().cert) },
  })
  expect(await refusal(bare.health.ping())).toMatchObject(tlsFailure)
})
