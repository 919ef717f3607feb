/** Tokens taken apart for storage come back letter for letter, whatever a provider calls a token. */

import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  packObject,
  packSession,
  unpackObject,
  unpackSession,
} from '../../../src/session/packing.ts'
import type { Session } from '../../../src/session/session.ts'
import { epochMs } from '../../../src/time.ts'
import { newSession, tokenSet } from '../../support/vaults.ts'

const NOW = 1_790_000_000_000
const sessionWith = (accessToken: string, idToken?: string, refreshToken?: string): Session => ({
  ...newSession(tokenSet(NOW, 60, { accessToken, idToken, refreshToken }), NOW),
  generation: 7,
  createdAt: epochMs(NOW),
  absoluteExpiresAt: epochMs(NOW + 1_000),
})
const jwt = (payload: object, signatureBytes = 256) =>
  [{ alg: 'RS256', typ: 'JWT', kid: 'key-1' }, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .concat(randomBytes(signatureBytes).toString('base64url'))
    .join('.')
const again = (session: Session) => unpackSession(packSession(session))

test.each([
  ['a JWT', jwt({ sub: 'alice' })],
  ['a JWT without a signature', `${jwt({}, 0)}`],
  ['a JWE of five parts', `${jwt({}, 32).replace(/\.[^.]*\./, '.')}.QUJD.QUJD.QUJD`],
  ['opaque base64url', randomBytes(32).toString('base64url')],
  ['hexadecimal', 'c0ffee'.repeat(8)],
  ['padded base64', 'QUI='],
  ['base64url that no encoder writes', 'QUJ'],
  ['only a dot', '.'],
  ['empty', ''],
  ['JSON itself', '{"a":"b"}\n'],
  ['not ASCII', 'tökèn.\u{1f9e5}'],
])('%s', (_, token) => {
  for (const session of [
    sessionWith(token),
    sessionWith('other', token),
    sessionWith(jwt({ sub: 'alice' }), token, token),
  ])
    expect(again(session)).toEqual(JSON.parse(JSON.stringify(session)))
})

test('any three texts of dots, base64url and braces', () => {
  const token = fc.oneof(
    fc.stringMatching(/^[\w.{}-]{0,40}$/),
    fc.array(fc.base64String({ maxLength: 24 }), { maxLength: 6 }).map((parts) => parts.join('.')),
    fc
      .array(fc.string({ maxLength: 20 }), { maxLength: 4 })
      .map((parts) => parts.map((part) => Buffer.from(`{${part}`).toString('base64url')).join('.')),
  )
  fc.assert(
    fc.property(token, token, token, (accessToken, idToken, refreshToken) => {
      const session = sessionWith(accessToken, idToken, refreshToken)
      expect(again(session)).toEqual(JSON.parse(JSON.stringify(session)))
    }),
    { numRuns: 2_000 },
  )
})

test('what is larger than any session may be leads nowhere', () => {
  expect(again(sessionWith('ä'.repeat(600_000)))).toBeUndefined()
  expect(unpackObject(packObject({ text: 'ä'.repeat(600_000) }))).toBeUndefined()
})

test('two JWTs of the same claims cost their signatures, and the claims once', () => {
  const groups = Array.from({ length: 36 }, (_, place) => `role-${(place * 7_919) % 9_973}`)
  const claims = { iss: 'https://login.example.com', sub: 'alice', groups }
  const [accessToken, idToken] = [jwt({ ...claims, aud: 'api' }), jwt({ ...claims, aud: 'spa' })]
  expect(accessToken.length + idToken.length).toBeGreaterThan(2_000)
  expect(packSession(sessionWith(accessToken, idToken)).length).toBeLessThan(2 * 256 + 400)
})
