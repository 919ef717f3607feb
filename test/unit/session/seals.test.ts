/** Seals, rings, tickets and records: what opens, and every twin that must not. */

import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createKeyRing } from '../../../src/session/key-ring.ts'
import { createRecordSealer } from '../../../src/session/record.ts'
import { createSealer, readSealHeader } from '../../../src/session/seal.ts'
import type { Session } from '../../../src/session/session.ts'
import { createTicketSealer, newTicket } from '../../../src/session/ticket.ts'
import { epochMs, seconds, systemClock } from '../../../src/time.ts'
import { newSession, tokenSet } from '../../support/vaults.ts'

const A = 'secret-a-secret-a-secret-a-secret-a'
const B = 'secret-b-secret-b-secret-b-secret-b'
const C = 'secret-c-secret-c-secret-c-secret-c'

const sealers = (...secrets: string[]) => {
  const ring = { current: createKeyRing(secrets) }
  const sealer = createSealer(ring)
  return {
    ring,
    sealer,
    records: createRecordSealer(ring),
    tickets: createTicketSealer(sealer, ring, seconds(3600), systemClock),
  }
}

test('the walk [A] → [A,B] → [B,A] → [B] → [B,C] → [C,B] opens every ticket sealed one step before', async () => {
  const steps = [[A], [A, B], [B, A], [B], [B, C], [C, B]]
  let seal = await sealers(A).tickets.seal(newTicket(undefined))
  for (const step of steps) {
    const { tickets } = sealers(...step)
    const opened = await tickets.open(seal)
    expect(opened.kind).toBe('opened')
    if (opened.kind === 'opened') seal = await tickets.seal(opened.ticket)
  }
})

test('a seal names its secret, not its place, and the first secret seals', async () => {
  const { tickets, ring } = sealers(B, A)
  const seal = await tickets.seal(newTicket(undefined))
  expect(readSealHeader(seal)?.ringId).toBe(ring.current.sealing.id)
  expect(readSealHeader(seal)?.ringId).toBe(createKeyRing([B]).sealing.id)
})

test('a ticket of a secret that left the ring opens no more, remembered or not', async () => {
  const { tickets, ring } = sealers(A)
  const seal = await tickets.seal(newTicket(undefined))
  expect((await tickets.open(seal)).kind).toBe('opened')
  expect(tickets.remembered(seal)).toBeDefined()
  ring.current = createKeyRing([B])
  expect(tickets.remembered(seal)).toBeUndefined()
  expect((await tickets.open(seal)).kind).toBe('foreign')
})

test('only a seal that was verified is remembered, whatever stands behind its mark', async () => {
  const { tickets } = sealers(A)
  const [ticket, other] = [newTicket(undefined), newTicket(undefined)]
  const seal = await tickets.seal(ticket)
  expect(tickets.remembered(seal)).toBeUndefined()
  await tickets.open(seal)
  expect(tickets.remembered(seal)?.value).toEqual(ticket)
  expect(tickets.remembered(await tickets.seal(other))).toBeUndefined()
  const forged = seal.replace(/.(?=~2$)/, (last) => (last === 'A' ? 'B' : 'A'))
  expect((await tickets.open(forged)).kind).toBe('forged')
  expect(tickets.remembered(forged)).toBeUndefined()
  expect(tickets.remembered(`${seal}${'a'.repeat(1024)}`)).toBeUndefined()
})

test('a seal of one purpose opens for no other', async () => {
  const { sealer, tickets } = sealers(A)
  const ticket = newTicket(undefined)
  const transaction = await sealer.seal(
    'transaction',
    { id: ticket.id, key: ticket.key.toString('base64url') },
    seconds(600),
  )
  expect((await tickets.open(transaction)).kind).toBe('forged')
})

test.each([
  ['empty', ''],
  ['no seal', 'abc'],
  ['a JWT', 'eyJhbGciOiJub25lIn0.e30.'],
  ['a seal of another version', 'Fe26.1*1*a*b*c*1*d*e~2'],
  ['longer than 1 KiB', `Fe26.2*1*${'a'.repeat(1100)}`],
])('%s is refused by its shape alone', async (_, value) => {
  expect((await sealers(A).tickets.open(value)).kind).toBe('foreign')
})

