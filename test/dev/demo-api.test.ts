/** The demo API against tokens good and bad, signed by an issuer of the test's own. */

import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type DemoApi, startDemoApi } from '../../src/dev/demo-api.ts'
import { tokenFingerprint } from '../../src/dev/token-fingerprint.ts'

const AUDIENCE = 'urn:coatcheck:demo-api'
const ISSUER = 'https://issuer.example.com'

type Keys = Awaited<ReturnType<typeof generateKeyPair>>
let keys: Keys
let strangersKeys: Keys
let api: DemoApi
let jwksStatus = 200

const jwksServer = createServer(async (_req, res) => {
  const jwk = { ...(await exportJWK(keys.publicKey)), kid: 'k1', alg: 'ES256' }
  res.writeHead(jwksStatus, { 'content-type': 'application/json' })
  res.end(JSON.stringify({ keys: [jwk] }))
})

beforeAll(async () => {
  keys = await generateKeyPair('ES256', { extractable: true })
  strangersKeys = await generateKeyPair('ES256')
  await new Promise<void>((resolve) => jwksServer.listen(0, '127.0.0.1', resolve))
  api = await start()
})
afterAll(async () => {
  await api.close()
  jwksServer.close()
  jwksServer.closeAllConnections()
})

const start = () =>
  startDemoApi({
    issuer: ISSUER,
    jwksUri: `http://127.0.0.1:${(jwksServer.address() as AddressInfo).port}/jwks`,
    audience: AUDIENCE,
    readScope: 'items:read',
    writeScope: 'items:write',
  })

interface Signing {
  readonly claims?: JWTPayload
  readonly without?: readonly string[]
  readonly header?: { readonly typ?: string; readonly kid?: string }
  readonly by?: Keys
}

const accessToken = ({ claims = {}, without = [], header = {}, by = keys }: Signing = {}) => {
  const now = Math.floor(Date.now() / 1000)
  const payload: JWTPayload = {
    ...{ iss: ISSUER, aud: AUDIENCE, sub: 'alice', iat: now, exp: now + 60 },
    scope: 'items:read items:write',
    ...claims,
  }
  for (const claim of without) delete payload[claim]
  return new SignJWT(payload)
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', ...header })
    .sign(by.privateKey)
}

const call = async (path: string, token: string | undefined, init: RequestInit = {}) => {
  const response = await fetch(new URL(path, api.origin), {
    ...init,
    headers: { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) },
    signal: AbortSignal.timeout(5_000),
  })
  return { response, status: response.status, challenge: response.headers.get('www-authenticate') }
}

const json = (method: string, body: unknown): RequestInit => ({
  method,
  body: JSON.stringify(body),
  headers: { 'content-type': 'application/json' },
})

const past = Math.floor(Date.now() / 1000) - 1

