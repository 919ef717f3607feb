/** Seals and sealed records of any content: what was sealed comes back, and nothing else ever opens. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  sealTransaction,
  TRANSACTION_BYTES_MAX,
  TRANSACTION_SECONDS,
  type Transaction,
} from '../../src/login/transaction.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createRecordSealer } from '../../src/session/record.ts'
import { createSealer, readSealHeader, sealIdentity } from '../../src/session/seal.ts'
import type { Session } from '../../src/session/session.ts'
import { readCookie } from '../../src/session/session-cookie.ts'
import { createTicketSealer, newTicket, TICKET_BYTES_MAX } from '../../src/session/ticket.ts'
import { epochMs, seconds, systemClock } from '../../src/time.ts'
import { newSession, SEEN, tokenSet } from '../support/vaults.ts'

const ring = (...secrets: string[]) => ({ current: createKeyRing(secrets) })
const OURS = ring('ours-ours-ours-ours-ours-ours-ours-0')
const THEIRS = ring('theirs-theirs-theirs-theirs-theirs-0')
const HOUR = seconds(3600)
const records = createRecordSealer(OURS)
const sealer = createSealer(OURS)
const tickets = createTicketSealer(sealer, OURS, HOUR, systemClock)

/** Text of every kind that a provider may send, and some that none does. */
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.string({ maxLength: 300 }),
  fc.constantFrom('', '__proto__', '\u0000', 'é\u{1f9e5}', '"}', 'a'.repeat(5_000)),
)
const session = fc
  .record({
    access: text,
    refresh: text,
    id: text,
    subject: text,
    claims: fc.dictionary(text, fc.jsonValue()),
  })
  .map(({ access, refresh, id, subject, claims }): Session => {
    const now = Date.now()
    const tokens = tokenSet(now, 60, { accessToken: access, refreshToken: refresh, idToken: id })
    return {
      ...newSession(tokens, now),
      subject,
      claims,
      generation: 3,
      createdAt: epochMs(now),
      absoluteExpiresAt: epochMs(now + 1_000),
    }
  })
const metadataOf = (of: Session) => ({
  issuer: of.issuer,
  subject: of.subject,
  providerSessionId: undefined,
  createdAt: of.createdAt,
  signInStartedAt: of.signInStartedAt,
  ...SEEN,
})

describe('RFC 9700 §4.9.3 a sealed record', () => {
  it('gives back what was sealed, to its own key, name and ring alone', () => {
    fc.assert(
      fc.property(session, (sealed) => {
        const { digest, key } = newTicket(undefined)
        const other = newTicket(undefined)
        const record = records.seal(digest, key, sealed, metadataOf(sealed))
        expect(records.open(digest, key, record)?.session).toEqual(
          JSON.parse(JSON.stringify(sealed)),
        )
        expect(records.openMetadata(digest, record)?.subject).toBe(sealed.subject)
        expect(records.open(digest, other.key, record)).toBeUndefined()
        expect(records.open(other.digest, key, record)).toBeUndefined()
        expect(records.openMetadata(other.digest, record)).toBeUndefined()
        expect(createRecordSealer(THEIRS).open(digest, key, record)).toBeUndefined()
        expect(createRecordSealer(THEIRS).openMetadata(digest, record)).toBeUndefined()
        // Neither part passes for the other.
        const swapped = { ...record, sealed: record.metadata, metadata: record.sealed }
        expect(records.open(digest, key, swapped)).toBeUndefined()
        expect(records.openMetadata(digest, swapped)).toBeUndefined()
      }),
      { numRuns: 100 },
    )
  })

  it('opens to nothing when any of its bytes was changed, cut off or added, and never throws', () => {
    const { digest, key } = newTicket(undefined)
    const sealed = fc.sample(session, { numRuns: 1, seed: 1 })[0] as Session
    const record = records.seal(digest, key, sealed, metadataOf(sealed))
    const openWith = (bytes: Uint8Array) => records.open(digest, key, { ...record, sealed: bytes })
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Uint8Array.from(record.sealed)
        const index = at % changed.length
        changed[index] = (changed[index] ?? 0) ^ flip
        expect(openWith(changed)).toBeUndefined()
        expect(openWith(record.sealed.subarray(0, index))).toBeUndefined()
        expect(
          openWith(Buffer.concat([record.sealed, changed.subarray(0, 1 + (index % 9))])),
        ).toBeUndefined()
      }),
      { numRuns: 1_000 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(openWith(bytes)).toBeUndefined()
      }),
      { numRuns: 1_000 },
    )
  })

  it('shows no run of what it holds', () => {
    fc.assert(
      fc.property(fc.base64String({ minLength: 24, maxLength: 200 }), (token) => {
        const { digest, key } = newTicket(undefined)
        const [base] = fc.sample(session, { numRuns: 1, seed: 2 }) as [Session]
        const sealed = { ...base, subject: token, tokens: { ...base.tokens, accessToken: token } }
        const record = records.seal(digest, key, sealed, metadataOf(sealed))
        for (const part of [record.sealed, record.metadata])
          expect(Buffer.from(part).includes(token.slice(0, 16))).toBe(false)
      }),
      { numRuns: 200 },
    )
  })
})

