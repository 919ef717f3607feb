/** Who holds something open for a session hears of its end, whoever made it, and of nothing that did not happen. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import type { SessionChanges } from '../../../src/session/session-changes.ts'
import {
  createSessionWatch,
  type SessionHolder,
  type SessionWatch,
} from '../../../src/session/session-watch.ts'
import { newTicket } from '../../../src/session/ticket.ts'
import type { OpenSession, Vault } from '../../../src/session/vault.ts'
import { epochMs, seconds } from '../../../src/time.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../../support/vaults.ts'

const LIFETIMES = { idle: seconds(100), absolute: seconds(1_000) }

type TestVault = ReturnType<typeof createTestVault>
let test: TestVault
let watch: SessionWatch
let readings: string[]
/** What reading the store does before it answers; throwing is an outage. */
let onRead: (digest: string) => void | Promise<void>
/** What memory has. */
let kept: Vault['kept']
beforeEach(() => {
  test = createTestVault(LIFETIMES)
  readings = []
  onRead = () => {}
  kept = () => undefined
  watch = watchOn(test.stores.changes)
})
afterEach(() => watch.close())

const watchOn = (changes: SessionChanges) =>
  createSessionWatch({
    vault: {
      read: async (ticket) => {
        readings.push(ticket.digest)
        await onRead(ticket.digest)
        return test.vault.read(ticket)
      },
      kept: (ticket) => kept(ticket),
    } satisfies Pick<Vault, 'read' | 'kept'>,
    changes,
    clock: test.clock,
    lifetimes: LIFETIMES,
    random: () => 0.5,
  })

const NEVER_TOLD: SessionChanges = { areTold: () => false, subscribe: () => () => {} }

const begin = () =>
  test.vault.begin(newSession(tokenSet(test.clock.now(), 900), test.clock.now()), SEEN)

const holder = () => {
  const heard: string[] = []
  return {
    heard,
    lives: ({ session }: OpenSession) => void heard.push(`lives ${session.generation}`),
    ended: (reason: string) => void heard.push(`ended ${reason}`),
  } satisfies SessionHolder & { heard: string[] }
}

const outage = () => {
  throw new GatewayError('store_unavailable')
}

describe('where changes are told', () => {
  it('an end is heard at once, by every holder of the session and by nobody else', async () => {
    const [open, other] = [await begin(), await begin()]
    const [one, two, bystander] = [holder(), holder(), holder()]
    watch.watch(open, one)
    watch.watch(open, two)
    watch.watch(other, bystander)
    await test.clock.advance(0)
    await test.vault.end(open, 'logout')
    await test.clock.advance(0)
    expect(one.heard.at(-1)).toBe('ended logout')
    expect(two.heard.at(-1)).toBe('ended logout')
    expect(bystander.heard).toEqual(['lives 0'])
  })

  it('it begins with what memory has, without asking the store, and hears every change', async () => {
    const open = await begin()
    kept = () => open
    const [one, two] = [holder(), holder()]
    watch.watch(open, one)
    watch.watch(open, two)
    await test.clock.advance(0)
    expect(readings).toEqual([])
    expect(one.heard).toEqual(['lives 0'])
    await test.vault.end(open, 'logout')
    await test.clock.advance(0)
    expect([one.heard.at(-1), two.heard.at(-1)]).toEqual(['ended logout', 'ended logout'])
  })

  it('an end that comes by itself is looked for, also where memory began it', async () => {
    const open = await begin()
    kept = () => open
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(LIFETIMES.idle * 1000 + 1_000)
    expect(one.heard.at(-1)).toBe('ended idle')
  })

  it('what ended before it was watched is heard too', async () => {
    const open = await begin()
    await test.vault.end(open, 'admin')
    const late = holder()
    watch.watch(open, late)
    await test.clock.advance(0)
    expect(late.heard).toEqual(['ended admin'])
  })

  it('a refresh is heard with what it brought', async () => {
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(0)
    await test.vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1')
    await test.clock.advance(0)
    expect(one.heard).toEqual(['lives 0', 'lives 1'])
  })

  it('a change while the session is being read is read again, and the last word stays the last', async () => {
    const open = await begin()
    const one = holder()
    const reading = Promise.withResolvers<void>()
    onRead = () => reading.promise
    watch.watch(open, one)
    await test.vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1')
    await test.vault.end(open, 'logout')
    expect(readings).toHaveLength(1)
    reading.resolve()
    await test.clock.advance(0)
    expect(one.heard).toEqual(['ended logout'])
    expect(readings.length).toBeLessThanOrEqual(2)
  })

  it('nothing is read while nothing changes and no end is near', async () => {
    const open = await begin()
    watch.watch(open, holder())
    await test.clock.advance(75_000)
    expect(readings).toHaveLength(1)
  })

  it('one watch reads for all holders of a session', async () => {
    const open = await begin()
    for (let count = 0; count < 10; count += 1) watch.watch(open, holder())
    await test.clock.advance(0)
    readings.length = 0
    await test.vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1')
    await test.clock.advance(0)
    expect(readings).toHaveLength(1)
  })

  it('who has stopped hears nothing more, and the last one to stop ends the reading', async () => {
    const open = await begin()
    const [one, two] = [holder(), holder()]
    const stopOne = watch.watch(open, one)
    const stopTwo = watch.watch(open, two)
    await test.clock.advance(0)
    stopOne()
    await test.vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1')
    await test.clock.advance(0)
    expect([one.heard.at(-1), two.heard.at(-1)]).toEqual(['lives 0', 'lives 1'])
    stopTwo()
    readings.length = 0
    await test.clock.advance(500_000)
    expect(readings).toEqual([])
    expect(test.clock.sleeping).toBe(0)
  })

  it('the stop of an earlier watch does not stop a later one of the same session', async () => {
    const open = await begin()
    const [one, two] = [holder(), holder()]
    const stopOne = watch.watch(open, one)
    await test.vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1')
    stopOne()
    watch.watch(open, two)
    stopOne()
    await test.clock.advance(0)
    await test.vault.end(open, 'logout')
    await test.clock.advance(0)
    expect(two.heard.at(-1)).toBe('ended logout')
  })
})