describe('RFC 9068 §4: the token', () => {
  test.each<[string, Signing]>([
    ['as it should be', {}],
    ['with a list of audiences', { claims: { aud: ['another', AUDIENCE] } }],
    ['of a provider whose tokens say JWT', { header: { typ: 'JWT' } }],
  ])('%s is accepted', async (_title, signing) => {
    expect((await call('/api/whoami', await accessToken(signing))).status).toBe(200)
  })

  test.each<[string, Signing]>([
    ['expired', { claims: { exp: past } }],
    ['not yet valid', { claims: { nbf: past + 60 } }],
    ['for another audience', { claims: { aud: 'urn:another:api' } }],
    ['without audience', { without: ['aud'] }],
    ['of another issuer', { claims: { iss: 'https://evil.example.com' } }],
    ['without issuer', { without: ['iss'] }],
    ['without expiry', { without: ['exp'] }],
    ['without subject', { without: ['sub'] }],
    ["signed with a stranger's key", { by: undefined as never }],
    ['with an unknown key id', { header: { kid: 'k2' } }],
    ['that is a logout token', { header: { typ: 'logout+jwt' } }],
  ])('%s is refused as invalid_token', async (title, signing) => {
    const by = title.startsWith('signed') ? strangersKeys : keys
    const { status, challenge } = await call('/api/whoami', await accessToken({ ...signing, by }))
    expect(status).toBe(401)
    expect(challenge).toContain('error="invalid_token"')
  })

  test('a tampered payload and alg none are refused', async () => {
    const [header, payload = '', signature] = (await accessToken()).split('.')
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const mallory = Buffer.from(JSON.stringify({ ...claims, sub: 'mallory' })).toString('base64url')
    const none = Buffer.from('{"alg":"none"}').toString('base64url')
    for (const token of [`${header}.${mallory}.${signature}`, `${none}.${payload}.`, 'no-jwt']) {
      const { status, challenge } = await call('/api/whoami', token)
      expect(status).toBe(401)
      expect(challenge).toContain('error="invalid_token"')
    }
  })

  test('RFC 6750 §3.1: without credentials the challenge carries no error', async () => {
    const { status, challenge } = await call('/api/whoami', undefined)
    expect(status).toBe(401)
    expect(challenge).toBe('Bearer realm="demo-api"')
  })

  test('RFC 6750 §3.1: a missing scope is 403 insufficient_scope', async () => {
    const reader = await accessToken({ claims: { scope: 'items:read' } })
    expect((await call('/api/items', reader)).status).toBe(200)
    const { status, challenge } = await call('/api/items', reader, json('POST', { title: 'Scarf' }))
    expect(status).toBe(403)
    expect(challenge).toContain('error="insufficient_scope", scope="items:write"')
    const nobody = await accessToken({ without: ['scope'] })
    expect((await call('/api/items', nobody)).status).toBe(403)
  })

  test('keys that cannot be fetched are 503, never the fault of the token', async () => {
    jwksStatus = 500
    const other = await start()
    const authorization = `Bearer ${await accessToken()}`
    const response = await fetch(`${other.origin}/api/whoami`, { headers: { authorization } })
    jwksStatus = 200
    await other.close()
    expect(response.status).toBe(503)
    expect(response.headers.get('retry-after')).toBe('1')
  })
})