describe('a cookie’s seal', () => {
  it('of a ticket opens to the ticket, whatever else was sealed before', async () => {
    await fc.assert(
      fc.asyncProperty(fc.option(fc.uuid(), { nil: undefined }), async (home) => {
        const ticket = newTicket(home)
        const seal = await tickets.seal(ticket)
        expect(seal.length).toBeLessThanOrEqual(TICKET_BYTES_MAX)
        expect(seal).toMatch(/^[!#-+\--:<-[\]-~]+$/)
        expect(await tickets.open(seal)).toMatchObject({ kind: 'opened', ticket })
        expect(
          (await createTicketSealer(createSealer(THEIRS), THEIRS, HOUR, systemClock).open(seal))
            .kind,
        ).toBe('foreign')
      }),
      { numRuns: 50 },
    )
  })

  it('with any character changed opens nothing, remembered or not', async () => {
    const seal = await tickets.seal(newTicket(undefined))
    expect((await tickets.open(seal)).kind).toBe('opened')
    const significant = sealIdentity(seal).length
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: significant - 2 }),
        fc.constantFrom(...'abcABC019*-_~.%'),
        async (at, character) => {
          fc.pre(seal[at] !== character)
          const changed = seal.slice(0, at) + character + seal.slice(at + 1)
          expect((await tickets.open(changed)).kind).not.toBe('opened')
        },
      ),
      { numRuns: 500 },
    )
  })

  it('that is any text at all is foreign or forged, and reading it never throws', async () => {
    const field = fc.constantFrom(
      'Fe26.2',
      '1',
      '0'.repeat(64),
      'A'.repeat(22),
      'A'.repeat(43),
      '9'.repeat(13),
      '',
      '*',
    )
    const shaped = fc.array(field, { minLength: 6, maxLength: 9 }).map((fields) => fields.join('*'))
    await fc.assert(
      fc.asyncProperty(fc.oneof(shaped, text), async (value) => {
        expect((await tickets.open(value)).kind).not.toBe('opened')
        readSealHeader(value)
      }),
      { numRuns: 1_000 },
    )
  })
})

describe('a transaction', () => {
  const transaction = fc
    .record({
      returnTo: fc
        .array(fc.constantFrom('a', '/', '?', '#', '%41', '=', '&', 'x'.repeat(40)), {
          maxLength: 60,
        })
        .map((parts) => `/${parts.join('')}`.slice(0, 512)),
      acrValues: fc.option(fc.string({ unit: 'grapheme-ascii', maxLength: 256 }), {
        nil: undefined,
      }),
      hasFormer: fc.boolean(),
    })
    .map(({ returnTo, acrValues, hasFormer }): Transaction => {
      const former = newTicket(undefined)
      return {
        state: `0n${'s'.repeat(43)}`,
        codeVerifier: 'v'.repeat(43),
        nonce: 'n'.repeat(43),
        returnTo,
        issuer: 'https://provider.example/realms/one',
        asked: { acrValues, maxAgeSeconds: 60, consent: false, silent: false },
        signInStartedAt: epochMs(1_764_000_000_000),
        former: hasFormer ? { id: former.id, key: former.key.toString('base64url') } : undefined,
      }
    })

  it('fits its cookie; only returnTo is ever shortened, and to a part of itself', async () => {
    await fc.assert(
      fc.asyncProperty(transaction, async (given) => {
        const seal = await sealTransaction(sealer, given)
        expect(seal.length).toBeLessThanOrEqual(TRANSACTION_BYTES_MAX)
        const opened = await sealer.unseal(
          'transaction',
          seal,
          TRANSACTION_SECONDS,
          (value) => value,
        )
        const value = opened.kind === 'opened' ? opened.opened.value : {}
        expect(value).toEqual({
          ...JSON.parse(JSON.stringify(given)),
          purpose: 'transaction',
          returnTo: value.returnTo,
        })
        expect(['/', given.returnTo, given.returnTo.split(/[?#]/)[0]]).toContain(value.returnTo)
      }),
      { numRuns: 100 },
    )
  })
})

describe('RFC 6265bis §4.2.1 reading a Cookie field', () => {
  const name = '__Host-Http-coatcheck'
  const piece = fc.constantFrom(
    name,
    `${name}-1`,
    'a',
    '=',
    '==',
    ';',
    '; ',
    ' ',
    '\t',
    ',',
    '"',
    'x',
    `${name}=v`,
    `${name}=w`,
    '__proto__',
  )
  it('finds a value only where a browser would have sent one under exactly this name', () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const header = pieces.join('')
        const pairs = header
          .split(';')
          .map((part) => [
            part.slice(0, part.indexOf('=')).trim(),
            part.slice(part.indexOf('=') + 1).trim(),
          ])
          .filter(([found], index) => header.split(';')[index]?.includes('=') && found === name)
        const reading = readCookie(header, name)
        if (pairs.length > 1) expect(reading).toEqual({ kind: 'ambiguous' })
        else if (pairs.length === 1 && pairs[0]?.[1] !== '')
          expect(reading).toEqual({ kind: 'value', value: pairs[0]?.[1] })
        else expect(reading).toEqual({ kind: 'absent' })
      }),
      { numRuns: 5_000 },
    )
  })
})
