/** What everybody who serves sessions from memory relies on: what one gateway writes, the other is told. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { SessionDigest } from '../../src/session/session.ts'
import type { SessionChanges } from '../../src/session/session-changes.ts'
import { epochMs, milliseconds } from '../../src/time.ts'
import { waitFor } from '../support/wait.ts'
import {
  HOUR_MS,
  newAttemptId,
  newDigest,
  newRecord,
  type StoreContractOptions,
  type StoreRig,
} from './session-store.contract.ts'

/** What is told from now on. */
export const listenTo = (changes: SessionChanges) => {
  const told: (SessionDigest | 'gap')[] = []
  const leave = changes.subscribe({
    changed: (digest) => void told.push(digest),
    gap: () => void told.push('gap'),
  })
  const count = (what: SessionDigest | 'gap') => told.filter((each) => each === what).length
  return { told, count, leave }
}

export const untilTold = (changes: SessionChanges, timeoutMs = 10_000) =>
  waitFor('changes are told', () => changes.areTold(), { timeoutMs })

export const sessionChangesContract = (name: string, { make }: StoreContractOptions): void => {
  describe(`session changes contract: ${name}`, () => {
    let rig: StoreRig
    beforeAll(async () => {
      rig = await make()
      await Promise.all(rig.gateways.map(({ changes }) => untilTold(changes)))
    })
    afterAll(() => rig.close())

    /** A new session, whose beginning both gateways have been told. */
    const begin = async () => {
      const digest = newDigest()
      const record = newRecord(epochMs(rig.now() + HOUR_MS))
      const listening = rig.gateways.map(({ changes }) => listenTo(changes))
      await rig.gateways[0].sessions.create(digest, record, rig.now())
      for (const { count, leave } of listening) {
        await waitFor('the beginning', () => count(digest) > 0)
        leave()
      }
      return { digest, record }
    }

    type Write = (
      gateway: StoreRig['gateways'][number],
      of: Awaited<ReturnType<typeof begin>>,
    ) => Promise<unknown>
    const next = ({ absoluteExpiresAt }: { absoluteExpiresAt: ReturnType<typeof epochMs> }) =>
      newRecord(absoluteExpiresAt, 1)
    const taking = () => ({
      owner: newAttemptId(),
      attemptId: newAttemptId(),
      generation: 0,
      leaseTime: milliseconds(2_000),
      giveUpTime: milliseconds(7_000),
    })

    it.each<[string, Write]>([
      ['a refresh', (on, of) => on.sessions.replace(of.digest, 0, newAttemptId(), next(of.record))],
      ['a seal under another secret', (on, of) => on.sessions.reseal(of.digest, of.record)],
      ['an end', (on, of) => on.sessions.end(of.digest, 'logout', rig.now())],
    ])(
      '%s is told to the other gateway, to the writer, and only of that session',
      async (_, write) => {
        const [of, other] = [await begin(), await begin()]
        const listening = rig.gateways.map(({ changes }) => listenTo(changes))
        await write(rig.gateways[0], of)
        for (const { told, count } of listening)
          await waitFor('the change', () => count(of.digest) > 0 && told)
        for (const { count, leave } of listening) {
          expect(count(other.digest)).toBe(0)
          leave()
        }
      },
    )

    it('whoever is told reads what is new', async () => {
      const { digest } = await begin()
      const [writer, { changes, sessions }] = rig.gateways
      const reading = Promise.withResolvers<unknown>()
      const leave = changes.subscribe({
        changed: (changed) => {
          if (changed === digest) reading.resolve(sessions.load(digest))
        },
        gap: () => {},
      })
      await writer.sessions.end(digest, 'admin', rig.now())
      expect(await reading.promise).toMatchObject({ kind: 'ended', reason: 'admin' })
      leave()
    })

    it('activity and leases change no record, and wake nobody', async () => {
      const [writer, { changes }] = rig.gateways
      const { digest } = await begin()
      const listening = listenTo(changes)
      await writer.sessions.touch(digest, epochMs(rig.now() + 1))
      await writer.lease.take(digest, taking())
      // Changes are told in their order: what comes after these two is told after them, by each server of a Cluster.
      for (let session = 0; session < 10; session += 1) await begin()
      expect(listening.told.length).toBeGreaterThanOrEqual(10)
      expect(listening.count(digest)).toBe(0)
      listening.leave()
    })

    it('nothing is told to whoever has left', async () => {
      const { digest } = await begin()
      const [writer, { changes }] = rig.gateways
      const left = listenTo(changes)
      left.leave()
      const listening = listenTo(changes)
      await writer.sessions.end(digest, 'logout', rig.now())
      await waitFor('the change', () => listening.count(digest) > 0)
      expect(left.told).toEqual([])
      listening.leave()
    })

    it('goes on for as long as nothing happens', () => {
      for (const { changes } of rig.gateways) expect(changes.areTold()).toBe(true)
    })
  })
}
