import { describe, expect, it } from 'vitest'
import type { Encoding } from '../../../src/edges/http/file-index.ts'
import {
  httpDate,
  isNotModified,
  negotiatedEncoding,
  requestedRange,
} from '../../../src/edges/http/file-request.ts'

describe('RFC 9110 §12.5.3 Accept-Encoding', () => {
  const both = new Set<Encoding>(['br', 'gzip'])
  it.each([
    [undefined, undefined],
    ['', undefined],
    ['br', 'br'],
    ['gzip', 'gzip'],
    ['x-gzip', 'gzip'],
    ['GZIP', 'gzip'],
    ['gzip, deflate, br, zstd', 'br'],
    ['gzip;q=1.0, br;q=0.5', 'gzip'],
    ['gzip;q=0.5, br;q=0.5', 'br'],
    ['br;q=0, gzip', 'gzip'],
    ['br;q=0, gzip;q=0', undefined],
    ['*', 'br'],
    ['*;q=0', undefined],
    ['br;q=0, *', 'gzip'],
    ['identity', undefined],
    ['identity, br', 'br'],
    ['identity, br;q=0.5', undefined],
    ['identity;q=0.5, gzip', 'gzip'],
    ['br;q=2', undefined],
    ['br;q=0.1234', undefined],
    ['br ; q=0.3', 'br'],
    ['deflate', undefined],
    ['brx', undefined],
  ])('%s → %s', (header, encoding) => {
    expect(negotiatedEncoding(header, both)).toBe(encoding)
  })

  it('offers only what is at hand', () => {
    expect(negotiatedEncoding('br, gzip', new Set<Encoding>(['gzip']))).toBe('gzip')
    expect(negotiatedEncoding('br, gzip', new Set<Encoding>())).toBeUndefined()
  })
})

const modifiedAtMs = Date.UTC(2026, 10, 22, 9, 0, 0, 400)
const validators = { entityTag: '"abc"', modifiedAtMs }

describe('RFC 9110 §13.1 conditions', () => {
  const exactly = httpDate(modifiedAtMs)
  const earlier = httpDate(modifiedAtMs - 1_000)
  it.each([
    [{}, false],
    [{ 'if-none-match': '"abc"' }, true],
    [{ 'if-none-match': 'W/"abc"' }, true],
    [{ 'if-none-match': '"x", W/"y" , "abc"' }, true],
    [{ 'if-none-match': '*' }, true],
    [{ 'if-none-match': '"abcd"' }, false],
    [{ 'if-none-match': 'abc' }, false],
    [{ 'if-none-match': '' }, false],
    [{ 'if-modified-since': exactly }, true],
    [{ 'if-modified-since': earlier }, false],
    [{ 'if-modified-since': 'yesterday' }, false],
    [{ 'if-none-match': '"other"', 'if-modified-since': exactly }, false],
  ])('%j → %s', (headers, expected) => {
    expect(isNotModified(headers, validators)).toBe(expected)
  })
})

describe('RFC 9110 §14.2 Range', () => {
  it.each([
    ['bytes=0-3', { kind: 'part', first: 0, last: 3 }],
    ['bytes=4-', { kind: 'part', first: 4, last: 9 }],
    ['bytes=-3', { kind: 'part', first: 7, last: 9 }],
    ['bytes=-99', { kind: 'part', first: 0, last: 9 }],
    ['bytes=8-99', { kind: 'part', first: 8, last: 9 }],
    ['BYTES=0-0', { kind: 'part', first: 0, last: 0 }],
    ['bytes=10-', { kind: 'unsatisfiable' }],
    ['bytes=99-100', { kind: 'unsatisfiable' }],
    ['bytes=-0', { kind: 'unsatisfiable' }],
    ['bytes=3-1', undefined],
    ['bytes=0-1,4-5', undefined],
    ['bytes=-', undefined],
    ['bytes=a-b', undefined],
    ['bytes=0x1-3', undefined],
    ['bytes=99999999999999999999-', undefined],
    ['items=0-1', undefined],
    ['0-1', undefined],
  ])('%s of 10 bytes → %j', (range, expected) => {
    expect(requestedRange({ range }, 10, validators)).toEqual(expected)
  })

  it('an empty file has no part', () => {
    expect(requestedRange({ range: 'bytes=0-' }, 0, validators)).toEqual({ kind: 'unsatisfiable' })
    expect(requestedRange({ range: 'bytes=-5' }, 0, validators)).toEqual({ kind: 'unsatisfiable' })
  })

  it.each([
    ['"abc"', true],
    [httpDate(modifiedAtMs), true],
    ['W/"abc"', false],
    ['"old"', false],
    [httpDate(modifiedAtMs + 1_000), false],
  ])('RFC 9110 §13.1.5 If-Range: %s', (ifRange, holds) => {
    const range = requestedRange({ range: 'bytes=0-1', 'if-range': ifRange }, 10, validators)
    expect(range !== undefined).toBe(holds)
  })
})
