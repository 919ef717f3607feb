/** Sessions served from memory: never past a change, a gap, a deadline or an own write, and never to another key. */

import { randomBytes } from 'node:crypto'
import { describe, expect, it, vi } from 'vitest'
import type { MemoryStores } from '../../../src/edges/memory/stores.ts'
import { createKeyRing } from '../../../src/session/key-ring.ts'
import type { TokenSet } from '../../../src/session/session.ts'
import type { SessionChangeListener, SessionChanges } from '../../../src/session/session-changes.ts'
import type { SessionStore } from '../../../src/session/session-store.ts'
import type { Ticket } from '../../../src/session/ticket.ts'
import type { OpenSession, Vault } from '../../../src/session/vault.ts'
import { after, milliseconds, seconds } from '../../../src/time.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { createTestVault, newSession, SEEN, TEST_SECRET, tokenSet } from '../../support/vaults.ts'

/** As a tracker tells, whenever the test says so; here nothing is told by itself. */
const createToldChanges = () => {
  const listeners = new Set<SessionChangeListener>()
  let isTold = true
  const changes: SessionChanges = {
    areTold: () => isTold,
    subscribe: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
  return {
    changes,
    changed: ({ ticket }: OpenSession) => {
      for (const listener of listeners) listener.changed(ticket.digest)
    },
    gap: () => {
      for (const listener of listeners) listener.gap()
    },
    lose: () => {
      isTold = false
    },
    regain: () => {
      isTold = true
    },
  }
}

/** Counts reads, and holds the answers back while the test wants that: they were read before and come after. */
const createWatchedStore = (store: SessionStore) => {
  const seen = { loads: 0, touches: 0 }
  let held: PromiseWithResolvers<void> | undefined
  let refusesTouches = false
  return {
    seen,
    refuseTouches: () => {
      refusesTouches = true
    },
    /** From now on; what is let go are the reads that were sent since. */
    hold: () => {
      const gate = Promise.withResolvers<void>()
      held = gate
      return () => gate.resolve()
    },
    store: {
      ...store,
      load: async (digest) => {
        seen.loads += 1
        const gate = held
        const state = await store.load(digest)
        await gate?.promise
        return state
      },
      touch: (...of) => {
        seen.touches += 1
        if (refusesTouches) return Promise.reject(new Error('the store is down'))
        return store.touch(...of)
      },
    } satisfies SessionStore,
  }
}

const LIFETIMES = { idle: seconds(1_800), absolute: seconds(28_800) }

const setUp = async (lifetimes = LIFETIMES, tokens: Partial<TokenSet> = {}) => {
  const base = createTestVault(lifetimes)
  const watched = createWatchedStore(base.stores.sessions)
  const told = createToldChanges()
  const vault = base.vaultOn(watched.store, told.changes)
  const begin = () =>
    vault.begin(newSession(tokenSet(base.clock.now(), 3_600, tokens), base.clock.now()), SEEN)
  /** How many reads of the store it takes to load the session once. */
  const readsOf = async (open: OpenSession) => {
    const before = watched.seen.loads
    await vault.load(open.ticket)
    return watched.seen.loads - before
  }
  return { ...base, ...watched, ...told, vault, begin, readsOf, open: await begin() }
}

const generationOf = async (vault: Vault, open: OpenSession) => {
  const seen = await vault.load(open.ticket)
  return seen.kind === 'live' ? seen.open.session.generation : seen.kind
}

/** As another replica does it: the store changes, and nobody here was told yet. */
const refreshElsewhere = async (
  {
    stores,
    records,
  }: { stores: MemoryStores; records: Awaited<ReturnType<typeof setUp>>['records'] },
  { ticket, session, record }: OpenSession,
) => {
  const next = { ...session, generation: session.generation + 1 }
  const sealed = records.sealNext(ticket.digest, ticket.key, next, record)
  await stores.sessions.replace(ticket.digest, session.generation, 'attempt-elsewhere', sealed)
}

describe('a session that was read once', () => {
  it('is served from memory', async () => {
    const { open, readsOf, vault } = await setUp()
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(0)
    expect(await vault.load(open.ticket)).toEqual(await vault.read(open.ticket))
  })

  it('is read from the store by whoever asks for that', async () => {
    const { open, vault, seen } = await setUp()
    await vault.load(open.ticket)
    await vault.read(open.ticket)
    expect(seen.loads).toBe(2)
  })

  it('is read again once it changed, and is served from memory again then', async () => {
    const world = await setUp()
    const { open, readsOf, vault, changed } = world
    await readsOf(open)
    await refreshElsewhere(world, open)
    expect(await generationOf(vault, open)).toBe(0)
    changed(open)
    expect(await generationOf(vault, open)).toBe(1)
    expect(await readsOf(open)).toBe(0)
  })

  it('is read again after a gap', async () => {
    const { open, readsOf, gap } = await setUp()
    await readsOf(open)
    gap()
    expect(await readsOf(open)).toBe(1)
  })

  it('is read each time while changes are not told, and not kept', async () => {
    const { open, readsOf, lose, gap, regain } = await setUp()
    await readsOf(open)
    lose()
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(1)
    gap()
    regain()
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(0)
  })

  it('is read again after 30 seconds, however well changes are told', async () => {
    const { open, readsOf, clock } = await setUp()
    await readsOf(open)
    await clock.advance(29_999)
    expect(await readsOf(open)).toBe(0)
    await clock.advance(1)
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(0)
  })

  it('is not served where it is over, and what the store says of that is not kept', async () => {
    const { open, readsOf, changed, stores, clock } = await setUp()
    await stores.sessions.end(open.ticket.digest, 'admin', clock.now())
    changed(open)
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(1)
  })
})

describe('many that come for one session at once', () => {
  it('share one read', async () => {
    const { open, vault, seen, hold } = await setUp()
    const release = hold()
    const loads = Array.from({ length: 20 }, () => vault.load(open.ticket))
    release()
    expect((await Promise.all(loads)).map(({ kind }) => kind)).toEqual(Array(20).fill('live'))
    expect(seen.loads).toBe(1)
  })

  it('share none that a change overtook', async () => {
    const world = await setUp()
    const { open, vault, seen, hold, changed } = world
    const release = hold()
    const early = vault.load(open.ticket)
    await refreshElsewhere(world, open)
    changed(open)
    const late = generationOf(vault, open)
    release()
    await early
    expect(await late).toBe(1)
    expect(seen.loads).toBe(2)
  })

  it('share none while changes are not told', async () => {
    const { open, vault, seen, hold, lose } = await setUp()
    lose()
    const release = hold()
    const loads = [vault.load(open.ticket), vault.load(open.ticket)]
    release()
    await Promise.all(loads)
    expect(seen.loads).toBe(2)
  })

  it('share none with another key', async () => {
    const { open, vault, seen, hold } = await setUp()
    const release = hold()
    const loads = [
      vault.load(open.ticket),
      vault.load({ ...open.ticket, key: Buffer.alloc(open.ticket.key.length, 1) }),
    ]
    release()
    expect((await Promise.all(loads)).map(({ kind }) => kind)).toEqual(['live', 'absent'])
    expect(seen.loads).toBe(2)
  })
})

describe('activity that is being remembered', () => {
  const due = async () => {
    const world = await setUp()
    await world.clock.advance(60_000)
    const reading = await world.vault.load(world.open.ticket)
    if (reading.kind !== 'live') expect.unreachable()
    return { ...world, loaded: reading.open }
  }

  it('needs no read of the store after it', async () => {
    const { loaded, vault, readsOf, seen } = await due()
    vault.touch(loaded)
    expect(await readsOf(loaded)).toBe(0)
    expect(vault.kept(loaded.ticket)?.lastActivityAt).toBeGreaterThan(loaded.lastActivityAt ?? 0)
    expect(seen.touches).toBe(1)
  })

  it('is asked for again where the store did not take it', async () => {
    const { loaded, vault, readsOf, refuseTouches, clock } = await due()
    refuseTouches()
    vault.touch(loaded)
    await clock.advance(0)
    expect(await readsOf(loaded)).toBe(1)
  })
})

describe('a change that comes between a read and its answer', () => {
  const overtaken = async (
    change: (world: Awaited<ReturnType<typeof setUp>>) => unknown,
  ): Promise<number | string> => {
    const world = await setUp()
    const release = world.hold()
    const reading = world.vault.load(world.open.ticket)
    await refreshElsewhere(world, world.open)
    await change(world)
    release()
    // The answer is from before the change, as without any memory.
    expect(await reading).toMatchObject({ open: { session: { generation: 0 } } })
    return generationOf(world.vault, world.open)
  }

  it('is not overtaken by the answer: what was read is not kept', async () => {
    expect(await overtaken(({ changed, open }) => changed(open))).toBe(1)
  })

  it('nor is a gap', async () => {
    expect(await overtaken(({ gap }) => gap())).toBe(1)
  })

  it('nor is a gap that began and ended meanwhile', async () => {
    expect(
      await overtaken(({ lose, gap, regain }) => {
        lose()
        gap()
        regain()
      }),
    ).toBe(1)
  })

  it('nor are changes that are no longer told when the answer comes', async () => {
    const world = await setUp()
    const release = world.hold()
    const reading = world.vault.load(world.open.ticket)
    await refreshElsewhere(world, world.open)
    world.lose()
    release()
    await reading
    world.regain()
    expect(await generationOf(world.vault, world.open)).toBe(1)
  })

  it('nor is a write of this process', async () => {
    const world = await setUp()
    const { open, vault, hold } = world
    const release = hold()
    const reading = vault.load(open.ticket)
    await vault.end(open, 'logout')
    release()
    expect((await reading).kind).toBe('live')
    expect((await vault.load(open.ticket)).kind).toBe('ended')
  })

  it('says nothing of another session, nor of who reads after it', async () => {
    const world = await setUp()
    const { open, vault, hold, changed, readsOf, begin } = world
    const other = await begin()
    const release = hold()
    const before = Promise.all([vault.load(open.ticket), vault.load(other.ticket)])
    changed(open)
    const after = vault.load(open.ticket)
    release()
    await Promise.all([before, after])
    expect(await readsOf(other)).toBe(0)
    expect(await readsOf(open)).toBe(0)
  })

  it('is not forgotten where several read at once', async () => {
    const world = await setUp()
    const { open, vault, hold, changed } = world
    const releaseFirst = hold()
    const first = vault.load(open.ticket)
    const releaseSecond = hold()
    const second = vault.load(open.ticket)
    releaseFirst()
    await refreshElsewhere(world, open)
    changed(open)
    releaseSecond()
    await Promise.all([first, second])
    expect(await generationOf(vault, open)).toBe(1)
  })
})

describe('whose ticket it is', () => {
  it('the same id with another key opens nothing, and takes nothing from who has the right one', async () => {
    const { open, vault, readsOf } = await setUp()
    await readsOf(open)
    const forged = { ...open.ticket, key: randomBytes(32) }
    expect(await vault.load(forged)).toMatchObject({ kind: 'absent' })
    expect(await readsOf(open)).toBe(0)
  })

  it('a secret that left the ring takes what it sealed with it', async () => {
    const { open, vault, ring, readsOf } = await setUp()
    await readsOf(open)
    ring.current = createKeyRing(['another-secret-of-more-than-32-characters', TEST_SECRET])
    expect(await readsOf(open)).toBe(0)
    ring.current = createKeyRing(['another-secret-of-more-than-32-characters'])
    expect(await vault.load(open.ticket)).toMatchObject({ kind: 'absent' })
  })
})

/** Where changes are not told, so that each load reads the store. */
const setUpUntold = async () => {
  const world = await setUp()
  world.lose()
  const opening = vi.spyOn(world.records, 'open')
  /** How many records it takes to open to load the session once, which reads the store in any case. */
  const openingsOf = async (ticket: Ticket) => {
    const [before, loads] = [opening.mock.calls.length, world.seen.loads]
    await world.vault.load(ticket)
    expect(world.seen.loads - loads).toBe(1)
    return opening.mock.calls.length - before
  }
  expect(await openingsOf(world.open.ticket)).toBe(1)
  return { ...world, openingsOf }
}

describe('a record that is read again', () => {
  it('is not opened again while its bytes are the same', async () => {
    const { open, vault, openingsOf } = await setUpUntold()
    const [first, second] = [await vault.load(open.ticket), await vault.read(open.ticket)]
    expect(second).toEqual(first)
    expect(await openingsOf(open.ticket)).toBe(0)
  })

  it('is opened again once it was replaced, by whomever', async () => {
    const world = await setUpUntold()
    const { open, vault, openingsOf } = world
    await refreshElsewhere(world, open)
    expect(await generationOf(vault, open)).toBe(1)
    expect(await openingsOf(open.ticket)).toBe(0)
  })

  it('is opened again where one byte differs, and then not taken', async () => {
    const { open, vault, stores, openingsOf } = await setUpUntold()
    const sealed = Uint8Array.from(open.record.sealed)
    sealed[sealed.length - 1] = (sealed.at(-1) ?? 0) ^ 1
    await stores.sessions.reseal(open.ticket.digest, { ...open.record, sealed })
    expect(await openingsOf(open.ticket)).toBe(1)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'absent', why: 'not_opened' })
  })

  it('is not taken with a generation that is not the sealed one', async () => {
    const { open, vault, stores } = await setUpUntold()
    const record = { ...open.record, generation: 1 }
    await stores.sessions.replace(open.ticket.digest, 0, 'attempt-1', record)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'absent', why: 'not_opened' })
  })

  it('opens with no other key', async () => {
    const { open, vault, openingsOf } = await setUpUntold()
    const forged = { ...open.ticket, key: randomBytes(32) }
    expect(await openingsOf(forged)).toBe(1)
    expect(await vault.load(forged)).toEqual({ kind: 'absent', why: 'not_opened' })
    expect(await openingsOf(open.ticket)).toBe(0)
  })

  it('opens with no secret that left the ring', async () => {
    const { open, vault, ring } = await setUpUntold()
    ring.current = createKeyRing(['another-secret-of-more-than-32-characters'])
    expect(await vault.load(open.ticket)).toEqual({ kind: 'absent', why: 'not_opened' })
  })

  it('is over when its time has come, or somebody ended it', async () => {
    const { open, vault, stores, clock } = await setUpUntold()
    const other = await vault.begin(newSession(tokenSet(clock.now(), 3_600), clock.now()), SEEN)
    await vault.load(other.ticket)
    await stores.sessions.end(other.ticket.digest, 'admin', clock.now())
    expect(await vault.load(other.ticket)).toMatchObject({ kind: 'ended', reason: 'admin' })
    await clock.advance(LIFETIMES.idle * 1000)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'ended', reason: 'idle' })
  })

  it('is not served without reading it once changes are told again', async () => {
    const { open, regain, gap, readsOf } = await setUpUntold()
    gap()
    regain()
    expect(await readsOf(open)).toBe(1)
    expect(await readsOf(open)).toBe(0)
  })
})

