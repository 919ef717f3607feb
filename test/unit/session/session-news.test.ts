/** What a page is told of its session: each thing once, ahead of the ends, and again where they were put off. */

import { describe, expect, it } from 'vitest'
import { comingEnds, nextReadingIn } from '../../../src/session/coming-ends.ts'
import type { Session, TokenSet } from '../../../src/session/session.ts'
import { createSessionNews } from '../../../src/session/session-news.ts'
import type { OpenSession } from '../../../src/session/vault.ts'
import { epochMs, seconds } from '../../../src/time.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { newSession, tokenSet } from '../../support/vaults.ts'

const LIFETIMES = { idle: seconds(1_800), absolute: seconds(28_800) }
const T0 = 1_764_000_000_000

interface Known {
  readonly activeAt?: number | undefined
  readonly tokens?: Partial<TokenSet>
  readonly session?: Partial<Session>
  readonly lifetimes?: typeof LIFETIMES
}

const openAt = (known: Known = {}) => {
  const { tokens = {}, session = {}, lifetimes = LIFETIMES } = known
  const activeAt = 'activeAt' in known ? known.activeAt : 0
  return {
    session: {
      ...newSession(tokenSet(T0, 300, tokens), T0),
      generation: 0,
      createdAt: epochMs(T0),
      absoluteExpiresAt: epochMs(T0 + lifetimes.absolute * 1000),
      ...session,
    },
    lastActivityAt: activeAt === undefined ? undefined : epochMs(T0 + activeAt * 1000),
  } as OpenSession
}

const reader = (lifetimes = LIFETIMES) => {
  const clock = createFakeClock(epochMs(T0))
  const newsOf = createSessionNews(lifetimes, clock)
  return async (atSeconds: number, known: Known = {}) => {
    await clock.advance(T0 + atSeconds * 1000 - clock.now())
    return newsOf(openAt({ lifetimes, ...known }))
  }
}

describe('the first answer', () => {
  it('says where the session stands', async () => {
    const at = reader()
    expect(await at(0)).toEqual([{ event: 'session', expiresIn: 28_800, idleExpiresIn: 1_800 }])
  })

  it('says at once that an end is near', async () => {
    const at = reader()
    expect(await at(1_770)).toEqual([
      { event: 'session', expiresIn: 27_030, idleExpiresIn: 30 },
      { event: 'expiring', reason: 'idle', expiresIn: 30 },
    ])
  })
})

describe('expiring', () => {
  it('comes a minute ahead, once', async () => {
    const at = reader()
    await at(0)
    expect(await at(1_739)).toEqual([])
    expect(await at(1_740)).toEqual([{ event: 'expiring', reason: 'idle', expiresIn: 60 }])
    expect(await at(1_750)).toEqual([])
    expect(await at(1_799)).toEqual([])
  })

  it('comes a fifth of a short lifetime ahead', async () => {
    const at = reader({ idle: seconds(10), absolute: seconds(100) })
    await at(0)
    expect(await at(7.9)).toEqual([])
    expect(await at(8)).toEqual([{ event: 'expiring', reason: 'idle', expiresIn: 2 }])
  })

  it('is taken back when activity has put the end off, and comes again next time', async () => {
    const at = reader()
    await at(0)
    await at(1_740)
    expect(await at(1_755, { activeAt: 1_745 })).toEqual([
      { event: 'session', expiresIn: 27_045, idleExpiresIn: 1_790 },
    ])
    expect(await at(3_400, { activeAt: 1_745 })).toEqual([])
    expect(await at(3_485, { activeAt: 1_745 })).toEqual([
      { event: 'expiring', reason: 'idle', expiresIn: 60 },
    ])
  })

  it('of the absolute end comes whatever activity there is', async () => {
    const at = reader()
    await at(0)
    expect(await at(28_740, { activeAt: 28_700 })).toEqual([
      { event: 'expiring', reason: 'absolute', expiresIn: 60 },
    ])
    expect(await at(28_770, { activeAt: 28_765 })).toEqual([])
  })

  it('of an idle end that the session does not live to see never comes', async () => {
    const at = reader({ idle: seconds(100), absolute: seconds(100) })
    await at(0)
    expect(await at(85, { activeAt: 0 })).toEqual([
      { event: 'expiring', reason: 'absolute', expiresIn: 15 },
    ])
  })

  it('of a session that cannot refresh comes ahead of the end of its access token', async () => {
    const at = reader()
    const known = { tokens: { refreshToken: undefined } }
    await at(0, known)
    expect(await at(239, known)).toEqual([])
    expect(await at(240, known)).toEqual([{ event: 'expiring', reason: 'absolute', expiresIn: 60 }])
  })

  it('of a refresh token that ends before the idle time names an end that a call puts off', async () => {
    const at = reader()
    const known = { tokens: { refreshTokenExpiresAt: epochMs(T0 + 600_000) } }
    await at(0, known)
    expect(await at(540, known)).toEqual([{ event: 'expiring', reason: 'idle', expiresIn: 60 }])
  })

  it('of a refresh token that ends before the access token names the access token’s end', async () => {
    const at = reader()
    const known = { tokens: { refreshTokenExpiresAt: epochMs(T0 + 200_000) } }
    await at(0, known)
    expect(await at(190, known)).toEqual([])
    expect(await at(240, known)).toEqual([{ event: 'expiring', reason: 'absolute', expiresIn: 60 }])
  })

  it('never comes of an idle time that is not known', async () => {
    const at = reader()
    const known = { activeAt: undefined }
    await at(0, known)
    expect(await at(1_790, known)).toEqual([])
  })
})

describe('claims', () => {
  it('come with the whole user when one has changed, and only then', async () => {
    const at = reader()
    await at(0)
    const renamed = { session: { generation: 1, claims: { sub: 'alice', name: 'Alice B.' } } }
    expect(await at(10, { session: { generation: 1 } })).toEqual([])
    expect(await at(20, renamed)).toEqual([
      { event: 'claims', user: { sub: 'alice', name: 'Alice B.' } },
    ])
    expect(await at(30, renamed)).toEqual([])
  })
})

describe('the next reading', () => {
  const nextAt = (atSeconds: number, known: Known = {}) =>
    nextReadingIn(openAt(known), LIFETIMES, epochMs(T0 + atSeconds * 1000)) / 1000 + atSeconds

  it('is ahead of the idle end, four times on the way to it, and at it', () => {
    expect([0, 1_740, 1_755, 1_770, 1_785].map((at) => nextAt(at))).toEqual([
      ...[1_740, 1_755, 1_770, 1_785, 1_800],
    ])
  })

  it('is ahead of the absolute end and at it', () => {
    expect(nextAt(28_000, { activeAt: 28_000 })).toBe(28_740)
    expect(nextAt(28_740, { activeAt: 28_740 })).toBe(28_800)
  })

  it('is never at once, also where the end should have come', () => {
    expect(nextAt(1_801)).toBe(1_801.25)
  })

  it('knows both ends', () => {
    expect(comingEnds(openAt(), LIFETIMES, epochMs(T0))).toEqual({
      idle: { at: T0 + 1_800_000, toldFrom: T0 + 1_740_000 },
      absolute: { at: T0 + 28_800_000, toldFrom: T0 + 28_740_000 },
    })
  })
})
