/** Provider metadata (OpenID Connect Discovery 1.0): what is believed, and how its absence is borne. */

import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import { type Clock, milliseconds, seconds, systemClock } from '../../src/time.ts'
import { adapterFor, exchangeAt, refreshAt } from '../edges/openid-client/adapter.ts'
import { selfSigned } from '../support/certificates.ts'
import { FakeProvider, type FakeProviderOptions, type Reply } from '../support/fake-provider.ts'
import { waitFor } from '../support/wait.ts'

const open: { close(): Promise<void> }[] = []
afterEach(async () => {
  for (const part of open.splice(0)) await part.close()
})

interface StartOptions extends FakeProviderOptions {
  readonly configuredIssuer?: (issuer: string) => string
  readonly clock?: Clock
}

const start = async (options: StartOptions = {}) => {
  const fake = await FakeProvider.start(options)
  const issuer = options.configuredIssuer?.(fake.issuer) ?? fake.issuer
  const provider = adapterFor(issuer, {
    timeout: seconds(1),
    clock: options.clock ?? systemClock,
  })
  open.push(provider, fake)
  return { fake, provider }
}

/** Closed after the test. Sockets of refused handshakes are not its business. */
const listeningPort = async (server: Server): Promise<number> => {
  server.on('tlsClientError', () => {})
  server.listen(0, 'localhost')
  await once(server, 'listening')
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  open.push({
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  })
  return (server.address() as AddressInfo).port
}

const unavailable = (reason: string) => ({ code: 'provider_unavailable', reason })

test('nothing is asked before the first call, and one answer serves all', async () => {
  const { fake, provider } = await start()
  await sleep(50)
  expect(provider.knownFacts()).toBeUndefined()
  expect(fake.requestsTo('discovery')).toEqual([])
  await Promise.all(Array.from({ length: 20 }, () => provider.facts()))
  await provider.facts()
  expect(fake.requestsTo('discovery')).toHaveLength(1)
  expect(provider.knownFacts()).toMatchObject({ issuer: fake.issuer })
})

test('metadata becomes facts', async () => {
  const { fake, provider } = await start()
  Object.assign(fake.metadata, {
    prompt_values_supported: ['none', 'consent'],
    pushed_authorization_request_endpoint: new URL('/par', fake.issuer).href,
  })
  expect(await provider.facts()).toEqual({
    issuer: fake.issuer,
    scopesSupported: ['openid', 'profile', 'email', 'offline_access'],
    codeChallengeMethodsSupported: ['S256'],
    issParameterSupported: true,
    pushedAuthorizationRequests: 'supported',
    endSession: true,
    revocation: true,
    userInfo: true,
  })
})

test('absent and malformed members are facts too', async () => {
  const { fake, provider } = await start()
  for (const name of ['userinfo_endpoint', 'revocation_endpoint', 'end_session_endpoint']) {
    delete fake.metadata[name]
  }
  Object.assign(fake.metadata, {
    scopes_supported: 'openid',
    code_challenge_methods_supported: [1],
    authorization_response_iss_parameter_supported: 'true',
  })
  expect(await provider.facts()).toMatchObject({
    scopesSupported: undefined,
    codeChallengeMethodsSupported: undefined,
    issParameterSupported: false,
    pushedAuthorizationRequests: 'unsupported',
    endSession: false,
    revocation: false,
    userInfo: false,
  })
  expect(await provider.revoke('rt')).toBe('unsupported')
  expect(await provider.userInfo('at', 'alice')).toMatchObject({ reason: 'unsupported' })
  const request = {
    idTokenHint: undefined,
    postLogoutRedirectUri: 'https://a.example/',
    state: 's',
  }
  expect(await provider.endSessionUrl(request)).toBeUndefined()
})

describe('Discovery §4.1 finds the metadata of an issuer', () => {
  test.each(['', '/', '/realms/one', '/realms/one/'])('with the path "%s"', async (issuerPath) => {
    const { fake, provider } = await start({ issuerPath })
    expect((await provider.facts()).issuer).toBe(fake.issuer)
  })
})

