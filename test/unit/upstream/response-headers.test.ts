/** Headers towards the browser. */

import { describe, expect, it } from 'vitest'
import type { RouteDefinition } from '../../../src/routing/route-table.ts'
import { compileRoutes } from '../../../src/routing/route-table.ts'
import {
  downstreamResponseHeaders,
  responseHeaderPolicy,
} from '../../../src/upstream/response-headers.ts'
import { routeTo } from '../../edges/upstream/small-gateway.ts'
import { linesOf, onlyLineOf } from '../../support/raw-headers.ts'

const passed = (
  rawHeaders: readonly string[],
  route: Partial<RouteDefinition> & { readonly status?: number } = {},
): string[] => {
  const { status = 200, ...overrides } = route
  const [compiled] = compileRoutes([routeTo('http://api.internal:8080', overrides)]).routes
  if (compiled === undefined) throw new Error('no route')
  const others = compileRoutes([
    routeTo('http://orders.internal:8080/v1', { path: '/orders', stripPrefix: true }),
    routeTo('http://orders.internal:8080/v2', { path: '/orders2', stripPrefix: true }),
  ]).routes
  const policy = responseHeaderPolicy(compiled, {
    publicUrl: 'https://app.example.com',
    routes: [compiled, ...others],
  })
  return downstreamResponseHeaders(rawHeaders, { policy, status, requestId: 'request-1' })
}

describe('what the upstream says', () => {
  it('passes in order, with repetitions', () => {
    const rawHeaders = [
      ...['Content-Type', 'a/b', 'X-B', '1', 'ETag', '"v"', 'x-b', '2', 'Content-Encoding', 'br'],
      ...[
        'Date',
        'd',
        'Link',
        '</x>',
        'Vary',
        'Accept',
        'Retry-After',
        '3',
        'X-Accel-Buffering',
        'no',
      ],
      ...['Content-Length', '5', 'Content-Disposition', 'attachment'],
    ]
    expect(passed(rawHeaders).slice(0, rawHeaders.length)).toEqual(rawHeaders)
  })

  it.each([
    'Connection',
    'Keep-Alive',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Proxy-Authenticate',
    'Proxy-Authorization',
  ])('RFC 9110 §7.6.1 drops %s', (name) => {
    expect(linesOf(passed([name, 'x']), name)).toEqual([])
  })

  it('RFC 6797 §7.1 the policy for transport is the gateway’s alone', () => {
    const name = 'Strict-Transport-Security'
    expect(linesOf(passed([name, 'max-age=0']), name)).toEqual([
      'max-age=31536000; includeSubDomains',
    ])
  })

  it('RFC 9110 §7.6.1 drops headers named by Connection, and none that the gateway sets', () => {
    const headers = passed([
      ...['X-Foo', '1', 'Connection', 'x-foo, Cache-Control, X-Content-Type-Options'],
      ...['Content-Length', '2', 'connection', 'content-length'],
    ])
    expect(linesOf(headers, 'x-foo')).toEqual([])
    expect(onlyLineOf(headers, 'cache-control')).toBe('private, no-store')
    expect(onlyLineOf(headers, 'x-content-type-options')).toBe('nosniff')
    expect(onlyLineOf(headers, 'content-length')).toBe('2')
  })

  it.each([
    'Server',
    'Via',
    'X-Powered-By',
    'X-AspNet-Version',
    'Access-Control-Allow-Origin',
    'Access-Control-Allow-Credentials',
    'access-control-expose-headers',
    'Timing-Allow-Origin',
    'Clear-Site-Data',
    'Service-Worker-Allowed',
    'Alt-Svc',
    'NEL',
    'Authentication-Info',
    'DPoP-Nonce',
    'X-Accel-Redirect',
    'Set-Cookie2',
    'Accept-CH',
    'Critical-CH',
    'Set-Login',
    'Secure-Session-Registration',
    'Sec-Session-Challenge',
    'Reporting-Endpoints',
    'X-Runtime',
    'X-Generator',
    'X-Served-By',
    'X-Backend',
    'X-Debug-Token-Link',
    'X-Envoy-Upstream-Service-Time',
    'X-Kong-Proxy-Latency',
    'Proxy-Status',
  ])('%s never passes', (name) => {
    expect(linesOf(passed([name, 'x']), name)).toEqual([])
  })

  it('X-Content-Type-Options and X-Request-Id are the gateway’s', () => {
    const headers = passed(['X-Content-Type-Options', 'off', 'X-Request-Id', 'theirs'])
    expect(onlyLineOf(headers, 'x-content-type-options')).toBe('nosniff')
    expect(onlyLineOf(headers, 'x-request-id')).toBe('request-1')
  })

  it('RFC 9110 §8.6 drops Content-Length from a 204 only', () => {
    const length = ['Content-Length', '0']
    expect(linesOf(passed(length, { status: 204 }), 'content-length')).toEqual([])
    expect(linesOf(passed(length, { status: 304 }), 'content-length')).toEqual(['0'])
  })
})

