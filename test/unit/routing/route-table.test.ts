/** The route table: prefixes, methods, nested routes, and the path that goes upstream. */

import { describe, expect, it } from 'vitest'
import { parseTarget } from '../../../src/routing/path.ts'
import type { RouteDefinition } from '../../../src/routing/route-table.ts'
import { compileRoutes, matchRoute, upstreamPath } from '../../../src/routing/route-table.ts'
import { milliseconds } from '../../../src/time.ts'

const route = (path: string, overrides: Partial<RouteDefinition> = {}): RouteDefinition => ({
  path,
  methods: undefined,
  upstream: 'http://api.internal:8080',
  stripPrefix: false,
  accept: ['session'],
  credential: 'user',
  documents: false,
  webSocket: false,
  webSockets: { origin: 'keep', idle: milliseconds(0), lifetime: milliseconds(0) },
  eventSource: false,
  encodedSlash: false,
  preserveHost: false,
  cookies: [],
  setCookies: [],
  bodyBytesMax: 1024,
  timeout: {
    connect: milliseconds(1),
    firstByte: milliseconds(2),
    idle: milliseconds(3),
    total: milliseconds(4),
  },
  cache: 'private, no-store',
  ...overrides,
})

const targetOf = (rawTarget: string) => {
  const target = parseTarget(rawTarget, { encodedSlash: true })
  if (target.kind === 'invalid') throw new Error(`${rawTarget} was refused: ${target.reason}`)
  return target
}
const matched = (
  definitions: readonly RouteDefinition[],
  rawTarget: string,
  method = 'GET',
): string => {
  const match = matchRoute(compileRoutes(definitions), targetOf(rawTarget).path, method)
  return match.kind === 'route' ? match.route.id : match.kind
}

describe('matching', () => {
  it.each([
    ['/api', '/api'],
    ['/api/', '/api'],
    ['/api/items', '/api'],
    ['/api//items', '/api'],
    ['/%61pi/items', '/api'],
    ['/apifoo', 'none'],
    ['/api.json', 'none'],
    ['/api%20', 'none'],
    ['/API', 'none'],
    ['/ap', 'none'],
    ['/', 'none'],
    ['/x/api', 'none'],
    ['/api;x/items', 'none'],
  ])('%s on segment boundaries and in exact case: %s', (target, expected) => {
    expect(matched([route('/api')], target)).toBe(expected)
  })

  it('the longest path wins, whatever the order of definition', () => {
    const definitions = [route('/api'), route('/api/admin/x'), route('/'), route('/api/admin')]
    expect(matched(definitions, '/api/admin/x/y')).toBe('/api/admin/x')
    expect(matched(definitions, '/api/admin/z')).toBe('/api/admin')
    expect(matched(definitions, '/api/adminx')).toBe('/api')
    expect(matched(definitions, '/other')).toBe('/')
  })

  it.each([
    ['slashes merged', '/api//admin'],
    ['path parameters dropped', '/api/admin;x/y'],
    ['path parameters dropped in front', '/api;x/admin'],
    ['encoded path parameters dropped', '/api/admin%3Bx/y'],
    ['an encoded slash decoded', '/api/%2Fadmin'],
    ['case ignored', '/api/ADMIN/users'],
  ])('a path under a nested route with %s is nobody’s: %s', (_name, target) => {
    const definitions = [route('/api'), route('/api/admin')]
    expect(matched(definitions, target)).toBe('none')
  })

  it('the same spellings are fine where no other reading leads elsewhere', () => {
    const definitions = [route('/api'), route('/api/admin')]
    expect(matched(definitions, '/api/items;v=1//X')).toBe('/api')
    expect(matched(definitions, '/api/admin/Users//1')).toBe('/api/admin')
  })
})

