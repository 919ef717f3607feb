/** The verdict on chaos can be red: each promise is broken here once, and a loss is excused by a kill alone. */

import { describe, expect, test } from 'vitest'
import type { Tally } from './chaos-load.ts'
import {
  brokenPromises,
  type Findings,
  killThatLost,
  type LoggedRequest,
  type Loss,
  presentationsOfLast,
  type Terms,
} from './chaos-verdict.ts'

const KILLED_AT = 10_000

/** A refresh that the provider answered 20 ms before the kill, over a connection that died with it. */
const spent = (change: Partial<LoggedRequest> = {}): LoggedRequest => ({
  at: KILLED_AT - 20,
  grantId: 'g',
  consumed: true,
  refreshTokenFingerprint: 'first',
  issuedRefreshTokenFingerprint: 'second',
  connection: { closedAt: KILLED_AT + 3 },
  ...change,
})

const reuse = spent({
  at: KILLED_AT + 7_000,
  consumed: false,
  issuedRefreshTokenFingerprint: undefined,
  connection: { closedAt: undefined },
})

test('a token spent for a process that was killed excuses the loss of its session', () => {
  expect(killThatLost('g', [spent(), reuse], [1_000, KILLED_AT])).toBe(KILLED_AT)
})

test('the log shows when the last token came: spent, and presented again', () => {
  const log = [spent(), spent({ refreshTokenFingerprint: 'of another' }), reuse]
  expect(presentationsOfLast('g', [spent(), reuse])).toEqual([0, 7_020])
  expect(presentationsOfLast('g', log)).toEqual([0])
  expect(presentationsOfLast('unknown', log)).toEqual([])
})

describe('nothing excuses a loss', () => {
  test.for<[string, readonly LoggedRequest[], readonly number[]]>([
    ['without a kill', [spent(), reuse], []],
    ['of another grant', [spent({ grantId: 'other' })], [KILLED_AT]],
    ['where nothing was spent', [reuse], [KILLED_AT]],
    [
      'where the next token was presented, so that the store had it',
      [spent(), { ...reuse, refreshTokenFingerprint: 'second' }],
      [KILLED_AT],
    ],
    [
      'where the holder lived on',
      [spent({ connection: { closedAt: undefined } }), reuse],
      [KILLED_AT],
    ],
    [
      'where the connection had been closed before the kill',
      [spent({ connection: { closedAt: KILLED_AT - 1 } }), reuse],
      [KILLED_AT],
    ],
    ['where the holder had long had the answer', [spent({ at: KILLED_AT - 3_000 })], [KILLED_AT]],
    [
      'where an earlier refresh met the kill, and a later one of a living process was the last',
      [spent(), spent({ at: KILLED_AT + 5_000, connection: { closedAt: undefined } }), reuse],
      [KILLED_AT],
    ],
  ])('%s', ([, log, kills]) => {
    expect(killThatLost('g', log, kills)).toBeUndefined()
  })
})

describe('a promise is broken', () => {
  const tally = (change: Partial<Tally> = {}): Tally => ({
    ...{ requests: 100, good: 90, unavailable: 9, unauthorized: 1, other: {}, cut: 2, rude: 0 },
    slowestMs: 3_020,
    slowestStatus: 503,
    stalledMs: 10,
    ...change,
  })
  const loss: Loss = {
    ...{ session: 'abc', code: 'session_ended', reason: 'refresh_lost' },
    ...{ killedAt: KILLED_AT, presentedAfterMs: [0, 7_020] },
  }
  const findings = (change: Partial<Findings> = {}): Findings => ({
    ...{ tally: tally(), kills: 2, sessionsBefore: 10, losses: [loss], stuck: 0 },
    ...{ recoveredAfterMs: 10, providerCalls: 30, providerCallsMeanwhile: 20 },
    ...change,
  })
  const terms: Terms = {
    killsMayCostSessions: true,
    providerCallsMeanwhileMax: 20,
    felt: ({ kills }) => kills > 0,
  }

  test('by none of these: 503s, cut calls and one session that a kill excuses', () => {
    expect(brokenPromises(findings(), terms)).toEqual([])
  })

  test.for<[string, Partial<Findings>, Partial<Terms>, RegExp]>([
    ['a fault that nobody felt', {}, { felt: () => false }, /nothing is proven/],
    ['a 401 of a session that lives', { tally: tally({ unauthorized: 2 }) }, {}, /2 .* 401/],
    ['any other answer', { tally: tally({ other: { '500 internal': 1 } }) }, {}, /500 internal/],
    ['a 503 that says not when', { tally: tally({ rude: 1 }) }, {}, /Retry-After/],
    ['a cut call without a kill', { kills: 0 }, { felt: () => true }, /2 calls cut/],
    ['a slow answer', { tally: tally({ slowestMs: 3_021 }) }, {}, /3021 ms/],
    ['a crowd at the provider', { providerCallsMeanwhile: 21 }, {}, /called 21 times/],
    ['a session that works no more', { stuck: 1 }, {}, /1 sessions/],
    ['a loss that no kill explains', { losses: [{ ...loss, killedAt: undefined }] }, {}, /abc/],
    ['a loss for another reason', { losses: [{ ...loss, reason: 'idle' }] }, {}, /idle/],
    ['any loss where reuse is tolerated', {}, { killsMayCostSessions: false }, /abc/],
  ])('by %s', ([, change, otherTerms, sentence]) => {
    const broken = brokenPromises(findings(change), { ...terms, ...otherTerms })
    expect(broken).toHaveLength(1)
    expect(broken[0]).toMatch(sentence)
  })
})