describe('times that the memory knows', () => {
  it('absolute: the store is read, and the session is over', async () => {
    const { open, vault, clock, readsOf } = await setUp({
      idle: seconds(1_800),
      absolute: seconds(20),
    })
    await readsOf(open)
    await clock.advance(19_999)
    expect(await readsOf(open)).toBe(0)
    await clock.advance(1)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'ended', reason: 'absolute' })
  })

  it('an access token that nothing can refresh', async () => {
    const { open, vault, clock, readsOf } = await setUp(LIFETIMES, {
      refreshToken: undefined,
      accessTokenExpiresAt: after(createFakeClock().now(), milliseconds(20_000)),
    })
    await readsOf(open)
    await clock.advance(19_999)
    expect(await readsOf(open)).toBe(0)
    await clock.advance(1)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'ended', reason: 'access_token_expired' })
  })

  it('idle: the store is read before anybody is turned away, because another replica may know more', async () => {
    const { open, vault, clock, stores, readsOf } = await setUp({
      idle: seconds(20),
      absolute: seconds(28_800),
    })
    await readsOf(open)
    await clock.advance(10_000)
    await stores.sessions.touch(open.ticket.digest, clock.now())
    await clock.advance(10_000)
    expect((await vault.load(open.ticket)).kind).toBe('live')
    await clock.advance(10_000)
    expect(await vault.load(open.ticket)).toEqual({ kind: 'ended', reason: 'idle' })
  })
})

