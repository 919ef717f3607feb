/**
 * Attack: a target that the gateway reads as one path and the API behind it as another, to reach what its route
 * does not cover, another host, or an administrator's path under a weaker route's rules.
 * The upstream here records the request line byte for byte; each row is written to a raw socket, since no HTTP
 * library sends these, and must reach no upstream at all. Its accepted twin must arrive unchanged.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rawExchange } from '../edges/upstream/raw-sockets.ts'
import type { SmallGateway } from '../edges/upstream/small-gateway.ts'
import { routeTo, startSmallGateway } from '../edges/upstream/small-gateway.ts'
import type { UpstreamApi } from '../support/upstream-api.ts'
import { startUpstreamApi } from '../support/upstream-api.ts'

let api: UpstreamApi
let admin: UpstreamApi
let gateway: SmallGateway

beforeAll(async () => {
  api = await startUpstreamApi()
  admin = await startUpstreamApi()
  gateway = await startSmallGateway([
    routeTo(api.url),
    routeTo(admin.url, { path: '/api/admin', methods: ['GET'] }),
    routeTo(api.url, { path: '/files', encodedSlash: true }),
    routeTo(api.url, { path: '/stripped', stripPrefix: true }),
  ])
})
afterAll(async () => {
  await gateway.close()
  await api.close()
  await admin.close()
})

const statusOf = async (target: string, host = 'app.example.com'): Promise<number> => {
  const answer = await rawExchange(
    gateway.port,
    `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
  )
  return Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1])
}
const reached = (upstream: UpstreamApi) => upstream.requests.map((request) => request.url)

describe('a target that two parsers may read differently', () => {
  it.each([
    '/api/../secret',
    '/api/./secret',
    '/api/..',
    '/api/%2e%2e/secret',
    '/api/%2E./secret',
    '/api/..%2fsecret',
    '/api/%2e%2e%2fsecret',
    '/api/%252e%252e%252fsecret',
    '/api/%25252e%25252e/secret',
    '/api/..;/secret',
    '/api/..;a=b/secret',
    '/api/..%3b/secret',
    '/api/..\\secret',
    '/api/..%5csecret',
    '/api/..%255csecret',
    '/api/%c0%ae%c0%ae/secret',
    '/api/..%c0%afsecret',
    '/api/x%00.json',
    '/api/x%0d%0aX-Injected:1',
    '/api/x%2500',
    '/api/x%u002fy',
    '/api/%',
    '/api/%zz',
    '/api/x#y',
    '/api/\u00e9',
    '/api/\ttab',
    '//evil.example/api',
    '/\\evil.example/api',
    '/%2fevil.example/api',
    '/%5cevil.example/api',
    '/stripped//evil.example',
    '/stripped/%2fevil.example',
    '/files/..%2f..%2fapi',
    '/files/%2e%2e%2fapi',
    '/files/x%252fy',
    '/files/x%5cy',
    'http://app.example.com/api/../secret',
    'http://app.example.com//evil.example/api',
    'http://app.example.com@evil.example/api',
    'http://app.example.com\\@evil.example/api',
    'ftp://app.example.com/api',
    'evil.example/api',
    '@evil.example/api',
    '*',
  ])('%j reaches no upstream', async (target) => {
    api.forgetRequests()
    admin.forgetRequests()
    expect(await statusOf(target)).toBe(400)
    expect([...reached(api), ...reached(admin)]).toEqual([])
  })

  it.each([
    '/api/a..b/...',
    '/api/a%20b',
    '/api/%7Euser/%41',
    '/api/caf%C3%A9',
    '/api/caf%E9',
    '/api/100%25',
    '/api/items;v=1/x',
    '/api//items',
    '/api/?q=../..//%2e%2e%zz\\',
    '/files/a%2Fb',
  ])('its harmless twin %j arrives byte for byte', async (target) => {
    api.forgetRequests()
    expect(await statusOf(target)).toBe(200)
    expect(reached(api)).toEqual([target])
  })
})

describe('a target that names another host', () => {
  it.each([
    ['RFC 9112 §3.2.2 absolute-form', 'http://evil.example/api/x', 'app.example.com'],
    [
      'absolute-form with the upstream’s own loopback',
      'http://127.0.0.1:1/api/x',
      'app.example.com',
    ],
    ['a foreign Host', '/api/x', 'evil.example'],
    ['a Host with a port', '/api/x', '127.0.0.1:1'],
  ])('%s goes to the route’s upstream all the same', async (_name, target, host) => {
    api.forgetRequests()
    expect(await statusOf(target, host)).toBe(200)
    expect(reached(api)).toEqual(['/api/x'])
    expect(api.requests[0]?.header('host')).toBe(new URL(api.url).host)
    expect(api.requests[0]?.header('x-forwarded-host')).toBe('app.example.com')
  })
})

describe('a path under a route with stricter rules', () => {
  it.each([
    ['slashes merged by the API', '/api//admin/users'],
    ['path parameters dropped by the API', '/api/admin;x/users'],
    ['encoded path parameters', '/api/admin%3Bx/users'],
    ['case ignored by the API', '/api/ADMIN/users'],
    ['an encoded letter and case', '/api/%41dmin/users'],
  ])('is not served under the weaker route: %s', async (_name, target) => {
    api.forgetRequests()
    admin.forgetRequests()
    expect(await statusOf(target)).toBe(404)
    expect([...reached(api), ...reached(admin)]).toEqual([])
  })

  it('an encoded letter is the letter: the stricter route decides, the bytes go on unchanged', async () => {
    admin.forgetRequests()
    expect(await statusOf('/api/%61dmin/users')).toBe(200)
    expect(reached(admin)).toEqual(['/api/%61dmin/users'])
  })

  it('its refusal of a method is not got around by the weaker route', async () => {
    api.forgetRequests()
    const answer = await rawExchange(
      gateway.port,
      'DELETE /api/admin/users HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 405 /)
    expect(reached(api)).toEqual([])
  })
})
