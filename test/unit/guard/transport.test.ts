/** Requests in clear: what is redirected, what is refused, and where a redirect would come back for ever. */

import { describe, expect, it, test } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import {
  type Arrival,
  createTransportGuard,
  type TransportGuardOptions,
} from '../../../src/guard/transport.ts'

const NAVIGATION = { accept: 'text/html,application/xhtml+xml' }
const OVER_HTTPS = {
  'sec-fetch-site': 'none',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
}

const SECRET = 'https_required: secret_in_clear'

const judge = (
  headers: Readonly<Record<string, string>>,
  arrival: Partial<Arrival> = {},
  options: Partial<TransportGuardOptions> & { method?: string } = {},
): string => {
  const contradictions: string[] = []
  const guard = createTransportGuard({
    publicUrl: 'https://app.example.com',
    loopback: false,
    onContradiction: () => contradictions.push('contradiction'),
    ...options,
  })
  const request = { method: options.method ?? 'GET', header: (name: string) => headers[name] }
  try {
    const verdict = guard(request, { entrance: 'open', fromTrustedProxy: true, ...arrival })
    return [verdict, ...contradictions].join(', ')
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown
    return `${thrown.code}: ${thrown.reason}`
  }
}

const said = (proto: string, headers: Readonly<Record<string, string>> = NAVIGATION) => ({
  ...headers,
  'x-forwarded-proto': proto,
})

describe('the address for everybody', () => {
  test.each([
    ['nobody says anything', NAVIGATION, {}, 'go_on'],
    ['an untrusted peer says http', said('http'), { fromTrustedProxy: false }, 'go_on'],
    ['a trusted proxy says https', said('https'), {}, 'go_on'],
    ['a trusted proxy says http', said('http'), {}, 'redirect'],
    ['in capitals and with spaces', said(' HTTP '), {}, 'redirect'],
    ['two proxies say http', said('http, http'), {}, 'redirect'],
    ['the first ended TLS, the second says http', said('https, http'), {}, 'go_on'],
    ['the other way round', said('http,https'), {}, 'go_on'],
    ['something else', said('ftp'), {}, 'go_on'],
    ['nothing in it', said(''), {}, 'go_on'],
    ['http of a call', said('http', {}), {}, 'https_required: in_clear'],
    ['http of a call with a cookie', said('http', { cookie: 'a=b' }), {}, SECRET],
    ['http of a call with a token', said('http', { authorization: 'x' }), {}, SECRET],
  ] as const)('%s', (_name, headers, arrival, verdict) => {
    expect(judge(headers, arrival)).toBe(verdict)
  })

  it('a form is not repeated elsewhere', () => {
    expect(judge(said('http'), {}, { method: 'POST' })).toBe('https_required: in_clear')
  })

  it('an inner proxy that says http of what a browser sent by https causes no loop', () => {
    expect(judge(said('http', OVER_HTTPS))).toBe('go_on, contradiction')
  })

  it('an http public URL, which only loopback has, knows no such thing', () => {
    expect(judge(said('http'), {}, { publicUrl: 'http://localhost:3000', loopback: true })).toBe(
      'go_on',
    )
  })
})

describe('the address for plain HTTP', () => {
  const plain = { entrance: 'plain', fromTrustedProxy: false } as const
  const BEHIND_TLS = 'https_required: plain_port_behind_tls'

  test.each([
    ['a navigation', NAVIGATION, plain, 'redirect'],
    ['a call', {}, plain, 'https_required: in_clear'],
    ['a call with a cookie', { cookie: 'a=b' }, plain, SECRET],
    ['an untrusted peer says https', said('https'), plain, 'redirect'],
    ['a TLS ingress leads here', said('https'), { ...plain, fromTrustedProxy: true }, BEHIND_TLS],
    ['an unknown TLS ingress leads here', OVER_HTTPS, plain, BEHIND_TLS],
  ] as const)('%s', (_name, headers, arrival, verdict) => {
    expect(judge(headers, arrival)).toBe(verdict)
  })

  it('on loopback browsers send Fetch Metadata over http too', () => {
    const options = { publicUrl: 'https://localhost:8443', loopback: true }
    expect(judge(OVER_HTTPS, plain, options)).toBe('redirect')
  })
})