describe('activity', () => {
  it('is remembered at most once per tenth of the idle time, from whichever requests', async () => {
    const { open, vault, clock, seen } = await setUp({
      idle: seconds(60),
      absolute: seconds(28_800),
    })
    const request = async () => {
      const reading = await vault.load(open.ticket)
      if (reading.kind === 'live') vault.touch(reading.open)
    }
    await request()
    expect(seen.touches).toBe(0)
    await clock.advance(5_999)
    await request()
    expect(seen.touches).toBe(0)
    await clock.advance(1)
    await Promise.all(Array.from({ length: 20 }, request))
    expect(seen.touches).toBe(1)
    for (let second = 0; second < 5; second += 1) {
      await clock.advance(1_000)
      await request()
    }
    expect(seen.touches).toBe(1)
    await clock.advance(1_000)
    await request()
    expect(seen.touches).toBe(2)
  })

  it('that another replica remembered is not remembered once more', async () => {
    const { open, vault, clock, stores, seen, readsOf } = await setUp()
    await readsOf(open)
    await clock.advance(29_000)
    await readsOf(open)
    await clock.advance(29_000)
    await readsOf(open)
    await stores.sessions.touch(open.ticket.digest, clock.now())
    await clock.advance(2_000)
    const reading = await vault.load(open.ticket)
    if (reading.kind === 'live') vault.touch(reading.open)
    expect(seen.touches).toBe(0)
  })

  it('keeps an active session alive that is always served from memory', async () => {
    const { open, vault, clock } = await setUp({ idle: seconds(60), absolute: seconds(28_800) })
    for (let second = 0; second < 600; second += 5) {
      await clock.advance(5_000)
      const reading = await vault.load(open.ticket)
      if (reading.kind !== 'live') return expect.unreachable(`after ${second} s`)
      vault.touch(reading.open)
    }
  })
})