describe('ends by time', () => {
  it('idle: heard at its instant, and told by the watch itself that it came', async () => {
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(99_000)
    expect(one.heard.filter((word) => word.startsWith('ended'))).toEqual([])
    await test.clock.advance(1_500)
    expect(one.heard.at(-1)).toBe('ended idle')
    expect(test.events).toContainEqual(
      expect.objectContaining({ type: 'session_ended', reason: 'idle' }),
    )
  })

  it('idle that activity elsewhere has put off, which nobody tells: the end moves with it', async () => {
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    for (let turn = 1; turn <= 5; turn += 1) {
      await test.clock.advance(60_000)
      await test.stores.sessions.touch(open.ticket.digest, test.clock.now())
    }
    expect(one.heard.every((word) => word === 'lives 0')).toBe(true)
    await test.clock.advance(101_000)
    expect(one.heard.at(-1)).toBe('ended idle')
  })

  it('absolute: whatever activity there is', async () => {
    const open = await test.vault.begin(
      newSession(tokenSet(test.clock.now(), 5_000), test.clock.now()),
      SEEN,
    )
    const one = holder()
    watch.watch(open, one)
    for (let turn = 0; turn < 20; turn += 1) {
      await test.clock.advance(49_000)
      await test.stores.sessions.touch(open.ticket.digest, test.clock.now())
    }
    expect(one.heard.at(-1)).toBe('lives 0')
    await test.clock.advance(21_000)
    expect(one.heard.at(-1)).toBe('ended absolute')
  })

  it('a session that cannot refresh: with its access token', async () => {
    const open = await test.vault.begin(
      newSession(tokenSet(test.clock.now(), 50, { refreshToken: undefined }), test.clock.now()),
      SEEN,
    )
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(50_600)
    expect(one.heard.at(-1)).toBe('ended access_token_expired')
  })

  it('a refresh token past its own expiry, with the access token gone', async () => {
    const open = await test.vault.begin(
      newSession(
        tokenSet(test.clock.now(), 20, {
          refreshTokenExpiresAt: epochMs(test.clock.now() + 40_000),
        }),
        test.clock.now(),
      ),
      SEEN,
    )
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(40_600)
    expect(one.heard.at(-1)).toBe('ended refresh_expired')
  })
})

describe('where changes are not told', () => {
  it('every watched session is read twice a second', async () => {
    watch = watchOn(NEVER_TOLD)
    const sessions = [await begin(), await begin(), await begin()]
    const holders = sessions.map((open) => {
      const held = holder()
      watch.watch(open, held)
      return held
    })
    await test.clock.advance(0)
    readings.length = 0
    await test.clock.advance(10_000)
    expect(readings.length).toBeGreaterThanOrEqual(3 * 19)
    expect(readings.length).toBeLessThanOrEqual(3 * 21)
    await test.vault.end(sessions[1]!, 'backchannel_logout')
    await test.clock.advance(500)
    expect(holders[1]?.heard.at(-1)).toBe('ended backchannel_logout')
    expect(holders[0]?.heard.at(-1)).toBe('lives 0')
  })

  it('it is noticed when the telling stops, and when it begins again', async () => {
    let areTold = true
    watch = watchOn({ ...test.stores.changes, areTold: () => areTold })
    watch.watch(await begin(), holder())
    await test.clock.advance(5_000)
    expect(readings).toHaveLength(1)
    areTold = false
    await test.clock.advance(5_000)
    expect(readings.length).toBeGreaterThanOrEqual(10)
    areTold = true
    readings.length = 0
    await test.clock.advance(5_000)
    expect(readings).toEqual([])
  })

  it('after a gap everything is read again, a bounded number at once', async () => {
    let gap = () => {}
    watch = watchOn({
      areTold: () => true,
      subscribe: (listener) => {
        gap = listener.gap
        return () => {}
      },
    })
    const sessions = await Promise.all(Array.from({ length: 100 }, begin))
    for (const open of sessions) watch.watch(open, holder())
    await test.clock.advance(0)
    expect(new Set(readings).size).toBe(100)
    readings.length = 0
    let reading = 0
    let most = 0
    onRead = async () => {
      reading += 1
      most = Math.max(most, reading)
      await new Promise((resolve) => setImmediate(resolve))
      reading -= 1
    }
    gap()
    for (let turn = 0; turn < 10; turn += 1) await test.clock.advance(50)
    expect(new Set(readings).size).toBe(100)
    expect(most).toBeLessThanOrEqual(16)
    expect(most).toBeGreaterThan(1)
  })
})