test('one changed character anywhere makes a seal forged or foreign, never opened', async () => {
  const { tickets } = sealers(A)
  const seal = await tickets.seal(newTicket(undefined))
  const body = seal.slice(0, seal.lastIndexOf('~'))
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: body.length - 1 }),
      fc.constantFrom(...'ABCabc019_-'),
      async (index, character) => {
        if (body[index] === character) return
        const changed = `${body.slice(0, index)}${character}${body.slice(index + 1)}~2`
        // The last character of a base64url part carries unused bits; two spellings may mean the same bytes.
        if (/^[\w-]{43}$/.test(body.slice(-43)) && index === body.length - 1) return
        expect((await tickets.open(changed)).kind).not.toBe('opened')
      },
    ),
    { numRuns: 60 },
  )
})

const session = (): Session => ({
  ...newSession(tokenSet(0, 300), 2000),
  generation: 0,
  createdAt: epochMs(1000),
  absoluteExpiresAt: epochMs(9_000_000),
})

const METADATA = {
  issuer: 'http://127.0.0.1:3100',
  subject: 'alice',
  providerSessionId: undefined,
  createdAt: epochMs(1000),
  signInStartedAt: epochMs(500),
  device: undefined,
  address: '127.0.0.1',
}

test('RFC 9700 §4.9.3 a record needs the browser’s key and the ring; a dump holds no token', () => {
  const { records } = sealers(A)
  const ticket = newTicket(undefined)
  const record = records.seal(ticket.digest, ticket.key, session(), METADATA)
  const dump = Buffer.concat([record.sealed, record.metadata]).toString('latin1')
  for (const secret of ['access-0', 'refresh-0', 'id-0', 'alice', ticket.id])
    expect(dump).not.toContain(secret)
  expect(records.open(ticket.digest, ticket.key, record)?.session).toEqual(session())
  expect(records.open(ticket.digest, randomBytes(32), record)).toBeUndefined()
  expect(sealers(B).records.open(ticket.digest, ticket.key, record)).toBeUndefined()
  expect(sealers(B, A).records.open(ticket.digest, ticket.key, record)?.session.subject).toBe(
    'alice',
  )
})

test('a record moved under another digest, or with a forged generation, does not open', () => {
  const { records } = sealers(A)
  const ticket = newTicket(undefined)
  const other = newTicket(undefined)
  const record = records.seal(ticket.digest, ticket.key, session(), METADATA)
  expect(records.open(other.digest, ticket.key, record)).toBeUndefined()
  expect(records.open(ticket.digest, ticket.key, { ...record, generation: 1 })).toBeUndefined()
  expect(
    records.open(ticket.digest, ticket.key, { ...record, sealed: record.metadata }),
  ).toBeUndefined()
})

test('every bit of a sealed record counts', () => {
  const { records } = sealers(A)
  const ticket = newTicket(undefined)
  const record = records.seal(ticket.digest, ticket.key, session(), METADATA)
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: record.sealed.length - 1 }),
      fc.integer({ min: 0, max: 7 }),
      (byte, bit) => {
        const sealed = Buffer.from(record.sealed)
        sealed[byte] = (sealed[byte] ?? 0) ^ (1 << bit)
        expect(records.open(ticket.digest, ticket.key, { ...record, sealed })).toBeUndefined()
      },
    ),
    { numRuns: 300 },
  )
})

test('a record with 1 KiB of access and of ID token, incompressible at worst, stays below 2.3 KiB', () => {
  const { records } = sealers(A)
  const ticket = newTicket(undefined)
  const big = {
    ...session(),
    tokens: tokenSet(0, 300, {
      accessToken: randomBytes(768).toString('base64url'),
      idToken: randomBytes(768).toString('base64url'),
    }),
  }
  const record = records.seal(ticket.digest, ticket.key, big, METADATA)
  expect(record.sealed.length + record.metadata.length).toBeLessThan(2.3 * 1024)
})