describe('what this process writes itself', () => {
  it.each<[string, (world: Awaited<ReturnType<typeof setUp>>) => Promise<unknown>, unknown]>([
    ['an end', ({ vault, open }) => vault.end(open, 'logout'), 'ended'],
    [
      'a refresh',
      ({ vault, open }) => vault.replace(open, { ...open.session, generation: 1 }, 'attempt-1'),
      1,
    ],
  ])('%s is not served as it was before, told or not', async (_, write, expected) => {
    const world = await setUp()
    await world.readsOf(world.open)
    await write(world)
    expect(await generationOf(world.vault, world.open)).toBe(expected)
  })

  it('a seal under a newer secret', async () => {
    const { open, vault, ring, readsOf, records } = await setUp()
    await readsOf(open)
    ring.current = createKeyRing(['another-secret-of-more-than-32-characters', TEST_SECRET])
    await vault.reseal(open)
    const reading = await vault.load(open.ticket)
    expect(reading.kind === 'live' && records.ringIdOf(reading.open.record)).toBe(
      ring.current.sealing.id,
    )
  })

  it('a write whose outcome is not known', async () => {
    const base = await setUp()
    const failing = {
      ...base.store,
      end: async (...of: Parameters<SessionStore['end']>) => {
        await base.store.end(...of)
        throw new Error('Command timed out')
      },
    }
    const vault = base.vaultOn(failing, base.changes)
    await vault.load(base.open.ticket)
    await expect(vault.end(base.open, 'logout')).rejects.toThrow('timed out')
    expect((await vault.load(base.open.ticket)).kind).toBe('ended')
  })
})

describe('the size of the memory', () => {
  it('is bounded by bytes: the longest unused session is read again', async () => {
    const { vault, clock, readsOf } = await setUp()
    // So large that far fewer than a hundred fit into 64 MiB, token and sealed record together.
    const accessToken = randomBytes(384 * 1024).toString('base64url')
    const sessions: OpenSession[] = []
    for (let count = 0; count < 80; count += 1) {
      const tokens = tokenSet(clock.now(), 3_600, { accessToken })
      const open = await vault.begin(newSession(tokens, clock.now()), SEEN)
      sessions.push(open)
      await vault.load(open.ticket)
    }
    expect(await readsOf(sessions.at(-1)!)).toBe(0)
    expect(await readsOf(sessions[0]!)).toBe(1)
  })
})
