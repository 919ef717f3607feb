/** What every one-time store keeps: one first caller, one reader, and no longer than the time. */

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { OneTimeStore } from '../../src/session/session-store.ts'
import { seconds } from '../../src/time.ts'
import { race, type StoreContractOptions, type StoreRig } from './session-store.contract.ts'

const TTL = seconds(60)
const TTL_MS = 60_000

export const oneTimeStoreContract = (name: string, { make }: StoreContractOptions): void => {
  describe(`one-time store contract: ${name}`, () => {
    let rig: StoreRig
    let once: OneTimeStore
    let elsewhere: OneTimeStore
    beforeAll(async () => {
      rig = await make()
      once = rig.gateways[0].once
      elsewhere = rig.gateways[1].once
    })
    afterAll(() => rig.close())

    const newName = () => randomBytes(32).toString('base64url')

    describe('claim', () => {
      it('is true for the first caller and false for every other', async () => {
        const name = newName()
        expect(await once.claim(name, TTL)).toBe(true)
        expect(await once.claim(name, TTL)).toBe(false)
        expect(await elsewhere.claim(name, TTL)).toBe(false)
        expect(await elsewhere.claim(newName(), TTL)).toBe(true)
      })

      it('is true for exactly one of many at once', async () => {
        const name = newName()
        const answers = await race(rig.gateways, 20, (gateway) => gateway.once.claim(name, TTL))
        expect(answers.filter(Boolean)).toHaveLength(1)
      })

      it('can be asked for without being made', async () => {
        const name = newName()
        expect(await elsewhere.isClaimed(name)).toBe(false)
        expect(await once.claim(name, TTL)).toBe(true)
        expect(await elsewhere.isClaimed(name)).toBe(true)
        await rig.advance(TTL_MS + 1)
        expect(await elsewhere.isClaimed(name)).toBe(false)
      })

      it('holds for its time, which a refused claim does not prolong', async () => {
        const name = newName()
        await once.claim(name, TTL)
        await rig.advance(TTL_MS - 1_000)
        expect(await elsewhere.claim(name, TTL)).toBe(false)
        await rig.advance(1_001)
        expect(await elsewhere.claim(name, TTL)).toBe(true)
      })
    })

    describe('a value', () => {
      const value = () => Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

      it('is read byte for byte, once', async () => {
        const name = newName()
        await once.put(name, value(), TTL)
        const taken = await elsewhere.take(name)
        expect([...(taken ?? [])]).toEqual([...value()])
        expect(await once.take(name)).toBeUndefined()
        expect(await elsewhere.take(name)).toBeUndefined()
      })

      it('goes to exactly one of many readers', async () => {
        const name = newName()
        await once.put(name, value(), TTL)
        const answers = await race(rig.gateways, 20, (gateway) => gateway.once.take(name))
        expect(answers.filter((answer) => answer !== undefined)).toHaveLength(1)
      })

      it('waits for its time and no longer', async () => {
        const [soon, late] = [newName(), newName()]
        await once.put(soon, value(), TTL)
        await once.put(late, value(), TTL)
        await rig.advance(TTL_MS - 1_000)
        expect(await elsewhere.take(soon)).toBeDefined()
        await rig.advance(1_001)
        expect(await elsewhere.take(late)).toBeUndefined()
      })

      it('that is put again replaces the former', async () => {
        const name = newName()
        await once.put(name, value(), TTL)
        await elsewhere.put(name, Buffer.from('newer'), TTL)
        expect(Buffer.from((await once.take(name)) ?? []).toString()).toBe('newer')
      })

      it('neither is nor frees a claim of the same name', async () => {
        const name = newName()
        await once.claim(name, TTL)
        expect(await once.take(name)).toBeUndefined()
        expect(await once.claim(name, TTL)).toBe(false)
        await once.put(name, value(), TTL)
        expect(await once.take(name)).toBeDefined()
        expect(await once.claim(name, TTL)).toBe(false)
      })

      it('stays as it was although the caller overwrites its buffer', async () => {
        const name = newName()
        const own = value()
        await once.put(name, own, TTL)
        own.fill(0)
        expect([...((await once.take(name)) ?? [])]).toEqual([...value()])
      })
    })
  })
}
