/** returnTo: the attack is a link to our login that ends on another origin; the test is the table of its spellings. */

import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  loginUrl,
  RETURN_TO_BYTES_MAX,
  returnToFromReferer,
  safeReturnTo,
} from '../../../src/login/return-to.ts'

const RULES = { publicOrigin: 'https://app.example.com', prefix: '/bff' }

test.each([
  ['/', '/'],
  ['/orders', '/orders'],
  ['/orders?page=2&sort=a%20b', '/orders?page=2&sort=a%20b'],
  ['/orders#line-7', '/orders#line-7'],
  ['/a/b?next=https://evil.example', '/a/b?next=https://evil.example'],
  ['/search?q=100%25', '/search?q=100%25'],
  ['/bffalo', '/bffalo'],
  ['https://app.example.com/orders?x=1', '/orders?x=1'],
  ['/größe', '/gr%C3%B6%C3%9Fe'],
  ['/a/../b', '/b'],
])('%s leads to %s', (given, expected) => {
  expect(safeReturnTo(given, RULES)).toBe(expected)
})

test.each([
  'https://evil.example',
  'https://evil.example/',
  '//evil.example',
  '///evil.example',
  '/\\evil.example',
  '/\\/evil.example',
  '\\\\evil.example',
  '/\t/evil.example',
  '/\n/evil.example',
  '/\r\n/evil.example',
  '/%09/evil.example',
  '/%2f/evil.example',
  '/%2F%2Fevil.example',
  '/%5cevil.example',
  '/%5C/evil.example',
  '/%00/evil.example',
  '/..//evil.example',
  '/.//evil.example',
  '/a/..//evil.example',
  '/a/../..//evil.example',
  '/%2e%2e//evil.example',
  ' /orders',
  '/orders ',
  'orders',
  './orders',
  '?x=1',
  '#x',
  'javascript:alert(1)',
  'JaVaScRiPt:alert(1)',
  'data:text/html,x',
  'https:evil.example',
  'https:/evil.example',
  'https://app.example.com@evil.example/',
  'https://app.example.com.evil.example/',
  'https://app.example.com',
  'http://app.example.com/orders',
  '/orders\u0000',
  '/orders\r\nSet-Cookie: x=1',
  '/\u2028/evil.example\ud800',
  '/bff',
  '/bff/login?returnTo=/',
  '/bff/logout?token=x',
  '/a/../bff/login',
  '',
])('%j leads nowhere', (given) => {
  expect(safeReturnTo(given, RULES)).toBeUndefined()
})

test('full-width dots and slashes stay a path of ours', () => {
  const safe = safeReturnTo('/\uff0f\uff0fevil\uff0eexample', RULES)
  expect(new URL(safe ?? '', RULES.publicOrigin).origin).toBe(RULES.publicOrigin)
})

test(`longer than ${RETURN_TO_BYTES_MAX} bytes leads nowhere, one byte less is kept`, () => {
  expect(safeReturnTo(`/${'a'.repeat(RETURN_TO_BYTES_MAX)}`, RULES)).toBeUndefined()
  expect(safeReturnTo(`/${'a'.repeat(RETURN_TO_BYTES_MAX - 1)}`, RULES)).toHaveLength(
    RETURN_TO_BYTES_MAX,
  )
})

test('whatever is accepted resolves to our origin, also when a server decodes it once', () => {
  const hostile = fc.string({
    unit: fc.constantFrom(
      '/',
      '\\',
      '.',
      '%',
      '2',
      'f',
      '5',
      'c',
      ':',
      '@',
      '\t',
      'a',
      '?',
      '#',
      ';',
      '\u00e9',
    ),
  })
  fc.assert(
    fc.property(
      fc.oneof(
        hostile,
        hostile.map((tail) => `/${tail}`),
        fc.webUrl(),
      ),
      (given) => {
        const safe = safeReturnTo(given, RULES)
        if (safe === undefined) return
        expect(safe.startsWith('/')).toBe(true)
        expect(new URL(safe, RULES.publicOrigin).origin).toBe(RULES.publicOrigin)
        expect(safe).not.toMatch(/^\/[/\\]|[\x00-\x20\x7f\\]/)
        expect(safeReturnTo(safe, RULES)).toBe(safe)
      },
    ),
    { numRuns: 2000 },
  )
})

test('a Referer counts only from our own pages, and without its fragment', () => {
  expect(returnToFromReferer('https://app.example.com/orders?x=1#y', RULES)).toBe('/orders?x=1')
  expect(returnToFromReferer('https://evil.example/orders', RULES)).toBeUndefined()
  expect(returnToFromReferer('https://app.example.com/bff/session', RULES)).toBeUndefined()
  expect(returnToFromReferer('nonsense', RULES)).toBeUndefined()
})

test('a login URL carries its parameters encoded', () => {
  expect(loginUrl('/bff', '/a?b=c&d', { acr_values: 'high' })).toBe(
    '/bff/login?returnTo=%2Fa%3Fb%3Dc%26d&acr_values=high',
  )
  expect(loginUrl('/bff', undefined)).toBe('/bff/login')
})
