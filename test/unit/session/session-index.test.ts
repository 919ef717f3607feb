/** Names of indices and handles: stable for ever, different for different things, and telling nothing. */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { SessionDigest } from '../../../src/session/session.ts'
import {
  deviceHandle,
  EVERYONE,
  indicesOf,
  parseDeviceHandle,
  providerSessionIndex,
  subjectIndex,
  userLabel,
} from '../../../src/session/session-index.ts'

const ISSUER = 'https://id.example.com'

describe('indices', () => {
  it('stay what they are from release to release', () => {
    expect(subjectIndex(ISSUER, 'alice')).toBe('dV0sC6w4nQ5AjUQpXs2yeRU7q3xGf6oC2zwxh-6ikIo')
    expect(providerSessionIndex(ISSUER, 's1')).toBe('RHfpa04kY_3sQ-DK5sldNSIUc9f2w5rPnl9AuwRF-L8')
  })

  it('differ by kind, issuer and value, also where the joined text is the same', () => {
    const names = [
      subjectIndex(ISSUER, 'alice'),
      providerSessionIndex(ISSUER, 'alice'),
      subjectIndex('https://id.example.org', 'alice'),
      subjectIndex(`${ISSUER}a`, 'lice'),
      subjectIndex(ISSUER, '","alice'),
      EVERYONE,
    ]
    expect(new Set(names).size).toBe(names.length)
    for (const name of names) expect(name).toMatch(/^[\w-]{43}$/)
  })

  it('of a session are its subject’s and, where there is one, its sid’s', () => {
    const of = { issuer: ISSUER, subject: 'alice', providerSessionId: undefined }
    expect(indicesOf(of)).toEqual([subjectIndex(ISSUER, 'alice')])
    expect(indicesOf({ ...of, providerSessionId: 's1' })).toEqual([
      subjectIndex(ISSUER, 'alice'),
      providerSessionIndex(ISSUER, 's1'),
    ])
  })
})

describe('handles', () => {
  const digest = 'A'.repeat(43) as SessionDigest

  it('are of the shape that is accepted, and show nothing of the digest', () => {
    const handle = deviceHandle(digest)
    expect(parseDeviceHandle(handle)).toBe(handle)
    expect(handle).not.toContain('AAAA')
    expect(deviceHandle('B'.repeat(43) as SessionDigest)).not.toBe(handle)
  })

  it.each(['', 'x', 'A'.repeat(21), 'A'.repeat(23), `${'A'.repeat(21)}!`, `${'A'.repeat(22)}\n`])(
    'of another shape are none: %j',
    (text) => {
      expect(parseDeviceHandle(text)).toBeUndefined()
    },
  )
})

it('the user’s name in the log is what docs/events.md says how to compute', () => {
  const page = readFileSync(new URL('../../../docs/events.md', import.meta.url), 'utf8')
  const [, format = '', issuer = '', subject = ''] =
    /^printf '(.*)' (\S+) (\S+) \| openssl dgst -sha256 -binary \| basenc --base64url \| cut -c1-12$/m.exec(
      page,
    ) ?? []
  const text = format.replace('%s', issuer).replace('%s', subject)
  expect(createHash('sha256').update(text).digest('base64url').slice(0, 12)).toBe(
    userLabel(issuer, subject),
  )
})