describe('methods', () => {
  it.each(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY', 'PROPFIND'])(
    'a route without methods takes %s',
    (method) => {
      expect(matched([route('/api')], '/api', method)).toBe('/api')
    },
  )

  it.each(['TRACE', 'CONNECT'])('RFC 10017 §6.1.3.6 no route takes %s', (method) => {
    expect(matched([route('/api')], '/api', method)).toBe('method')
    expect(() => compileRoutes([route('/api', { methods: [method] })])).toThrow('cannot allow')
  })

  it('RFC 9110 §15.5.6 another method is refused with what is allowed', () => {
    const table = compileRoutes([route('/api', { methods: ['GET', 'POST'] })])
    expect(matchRoute(table, '/api', 'DELETE')).toEqual({
      kind: 'method',
      allow: ['GET', 'POST', 'HEAD'],
    })
  })

  it('RFC 9110 §9.3.2 GET brings HEAD with it', () => {
    expect(matched([route('/api', { methods: ['GET'] })], '/api', 'HEAD')).toBe('/api')
    expect(matched([route('/api', { methods: ['POST'] })], '/api', 'HEAD')).toBe('method')
  })

  it('one path may be split between upstreams by method', () => {
    const table = compileRoutes([
      route('/api', { methods: ['GET'], upstream: 'http://reads' }),
      route('/api', { upstream: 'http://writes' }),
    ])
    const upstreamOf = (method: string) => {
      const match = matchRoute(table, '/api/x', method)
      return match.kind === 'route' ? match.route.upstreamOrigin : match.kind
    }
    expect(upstreamOf('GET')).toBe('http://reads')
    expect(upstreamOf('HEAD')).toBe('http://reads')
    expect(upstreamOf('POST')).toBe('http://writes')
    expect(upstreamOf('TRACE')).toBe('method')
  })

  it('a method that the longest path refuses is not served by a shorter one', () => {
    const definitions = [route('/api'), route('/api/admin', { methods: ['GET'] })]
    expect(matched(definitions, '/api/admin', 'DELETE')).toBe('method')
  })
})

describe('definitions that contradict themselves', () => {
  it.each(['api', '/api/', '/api//x', '/api/../x', '/%61pi', '/api?x', '//api', ''])(
    'the path %j is refused',
    (path) => {
      expect(() => compileRoutes([route(path)])).toThrow('canonical')
    },
  )

  it.each(['ftp://x', 'http://u:p@x', 'http://x?y', 'http://x#y'])(
    'the upstream %s is refused',
    (upstream) => {
      expect(() => compileRoutes([route('/api', { upstream })])).toThrow('upstream')
    },
  )

  it('the same path and method twice is refused', () => {
    expect(() => compileRoutes([route('/api'), route('/api')])).toThrow('twice')
    const get = route('/api', { methods: ['GET'] })
    expect(() => compileRoutes([get, get])).toThrow('twice')
  })
})

describe('the path that goes upstream', () => {
  const sent = (definition: RouteDefinition, rawTarget: string): string => {
    const [compiled] = compileRoutes([definition]).routes
    if (compiled === undefined) throw new Error('no route')
    return upstreamPath(compiled, targetOf(rawTarget))
  }

  it.each([
    ['/api/items?x=1', '/api/items?x=1'],
    ['/%61pi/a%20b?', '/%61pi/a%20b?'],
    ['/api', '/api'],
  ])('RFC 9110 §7.7 %s goes as it came: %s', (rawTarget, expected) => {
    expect(sent(route('/api'), rawTarget)).toBe(expected)
  })

  it.each([
    ['/api/v1/items?x', '/items?x'],
    ['/%61pi/v1/it%65ms', '/it%65ms'],
    ['/api/v1', '/'],
    ['/api/v1?x', '/?x'],
    ['/api/v1/', '/'],
  ])('%s without its prefix: %s', (rawTarget, expected) => {
    expect(sent(route('/api/v1', { stripPrefix: true }), rawTarget)).toBe(expected)
  })

  it('is put behind the base path of the upstream', () => {
    const upstream = 'https://api.internal/v2/'
    expect(sent(route('/api', { upstream }), '/api/x')).toBe('/v2/api/x')
    expect(sent(route('/api', { upstream, stripPrefix: true }), '/api/x')).toBe('/v2/x')
    expect(sent(route('/', { upstream, stripPrefix: true }), '/x')).toBe('/v2/x')
  })

  it.each(['/api//evil.example/x', '/api/%2Fevil.example'])(
    'never begins with two slashes: %s is refused once its prefix is gone',
    (rawTarget) => {
      const stripped = route('/api', { stripPrefix: true, encodedSlash: true })
      expect(() => sent(stripped, rawTarget)).toThrow(
        expect.objectContaining({ code: 'request_invalid' }),
      )
      expect(sent(route('/api'), rawTarget)).toBe(rawTarget)
    },
  )
})
