/** What every session store keeps. Two gateways use one storage; where only one process can, both are the same. */

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RefreshLease } from '../../src/credential/refresh-lease.ts'
import type { SessionDigest } from '../../src/session/session.ts'
import type { SessionChanges } from '../../src/session/session-changes.ts'
import type {
  OneTimeStore,
  SessionDirectory,
  SessionStore,
  StoredRecord,
} from '../../src/session/session-store.ts'
import { type EpochMs, epochMs, milliseconds } from '../../src/time.ts'

export interface GatewayStores {
  readonly sessions: SessionStore
  readonly changes: SessionChanges
  readonly directory: SessionDirectory
  readonly once: OneTimeStore
  readonly lease: RefreshLease
}

export interface StoreRig {
  readonly gateways: readonly [GatewayStores, GatewayStores]
  now(): EpochMs
  /** Everything stored gets older by this, at once. */
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

export interface StoreContractOptions {
  make(): Promise<StoreRig>
}

export const SECOND_MS = 1_000
export const MINUTE_MS = 60_000
export const HOUR_MS = 3_600_000

export const newDigest = (): SessionDigest => randomBytes(32).toString('base64url') as SessionDigest
export const newAttemptId = (): string => randomBytes(16).toString('base64url')

/** Sealed parts hold every byte value, line ends and zeros among them. */
export const newRecord = (absoluteExpiresAt: EpochMs, generation = 0): StoredRecord => ({
  generation,
  absoluteExpiresAt,
  sealed: Buffer.concat([everyByte(), randomBytes(32)]),
  metadata: Buffer.concat([randomBytes(16), everyByte().reverse()]),
})

const everyByte = () => Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

/** Calls alternate between the gateways and are all under way at once. */
export const race = <T>(
  gateways: StoreRig['gateways'],
  calls: number,
  call: (gateway: GatewayStores, index: number) => Promise<T>,
): Promise<T[]> =>
  Promise.all(
    Array.from({ length: calls }, (_, index) => call(gateways[index % 2 === 0 ? 0 : 1], index)),
  )

export const sessionStoreContract = (name: string, { make }: StoreContractOptions): void => {
  describe(`session store contract: ${name}`, () => {
    let rig: StoreRig
    let sessions: SessionStore
    let elsewhere: SessionStore
    beforeAll(async () => {
      rig = await make()
      sessions = rig.gateways[0].sessions
      elsewhere = rig.gateways[1].sessions
    })
    afterAll(() => rig.close())

    const begin = async (lifetimeMs = HOUR_MS) => {
      const digest = newDigest()
      const record = newRecord(epochMs(rig.now() + lifetimeMs))
      const activeAt = rig.now()
      expect(await sessions.create(digest, record, activeAt)).toBe('created')
      return { digest, record, activeAt }
    }
    const next = (record: StoredRecord) =>
      newRecord(record.absoluteExpiresAt, record.generation + 1)
    const loadRecord = async (digest: SessionDigest) => {
      const state = await elsewhere.load(digest)
      if (state.kind !== 'live') throw new Error(`the session is ${state.kind}`)
      return plain(state.record)
    }

    it('gives a created record back byte for byte, with its activity', async () => {
      const { digest, record, activeAt } = await begin()
      const state = await elsewhere.load(digest)
      if (state.kind !== 'live') throw new Error(`the session is ${state.kind}`)
      expect(plain(state.record)).toEqual(plain(record))
      expect(state.lastActivityAt).toBe(activeAt)
    })

    it.each([
      ['no metadata', 0, 40],
      ['no sealed part', 40, 0],
      ['neither', 0, 0],
    ])('keeps a record with %s', async (_, metadataBytes, sealedBytes) => {
      const digest = newDigest()
      const record = {
        generation: 0,
        absoluteExpiresAt: epochMs(rig.now() + HOUR_MS),
        metadata: Buffer.alloc(metadataBytes, '\n'),
        sealed: Buffer.alloc(sealedBytes, '\n'),
      }
      await sessions.create(digest, record, rig.now())
      expect(await loadRecord(digest)).toEqual(plain(record))
    })

    it('keeps what was written although the caller overwrites its buffers', async () => {
      const { digest, record } = await begin()
      const written = plain(record)
      record.sealed.fill(0)
      record.metadata.fill(0)
      expect(await loadRecord(digest)).toEqual(written)
    })

    it('knows nothing of a session that was never created', async () => {
      expect(await sessions.load(newDigest())).toEqual({ kind: 'absent' })
    })

    it('answers a repeated create with created and changes nothing', async () => {
      const { digest, record } = await begin()
      const refreshed = next(record)
      expect(await sessions.replace(digest, 0, newAttemptId(), refreshed)).toBe('replaced')
      expect(await elsewhere.create(digest, record, rig.now())).toBe('created')
      expect(await loadRecord(digest)).toEqual(plain(refreshed))
    })

    it('forgets a record 10 minutes after the absolute deadline, and not before', async () => {
      const { digest } = await begin(HOUR_MS)
      await rig.advance(HOUR_MS + 9 * MINUTE_MS)
      expect((await sessions.load(digest)).kind).toBe('live')
      await rig.advance(MINUTE_MS + SECOND_MS)
      expect(await sessions.load(digest)).toEqual({ kind: 'absent' })
    })

    describe('touch', () => {
      it('moves the activity forward and never back', async () => {
        const { digest, activeAt } = await begin()
        await sessions.touch(digest, epochMs(activeAt + 5_000))
        expect(await elsewhere.load(digest)).toMatchObject({ lastActivityAt: activeAt + 5_000 })
        await elsewhere.touch(digest, epochMs(activeAt + 4_000))
        expect(await sessions.load(digest)).toMatchObject({ lastActivityAt: activeAt + 5_000 })
      })

      it('creates no session', async () => {
        const digest = newDigest()
        await sessions.touch(digest, rig.now())
        expect(await sessions.load(digest)).toEqual({ kind: 'absent' })
      })

      it('keeps the record and survives its compare-and-set', async () => {
        const { digest, record, activeAt } = await begin()
        await sessions.touch(digest, epochMs(activeAt + 1))
        expect(await loadRecord(digest)).toEqual(plain(record))
        await sessions.replace(digest, 0, newAttemptId(), next(record))
        expect(await sessions.load(digest)).toMatchObject({ lastActivityAt: activeAt + 1 })
      })
    })

    describe('replace', () => {
      it('puts the next generation in the place of the expected one', async () => {
        const { digest, record } = await begin()
        const second = next(record)
        expect(await sessions.replace(digest, 0, newAttemptId(), second)).toBe('replaced')
        expect(await loadRecord(digest)).toEqual(plain(second))
        expect(await elsewhere.replace(digest, 1, newAttemptId(), next(second))).toBe('replaced')
      })

      it('refuses a generation that is older than the stored one', async () => {
        const { digest, record } = await begin()
        const second = next(record)
        await sessions.replace(digest, 0, newAttemptId(), second)
        expect(await sessions.replace(digest, 0, newAttemptId(), next(record))).toBe('moved')
        expect(await loadRecord(digest)).toEqual(plain(second))
      })

      it('of a generation that a failover took from the store puts the higher one there', async () => {
        const { digest, record } = await begin()
        const third = next(next(record))
        expect(await sessions.replace(digest, 1, newAttemptId(), third)).toBe('replaced')
        expect(await loadRecord(digest)).toEqual(plain(third))
      })

      it('lets exactly one of many writers win, and keeps the record of that one', async () => {
        const { digest, record } = await begin()
        const records = Array.from({ length: 20 }, () => next(record))
        const answers = await race(rig.gateways, records.length, (gateway, index) =>
          gateway.sessions.replace(digest, 0, newAttemptId(), at(records, index)),
        )
        expect(answers.toSorted()).toEqual([...Array(19).fill('moved'), 'replaced'])
        expect(await loadRecord(digest)).toEqual(plain(at(records, answers.indexOf('replaced'))))
      })

      it('answers replaced again when the very same write is repeated, as after a timeout', async () => {
        const { digest, record } = await begin()
        const attemptId = newAttemptId()
        const second = next(record)
        await sessions.replace(digest, 0, attemptId, second)
        expect(await sessions.replace(digest, 0, attemptId, second)).toBe('replaced')
        expect(await elsewhere.replace(digest, 0, attemptId, second)).toBe('replaced')
        expect(await sessions.replace(digest, 0, newAttemptId(), second)).toBe('moved')
        expect(await loadRecord(digest)).toEqual(plain(second))
      })

      it('does not bring back a generation that was followed by another', async () => {
        const { digest, record } = await begin()
        const attemptId = newAttemptId()
        const second = next(record)
        const third = next(second)
        await sessions.replace(digest, 0, attemptId, second)
        await sessions.replace(digest, 1, newAttemptId(), third)
        expect(await sessions.replace(digest, 0, attemptId, second)).toBe('moved')
        expect(await loadRecord(digest)).toEqual(plain(third))
      })

      it('resurrects no session that is unknown', async () => {
        const digest = newDigest()
        const record = newRecord(epochMs(rig.now() + HOUR_MS), 1)
        expect(await sessions.replace(digest, 0, newAttemptId(), record)).toBe('absent')
        expect(await sessions.load(digest)).toEqual({ kind: 'absent' })
      })
    })

    describe('reseal', () => {
      const resealed = (record: StoredRecord): StoredRecord =>
        newRecord(record.absoluteExpiresAt, record.generation)

      it('writes other bytes of the same generation, which no refresh notices', async () => {
        const { digest, record } = await begin()
        const anew = resealed(record)
        expect(await sessions.reseal(digest, anew)).toBe('resealed')
        expect(await loadRecord(digest)).toEqual(plain(anew))
        expect(await elsewhere.replace(digest, 0, newAttemptId(), next(anew))).toBe('replaced')
      })

      it('is skipped once the generation moved', async () => {
        const { digest, record } = await begin()
        const second = next(record)
        await sessions.replace(digest, 0, newAttemptId(), second)
        expect(await sessions.reseal(digest, resealed(record))).toBe('skipped')
        expect(await loadRecord(digest)).toEqual(plain(second))
      })

      it('is skipped for a session that is unknown', async () => {
        const digest = newDigest()
        expect(await sessions.reseal(digest, newRecord(rig.now()))).toBe('skipped')
        expect(await sessions.load(digest)).toEqual({ kind: 'absent' })
      })

      it('is skipped during a lease, and while an attempt is unresolved after it', async () => {
        const { digest, record } = await begin()
        const { lease } = rig.gateways[1]
        const taking = {
          owner: newAttemptId(),
          attemptId: newAttemptId(),
          generation: 0,
          leaseTime: milliseconds(2_000),
          giveUpTime: milliseconds(7_000),
        }
        await lease.take(digest, taking)
        expect(await sessions.reseal(digest, resealed(record))).toBe('skipped')
        await rig.advance(2_001)
        expect(await sessions.reseal(digest, resealed(record))).toBe('skipped')
        await rig.advance(7_001)
        expect(await sessions.reseal(digest, resealed(record))).toBe('skipped')
        expect(await loadRecord(digest)).toEqual(plain(record))

        await lease.release(digest, taking.owner)
        expect(await sessions.reseal(digest, resealed(record))).toBe('resealed')
      })
    })

    describe('end', () => {
      it('leaves a tombstone with the first reason and instant, and no record', async () => {
        const { digest } = await begin()
        const endedAt = rig.now()
        expect(await sessions.end(digest, 'logout', endedAt)).toBe('ended')
        expect(await elsewhere.end(digest, 'idle', epochMs(endedAt + 1))).toBe('already_ended')
        expect(await elsewhere.load(digest)).toEqual({ kind: 'ended', reason: 'logout', endedAt })
      })

      it('tells exactly one of many callers that it ended the session', async () => {
        const { digest } = await begin()
        const answers = await race(rig.gateways, 20, (gateway) =>
          gateway.sessions.end(digest, 'logout', rig.now()),
        )
        expect(answers.toSorted()).toEqual([...Array(19).fill('already_ended'), 'ended'])
      })

      it('ends nothing that was never there', async () => {
        const digest = newDigest()
        expect(await sessions.end(digest, 'logout', rig.now())).toBe('absent')
        expect(await sessions.load(digest)).toEqual({ kind: 'absent' })
      })

      it('beats every later writer', async () => {
        const { digest, record, activeAt } = await begin()
        const endedAt = rig.now()
        await sessions.end(digest, 'refresh_rejected', endedAt)
        expect(await elsewhere.create(digest, record, activeAt)).toBe('ended')
        expect(await elsewhere.replace(digest, 0, newAttemptId(), next(record))).toBe('ended')
        expect(await elsewhere.reseal(digest, record)).toBe('skipped')
        await elsewhere.touch(digest, epochMs(activeAt + 1))
        expect(await elsewhere.load(digest)).toEqual({
          kind: 'ended',
          reason: 'refresh_rejected',
          endedAt,
        })
      })

      it('beats a refresh that repeats a write it had already made', async () => {
        const { digest, record } = await begin()
        const attemptId = newAttemptId()
        await sessions.replace(digest, 0, attemptId, next(record))
        await elsewhere.end(digest, 'logout', rig.now())
        expect(await sessions.replace(digest, 0, attemptId, next(record))).toBe('ended')
      })

      it('leaves one winner between an end and a refresh, and the end stands either way', async () => {
        for (let round = 0; round < 10; round += 1) {
          const { digest, record } = await begin()
          const [replaced, ended] = await Promise.all([
            elsewhere.replace(digest, 0, newAttemptId(), next(record)),
            sessions.end(digest, 'logout', rig.now()),
          ])
          expect(['replaced', 'ended']).toContain(replaced)
          expect(ended).toBe('ended')
          expect((await sessions.load(digest)).kind).toBe('ended')
        }
      })

      it('is remembered for 24 hours where the session could have lived longer', async () => {
        const { digest } = await begin(30 * 24 * HOUR_MS)
        await sessions.end(digest, 'logout', rig.now())
        await rig.advance(24 * HOUR_MS - MINUTE_MS)
        expect((await sessions.load(digest)).kind).toBe('ended')
        await rig.advance(MINUTE_MS + SECOND_MS)
        expect((await sessions.load(digest)).kind).toBe('absent')
      })

      it('is forgotten 10 minutes after the absolute deadline where that is sooner', async () => {
        const { digest } = await begin(HOUR_MS)
        await sessions.end(digest, 'absolute', rig.now())
        await rig.advance(HOUR_MS + 9 * MINUTE_MS)
        expect((await sessions.load(digest)).kind).toBe('ended')
        await rig.advance(MINUTE_MS + SECOND_MS)
        expect((await sessions.load(digest)).kind).toBe('absent')
      })
    })
  })
}

/** Bytes as plain arrays of numbers, so that a Buffer and a Uint8Array of the same bytes are equal. */
const plain = ({ sealed, metadata, ...head }: StoredRecord) => ({
  ...head,
  sealed: [...sealed],
  metadata: [...metadata],
})

const at = <T>(items: readonly T[], index: number): T => {
  const item = items[index]
  if (item === undefined) throw new Error(`nothing at ${index}`)
  return item
}
