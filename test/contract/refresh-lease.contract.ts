/** What every refresh lease keeps: one holder, attempts that outlive it, and answers for those who come later. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LeaseRequest, RefreshLease } from '../../src/credential/refresh-lease.ts'
import type { SessionDigest } from '../../src/session/session.ts'
import { epochMs, milliseconds } from '../../src/time.ts'
import {
  HOUR_MS,
  newAttemptId,
  newDigest,
  newRecord,
  race,
  type StoreContractOptions,
  type StoreRig,
} from './session-store.contract.ts'

const LEASE_MS = 2_000
const GIVE_UP_MS = 7_000

const FREE = { kind: 'taken', abandonedAttempt: false }
const FREE_AFTER_ABANDONED = { kind: 'taken', abandonedAttempt: true }
const BUSY = { kind: 'busy' }

export const refreshLeaseContract = (name: string, { make }: StoreContractOptions): void => {
  describe(`refresh lease contract: ${name}`, () => {
    let rig: StoreRig
    let lease: RefreshLease
    let elsewhere: RefreshLease
    beforeAll(async () => {
      rig = await make()
      lease = rig.gateways[0].lease
      elsewhere = rig.gateways[1].lease
    })
    afterAll(() => rig.close())

    const begin = async (): Promise<SessionDigest> => {
      const digest = newDigest()
      const record = newRecord(epochMs(rig.now() + HOUR_MS))
      await rig.gateways[0].sessions.create(digest, record, rig.now())
      return digest
    }
    const request = (generation = 0): LeaseRequest => ({
      owner: newAttemptId(),
      attemptId: newAttemptId(),
      generation,
      leaseTime: milliseconds(LEASE_MS),
      giveUpTime: milliseconds(GIVE_UP_MS),
    })
    const write = (digest: SessionDigest, { generation, attemptId }: LeaseRequest) =>
      rig.gateways[0].sessions.replace(
        digest,
        generation,
        attemptId,
        newRecord(epochMs(rig.now() + HOUR_MS), generation + 1),
      )
    const reseal = (digest: SessionDigest, generation: number) =>
      rig.gateways[1].sessions.reseal(digest, newRecord(epochMs(rig.now() + HOUR_MS), generation))
    const stillHolds = (digest: SessionDigest, holder: LeaseRequest) => lease.renew(digest, holder)
    /** A holder that died: its lease lapsed and its attempt was given up. */
    const beginAbandoned = async () => {
      const digest = await begin()
      const dead = request()
      await lease.take(digest, dead)
      await rig.advance(GIVE_UP_MS + 1)
      return { digest, dead }
    }

    describe('take', () => {
      it('is given to one and refused to everyone else', async () => {
        const digest = await begin()
        expect(await lease.take(digest, request())).toEqual(FREE)
        expect(await lease.take(digest, request())).toEqual(BUSY)
        expect(await elsewhere.take(digest, request())).toEqual(BUSY)
      })

      it('is given to exactly one of many at once', async () => {
        const digest = await begin()
        const answers = await race(rig.gateways, 20, (gateway) =>
          gateway.lease.take(digest, request()),
        )
        expect(answers.filter(({ kind }) => kind === 'taken')).toEqual([FREE])
        expect(answers.filter(({ kind }) => kind === 'busy')).toHaveLength(19)
      })

      it('of one session keeps nobody from another', async () => {
        await lease.take(await begin(), request())
        expect(await elsewhere.take(await begin(), request())).toEqual(FREE)
      })

      it('says that the generation moved, whichever way', async () => {
        const digest = await begin()
        await write(digest, request(0))
        expect(await lease.take(digest, request(0))).toEqual({ kind: 'moved' })
        expect(await lease.take(digest, request(2))).toEqual({ kind: 'moved' })
        expect(await lease.take(digest, request(1))).toEqual(FREE)
      })

      it('says that the session ended or was never there', async () => {
        const digest = await begin()
        await rig.gateways[1].sessions.end(digest, 'logout', rig.now())
        expect(await lease.take(digest, request())).toEqual({ kind: 'ended' })
        expect(await lease.take(newDigest(), request())).toEqual({ kind: 'absent' })
      })

      it('is refused after the lease lapsed until the attempt is given up', async () => {
        const digest = await begin()
        await lease.take(digest, request())
        await rig.advance(LEASE_MS + 1)
        expect(await elsewhere.take(digest, request())).toEqual(BUSY)
        await rig.advance(GIVE_UP_MS - LEASE_MS)
        expect(await elsewhere.take(digest, request())).toEqual(FREE_AFTER_ABANDONED)
        expect(await lease.take(digest, request())).toEqual(BUSY)
      })

      it('accepts times that are no whole milliseconds', async () => {
        const digest = await begin()
        const times = { leaseTime: milliseconds(133.2), giveUpTime: milliseconds(466.2) }
        const taken = { ...request(), ...times }
        expect(await lease.take(digest, taken)).toEqual(FREE)
        expect(await lease.renew(digest, taken)).toBe(true)
        await lease.releaseUnavailable(digest, taken.owner, milliseconds(0.5), 'no')
      })
    })

    describe('renew', () => {
      it('keeps the lease past its first time, for its owner alone', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, { ...holder, giveUpTime: milliseconds(LEASE_MS) })
        await rig.advance(1_500)
        expect(await lease.renew(digest, holder)).toBe(true)
        expect(await elsewhere.renew(digest, request())).toBe(false)
        await rig.advance(1_500)
        expect(await elsewhere.take(digest, request())).toEqual(BUSY)
        await rig.advance(501)
        expect(await elsewhere.take(digest, request())).toEqual(FREE_AFTER_ABANDONED)
      })

      it('brings no lapsed lease back', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await rig.advance(LEASE_MS + 1)
        expect(await lease.renew(digest, holder)).toBe(false)
      })

      it('takes no lease that somebody else has now', async () => {
        const { digest, dead } = await beginAbandoned()
        await elsewhere.take(digest, request())
        expect(await lease.renew(digest, dead)).toBe(false)
      })
    })

    describe('release', () => {
      it('makes the way free at once, and nothing is abandoned', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await lease.release(digest, holder.owner)
        expect(await elsewhere.take(digest, request())).toEqual(FREE)
      })

      it('by anyone but the owner changes nothing', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await elsewhere.release(digest, newAttemptId())
        expect(await elsewhere.take(digest, request())).toEqual(BUSY)
        expect(await stillHolds(digest, holder)).toBe(true)
      })

      it('after the lease lapsed removes the attempt all the same', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await rig.advance(LEASE_MS + 1)
        await lease.release(digest, holder.owner)
        expect(await elsewhere.take(digest, request())).toEqual(FREE)
      })

      it('by a former owner leaves the present one alone', async () => {
        const { digest, dead } = await beginAbandoned()
        const successor = request()
        await elsewhere.take(digest, successor)
        await lease.release(digest, dead.owner)
        expect(await lease.take(digest, request())).toEqual(BUSY)
        expect(await stillHolds(digest, successor)).toBe(true)
      })

      it('keeps an earlier attempt abandoned: that token may be spent whatever came of this one', async () => {
        const { digest } = await beginAbandoned()
        const second = request()
        expect(await elsewhere.take(digest, second)).toEqual(FREE_AFTER_ABANDONED)
        await elsewhere.release(digest, second.owner)
        expect(await lease.take(digest, request())).toEqual(FREE_AFTER_ABANDONED)
      })
    })

    describe('releaseUnavailable', () => {
      it('keeps everybody from the provider for the time, and then nobody', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await lease.releaseUnavailable(digest, holder.owner, milliseconds(3_000), 'no')
        await rig.advance(1_000)
        const answer = await elsewhere.take(digest, request())
        if (answer.kind !== 'unavailable') throw new Error(`the answer is ${answer.kind}`)
        expect(answer.retryAfter).toBeGreaterThan(0)
        expect(answer.retryAfter).toBeLessThanOrEqual(2_000)
        await rig.advance(2_001)
        expect(await elsewhere.take(digest, request())).toEqual(FREE)
      })

      it('of a token that may be spent lets the next taker know, without making it wait', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await lease.releaseUnavailable(digest, holder.owner, milliseconds(1_000), 'unknown')
        await rig.advance(1_001)
        expect(await elsewhere.take(digest, request())).toEqual(FREE_AFTER_ABANDONED)
      })

      it('counts from a holder whose lease lapsed during its call', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await rig.advance(LEASE_MS + 1)
        await lease.releaseUnavailable(digest, holder.owner, milliseconds(3_000), 'unknown')
        expect(await elsewhere.take(digest, request())).toMatchObject({ kind: 'unavailable' })
      })

      it('by anyone but the owner changes nothing', async () => {
        const digest = await begin()
        await lease.releaseUnavailable(digest, newAttemptId(), milliseconds(3_000), 'no')
        expect(await lease.take(digest, request())).toEqual(FREE)
        await elsewhere.releaseUnavailable(digest, newAttemptId(), milliseconds(3_000), 'no')
        expect(await elsewhere.take(digest, request())).toEqual(BUSY)
      })

      it('by a former owner leaves the present one alone', async () => {
        const { digest, dead } = await beginAbandoned()
        const successor = request()
        await elsewhere.take(digest, successor)
        await lease.releaseUnavailable(digest, dead.owner, milliseconds(3_000), 'no')
        expect(await lease.take(digest, request())).toEqual(BUSY)
        expect(await stillHolds(digest, successor)).toBe(true)
      })

      it('creates nothing for a session that is unknown', async () => {
        const digest = newDigest()
        await lease.releaseUnavailable(digest, newAttemptId(), milliseconds(3_000), 'no')
        expect(await lease.take(digest, request())).toEqual({ kind: 'absent' })
      })
    })

    describe('a compare-and-set', () => {
      it('lets waiters go on at once', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        expect(await write(digest, holder)).toBe('replaced')
        expect(await elsewhere.take(digest, request(0))).toEqual({ kind: 'moved' })
        expect(await elsewhere.take(digest, request(1))).toEqual(FREE)
      })

      it('succeeds without the lease and resolves the attempt', async () => {
        const { digest, dead } = await beginAbandoned()
        expect(await write(digest, dead)).toBe('replaced')
        expect(await reseal(digest, 1)).toBe('resealed')
        expect(await elsewhere.take(digest, request(1))).toEqual(FREE)
      })

      it('of a late writer leaves the lease of whoever took over', async () => {
        const { digest, dead } = await beginAbandoned()
        const successor = request()
        await elsewhere.take(digest, successor)
        expect(await write(digest, dead)).toBe('replaced')
        expect(await lease.take(digest, request(1))).toEqual(BUSY)
        expect(await stillHolds(digest, successor)).toBe(true)
        expect(await reseal(digest, 1)).toBe('skipped')
        await elsewhere.release(digest, successor.owner)
        expect(await lease.take(digest, request(1))).toEqual(FREE)
      })

      it('takes back that the provider is unavailable', async () => {
        const digest = await begin()
        const holder = request()
        await lease.take(digest, holder)
        await lease.releaseUnavailable(digest, holder.owner, milliseconds(60_000), 'unknown')
        expect(await write(digest, holder)).toBe('replaced')
        expect(await elsewhere.take(digest, request(1))).toEqual(FREE)
      })

      it('that fails leaves lease and attempt alone', async () => {
        const digest = await begin()
        await write(digest, request(0))
        await lease.take(digest, request(1))
        expect(await write(digest, request(0))).toBe('moved')
        expect(await elsewhere.take(digest, request(1))).toEqual(BUSY)
      })
    })

    it('an end takes the lease with it, and no holder brings anything back', async () => {
      const digest = await begin()
      const holder = request()
      await lease.take(digest, holder)
      await rig.gateways[1].sessions.end(digest, 'logout', rig.now())
      expect(await lease.renew(digest, holder)).toBe(false)
      await lease.releaseUnavailable(digest, holder.owner, milliseconds(3_000), 'unknown')
      expect(await lease.take(digest, request())).toEqual({ kind: 'ended' })
    })
  })
}