describe('caching', () => {
  const CACHEABLE = [
    ...['Cache-Control', 'public, max-age=60', 'Expires', 'x', 'Pragma', 'x', 'Age', '1'],
    ...['CDN-Cache-Control', 'x', 'Surrogate-Control', 'x', 'Cloudflare-CDN-Cache-Control', 'x'],
  ]

  it('RFC 9111 §3.5 an answer to a cookie is private and not stored', () => {
    const headers = passed(CACHEABLE)
    expect(onlyLineOf(headers, 'cache-control')).toBe('private, no-store')
    for (const name of ['expires', 'pragma', 'age', 'cdn-cache-control', 'surrogate-control']) {
      expect(linesOf(headers, name)).toEqual([])
    }
    expect(linesOf(headers, 'cloudflare-cdn-cache-control')).toEqual([])
  })

  it('RFC 9110 §7.7 no-transform stays', () => {
    const headers = passed(['Cache-Control', 'public', 'Cache-Control', 'max-age=1, No-Transform'])
    expect(onlyLineOf(headers, 'cache-control')).toBe('private, no-store, no-transform')
    expect(onlyLineOf(passed(['Cache-Control', 'no-transforms']), 'cache-control')).toBe(
      'private, no-store',
    )
  })

  it('the upstream decides where the route says so, and caches must tell users apart', () => {
    const headers = passed(CACHEABLE, { cache: 'upstream' })
    expect(headers.slice(0, CACHEABLE.length)).toEqual(CACHEABLE)
    expect(onlyLineOf(headers, 'vary')).toBe('Cookie')
    const anyone = passed(CACHEABLE, { cache: 'upstream', credential: 'none' })
    expect(linesOf(anyone, 'vary')).toEqual([])
  })
})

describe('Set-Cookie', () => {
  it('none passes where the route lists none', () => {
    expect(linesOf(passed(['Set-Cookie', 'a=1']), 'set-cookie')).toEqual([])
  })

  it('only the listed ones pass, each on its line', () => {
    const headers = passed(
      ['Set-Cookie', 'a=1; Path=/', 'set-cookie', 'b=2', 'Set-Cookie', ' c =3;HttpOnly'],
      { setCookies: ['a', 'c'] },
    )
    expect(linesOf(headers, 'set-cookie')).toEqual(['a=1; Path=/', ' c =3;HttpOnly'])
  })

  it.each([
    'a=1; Domain=example.com',
    'a=1; path=/; DOMAIN = .example.com',
    'a=1;domain',
    '__Host-Http-coatcheck=stolen',
    '__host-http-coatcheck-3000=x',
    '=a',
    'a',
    'A=1',
  ])('%s does not pass, although its name is listed', (value) => {
    const setCookies = ['a', '__Host-Http-coatcheck', '__host-http-coatcheck-3000', '']
    expect(linesOf(passed(['Set-Cookie', value], { setCookies }), 'set-cookie')).toEqual([])
  })
})

describe('WWW-Authenticate', () => {
  it.each([
    [['WWW-Authenticate', 'Basic realm="intranet"']],
    [['WWW-Authenticate', 'Negotiate', 'WWW-Authenticate', 'NTLM']],
    [['WWW-Authenticate', 'Bearer realm="x", Basic realm="intranet"']],
    [[]],
  ])('RFC 9110 §11.6.1 a 401 with %j gets one challenge that opens no prompt', (rawHeaders) => {
    expect(onlyLineOf(passed(rawHeaders, { status: 401 }), 'www-authenticate')).toBe(
      'Bearer realm="upstream"',
    )
  })

  it.each([
    'Bearer realm="api", error="insufficient_scope", scope="items:write"',
    'bearer error="insufficient_user_authentication", acr_values="high", max_age="60"',
    'DPoP algs="ES256"',
  ])('RFC 9470 §3 a token challenge is what the page can act on: %s passes', (challenge) => {
    expect(
      onlyLineOf(passed(['WWW-Authenticate', challenge], { status: 401 }), 'www-authenticate'),
    ).toBe(challenge)
  })

  it('other answers have none of their own', () => {
    expect(linesOf(passed([], { status: 403 }), 'www-authenticate')).toEqual([])
  })
})

