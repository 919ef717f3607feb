/** Header filters: whatever a client or an upstream says, what only the gateway may say is the gateway's. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileRoutes } from '../../src/routing/route-table.ts'
import { requestHeaderPolicy, upstreamRequestHeaders } from '../../src/upstream/request-headers.ts'
import {
  downstreamResponseHeaders,
  responseHeaderPolicy,
} from '../../src/upstream/response-headers.ts'
import { OWN_COOKIE, routeTo } from '../edges/upstream/small-gateway.ts'
import { linesOf } from '../support/raw-headers.ts'

const SETTINGS = {
  publicUrl: 'https://app.example.com',
  instanceId: 'i1',
}
const [ROUTE] = compileRoutes([
  routeTo('http://api.internal', { cookies: ['a'], setCookies: ['a'] }),
]).routes
if (ROUTE === undefined) throw new Error('no route')
const REQUEST_POLICY = requestHeaderPolicy(ROUTE, SETTINGS)
const RESPONSE_POLICY = responseHeaderPolicy(ROUTE, { ...SETTINGS, routes: [ROUTE] })

const INJECTED: Readonly<Record<string, string>> = {
  host: 'api.internal',
  authorization: 'Bearer the-token',
  forwarded: 'for=192.0.2.7;host="app.example.com";proto=https',
  'x-forwarded-for': '192.0.2.7',
  'x-forwarded-host': 'app.example.com',
  'x-forwarded-proto': 'https',
  'x-request-id': 'request-1',
}

/** A name in any case, with any of the separators that CGI makes alike. */
const spelling = (name: string) =>
  fc
    .array(fc.tuple(fc.boolean(), fc.constantFrom('-', '_', '.')), {
      minLength: name.length,
      maxLength: name.length,
    })
    .map((choices) =>
      [...name]
        .map((character, at) => {
          const [isUpper, separator] = choices[at] ?? [false, '-']
          if (character === '-') return separator
          return isUpper ? character.toUpperCase() : character
        })
        .join(''),
    )

const protectedName = fc
  .constantFrom(
    ...Object.keys(INJECTED),
    ...['remote-user', 'x-user-id', 'x-auth-request-email', 'x-real-ip', 'x-forwarded-user'],
    ...['x-forwarded-client-cert', 'x-original-url', 'x-http-method-override', 'x-api-key'],
  )
  .chain(spelling)
const token = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}$/)
const value = fc.oneof(
  fc.constant('mallory'),
  fc.stringMatching(/^[\x20-\x7e]{0,24}$/),
  fc.array(protectedName, { maxLength: 4 }).map((names) => names.join(', ')),
)
const field = fc.tuple(
  fc.oneof(
    protectedName,
    token,
    fc.constantFrom('Connection', 'connection', 'Cookie', 'Set-Cookie', 'Via', 'TE', 'Upgrade'),
  ),
  value,
)
const rawHeaders = fc.array(field, { maxLength: 12 }).map((fields) => fields.flat())

const namesOf = (headers: readonly string[]) => headers.filter((_, index) => index % 2 === 0)
const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]+/g, '-')

describe('upstreamRequestHeaders', () => {
  const sent = (headers: readonly string[]) =>
    upstreamRequestHeaders(headers, {
      policy: REQUEST_POLICY,
      accessToken: 'the-token',
      clientAddress: '192.0.2.7',
      requestId: 'request-1',
    })

  it('RFC 9700 §4.13 says each thing once and in the gateway’s words, in no other spelling', () => {
    fc.assert(
      fc.property(rawHeaders, (headers) => {
        const result = sent(headers)
        for (const [name, expected] of Object.entries(INJECTED)) {
          expect(linesOf(result, name)).toEqual([expected])
          expect(namesOf(result).filter((other) => plain(other) === name)).toHaveLength(1)
        }
        expect(
          namesOf(result).some((name) => /^(remote-user|x-user|x-auth-)/.test(plain(name))),
        ).toBe(false)
      }),
      { numRuns: 3_000 },
    )
  })

  it('RFC 9110 §7.6.1 passes nothing of one connection, and nothing that Connection names', () => {
    fc.assert(
      fc.property(rawHeaders, (headers) => {
        const nominated = linesOf(headers, 'connection')
          .flatMap((line) => line.toLowerCase().split(','))
          .map((name) => name.trim())
        const fromClient = namesOf(sent(headers))
          .map((name) => name.toLowerCase())
          .filter((name) => !(name in INJECTED) && name !== 'via')
        for (const name of fromClient) {
          expect(nominated).not.toContain(name)
          expect(['connection', 'te', 'upgrade', 'keep-alive']).not.toContain(name)
        }
      }),
      { numRuns: 3_000 },
    )
  })

  it('lets no cookie of the gateway pass, whatever the Cookie lines look like', () => {
    const cookieText = fc
      .array(
        fc.constantFrom(
          'a',
          '=',
          ';',
          ' ',
          '"',
          ',',
          `${OWN_COOKIE}=ticket`,
          'a=1',
          '\t',
          OWN_COOKIE,
        ),
        { maxLength: 10 },
      )
      .map((parts) => parts.join(''))
    fc.assert(
      fc.property(fc.array(cookieText, { maxLength: 3 }), (lines) => {
        const result = sent(lines.flatMap((line) => ['Cookie', line]))
        for (const line of linesOf(result, 'cookie')) {
          for (const pair of line.split('; ')) expect(pair).toMatch(/^a\s*=/)
        }
      }),
      { numRuns: 3_000 },
    )
  })
})

describe('downstreamResponseHeaders', () => {
  it('never widens what the browser may do with an answer, whatever the upstream says', () => {
    const upstreamField = fc.tuple(
      fc.oneof(
        token,
        fc
          .constantFrom(
            ...['access-control-allow-origin', 'clear-site-data', 'strict-transport-security'],
            ...[
              'set-cookie',
              'cache-control',
              'connection',
              'www-authenticate',
              'server',
              'x-request-id',
            ],
            ...['transfer-encoding', 'trailer', 'x-content-type-options', 'expires'],
          )
          .chain((name) => fc.boolean().map((isUpper) => (isUpper ? name.toUpperCase() : name))),
      ),
      fc.oneof(value, fc.constantFrom(`${OWN_COOKIE}=x`, 'a=1; Domain=x', 'a=1', 'cache-control')),
    )
    const upstreamHeaders = fc.array(upstreamField, { maxLength: 12 }).map((all) => all.flat())
    fc.assert(
      fc.property(upstreamHeaders, fc.constantFrom(200, 204, 304, 401, 502), (headers, status) => {
        const result = downstreamResponseHeaders(headers, {
          policy: RESPONSE_POLICY,
          status,
          requestId: 'request-1',
        })
        expect(linesOf(result, 'x-request-id')).toEqual(['request-1'])
        expect(linesOf(result, 'x-content-type-options')).toEqual(['nosniff'])
        expect(linesOf(result, 'strict-transport-security')).toEqual([
          'max-age=31536000; includeSubDomains',
        ])
        expect(linesOf(result, 'cache-control').join()).toMatch(
          /^private, no-store(, no-transform)?$/,
        )
        expect(linesOf(result, 'set-cookie').every((line) => line === 'a=1')).toBe(true)
        if (status === 401) expect(linesOf(result, 'www-authenticate')).toHaveLength(1)
        const forbidden = /^(access-control-|clear-site|server$|transfer-|trailer$|connection$)/
        for (const name of namesOf(result)) expect(name.toLowerCase()).not.toMatch(forbidden)
      }),
      { numRuns: 3_000 },
    )
  })
})
