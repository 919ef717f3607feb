/** Which secret seals while the list of secrets changes: replicas read it at different times, and no ticket may tell. */

import { expect, onTestFinished, test } from 'vitest'
import { createKeyRing, type KeyRing, ringIdOf } from '../../../src/session/key-ring.ts'
import { createKeyRingRotation } from '../../../src/session/key-ring-rotation.ts'
import { createFakeClock } from '../../support/fake-clock.ts'

const NAMES = ['A', 'B', 'C', 'D'] as const
type Name = (typeof NAMES)[number]
const secretOf = (name: Name) => `secret-${name}-secret-${name}-secret-${name}-secret-${name}`
const nameOf = (id: number) => NAMES.find((name) => ringIdOf(secretOf(name)) === id)

const start = (...first: Name[]) => {
  const clock = createFakeClock()
  const told: string[] = []
  const listeners = new Set<(secrets: readonly string[]) => void>()
  let current: readonly string[] = first.map(secretOf)
  const ring = createKeyRingRotation({
    secrets: {
      get current() {
        return current
      },
      subscribe: (listener) => {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
    },
    clock,
    changed: ({ sealing, ids }: KeyRing) =>
      void told.push(`${nameOf(sealing.id)} of ${ids.map(nameOf).join('')}`),
  })
  onTestFinished(() => ring.stop())
  return {
    clock,
    ring,
    told,
    listeners,
    read: (...names: Name[]) => {
      current = names.map(secretOf)
      for (const listener of listeners) listener(current)
    },
    sealing: () => nameOf(ring.current.sealing.id),
    opens: (name: Name) => ring.current.find(ringIdOf(secretOf(name))) !== undefined,
  }
}

const settle = (clock: { advance(ms: number): Promise<void> }) => clock.advance(20_000)

test('what is there at start is in use at once, the first to seal', () => {
  const { sealing, opens, told } = start('B', 'A')
  expect([sealing(), opens('A'), opens('B')]).toEqual(['B', true, true])
  expect(told).toEqual(['B of BA'])
})

test('a new first secret opens at once, and seals when the other replicas must have read it', async () => {
  const { clock, read, sealing, opens } = start('A')
  read('B', 'A')
  expect([sealing(), opens('B')]).toEqual(['A', true])
  await clock.advance(19_999)
  expect(sealing()).toBe('A')
  await clock.advance(1)
  expect(sealing()).toBe('B')
})

test('a secret that was appended long ago seals as soon as it is first', async () => {
  const { clock, read, sealing, told } = start('A')
  read('A', 'B')
  await settle(clock)
  expect(sealing()).toBe('A')
  read('B', 'A')
  expect(sealing()).toBe('B')
  expect(told).toEqual(['A of A', 'A of AB', 'B of BA'])
})

test('moved first soon after it was appended, it waits for the rest of its time only', async () => {
  const { clock, read, sealing } = start('A')
  read('A', 'B')
  await clock.advance(15_000)
  read('B', 'A')
  await clock.advance(4_999)
  expect(sealing()).toBe('A')
  await clock.advance(1)
  expect(sealing()).toBe('B')
})

test('a ring without the secret that sealed so far seals with its first at once: nothing else is left', () => {
  const { read, sealing, opens } = start('A')
  read('B')
  expect([sealing(), opens('A')]).toEqual(['B', false])
})

test('a change of mind during the wait counts: the last list decides', async () => {
  const { clock, read, sealing } = start('A')
  read('B', 'A')
  await clock.advance(10_000)
  read('C', 'B', 'A')
  await clock.advance(10_000)
  expect(sealing()).toBe('A')
  read('A')
  await settle(clock)
  expect(sealing()).toBe('A')
  read('D', 'A')
  await settle(clock)
  expect(sealing()).toBe('D')
})

test('stopped, it follows no more and nothing waits', async () => {
  const { clock, ring, read, sealing, listeners } = start('A')
  read('B', 'A')
  ring.stop()
  expect([clock.sleeping, listeners.size]).toEqual([0, 0])
  await settle(clock)
  expect(sealing()).toBe('A')
})

test('outdated is what stands after the secret that seals, or is not there; a newer one that settles is not', () => {
  const [a, b, c, d] = NAMES.map(secretOf) as [string, string, string, string]
  const ring = createKeyRing([a, b, c], b)
  expect([a, b, c, d].map((secret) => ring.isOutdated(ringIdOf(secret)))).toEqual([
    false,
    false,
    true,
    true,
  ])
})
