/** A place to return to that is elsewhere never leaves the page, whatever the types let through. */

import { describe, expect, it } from 'vitest'
import { checkedReturnTo } from '../../src/client/return-to.ts'

describe('returnTo', () => {
  it.each([
    '/',
    '/orders',
    '/orders?page=2#total',
    '/a//b',
    '/?next=https://example.com',
    '/größe',
  ])('takes %s', (returnTo) => {
    expect(checkedReturnTo(returnTo)).toBe(returnTo)
  })

  it.each([
    '',
    'orders',
    'https://evil.example',
    '//evil.example',
    '/\\evil.example',
    '/orders\\..\\evil',
    '/\t/evil.example',
    '/\n/evil.example',
    '/orders page',
    ' /orders',
    'javascript:alert(1)',
  ])('refuses %j', (returnTo) => {
    expect(() => checkedReturnTo(returnTo)).toThrow(
      expect.objectContaining({ name: 'CoatcheckError', code: 'return_to_invalid' }),
    )
  })
})
