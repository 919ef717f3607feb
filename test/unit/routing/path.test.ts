/** Request targets: accepted forms beside their rejected twins. */

import { describe, expect, it } from 'vitest'
import { parseTarget } from '../../../src/routing/path.ts'

const accepted = (target: string, encodedSlash = false) => {
  const parsed = parseTarget(target, { encodedSlash })
  if (parsed.kind === 'invalid') throw new Error(`${target} was refused: ${parsed.reason}`)
  return parsed
}
const reasonFor = (target: string, encodedSlash = false): string | undefined => {
  const parsed = parseTarget(target, { encodedSlash })
  return parsed.kind === 'invalid' ? parsed.reason : undefined
}

describe('a target that is accepted', () => {
  it.each([
    ['/', '/', ''],
    ['/api', '/api', ''],
    ['/api/', '/api/', ''],
    ['/api//items', '/api//items', ''],
    ['/api?', '/api', '?'],
    ['/api?x=/../%2e%2e//\\', '/api', '?x=/../%2e%2e//\\'],
    ['/api?a=%zz&b=+', '/api', '?a=%zz&b=+'],
    ['/%61pi/%7Euser', '/api/~user', ''],
    ['/a%20b/%c3%a9', '/a%20b/%C3%A9', ''],
    ['/100%25', '/100%25', ''],
    ['/a%25zz', '/a%25zz', ''],
    ['/%E9t%E9', '/%E9t%E9', ''],
    ['/.well-known/x', '/.well-known/x', ''],
    ['/.../..x/x..', '/.../..x/x..', ''],
    ['/a;v=1/b', '/a;v=1/b', ''],
    ['/a%3Bb%3Fc%23d', '/a%3Bb%3Fc%23d', ''],
    ['/!$&\'()*+,;=:@|^`{}"<>', '/!$&\'()*+,;=:@|^`{}"<>', ''],
  ])('%s matches as %s', (target, path, query) => {
    const parsed = accepted(target)
    expect(parsed.path).toBe(path)
    expect(parsed.query).toBe(query)
    expect(parsed.rawPath + parsed.query).toBe(target)
  })

  it.each([
    ['http://other.example/api?x', '/api', '?x'],
    ['HTTPS://[2001:db8::1]:8443/api', '/api', ''],
    ['http://other.example', '/', ''],
    ['http://other.example?x', '/', '?x'],
  ])('RFC 9112 §3.2.2 absolute-form %s: its authority does not route', (target, path, query) => {
    expect(accepted(target)).toMatchObject({ path, rawPath: path, query })
  })

  it('may have 8192 bytes and not one more', () => {
    expect(reasonFor(`/${'a'.repeat(8191)}`)).toBeUndefined()
    expect(reasonFor(`/${'a'.repeat(8192)}`)).toBe('target_too_long')
  })
})

describe('a target that is refused', () => {
  it.each([
    ['*', 'target_form'],
    ['', 'target_form'],
    ['api', 'target_form'],
    ['host:443', 'target_form'],
    ['ftp://host/x', 'target_form'],
    ['http:///x', 'target_form'],
    ['http://user@host/x', 'target_form'],
    ['http://user:pw@host/x', 'target_form'],
    ['//evil.example/x', 'leading_slashes'],
    ['http://host//evil.example/x', 'leading_slashes'],
    ['/\\evil.example', 'backslash'],
    ['/api\\..\\admin', 'backslash'],
    ['/api#x', 'forbidden_character'],
    ['/api?x#y', 'forbidden_character'],
    ['/a b', 'forbidden_character'],
    ['/a\tb', 'forbidden_character'],
    ['/a\r\nb', 'forbidden_character'],
    ['/a\0b', 'forbidden_character'],
    ['/a?b\x7f', 'forbidden_character'],
    ['/é', 'forbidden_character'],
    ['/.', 'dot_segment'],
    ['/..', 'dot_segment'],
    ['/api/.', 'dot_segment'],
    ['/api/..', 'dot_segment'],
    ['/api/./x', 'dot_segment'],
    ['/api/../admin', 'dot_segment'],
    ['/api/..;/admin', 'dot_segment'],
    ['/api/..;x=1/admin', 'dot_segment'],
    ['/api/.;/admin', 'dot_segment'],
    ['/api/%2e%2e/admin', 'encoded_dot_segment'],
    ['/api/.%2E/admin', 'encoded_dot_segment'],
    ['/api/%2e', 'encoded_dot_segment'],
    ['/api/..%3B/admin', 'encoded_dot_segment'],
    ['/api/%252e%252e/admin', 'encoded_dot_segment'],
    ['/api/%25252e%25252e/admin', 'encoded_dot_segment'],
    ['/api%2Fadmin', 'encoded_slash'],
    ['/api/..%2fadmin', 'encoded_slash'],
    ['/api%252fadmin', 'encoded_slash'],
    ['/api%25252fadmin', 'encoded_slash'],
    ['/api%25%32%66admin', 'encoded_slash'],
    ['/%2fevil.example', 'encoded_slash'],
    ['/api%5Cadmin', 'encoded_backslash'],
    ['/api%255cadmin', 'encoded_backslash'],
    ['/api%00', 'encoded_control'],
    ['/api%0d%0aX:y', 'encoded_control'],
    ['/api%2500', 'encoded_control'],
    ['/api%7f', 'encoded_control'],
    ['/api%c0%af..%c0%afadmin', 'overlong_encoding'],
    ['/api/%c0%ae%c0%ae/admin', 'overlong_encoding'],
    ['/api%e0%80%afadmin', 'overlong_encoding'],
    ['/api%f0%80%80%afadmin', 'overlong_encoding'],
    ['/api%25c0%25af', 'overlong_encoding'],
    ['/api%', 'percent_encoding'],
    ['/api%2', 'percent_encoding'],
    ['/api%zz', 'percent_encoding'],
    ['/api%u002f', 'percent_encoding'],
  ])('%j: %s', (target, reason) => {
    expect(reasonFor(target)).toBe(reason)
  })
})

describe('encodedSlash', () => {
  it.each(['/files/a%2Fb', '/files/a%2fb%2Fc', '/files/%2F'])(
    'lets one layer of %s pass',
    (target) => {
      expect(accepted(target, true).encodedSlash).toBe(true)
    },
  )

  it('says so of no other target', () => {
    expect(accepted('/files/a%20b', true).encodedSlash).toBe(false)
  })

  it('keeps the slash encoded in the path that is matched', () => {
    expect(accepted('/files/a%2fb', true).path).toBe('/files/a%2Fb')
  })

  it.each([
    '/files/a%252Fb',
    '/files/a%2F..%2Fb',
    '/files/..%2Fb',
    '/files/a%2F%2e%2e',
    '/files/a%2F.',
    '/files/a%5Cb',
    '/%2Ffiles',
    '/%2F%2Ffiles',
  ])('still refuses %s', (target) => {
    expect(reasonFor(target, true)).toBeDefined()
  })
})