describe('Location', () => {
  const locationOf = (location: string, route: Partial<RouteDefinition> = {}) =>
    onlyLineOf(passed(['Location', location], { status: 302, ...route }), 'location')

  it.each([
    ['http://api.internal:8080/api/x?y#z', 'https://app.example.com/api/x?y#z'],
    ['https://api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['HTTP://API.INTERNAL:8080/api', 'https://app.example.com/api'],
    ['//api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['http://api.internal:8080', 'https://app.example.com/'],
    ['/api/x', '/api/x'],
    ['x/y', 'x/y'],
    ['?page=2', '?page=2'],
    ['https://elsewhere.example/x', 'https://elsewhere.example/x'],
    ['//elsewhere.example/x', '//elsewhere.example/x'],
    ['http://api.internal:8081/x', 'http://api.internal:8081/x'],
    ['http://api.internal.evil.example:8080/x', 'http://api.internal.evil.example:8080/x'],
    ['http://[broken', 'http://[broken'],
    ['mailto:a@example.com', 'mailto:a@example.com'],
  ])('%s becomes %s', (location, expected) => {
    expect(locationOf(location)).toBe(expected)
  })

  it.each([
    ['http://api.internal:8080/items/1', 'https://app.example.com/api/items/1'],
    ['/items/1', '/api/items/1'],
    ['/', '/api/'],
    ['/api/items/1', '/api/items/1'],
    ['/apiary', '/api/apiary'],
    ['items/1', 'items/1'],
    ['https://elsewhere.example/items', 'https://elsewhere.example/items'],
  ])('behind a stripped prefix %s becomes %s', (location, expected) => {
    expect(locationOf(location, { stripPrefix: true })).toBe(expected)
  })

  it.each([
    ['http://api.internal:8080/v2/items', 'https://app.example.com/api/items'],
    ['/v2/items', '/api/items'],
    ['/v2?x', '/api?x'],
    ['/v20/items', '/v20/items'],
    ['/login', '/login'],
  ])('behind a base path and a stripped prefix %s becomes %s', (location, expected) => {
    const upstream = 'http://api.internal:8080/v2'
    expect(locationOf(location, { upstream, stripPrefix: true })).toBe(expected)
  })

  // Without the base path a rest of two slashes would name a host.
  it.each([
    ['/v2//evil.example/x', 'https://app.example.com//evil.example/x'],
    ['/v2/\\evil.example/x', 'https://app.example.com/\\evil.example/x'],
    ['/v2/\t/evil.example/x', 'https://app.example.com//evil.example/x'],
    ['/v2/items', '/items'],
    ['/v2', '/'],
    ['/v2?x', '/?x'],
    ['http://api.internal:8080/v2//evil.example', 'https://app.example.com//evil.example'],
  ])('behind a base path alone %j becomes %j', (location, expected) => {
    expect(locationOf(location, { upstream: 'http://api.internal:8080/v2' })).toBe(expected)
  })

  it.each([
    ['http://api.internal:8080/api/café', 'https://app.example.com/api/caf%C3%A9'],
    ['http://api.internal:8080/api/à', 'https://app.example.com/api/%C3%A0'],
    ['http://api.internal:8080/api?à', 'https://app.example.com/api?%C3%A0'],
  ])('keeps the bytes of UTF-8: %s becomes %s', (location, expected) => {
    expect(locationOf(Buffer.from(location).toString('latin1'))).toBe(expected)
  })

  it('Content-Location is the same place too', () => {
    const headers = passed(['Content-Location', 'http://api.internal:8080/api/x'])
    expect(onlyLineOf(headers, 'content-location')).toBe('https://app.example.com/api/x')
  })

  it.each([
    ['http://orders.internal:8080/v1/7?x', 'https://app.example.com/orders/7?x'],
    ['//orders.internal:8080/v2', 'https://app.example.com/orders2'],
    ['https://ORDERS.internal:8080/other', 'https://app.example.com/other'],
    ['http://orders.internal:8081/v1/7', 'http://orders.internal:8081/v1/7'],
  ])('on the upstream of another route %s becomes %s', (location, expected) => {
    expect(locationOf(location)).toBe(expected)
  })

  it.each([
    ['http:/\\api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['\\\\api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['/\\api.internal:8080/api/x', 'https://app.example.com/api/x'],
    [' http://api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['http:\t//api.internal:8080/api/x', 'https://app.example.com/api/x'],
    ['http://user:secret@api.internal:8080/api/x', 'https://app.example.com/api/x'],
  ])('as a browser reads it: %s becomes %s', (location, expected) => {
    expect(locationOf(location)).toBe(expected)
  })
})

describe('other fields with a place in them', () => {
  const only = (name: string, value: string, route: Partial<RouteDefinition> = {}) =>
    onlyLineOf(passed([name, value], route), name)

  it.each([
    ['0; url=http://api.internal:8080/api/x', '0; url=https://app.example.com/api/x'],
    ["5;URL='http://api.internal:8080/api/x'", "5;URL='https://app.example.com/api/x'"],
    ['5', '5'],
    ['0; url=https://elsewhere.example/', '0; url=https://elsewhere.example/'],
  ])('Refresh: %s becomes %s', (value, expected) => {
    expect(only('Refresh', value)).toBe(expected)
  })

  it.each([
    [
      '<http://api.internal:8080/api/x?page=2>; rel="next", <http://api.internal:8080/api/x?page=9>; rel=last',
      '<https://app.example.com/api/x?page=2>; rel="next", <https://app.example.com/api/x?page=9>; rel=last',
    ],
    [
      '<https://elsewhere.example/>; title="a <b>, <c>"',
      '<https://elsewhere.example/>; title="a <b>, <c>"',
    ],
    ['</api/x>; rel=next', '</api/x>; rel=next'],
    ['nonsense <', 'nonsense <'],
  ])('RFC 8288 §3 Link: %s becomes %s', (value, expected) => {
    expect(only('Link', value)).toBe(expected)
  })

  it('RFC 8288 §3 a Link behind a stripped prefix leads through it again', () => {
    expect(only('Link', '</items?page=2>; rel=next', { stripPrefix: true })).toBe(
      '</api/items?page=2>; rel=next',
    )
  })
})
