/** What every directory of sessions keeps: entries as long as their sessions may live, and marks for 15 minutes. */

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SessionDigest } from '../../src/session/session.ts'
import type { SessionIndex } from '../../src/session/session-index.ts'
import type { DigestPage, SessionDirectory } from '../../src/session/session-store.ts'
import { epochMs } from '../../src/time.ts'
import {
  HOUR_MS,
  MINUTE_MS,
  newDigest,
  newRecord,
  race,
  SECOND_MS,
  type StoreContractOptions,
  type StoreRig,
} from './session-store.contract.ts'

export const newIndex = (): SessionIndex => randomBytes(32).toString('base64url') as SessionIndex

/** Reads to the end; a page that repeats itself for ever fails the test. */
export const allPages = async (
  next: (cursor: string | undefined) => Promise<DigestPage>,
): Promise<SessionDigest[]> => {
  const digests = new Set<SessionDigest>()
  let cursor: string | undefined
  for (let pages = 0; pages < 1_000; pages += 1) {
    const page = await next(cursor)
    for (const digest of page.digests) digests.add(digest)
    cursor = page.next
    if (cursor === undefined) return [...digests].toSorted()
  }
  throw new Error('the pages have no end')
}

export const sessionDirectoryContract = (name: string, { make }: StoreContractOptions): void => {
  describe(`session directory contract: ${name}`, () => {
    let rig: StoreRig
    let directory: SessionDirectory
    let elsewhere: SessionDirectory
    beforeAll(async () => {
      rig = await make()
      directory = rig.gateways[0].directory
      elsewhere = rig.gateways[1].directory
    })
    afterAll(() => rig.close())

    const enter = async (index: SessionIndex, lifetimeMs = HOUR_MS, now = rig.now()) => {
      const digest = newDigest()
      await directory.enter(index, digest, epochMs(now + lifetimeMs), now)
      return digest
    }
    const listed = (index: SessionIndex) => allPages((cursor) => elsewhere.list(index, cursor))

    it('lists who entered, each once, and nobody of another index', async () => {
      const [index, other] = [newIndex(), newIndex()]
      const digests = [await enter(index), await enter(index)]
      await directory.enter(index, digests[0]!, epochMs(rig.now() + HOUR_MS), rig.now())
      await enter(other)
      expect(await listed(index)).toEqual(digests.toSorted())
      expect(await listed(newIndex())).toEqual([])
    })

    it('gives every one of many entries on some page, although others leave meanwhile', async () => {
      const index = newIndex()
      const now = rig.now()
      const digests = Array.from({ length: 2_500 }, newDigest)
      await race(rig.gateways, digests.length, (gateway, place) =>
        gateway.directory.enter(index, digests[place]!, epochMs(now + HOUR_MS), now),
      )
      const seen = await allPages(async (cursor) => {
        const page = await directory.list(index, cursor)
        await Promise.all(page.digests.map((digest) => elsewhere.leave(index, digest)))
        return page
      })
      expect(seen).toEqual(digests.toSorted())
      expect(await listed(index)).toEqual([])
    })

    it('forgets who left, and takes no offence at who was never there', async () => {
      const index = newIndex()
      const [left, staying] = [await enter(index), await enter(index)]
      await elsewhere.leave(index, left)
      await elsewhere.leave(index, newDigest())
      await elsewhere.leave(newIndex(), left)
      expect(await listed(index)).toEqual([staying])
    })

    it('drops those whose records are forgotten when somebody enters, and no one before', async () => {
      const index = newIndex()
      const now = rig.now()
      const short = await enter(index, HOUR_MS)
      const late = await enter(index, 3 * HOUR_MS, epochMs(now + HOUR_MS + 9 * MINUTE_MS))
      expect(await listed(index)).toEqual([short, late].toSorted())
      const later = await enter(index, 3 * HOUR_MS, epochMs(now + HOUR_MS + 11 * MINUTE_MS))
      expect(await listed(index)).toEqual([late, later].toSorted())
    })

    it('lives as long as its longest session, whoever enters or leaves after that one', async () => {
      const index = newIndex()
      const long = await enter(index, 10 * HOUR_MS)
      await enter(index, HOUR_MS)
      await directory.leave(index, await enter(index, 2 * HOUR_MS))
      await rig.advance(9 * HOUR_MS)
      expect(await listed(index)).toContain(long)
      await rig.advance(HOUR_MS + 10 * MINUTE_MS + SECOND_MS)
      expect(await listed(index)).toEqual([])
    })

    it('lists every session of the store, ended ones too', async () => {
      const digests = Array.from({ length: 20 }, newDigest)
      const { sessions } = rig.gateways[0]
      for (const digest of digests)
        await sessions.create(digest, newRecord(epochMs(rig.now() + HOUR_MS)), rig.now())
      await sessions.end(digests[0]!, 'frontchannel_logout', rig.now())
      expect(await allPages((cursor) => elsewhere.listAll(cursor))).toEqual(digests.toSorted())
    })

    it.each(['', ' ', 'x', '-1', '1e9', '0-', '0 0', 'A'.repeat(60)])(
      'refuses a cursor that is none: "%s"',
      async (cursor) => {
        for (const call of [
          () => directory.list(newIndex(), cursor),
          () => directory.listAll(cursor),
        ])
          await expect((async () => call())()).rejects.toMatchObject({ code: 'request_invalid' })
      },
    )

    describe('a mark', () => {
      const at = (offset: number) => epochMs(rig.now() + offset)

      it('is seen everywhere, the latest of all that are asked for', async () => {
        const [one, two, none] = [newIndex(), newIndex(), newIndex()]
        const [first, second] = [at(0), at(1_000)]
        await directory.markEnded(one, { at: second, reason: 'frontchannel_logout' })
        await directory.markEnded(two, { at: first, reason: 'backchannel_logout' })
        expect(await elsewhere.endedBefore([one])).toEqual({
          at: second,
          reason: 'frontchannel_logout',
        })
        expect(await elsewhere.endedBefore([two, none, one])).toEqual({
          at: second,
          reason: 'frontchannel_logout',
        })
        expect(await elsewhere.endedBefore([none])).toBeUndefined()
        expect(await elsewhere.endedBefore([])).toBeUndefined()
      })

      it('moves forward and never back', async () => {
        const index = newIndex()
        const [early, late] = [at(0), at(5_000)]
        await directory.markEnded(index, { at: late, reason: 'frontchannel_logout' })
        await elsewhere.markEnded(index, { at: early, reason: 'backchannel_logout' })
        expect(await directory.endedBefore([index])).toEqual({
          at: late,
          reason: 'frontchannel_logout',
        })
      })

      it('is remembered for 15 minutes', async () => {
        const index = newIndex()
        await directory.markEnded(index, { at: at(0), reason: 'frontchannel_logout' })
        await rig.advance(15 * MINUTE_MS - SECOND_MS)
        expect(await directory.endedBefore([index])).toBeDefined()
        await rig.advance(2 * SECOND_MS)
        expect(await directory.endedBefore([index])).toBeUndefined()
      })

      it('is no entry, and neither ends the other', async () => {
        const index = newIndex()
        const digest = await enter(index)
        await directory.markEnded(index, { at: at(0), reason: 'frontchannel_logout' })
        expect(await listed(index)).toEqual([digest])
        await directory.leave(index, digest)
        expect(await directory.endedBefore([index])).toBeDefined()
      })
    })
  })
}