describe('the resources', () => {
  test('whoami shows headers with the token cut to a fingerprint, and counts different tokens', async () => {
    const sub = 'carol'
    const tokens = [
      await accessToken({ claims: { sub, jti: '1' } }),
      await accessToken({ claims: { sub, jti: '2' } }),
    ]
    const seen: unknown[] = []
    for (const token of [tokens[0], tokens[0], tokens[1]]) {
      const { response } = await call('/api/whoami', token, { headers: { cookie: 'other=1' } })
      const answer = await response.text()
      expect(answer).not.toContain(token)
      const { tokensSeen, headers, subject } = JSON.parse(answer)
      expect(subject).toBe('carol')
      expect(headers).toContainEqual(['cookie', 'other=1'])
      expect(headers).toContainEqual(['authorization', `Bearer …${tokenFingerprint(token ?? '')}`])
      seen.push(tokensSeen)
    }
    expect(seen).toEqual([1, 1, 2])
  })

  test('items are created, read, renamed and deleted', async () => {
    const token = await accessToken()
    const created = await call('/api/items', token, json('POST', { title: ' Scarf ' }))
    expect(created.status).toBe(201)
    const item = (await created.response.json()) as { id: string; title: string }
    expect(item).toMatchObject({ title: 'Scarf', createdBy: 'alice' })
    const path = created.response.headers.get('location') ?? ''
    expect(path).toBe(`/api/items/${item.id}`)

    const renamed = await call(path, token, json('PUT', { title: 'Long scarf' }))
    expect(await renamed.response.json()).toMatchObject({ id: item.id, title: 'Long scarf' })
    expect((await call(path, token, { method: 'DELETE' })).status).toBe(204)
    for (const init of [{}, { method: 'DELETE' }, json('PUT', { title: 'Gone' })]) {
      expect((await call(path, token, init)).status).toBe(404)
    }
  })

  test('bad bodies are 400, long ones 413, and a full shelf is 409', async () => {
    const token = await accessToken()
    const post = (body: unknown) => call('/api/items', token, json('POST', body))
    for (const body of [{}, { title: 1 }, { title: ' ' }, { title: 'x'.repeat(201) }, null]) {
      expect((await post(body)).status).toBe(400)
    }
    expect((await call('/api/items', token, { method: 'POST', body: '{' })).status).toBe(400)
    expect((await post({ title: 'x'.repeat(20_000) })).status).toBe(413)
    let last = 201
    for (let count = 0; count < 110 && last === 201; count += 1) {
      last = (await post({ title: 'Coat' })).status
    }
    expect(last).toBe(409)
  })

  test('slow answers take as long as asked, up to 30 s', async () => {
    const token = await accessToken()
    const from = performance.now()
    expect(await (await call('/api/slow?ms=50', token)).response.json()).toEqual({ sleptMs: 50 })
    expect(performance.now() - from).toBeGreaterThan(45)
    for (const ms of ['30001', '-1', '1.5', 'x']) {
      expect((await call(`/api/slow?ms=${ms}`, token)).status).toBe(400)
    }
  })

  test('the stream sends server-sent events at once', async () => {
    const { response } = await call('/api/stream', await accessToken())
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const reader = response.body!.getReader()
    const { value } = await reader.read()
    expect(new TextDecoder().decode(value)).toMatch(/^event: tick\ndata: \{"tick":1,/)
    await reader.cancel()
  })

  test('the WebSocket sends back what it gets, and closes as it is closed', async () => {
    const socket = new WebSocket(`${api.origin.replace('http', 'ws')}/api/echo`, {
      headers: { authorization: `Bearer ${await accessToken()}` },
    })
    await once(socket, 'open')
    for (const text of ['', 'coat', 'ü'.repeat(200)]) {
      socket.send(text)
      expect(String((await once(socket, 'message'))[0])).toBe(text)
    }
    socket.ping('here')
    expect(String((await once(socket, 'pong'))[0])).toBe('here')
    socket.close(4000, 'enough')
    expect((await once(socket, 'close')).map(String)).toEqual(['4000', 'enough'])
  })

  test('the WebSocket takes no stranger, no other path and no huge message', async () => {
    const open = async (path: string, authorization: string) => {
      const headers = { authorization }
      const socket = new WebSocket(`${api.origin.replace('http', 'ws')}${path}`, { headers })
      socket.on('error', () => undefined)
      return socket
    }
    const good = `Bearer ${await accessToken()}`
    for (const [path, authorization, status] of [
      ['/api/echo', 'Bearer nobody', 401],
      ['/api/other', good, 404],
    ] as const) {
      const socket = await open(path, authorization)
      const [, response] = await once(socket, 'unexpected-response')
      expect(response.statusCode).toBe(status)
      response.resume()
    }
    const socket = await open('/api/echo', good)
    await once(socket, 'open')
    socket.send('x'.repeat(70_000))
    expect((await once(socket, 'close'))[0]).toBe(1009)
  })

  test('RFC 6455 §5.1: the WebSocket ends where a frame is not masked', async () => {
    const handshake = request(`${api.origin}/api/echo`, {
      headers: {
        authorization: `Bearer ${await accessToken()}`,
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      },
    }).end()
    const [response, socket] = await once(handshake, 'upgrade')
    expect(response.headers['sec-websocket-accept']).toBe('s3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
    socket.write(Buffer.from([0x81, 2, 0x68, 0x69]))
    expect((await once(socket, 'data'))[0]).toEqual(Buffer.from([0x88, 2, 1002 >> 8, 1002 & 0xff]))
    socket.destroy()
  })

  test('anything else is a JSON 404', async () => {
    const { status, response } = await call('/api/nothing', await accessToken())
    expect(status).toBe(404)
    expect(await response.json()).toMatchObject({ error: 'not_found' })
  })
})
