/** Lifetimes at any instant: once over, over for good, and no limit ever gives way to another. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { freshnessAt } from '../../src/credential/freshness.ts'
import {
  activityIsDue,
  canRefresh,
  idleExpiresIn,
  lifetimeAt,
  sessionDeadline,
  wholeSecondsUntil,
} from '../../src/session/session.ts'
import {
  recordExpiresAt,
  TOMBSTONE_LIFE_MS,
  tombstoneExpiresAt,
} from '../../src/session/session-store.ts'
import { epochMs, seconds } from '../../src/time.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../support/vaults.ts'

const T0 = 1_764_000_000_000
const span = fc.integer({ min: 0, max: 40 * 86_400_000 })
const instant = span.map((ms) => epochMs(T0 + ms))
const idle = fc.integer({ min: 1, max: 30 * 86_400 }).map(seconds)

const session = fc.record({
  absoluteExpiresAt: instant,
  tokens: fc
    .record({
      lifetime: fc.integer({ min: 1, max: 86_400 }),
      expiresAt: instant,
      refreshToken: fc.option(fc.constant('refresh'), { nil: undefined }),
      refreshTokenExpiresAt: fc.option(instant, { nil: undefined }),
    })
    .map(({ lifetime, expiresAt, refreshToken, refreshTokenExpiresAt }) =>
      tokenSet(T0, lifetime, {
        accessTokenExpiresAt: expiresAt,
        refreshToken,
        refreshTokenExpiresAt,
      }),
    ),
})
const twoInstants = fc
  .tuple(instant, instant)
  .map(([a, b]) => (a <= b ? ([a, b] as const) : ([b, a] as const)))
const activity = fc.option(instant, { nil: undefined })

describe('ASVS 7.3.2 a session', () => {
  it('that is over never lives again by time alone', () => {
    fc.assert(
      fc.property(session, activity, idle, twoInstants, (given, last, idleTime, [now, later]) => {
        if (lifetimeAt(given, last, idleTime, now) !== 'live')
          expect(lifetimeAt(given, last, idleTime, later)).not.toBe('live')
      }),
      { numRuns: 5_000 },
    )
  })

  it('ends at its absolute deadline however active it is, whatever its tokens say', () => {
    fc.assert(
      fc.property(session, idle, instant, (given, idleTime, now) => {
        const lifetime = lifetimeAt(given, now, idleTime, now)
        if (now >= given.absoluteExpiresAt) expect(lifetime).toBe('absolute')
        if (lifetime === 'live') expect(now).toBeLessThan(given.absoluteExpiresAt)
      }),
      { numRuns: 5_000 },
    )
  })

  it('is idle exactly from its idle time on, and activity that is unknown never makes it so', () => {
    fc.assert(
      fc.property(session, activity, idle, instant, (given, last, idleTime, now) => {
        const lifetime = lifetimeAt(given, last, idleTime, now)
        if (last === undefined) expect(lifetime).not.toBe('idle')
        else if (lifetime === 'live') expect(now - last).toBeLessThan(idleTime * 1000)
        else if (lifetime === 'idle') expect(now - last).toBeGreaterThanOrEqual(idleTime * 1000)
      }),
      { numRuns: 5_000 },
    )
  })

  it('lives while its access token does, and beyond only if something can be refreshed', () => {
    fc.assert(
      fc.property(session, idle, instant, (given, idleTime, now) => {
        const isLive = lifetimeAt(given, now, idleTime, now) === 'live'
        const hasToken = now < given.tokens.accessTokenExpiresAt || canRefresh(given.tokens, now)
        expect(isLive).toBe(now < given.absoluteExpiresAt && hasToken)
      }),
      { numRuns: 5_000 },
    )
  })

  it('OIDC session view: what it is told to have left, it has; idle is never more than the whole', () => {
    fc.assert(
      fc.property(session, activity, idle, instant, (given, last, idleTime, now) => {
        fc.pre(lifetimeAt(given, last, idleTime, now) === 'live')
        const expiresIn = wholeSecondsUntil(sessionDeadline(given, now), now)
        const idleIn = idleExpiresIn(given, last, idleTime, now)
        expect(idleIn).toBeGreaterThanOrEqual(0)
        expect(idleIn).toBeLessThanOrEqual(
          Math.min(expiresIn, idleTime + (last ?? now) / 1000 - now / 1000),
        )
        if (last !== undefined && idleIn > 0) {
          const justBefore = epochMs(now + idleIn * 1000 - 1)
          expect(lifetimeAt(given, last, idleTime, justBefore)).not.toBe('idle')
        }
      }),
      { numRuns: 5_000 },
    )
  })

  it('has its activity written often enough that nobody active is taken for idle', () => {
    fc.assert(
      fc.property(idle, instant, fc.integer({ min: 0, max: 86_400_000 }), (idleTime, last, gap) => {
        const now = epochMs(last + gap)
        if (!activityIsDue(last, idleTime, now)) expect(gap).toBeLessThan(idleTime * 1000 * 0.1 + 1)
        if (gap >= 60_000) expect(activityIsDue(last, idleTime, now)).toBe(true)
        expect(activityIsDue(undefined, idleTime, now)).toBe(true)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('the store’s own ends', () => {
  it('a record outlives its session by ten minutes, a tombstone neither that nor a day', () => {
    fc.assert(
      fc.property(instant, instant, (endedAt, absoluteExpiresAt) => {
        const record = recordExpiresAt(absoluteExpiresAt)
        const tombstone = tombstoneExpiresAt(endedAt, absoluteExpiresAt)
        expect(record - absoluteExpiresAt).toBe(600_000)
        expect(tombstone).toBeLessThanOrEqual(record)
        expect(tombstone - endedAt).toBeLessThanOrEqual(TOMBSTONE_LIFE_MS)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('an access token', () => {
  it('goes from fresh to due to expired, never back, and expired comes before its end', () => {
    const order = { fresh: 0, due: 1, expired: 2 } as const
    fc.assert(
      fc.property(session, twoInstants, ({ tokens }, [now, later]) => {
        const first = freshnessAt(tokens, now)
        expect(order[freshnessAt(tokens, later)]).toBeGreaterThanOrEqual(order[first])
        if (now >= tokens.accessTokenExpiresAt) expect(first).toBe('expired')
        // Nothing that still has most of its life before it is called due.
        if (tokens.accessTokenExpiresAt - now > tokens.accessTokenLifetime * 250)
          expect(first).toBe('fresh')
      }),
      { numRuns: 5_000 },
    )
  })
})

describe('the vault enforces what the functions say', () => {
  /** Steps a user makes: waiting, calling the API, asking for the session. */
  const step = fc.oneof(
    fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 0, max: 400_000 }) }),
    fc.record({ kind: fc.constant('call' as const), ms: fc.constant(0) }),
    fc.record({ kind: fc.constant('ask' as const), ms: fc.constant(0) }),
  )

  it('in any order of waiting, calling and asking, with its end told once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const idleMs = 600_000
        const absoluteMs = 3_600_000
        const { clock, vault, events } = createTestVault({
          idle: seconds(idleMs / 1000),
          absolute: seconds(absoluteMs / 1000),
        })
        const begun = clock.now()
        const { ticket } = await vault.begin(newSession(tokenSet(begun, 86_400), begun), SEEN)
        /** The latest instant that the store may take for the last activity, and the earliest. */
        let written: number = begun
        let active: number = begun
        let isOver = false
        for (const { kind, ms } of steps) {
          if (kind === 'wait') {
            await clock.advance(ms)
            continue
          }
          const now = clock.now()
          const reading = await vault.load(ticket)
          if (reading.kind === 'live') {
            expect(isOver).toBe(false)
            expect(now).toBeLessThan(begun + absoluteMs)
            expect(now).toBeLessThan(active + idleMs)
            if (kind === 'call') {
              vault.touch(reading.open)
              await clock.advance(0)
              active = now
              if (now - written >= 60_000) written = now
            }
          } else {
            isOver = true
            // Over for a reason: the absolute end, or longer than the idle time since what was written.
            expect(now >= begun + absoluteMs || now >= written + idleMs).toBe(true)
          }
        }
        const ends = events.filter(({ type }) => type === 'session_ended')
        expect(ends.length).toBe(isOver ? 1 : 0)
      }),
      { numRuns: 200 },
    )
  })
})
