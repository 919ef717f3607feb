/** Headers towards the upstream. */

import { describe, expect, it } from 'vitest'
import type { RequestHeaderSettings } from '../../../src/upstream/request-headers.ts'
import {
  requestHeaderPolicy,
  upstreamRequestHeaders,
} from '../../../src/upstream/request-headers.ts'
import { linesOf, onlyLineOf } from '../../support/raw-headers.ts'

interface Given {
  readonly rawHeaders?: readonly string[]
  readonly cookies?: readonly string[]
  readonly preserveHost?: boolean
  readonly accessToken?: string
  readonly clientAddress?: string
  readonly settings?: Partial<RequestHeaderSettings>
}

const sent = (given: Given): string[] =>
  upstreamRequestHeaders(given.rawHeaders ?? [], {
    policy: requestHeaderPolicy(
      {
        upstreamOrigin: 'http://api.internal:8080',
        preserveHost: given.preserveHost ?? false,
        cookies: given.cookies ?? [],
      },
      {
        publicUrl: 'https://app.example.com',
        instanceId: 'b7c1',
        ...given.settings,
      },
    ),
    accessToken: given.accessToken,
    clientAddress: given.clientAddress ?? '192.0.2.7',
    requestId: 'request-1',
  })

describe('what the gateway says', () => {
  it('is all there, once, and nothing else', () => {
    expect(sent({ accessToken: 'at' })).toEqual([
      ...['host', 'api.internal:8080'],
      ...['authorization', 'Bearer at'],
      ...['forwarded', 'for=192.0.2.7;host="app.example.com";proto=https'],
      ...['x-forwarded-for', '192.0.2.7'],
      ...['x-forwarded-host', 'app.example.com'],
      ...['x-forwarded-proto', 'https'],
      ...['via', '1.1 coatcheck (b7c1)'],
      ...['x-request-id', 'request-1'],
    ])
  })

  it('has no Authorization without a token, whatever the client sent', () => {
    const headers = sent({ rawHeaders: ['Authorization', 'Bearer mallory'] })
    expect(linesOf(headers, 'authorization')).toEqual([])
  })

  it('RFC 7239 §6 quotes IPv6 and a host with a port', () => {
    const headers = sent({
      clientAddress: '2001:db8::1',
      settings: { publicUrl: 'http://localhost:3000' },
    })
    expect(onlyLineOf(headers, 'forwarded')).toBe(
      'for="[2001:db8::1]";host="localhost:3000";proto=http',
    )
    expect(onlyLineOf(headers, 'x-forwarded-for')).toBe('2001:db8::1')
    expect(onlyLineOf(headers, 'x-forwarded-proto')).toBe('http')
  })

  it('has the public host where the route preserves it', () => {
    const headers = sent({ preserveHost: true, rawHeaders: ['Host', 'evil.example'] })
    expect(onlyLineOf(headers, 'host')).toBe('app.example.com')
  })

  it('RFC 9110 §7.6.3 appends to Via', () => {
    const headers = sent({ rawHeaders: ['Via', '1.0 a', 'via', '1.1 coatcheck (other)'] })
    expect(onlyLineOf(headers, 'via')).toBe('1.0 a, 1.1 coatcheck (other), 1.1 coatcheck (b7c1)')
  })

  it('RFC 9110 §7.6 refuses a request that this process has forwarded before', () => {
    expect(() => sent({ rawHeaders: ['Via', '1.1 proxy, 1.1 coatcheck (b7c1)'] })).toThrow(
      expect.objectContaining({ code: 'upstream_unreachable', reason: 'loop' }),
    )
  })
})

describe('what the client says', () => {
  it('passes in order, with repetitions and spelling', () => {
    const rawHeaders = [
      ...['Accept', 'a/b', 'X-B', '1', 'x-b', '2', 'Last-Event-ID', '7', 'Range', 'bytes=0-'],
      ...[
        'Content-Type',
        'text/plain',
        'Content-Length',
        '5',
        'Origin',
        'https://x',
        'X-CSRF-Token',
        't',
      ],
    ]
    expect(sent({ rawHeaders }).slice(0, rawHeaders.length)).toEqual(rawHeaders)
  })

  it.each([
    'Connection',
    'Keep-Alive',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'HTTP2-Settings',
    'Proxy-Authenticate',
    'Proxy-Authorization',
    'Expect',
  ])('RFC 9110 §7.6.1 drops %s', (name) => {
    expect(linesOf(sent({ rawHeaders: [name, 'x'] }), name)).toEqual([])
  })

  it('RFC 9110 §7.6.1 drops headers named by Connection, in any case and over several lines', () => {
    const headers = sent({
      rawHeaders: [
        ...['X-Foo', '1', 'connection', 'close, x-FOO ,,X-Bar', 'X-Bar', '2', 'X-Baz', '3'],
        ...['Connection', 'x-qux', 'X-QUX', '4'],
      ],
    })
    expect(linesOf(headers, 'x-foo')).toEqual([])
    expect(linesOf(headers, 'x-bar')).toEqual([])
    expect(linesOf(headers, 'x-qux')).toEqual([])
    expect(linesOf(headers, 'x-baz')).toEqual(['3'])
  })

  it('a traceparent passes when W3C Trace Context allows it, and tracestate with it', () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const headers = sent({
      rawHeaders: ['traceparent', traceparent, 'tracestate', 'a=1', 'tracestate', 'b=2'],
    })
    expect(onlyLineOf(headers, 'traceparent')).toBe(traceparent)
    expect(onlyLineOf(headers, 'tracestate')).toBe('a=1,b=2')
  })

  it.each([
    '00-00000000000000000000000000000000-00f067aa0ba902b7-01',
    '00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01',
    'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x',
    '00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01',
    'x',
  ])('the traceparent %s is dropped, and tracestate with it', (traceparent) => {
    const headers = sent({ rawHeaders: ['tracestate', 'a=1', 'traceparent', traceparent] })
    expect(linesOf(headers, 'traceparent')).toEqual([])
    expect(linesOf(headers, 'tracestate')).toEqual([])
  })
})

describe('cookies', () => {
  const cookiesSent = (cookies: readonly string[], ...lines: string[]) =>
    onlyLineOf(sent({ cookies, rawHeaders: lines.flatMap((line) => ['Cookie', line]) }), 'cookie')

  it('none goes upstream where the route lists none', () => {
    expect(cookiesSent([], '__Host-Http-coatcheck=s; theme=dark')).toBeUndefined()
  })

  it('only the listed ones go, several lines joined', () => {
    expect(cookiesSent(['a', 'b'], 'x=1; a=2;b=3', '__Host-Http-coatcheck=s;  a="4=5"')).toBe(
      'a=2; b=3; a="4=5"',
    )
  })

  it.each([
    '__Host-Http-coatcheck',
    '__Host-Http-coatcheck-3000',
    '__Host-Http-coatcheck-login-abc',
    '__host-http-COATCHECK',
  ])('%s never goes, not even when it is listed', (name) => {
    expect(cookiesSent([name, 'a'], `${name}=s; a=1`)).toBe('a=1')
  })

  it.each(['a', '=a', ' ; ;', 'A=1', 'aa=1', '"a"=1'])('%j is no cookie named a', (line) => {
    expect(cookiesSent(['a'], line)).toBeUndefined()
  })

  it('the gateway’s cookie inside quotes is still the gateway’s', () => {
    expect(cookiesSent(['a'], 'a="; __Host-Http-coatcheck=s; "')).toBe('a="')
  })
})