describe('a store that', () => {
  it('is down ends nothing, is asked after bounded pauses, and its news are heard when it is back', async () => {
    const sessions = await Promise.all(Array.from({ length: 100 }, begin))
    const holders = sessions.map((open) => {
      const held = holder()
      watch.watch(open, held)
      return held
    })
    await test.clock.advance(0)
    onRead = outage
    readings.length = 0
    // Past the idle end, too: whether anybody was active, nobody can say now.
    await test.clock.advance(150_000)
    expect(holders.every(({ heard }) => heard.every((word) => word === 'lives 0'))).toBe(true)
    expect(readings.length).toBeGreaterThan(30)
    // 16 at once, about once in 750 ms, once the first deadline was reached.
    expect(readings.length).toBeLessThan(16 * 150)
    onRead = () => {}
    await test.clock.advance(1_000)
    expect(holders.every(({ heard }) => heard.at(-1) === 'ended idle')).toBe(true)
  })

  it('is down does not put off the absolute end, which everybody knows', async () => {
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(0)
    onRead = outage
    await test.clock.advance(LIFETIMES.absolute * 1000 - 1_000)
    expect(one.heard).toEqual(['lives 0'])
    await test.clock.advance(3_000)
    expect(one.heard).toEqual(['lives 0', 'ended absolute'])
  })

  it('is down when a change is told: the change is heard once it is back', async () => {
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(0)
    onRead = outage
    await test.vault.end(open, 'logout')
    await test.clock.advance(3_000)
    expect(one.heard).toEqual(['lives 0'])
    onRead = () => {}
    await test.clock.advance(1_000)
    expect(one.heard).toEqual(['lives 0', 'ended logout'])
  })

  it('is down in part, as a Cluster without one master: what the rest tells is heard at once', async () => {
    const lost = new Set<string>()
    onRead = (digest) => {
      if (lost.has(digest)) outage()
    }
    for (let count = 0; count < 500; count += 1) {
      const open = await begin()
      lost.add(open.ticket.digest)
      watch.watch(open, holder())
    }
    const open = await begin()
    const one = holder()
    watch.watch(open, one)
    await test.clock.advance(60_000)
    await test.vault.end(open, 'admin')
    await test.clock.advance(0)
    expect(one.heard.at(-1)).toBe('ended admin')
  })

  it('misses a record for a moment, as after a failover, ends nothing', async () => {
    const open = await begin()
    watch = watchOn(NEVER_TOLD)
    const one = holder()
    const strangers = { ...open, ticket: newTicket(undefined) }
    watch.watch(strangers, one)
    await test.clock.advance(900)
    expect(one.heard).toEqual([])
    await test.stores.sessions.create(strangers.ticket.digest, open.record, test.clock.now())
    await test.stores.sessions.end(strangers.ticket.digest, 'admin', test.clock.now())
    await test.clock.advance(500)
    expect(one.heard).toEqual(['ended admin'])
  })

  it('knows nothing of the session for good: its holders hear `unknown`', async () => {
    const one = holder()
    watch.watch({ ...(await begin()), ticket: newTicket(undefined) }, one)
    await test.clock.advance(3_000)
    expect(one.heard).toEqual(['ended unknown'])
  })
})

it('closed, it reads and tells nothing more', async () => {
  const open = await begin()
  const one = holder()
  watch.watch(open, one)
  await test.clock.advance(0)
  const reading = Promise.withResolvers<void>()
  onRead = () => reading.promise
  await test.vault.end(open, 'logout')
  watch.close()
  reading.resolve()
  await test.clock.advance(10_000)
  expect(one.heard).toEqual(['lives 0'])
  expect(test.clock.sleeping).toBe(0)
})