describe('Discovery §4.3 refuses an issuer that is not exactly the configured one', () => {
  test.each<[string, (issuer: string) => unknown]>([
    ['another', () => 'https://evil.example'],
    ['with a final slash', (issuer) => `${issuer}/`],
    ['in capitals', (issuer) => issuer.toUpperCase()],
    ['with a path', (issuer) => `${issuer}/other`],
    ['with a default port spelled out', (issuer) => `${issuer}#`],
    ['missing', () => undefined],
    ['as a number', () => 7],
  ])('%s', async (_, lie) => {
    const { fake, provider } = await start()
    fake.metadata.issuer = lie(fake.issuer)
    await expect(provider.facts()).rejects.toMatchObject({
      code: 'provider_unavailable',
      reason: expect.stringMatching(/^discovery_(issuer_mismatch|answer_invalid)$/),
    })
    expect(provider.knownFacts()).toBeUndefined()
    expect(await refreshAt(fake, provider)).toMatchObject({ kind: 'unavailable', spent: 'no' })
    expect(fake.requestsTo('token')).toEqual([])
  })

  test.each(['https://other.example', 'SLASH'])('the operator hears which (%s)', async (lie) => {
    const { fake, provider } = await start()
    const named = lie === 'SLASH' ? `${fake.issuer}/` : lie
    fake.metadata.issuer = named
    await expect(provider.facts()).rejects.toThrow()
    expect(provider.notices).toEqual([
      {
        notice: 'discovery_issuer_mismatch',
        detail: `${fake.issuer}: the metadata could not be had: the metadata names the issuer ${named}`,
      },
    ])
  })

  test('configured with a final slash that the metadata lacks', async () => {
    const { provider } = await start({ configuredIssuer: (issuer) => `${issuer}/` })
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_issuer_mismatch'))
  })
})

describe('OAuth 2.1 §1.5 refuses endpoints', () => {
  test.each<[string, unknown, string]>([
    ['token_endpoint', 'http://provider.example/token', 'insecure'],
    ['jwks_uri', 'http://provider.example/jwks', 'insecure'],
    ['revocation_endpoint', 'http://provider.example/revoke', 'insecure'],
    ['pushed_authorization_request_endpoint', 'http://10.0.0.1/par', 'insecure'],
    ['authorization_endpoint', 'javascript:alert(1)', 'insecure'],
    ['end_session_endpoint', 'data:text/html,x', 'insecure'],
    ['userinfo_endpoint', 'no url', 'malformed'],
    ['token_endpoint', 7, 'malformed'],
    ['token_endpoint', undefined, 'missing'],
    ['authorization_endpoint', undefined, 'missing'],
    ['jwks_uri', undefined, 'missing'],
  ])('%s %s', async (name, endpoint, flaw) => {
    const { fake, provider } = await start()
    fake.metadata[name] = endpoint
    await expect(provider.facts()).rejects.toMatchObject(unavailable(`discovery_${name}_${flaw}`))
  })

  test('an http issuer that is not on this machine gets no request', async () => {
    const fake = await FakeProvider.start({ issuer: 'http://provider.example' })
    const provider = adapterFor(fake.issuer, {
      connectTo: { host: '127.0.0.1', port: fake.port },
    })
    open.push(provider, fake)
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_endpoint_unusable'))
    expect(fake.requestsTo('discovery')).toEqual([])
  })
})

