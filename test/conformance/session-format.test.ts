/**
 * A release reads what the one before it wrote, and one that is still running beside it reads what this one writes:
 * a rolling deploy signs nobody out. Format 1 is frozen twice, as bytes and as a reader of its own (format-1.ts).
 *
 * A test that goes red here says that the format changed. If that was not meant, take the change back. If it was:
 * 1. Give the new format the next number (session/record.ts, edges/redis/stored-form.ts, or a label of
 *    session/key-ring.ts), and read the former one beside it. Write the former one for one release, if the releases
 *    before this one are to read what it writes during a deploy.
 * 2. Freeze the new one: `node test/support/format-sample.ts > test/support/fixtures/format-2.json`, and write
 *    `test/support/format-2.ts` beside format-1.ts. Never change a frozen file.
 * 3. Add a row to FROZEN, and let WRITTEN name the reader of what is written now. The oldest row goes when the release
 *    that wrote it need no longer be read.
 */

import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { readStored } from '../../src/edges/redis/stored-form.ts'
import { openTransaction } from '../../src/login/transaction.ts'
import { createLogout } from '../../src/logout/logout.ts'
import type { Provider } from '../../src/oidc/provider.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { FAMILIAR } from '../../src/session/packing.ts'
import { createRecordSealer } from '../../src/session/record.ts'
import { createSealer } from '../../src/session/seal.ts'
import type { OneTimeStore } from '../../src/session/session-store.ts'
import { createTicketSealer, digestOf, ticketFrom } from '../../src/session/ticket.ts'
import type { Vault } from '../../src/session/vault.ts'
import { epochMs, seconds } from '../../src/time.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import * as format1 from '../support/format-1.ts'
import {
  type FormatSample,
  makeSample,
  SAMPLE_COOKIES,
  SAMPLE_LANDING,
  SAMPLE_METADATA,
  SAMPLE_NAMES,
  SAMPLE_SECRET,
  SAMPLE_SESSION,
  SAMPLE_TRANSACTION,
} from '../support/format-sample.ts'

const frozen = (version: number): FormatSample =>
  JSON.parse(
    readFileSync(new URL(`../support/fixtures/format-${version}.json`, import.meta.url), 'utf8'),
  ) as FormatSample

/** Every format that this release reads. */
const FROZEN = [['format 1', frozen(1)]] as const
/** The reader of the format that it writes, and a frozen sample of the same. */
const WRITTEN = { reader: format1, sample: frozen(1) }