describe('Discovery §4.2: an answer that is none is the provider’s absence', () => {
  test.each<[string, Reply, string]>([
    ['404', { status: 404, body: {} }, 'status_404'],
    ['500', { status: 500, body: {} }, 'status_500'],
    ['HTML', { headers: { 'content-type': 'text/html' }, body: '<html>' }, 'answer_malformed'],
    ['half of it', { fate: 'truncate', body: '{"issuer":"https://x.example"}' }, 'network'],
    ['an array', { body: [] }, 'answer_invalid'],
    ['a reset', { fate: 'reset' }, 'network'],
    ['silence', { fate: 'silence' }, 'timeout'],
    ['2 MB', { body: { issuer: 'x'.repeat(2_000_000) } }, 'answer_too_large'],
  ])('%s', async (_, reply, reason) => {
    const { fake, provider } = await start()
    fake.script('discovery', reply)
    const startedAt = performance.now()
    await expect(provider.facts()).rejects.toMatchObject({
      ...unavailable(`discovery_${reason}`),
      retryAfterSeconds: expect.any(Number),
    })
    expect(performance.now() - startedAt).toBeLessThan(4_000)
  })

  test('a redirect is not followed', async () => {
    const { fake, provider } = await start()
    fake.script('discovery', { status: 302, headers: { location: `${fake.issuer}/jwks` } })
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_status_302'))
    expect(fake.requestsTo('jwks')).toEqual([])
  })

  test('nobody listening', async () => {
    const { fake, provider } = await start()
    await fake.close()
    await expect(provider.facts()).rejects.toMatchObject(
      unavailable('discovery_connection_refused'),
    )
  })

  test('a name that does not resolve', async () => {
    // No label of a name has 64 characters (RFC 1035 §2.3.4), so no resolver is asked.
    const { provider } = await start({
      configuredIssuer: () => `https://${'a'.repeat(64)}.example`,
    })
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_name_not_resolved'))
  })

  test('a certificate that nobody vouches for', async () => {
    const server = createTlsServer(selfSigned('localhost'))
    const provider = adapterFor(`https://localhost:${await listeningPort(server)}`)
    open.push(provider)
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_tls_failed'))
  })

  test('a server that speaks no TLS', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    const provider = adapterFor(`https://localhost:${await listeningPort(server)}`)
    open.push(provider)
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_tls_failed'))
  })

  test('a connection that is reset before it is one', async () => {
    const server = createServer((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const provider = adapterFor(`https://localhost:${await listeningPort(server)}`)
    open.push(provider)
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_connection_reset'))
  })

  test('an address that does not answer the handshake', async () => {
    const server = createServer((socket) => socket.resume())
    const provider = adapterFor(`https://localhost:${await listeningPort(server)}`, {
      tokenTimeout: seconds(0.4),
      timeout: seconds(5),
    })
    open.push(provider)
    await expect(provider.facts()).rejects.toMatchObject(unavailable('discovery_connect_timeout'))
  })
})

describe('while discovery fails', () => {
  test('calls during the backoff fail at once, without a request and with a time to retry', async () => {
    // Time stands still, so that the backoff is not over before the calls are made.
    const clock = { ...systemClock, monotonicMs: () => milliseconds(1_000) }
    const { fake, provider } = await start({ clock })
    fake.script('discovery', { status: 503 })
    await expect(provider.facts()).rejects.toThrow()
    fake.forgetRequests()
    const startedAt = performance.now()
    await expect(provider.facts()).rejects.toMatchObject({
      ...unavailable('discovery_backoff'),
      retryAfterSeconds: 1,
    })
    await expect(exchangeAt(fake, provider)).rejects.toMatchObject({ code: 'provider_unavailable' })
    expect(await refreshAt(fake, provider)).toMatchObject({
      kind: 'unavailable',
      reason: 'discovery_backoff',
      spent: 'no',
      retryAfter: 1,
    })
    expect(await provider.userInfo('at', 'alice')).toMatchObject({ kind: 'unusable' })
    expect(await provider.revoke('rt')).toBe('failed')
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    expect(fake.requestsTo('discovery')).toEqual([])
  })

  test('it is found again soon after it is back, and the operator heard of it once', async () => {
    const { fake, provider } = await start()
    fake.script('discovery', { status: 503 })
    for (let call = 0; call < 3; call += 1) await expect(provider.facts()).rejects.toThrow()
    fake.answerHonestly()
    const facts = await waitFor('metadata', () => provider.facts(), { timeoutMs: 3_000 })
    expect(facts.issuer).toBe(fake.issuer)
    expect(provider.notices.map(({ notice }) => notice)).toEqual(['discovery_status_503'])
  })
})