describe.each(FROZEN)('this release reads %s:', (_, sample) => {
  const ring = { current: createKeyRing([SAMPLE_SECRET]) }
  const sealer = createSealer(ring)
  const records = createRecordSealer(ring)
  const clock = createFakeClock(epochMs(sample.madeAt + 1_000))

  // Seals end by the time they were given, and the library asks the real clock.
  beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'], now: sample.madeAt + 1_000 }))
  afterEach(() => void vi.useRealTimers())

  it('the ticket', async () => {
    const opened = await createTicketSealer(sealer, ring, seconds(3_600), clock).open(
      sample.ticket.seal,
    )
    expect(opened).toMatchObject({
      kind: 'opened',
      ticket: { id: sample.ticket.id, digest: digestOf(sample.ticket.id) },
    })
    const key = opened.kind === 'opened' ? opened.ticket.key.toString('base64url') : ''
    expect(key).toBe(sample.ticket.key)
  })

  it('the record and its metadata', () => {
    const stored = readStored(Buffer.from(sample.record, 'base64'))
    const ticket = ticketFrom(sample.ticket.id, sample.ticket.key)
    if (stored?.kind !== 'live' || ticket === undefined) return expect.unreachable()
    const { generation, absoluteExpiresAt } = SAMPLE_SESSION
    expect(stored.record).toMatchObject({ generation, absoluteExpiresAt })
    expect(records.open(ticket.digest, ticket.key, stored.record)?.session).toEqual(SAMPLE_SESSION)
    expect(records.openMetadata(ticket.digest, stored.record)).toEqual(SAMPLE_METADATA)
  })

  it('a tombstone', () => {
    const value = Buffer.from('1e 3 1790028801456 1790000500000 backchannel_logout\n')
    expect(readStored(value)).toEqual({
      kind: 'ended',
      reason: 'backchannel_logout',
      endedAt: 1_790_000_500_000,
    })
  })

  it('a sign-in under way', async () => {
    const name = SAMPLE_NAMES.login('0')
    expect(await openTransaction(sealer, `${name}=${sample.transaction}`, name)).toMatchObject({
      kind: 'opened',
      transaction: SAMPLE_TRANSACTION,
    })
  })

  it('a sign-out under way, with the ID token that waits for it', async () => {
    let asked: { readonly idTokenHint: string; readonly state: string } | undefined
    const logout = createLogout({
      provider: {
        endSessionUrl: async (hint: typeof asked) => {
          asked = hint
          return new URL('https://login.example.com/logout')
        },
      } as unknown as Provider,
      vault: {} as Vault,
      once: {
        take: async (name: string) =>
          name === sample.hint.name ? Buffer.from(sample.hint.sealed, 'base64') : undefined,
      } as Partial<OneTimeStore> as OneTimeStore,
      records,
      sealer,
      cookies: SAMPLE_COOKIES,
      revoke: () => {},
      settings: { prefix: '/bff', postLogoutRedirectUri: '', sessionSameSite: 'Strict' },
    })
    const cookie = `${SAMPLE_NAMES.logout}=${sample.logout}`
    const unforged = () => expect.unreachable()
    expect((await logout.continue(cookie, unforged)).location).toBe(
      'https://login.example.com/logout',
    )
    expect(asked?.idTokenHint).toBe(SAMPLE_SESSION.tokens.idToken)
    expect((await logout.loggedOut(cookie, asked?.state, unforged)).location).toBe(SAMPLE_LANDING)
  })
})

describe('what this release writes is the format that it names:', () => {
  const { reader } = WRITTEN
  const withoutUndefined = (value: unknown) => JSON.parse(JSON.stringify(value))
  const read = (sample: FormatSample) => {
    const { ticket, record, transaction, logout, hint } = sample
    const pending = reader.openSeal(SAMPLE_SECRET, 'logout', logout) as Record<string, string>
    const { id = '', key = '' } = pending
    return {
      ticket: reader.openSeal(SAMPLE_SECRET, 'ticket', ticket.seal),
      record: reader.openRecord(SAMPLE_SECRET, ticket, Buffer.from(record, 'base64')),
      transaction: reader.openSeal(SAMPLE_SECRET, 'transaction', transaction),
      pending,
      hint: reader.openHint(SAMPLE_SECRET, { id, key }, Buffer.from(hint.sealed, 'base64')),
    }
  }

  it.each([
    ['frozen', async () => WRITTEN.sample],
    ['written now', makeSample],
  ])('%s', async (_, sample) => {
    const made = await sample()
    const text = expect.stringMatching(/^[\w-]{43}$/)
    expect(read(made)).toEqual({
      ticket: { id: made.ticket.id, key: made.ticket.key },
      record: {
        header: expect.stringMatching(/^1r 3 1790028801456 \d+$/),
        session: withoutUndefined(SAMPLE_SESSION),
        metadata: withoutUndefined(SAMPLE_METADATA),
      },
      transaction: withoutUndefined(SAMPLE_TRANSACTION),
      pending: { id: text, key: text, state: text, returnTo: SAMPLE_LANDING },
      hint: SAMPLE_SESSION.tokens.idToken,
    })
  })

  // A sample uses a part of it alone; any other session may use the rest.
  it('deflated beside the same text', () => {
    expect(FAMILIAR.toString()).toBe(reader.FAMILIAR.toString())
  })

  it('and lies under the same names', async () => {
    expect((await makeSample()).keys).toEqual(WRITTEN.sample.keys)
  })
})
