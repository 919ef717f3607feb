/** The refresh machine on the memory stores, a fake clock and a scripted provider. */

import { expect, test, vi } from 'vitest'
import { createProviderSlots } from '../../../src/credential/provider-slots.ts'
import { createRefreshMachine, refreshTimes } from '../../../src/credential/refresh.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { RefreshAnswer, RefreshRequest } from '../../../src/oidc/provider.ts'
import { subjectIndex } from '../../../src/session/session-index.ts'
import type { SessionStore } from '../../../src/session/session-store.ts'
import type { OpenSession } from '../../../src/session/vault.ts'
import { epochMs, type Milliseconds, milliseconds, seconds } from '../../../src/time.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../../support/vaults.ts'

const LIFETIME = 100

const setUp = async (options: { storeFaults?: (method: keyof SessionStore) => boolean } = {}) => {
  const base = createTestVault()
  const { clock, stores, emit } = base
  const faulty: SessionStore = new Proxy(stores.sessions, {
    get:
      (target, method: keyof SessionStore) =>
      (...of: unknown[]): unknown =>
        options.storeFaults?.(method) === true
          ? Promise.reject(new GatewayError('store_unavailable'))
          : Reflect.apply(target[method], target, of),
  })
  const vault = base.vaultOn(faulty)
  const calls: RefreshRequest[] = []
  const revoked: string[] = []
  const notices: [string, string][] = []
  let answer: (request: RefreshRequest) => Promise<RefreshAnswer> | RefreshAnswer = (request) =>
    granted(request)

  const granted = (request: RefreshRequest): RefreshAnswer => {
    const turn = Number(request.tokens.refreshToken.split('-')[1]) + 1
    return {
      kind: 'tokens',
      tokens: tokenSet(clock.now(), LIFETIME, {
        accessToken: `access-${turn}`,
        refreshToken: `refresh-${turn}`,
      }),
      idTokenClaims: undefined,
    }
  }

  const machineOn = () =>
    createRefreshMachine({
      vault,
      lease: stores.lease,
      provider: {
        refresh: async (request) => {
          calls.push(request)
          return answer(request)
        },
      },
      revoke: (refreshToken) => {
        if (refreshToken !== undefined) revoked.push(refreshToken)
      },
      slots: createProviderSlots(clock, 8, () => 1),
      clock,
      times: refreshTimes(seconds(5)),
      emit,
      notice: (notice, detail) => void notices.push([notice, detail]),
      random: () => 1,
      claimsFrom: (claims) => claims,
    })

  const open = await base.vault.begin(
    newSession(tokenSet(clock.now(), LIFETIME), clock.now()),
    SEEN,
  )
  const later = async (ms: number): Promise<OpenSession> => {
    await clock.advance(milliseconds(ms))
    return reread()
  }
  const reread = async (): Promise<OpenSession> => {
    const seen = await base.vault.load(open.ticket)
    if (seen.kind !== 'live') throw new Error(`session is ${seen.kind}`)
    return seen.open
  }
  return {
    ...base,
    open,
    later,
    reread,
    calls,
    revoked,
    notices,
    machine: machineOn(),
    machineOn,
    granted,
    answers: (next: typeof answer) => {
      answer = next
    },
    outcomes: () =>
      base.events.flatMap((event) => (event.type === 'token_refreshed' ? [event.outcome] : [])),
    ended: () =>
      base.events.flatMap((event) => (event.type === 'session_ended' ? [event.reason] : [])),
  }
}

const EXPIRED_MS = (LIFETIME - 1) * 1000
const DUE_MS = (LIFETIME - 20) * 1000

const usable = (
  freshened: Awaited<ReturnType<ReturnType<typeof createRefreshMachine>['freshen']>>,
) => {
  if (freshened.kind !== 'usable') throw new Error(`ended: ${freshened.reason}`)
  return freshened.open.session
}

const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise
    return 'none'
  } catch (thrown) {
    return thrown instanceof GatewayError ? thrown.code : 'other'
  }
}

const deferred = <T>() => {
  let resolve: (value: T) => void = () => {}
  const promise = new Promise<T>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

test('a fresh token is sent as it is and nothing is asked', async () => {
  const { machine, open, calls } = await setUp()
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('access-0')
  expect(calls).toHaveLength(0)
})

test('a due token goes out at once while one refresh runs behind it', async () => {
  const { machine, later, calls, clock, answers, granted, reread } = await setUp()
  const held = deferred<RefreshAnswer>()
  answers(() => held.promise)
  const open = await later(DUE_MS)
  const sent = await Promise.all(Array.from({ length: 20 }, () => machine.freshen(open)))
  expect(new Set(sent.map((one) => usable(one).tokens.accessToken))).toEqual(new Set(['access-0']))
  await clock.advance(milliseconds(1))
  expect(calls).toHaveLength(1)
  held.resolve(granted(calls[0]!))
  await machine.settled(milliseconds(1000))
  expect((await reread()).session.tokens.accessToken).toBe('access-1')
})

test('50 requests on an expired token make one call and all get its result', async () => {
  const { machine, later, calls } = await setUp()
  const open = await later(EXPIRED_MS)
  const sent = await Promise.all(Array.from({ length: 50 }, () => machine.freshen(open)))
  expect(new Set(sent.map((one) => usable(one).tokens.accessToken))).toEqual(new Set(['access-1']))
  expect(calls).toHaveLength(1)
})

test('two processes on one store make one call; the second adopts the result', async () => {
  const { machine, machineOn, later, calls, clock, answers, granted } = await setUp()
  const other = machineOn()
  const open = await later(EXPIRED_MS)
  const held = deferred<RefreshAnswer>()
  answers(() => held.promise)
  const here = machine.freshen(open)
  await clock.advance(milliseconds(10))
  const there = other.freshen(open)
  await clock.advance(milliseconds(200))
  held.resolve(granted(calls[0]!))
  await clock.advance(milliseconds(600))
  expect(usable(await here).tokens.accessToken).toBe('access-1')
  expect(usable(await there).tokens.accessToken).toBe('access-1')
  expect(calls).toHaveLength(1)
})

test('RFC 6749 §5.2 invalid_grant ends the session once, with a reason', async () => {
  const { machine, later, answers, ended } = await setUp()
  answers(() => ({ kind: 'rejected', cause: undefined }))
  const open = await later(EXPIRED_MS)
  const results = await Promise.all([machine.freshen(open), machine.freshen(open)])
  expect(results).toEqual([
    { kind: 'ended', reason: 'refresh_rejected' },
    { kind: 'ended', reason: 'refresh_rejected' },
  ])
  expect(ended()).toEqual(['refresh_rejected'])
})

test('invalid_grant after another process moved the record adopts it instead of ending it', async () => {
  const { machine, later, answers, vault, ended } = await setUp()
  const open = await later(EXPIRED_MS)
  answers(async () => {
    const moved = {
      ...open.session,
      generation: 1,
      tokens: tokenSet(open.session.createdAt + EXPIRED_MS, LIFETIME, { accessToken: 'theirs' }),
    }
    await vault.replace(open, moved, 'other-attempt')
    return { kind: 'rejected', cause: undefined }
  })
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('theirs')
  expect(ended()).toEqual([])
})

test('an unavailable provider keeps the session: the old token while it lives, then 503', async () => {
  const { machine, later, answers, calls, ended } = await setUp()
  answers(() => ({
    kind: 'unavailable',
    reason: 'status_500',
    retryAfter: undefined,
    spent: 'no',
    cause: undefined,
  }))
  const nearlyExpired = await later(EXPIRED_MS)
  expect(usable(await machine.freshen(nearlyExpired)).tokens.accessToken).toBe('access-0')
  expect(calls).toHaveLength(1)
  // Within the pause nobody asks again.
  await machine.freshen(nearlyExpired)
  expect(calls).toHaveLength(1)
  const expired = await later(2_000)
  expect(await codeOf(machine.freshen(expired))).toBe('provider_unavailable')
  expect(ended()).toEqual([])
})

test('Retry-After of the provider is honoured by every replica', async () => {
  const { machine, machineOn, later, answers, calls } = await setUp()
  answers(() => ({
    kind: 'unavailable',
    reason: 'status_429',
    retryAfter: seconds(7),
    spent: 'no',
    cause: undefined,
  }))
  const open = await later(EXPIRED_MS)
  await machine.freshen(open)
  const other = machineOn()
  const expired = await later(2_000)
  await expect(other.freshen(expired)).rejects.toMatchObject({
    code: 'provider_unavailable',
    retryAfterSeconds: 5,
  })
  expect(calls).toHaveLength(1)
  await later(6_000)
  await codeOf(machine.freshen(expired))
  expect(calls).toHaveLength(2)
})

test('a misconfigured client keeps the session and calls the operator', async () => {
  const { machine, later, answers, notices, ended } = await setUp()
  answers(() => ({ kind: 'misconfigured', reason: 'invalid_client', cause: undefined }))
  const open = await later(EXPIRED_MS)
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('access-0')
  expect(notices).toEqual([['provider_misconfigured', 'invalid_client']])
  expect(ended()).toEqual([])
})

test('a request waits a bounded time and the refresh goes on without it', async () => {
  const { machine, later, answers, calls, clock, granted, reread } = await setUp()
  const held = deferred<RefreshAnswer>()
  answers(() => held.promise)
  const open = await later(LIFETIME * 1000)
  const waiting = codeOf(machine.freshen(open))
  await clock.advance(milliseconds(2_600))
  expect(await waiting).toBe('provider_unavailable')
  held.resolve(granted(calls[0]!))
  await machine.settled(milliseconds(1000))
  expect((await reread()).session.tokens.accessToken).toBe('access-1')
})

test('a logout during a refresh is not undone, and what came back is revoked', async () => {
  const { machine, later, answers, calls, vault, granted, revoked, ended } = await setUp()
  const open = await later(EXPIRED_MS)
  answers(async (request) => {
    await vault.end(open, 'logout')
    return granted(request)
  })
  expect(await machine.freshen(open)).toEqual({ kind: 'ended', reason: 'logout' })
  expect(calls).toHaveLength(1)
  expect(revoked).toEqual(['refresh-1'])
  expect(ended()).toEqual(['logout'])
})

test('a new sign-in during a refresh: what came back may be of its grant, serves who waited, and is not revoked', async () => {
  const { machine, later, answers, calls, vault, granted, revoked, ended } = await setUp()
  const open = await later(EXPIRED_MS)
  answers(async (request) => {
    await vault.end(open, 'replaced_at_login')
    return granted(request)
  })
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('access-1')
  expect(calls).toHaveLength(1)
  expect(revoked).toEqual([])
  expect(ended()).toEqual(['replaced_at_login'])
  expect(await vault.read(open.ticket)).toEqual({
    kind: 'ended',
    reason: 'replaced_at_login',
    endedAt: expect.any(Number),
  })
})

test('a store that fails exactly between answer and write loses nothing', async () => {
  let down = false
  const { machine, later, answers, calls, granted, reread, clock, ended } = await setUp({
    storeFaults: (method) => down && method === 'replace',
  })
  answers((request) => {
    down = true
    return granted(request)
  })
  const open = await later(EXPIRED_MS)
  // The holder serves its own requests from the result that nobody has stored yet.
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('access-1')
  expect(usable(await machine.freshen(open)).tokens.accessToken).toBe('access-1')
  expect((await reread()).session.tokens.accessToken).toBe('access-0')
  down = false
  await clock.advance(milliseconds(2_000))
  expect((await reread()).session.tokens.accessToken).toBe('access-1')
  expect(calls).toHaveLength(1)
  expect(ended()).toEqual([])
})

test('a store that is behind is down, not right: no older generation is adopted', async () => {
  let down = false
  const { machine, later, answers, granted, clock, ended } = await setUp({
    storeFaults: (method) => down && method === 'replace',
  })
  answers((request) => {
    down = true
    return granted(request)
  })
  await machine.freshen(await later(EXPIRED_MS))
  // The result that nobody has stored runs out itself; the store still has the generation before it.
  const behind = await later(LIFETIME * 1000)
  expect(behind.session.generation).toBe(0)
  expect(await codeOf(machine.freshen(behind))).toBe('store_unavailable')
  down = false
  answers(granted)
  await clock.advance(milliseconds(3_000))
  expect(usable(await machine.freshen(behind)).tokens.accessToken).toBe('access-2')
  expect(ended()).toEqual([])
})

test('a store that was behind when it was asked, and has caught up since, is asked again', async () => {
  const { machine, stores, later, clock, calls } = await setUp()
  const open = await later(EXPIRED_MS)
  const { take } = stores.lease
  let asked = 0
  Object.assign(stores.lease, {
    take: (...request: Parameters<typeof take>) => {
      asked += 1
      return asked === 1 ? Promise.resolve({ kind: 'moved' }) : take(...request)
    },
  })
  const flight = machine.freshen(open)
  await clock.advance(milliseconds(500))
  expect(usable(await flight).tokens.accessToken).toBe('access-1')
  expect(calls).toHaveLength(1)
})

test('a renewal says what is left of the time after which the attempt is given up', async () => {
  const { machine, stores, later, clock, answers, granted } = await setUp()
  const open = await later(EXPIRED_MS)
  const { renew } = stores.lease
  const left: number[] = []
  Object.assign(stores.lease, {
    renew: (...[digest, request]: Parameters<typeof renew>) => {
      left.push(request.giveUpTime)
      return renew(digest, request)
    },
  })
  answers(async (request) => {
    await clock.sleep(milliseconds(2_100))
    return granted(request)
  })
  const flight = machine.freshen(open)
  for (let step = 0; step < 5; step += 1) await clock.advance(milliseconds(500))
  await flight
  expect(left).toEqual([6_500, 6_000, 5_500, 5_000])
})

test('a lease is renewed every 500 ms at least, because others wait 1.5 s for one that a failover lost', () => {
  expect([0.1, 5, 60].map((timeout) => refreshTimes(seconds(timeout)).renewEvery)).toEqual([
    10, 500, 500,
  ])
})

test('a holder that dies mid-call is waited for, then the old refresh token is spent once', async () => {
  const { stores, machine, later, clock, calls, answers, open: first } = await setUp()
  const open = await later(DUE_MS)
  await stores.lease.take(first.ticket.digest, {
    owner: 'dead',
    attemptId: 'dead-attempt',
    generation: 0,
    leaseTime: milliseconds(2_000),
    giveUpTime: milliseconds(7_000),
  })
  const flight = machine.freshen(open)
  await clock.advance(milliseconds(6_000))
  expect(calls).toHaveLength(0)
  await clock.advance(milliseconds(2_000))
  await flight
  expect(calls).toHaveLength(1)

  const strict = await setUp()
  await strict.stores.lease.take(strict.open.ticket.digest, {
    owner: 'dead',
    attemptId: 'dead-attempt',
    generation: 0,
    leaseTime: milliseconds(2_000),
    giveUpTime: milliseconds(7_000),
  })
  strict.answers(() => ({ kind: 'rejected', cause: undefined }))
  const late = await strict.later(EXPIRED_MS)
  await strict.machine.freshen(late)
  expect(strict.ended()).toEqual(['refresh_lost'])
  void answers
})

test('a refresh that changes the identity ends the session', async () => {
  const { machine, later, answers, ended } = await setUp()
  answers(() => ({ kind: 'identity_changed', reason: 'sub_changed', cause: undefined }))
  const open = await later(EXPIRED_MS)
  expect(await machine.freshen(open)).toEqual({ kind: 'ended', reason: 'identity_changed' })
  expect(ended()).toEqual(['identity_changed'])
})

test('a forced refresh happens once per session and minute, and adopts what is newer', async () => {
  const { machine, open, calls, reread, later } = await setUp()
  const forced = await machine.force(open)
  expect(forced?.session.tokens.accessToken).toBe('access-1')
  // Who was sent away with the old token gets the newer one without a call.
  expect((await machine.force(open))?.session.tokens.accessToken).toBe('access-1')
  expect(await machine.force(await reread())).toBeUndefined()
  expect(calls).toHaveLength(1)
  const minuteLater = await later(61_000)
  expect((await machine.force(minuteLater))?.session.tokens.accessToken).toBe('access-2')
})

test('a token that runs out on its way is refreshed however lately one was forced', async () => {
  const { machine, open, calls, later } = await setUp()
  await machine.force(open)
  const expired = await later(EXPIRED_MS)
  expect((await machine.force(expired))?.session.tokens.accessToken).toBe('access-2')
  expect(calls).toHaveLength(2)
})

test('an outage under a token that ran out on its way is told; a token that lives is left to the upstream', async () => {
  const { machine, answers, later } = await setUp()
  answers(() => ({
    kind: 'unavailable',
    reason: 'timeout',
    spent: 'unknown',
    retryAfter: seconds(3),
    cause: undefined,
  }))
  const due = await later(DUE_MS)
  expect(await machine.force(due)).toBeUndefined()
  const runOut = await later(LIFETIME * 1000 - DUE_MS)
  expect(await codeOf(machine.force(runOut))).toBe('provider_unavailable')
})

test('the same where the store is out', async () => {
  let isOut = false
  const { machine, open, later } = await setUp({ storeFaults: () => isOut })
  isOut = true
  expect(await machine.force(open)).toBeUndefined()
  isOut = false
  const runOut = await later(LIFETIME * 1000)
  isOut = true
  expect(await codeOf(machine.force(runOut))).toBe('store_unavailable')
})

/** Sessions of the same age as the first one. */
const manySessions = async (rig: Awaited<ReturnType<typeof setUp>>, count: number) => {
  const { clock, vault } = rig
  return Promise.all(
    Array.from({ length: count }, () =>
      vault.begin(newSession(tokenSet(clock.now(), LIFETIME), clock.now()), SEEN),
    ),
  )
}

const UNAVAILABLE: RefreshAnswer = {
  kind: 'unavailable',
  reason: 'status_503',
  retryAfter: undefined,
  spent: 'no',
  cause: undefined,
}

test('a crowd of due sessions is refreshed once each in turn, even past the end of their tokens', async () => {
  const rig = await setUp()
  const { machine, clock, answers, granted, calls, outcomes } = rig
  const crowd = await manySessions(rig, 72)
  await clock.advance(milliseconds(DUE_MS))
  let inFlight = 0
  let inFlightMax = 0
  answers(async (request) => {
    inFlight += 1
    inFlightMax = Math.max(inFlightMax, inFlight)
    await clock.sleep(milliseconds(3_000))
    inFlight -= 1
    return granted(request)
  })
  // 9 turns of 8 calls of 3 seconds each, and the tokens end after 20 seconds.
  for (const open of crowd) usable(await machine.freshen(open))
  await clock.advance(milliseconds(27_500))
  expect(outcomes()).toEqual(crowd.map(() => 'refreshed'))
  expect(calls).toHaveLength(crowd.length)
  expect(inFlightMax).toBe(8)
})

test('a session whose token has expired does not stand in line behind those that are due', async () => {
  const rig = await setUp()
  const { machine, clock, vault, answers, granted } = rig
  const crowd = await manySessions(rig, 48)
  await clock.advance(milliseconds(DUE_MS))
  const late = await vault.begin(newSession(tokenSet(clock.now(), 1), clock.now()), SEEN)
  await clock.advance(milliseconds(1_500))
  answers(async (request) => {
    await clock.sleep(milliseconds(1_000))
    return granted(request)
  })
  for (const open of crowd) usable(await machine.freshen(open))
  const waiting = machine.freshen(late)
  // The calls under way end after one second, and its own takes another.
  await clock.advance(milliseconds(2_100))
  expect(usable(await waiting).tokens.accessToken).toBe('access-1')
})

test('once the provider answers again, nobody stays away because it did not', async () => {
  const rig = await setUp()
  const { machine, clock, answers, granted, calls } = rig
  const crowd = await manySessions(rig, 8)
  const [bystander] = await manySessions(rig, 1)
  await clock.advance(milliseconds(EXPIRED_MS))
  answers(() => UNAVAILABLE)
  for (const open of crowd) await machine.freshen(open)
  // An outage of a minute: whoever comes meets a breaker that lets a probe through now and then.
  for (let second = 0; second < 60; second += 1) {
    await clock.advance(milliseconds(1_000))
    await Promise.all(crowd.map((open) => codeOf(machine.freshen(open))))
    expect(await codeOf(machine.freshen(bystander!))).toBe('provider_unavailable')
  }
  // 5 that opened it, then pauses of 500 ms to 5 s.
  expect(calls.length).toBeLessThanOrEqual(5 + 16)
  answers(granted)
  const called = calls.length
  await clock.advance(milliseconds(5_000))
  expect(usable(await machine.freshen(crowd[0]!)).generation).toBe(1)
  expect(usable(await machine.freshen(bystander!)).generation).toBe(1)
  expect(calls.length - called).toBe(2)
})

test('a call that the provider answers after all lets everybody in at once', async () => {
  const rig = await setUp()
  const { machine, clock, answers, granted, calls } = rig
  const [slow, bystander, ...crowd] = await manySessions(rig, 7)
  await clock.advance(milliseconds(LIFETIME * 1000))
  const held = deferred<RefreshAnswer>()
  answers(() => held.promise)
  const waiting = machine.freshen(slow!)
  await clock.advance(0)
  answers(() => ({ ...UNAVAILABLE, retryAfter: seconds(60) }))
  for (const open of crowd) await codeOf(machine.freshen(open))
  await expect(machine.freshen(bystander!)).rejects.toMatchObject({ retryAfterSeconds: 60 })
  answers(granted)
  held.resolve(granted(calls[0]!))
  expect(usable(await waiting).generation).toBe(1)
  expect(usable(await machine.freshen(bystander!)).generation).toBe(1)
})

test('while the breaker is open, the store is not asked for those who are sent away', async () => {
  const rig = await setUp()
  const { machine, clock, answers, stores } = rig
  const crowd = await manySessions(rig, 6)
  await clock.advance(milliseconds(LIFETIME * 1000))
  answers(() => UNAVAILABLE)
  for (const open of crowd.slice(0, 5)) await codeOf(machine.freshen(open))
  const take = vi.spyOn(stores.lease, 'take')
  const endedBefore = vi.spyOn(stores.directory, 'endedBefore')
  expect(await codeOf(machine.freshen(crowd[5]!))).toBe('provider_unavailable')
  expect([take.mock.calls.length, endedBefore.mock.calls.length]).toEqual([0, 0])
})

test('a process that ends begins no further refresh of those in line', async () => {
  const rig = await setUp()
  const { machine, clock, answers, granted, calls } = rig
  const crowd = await manySessions(rig, 24)
  await clock.advance(milliseconds(DUE_MS))
  answers(async (request) => {
    await clock.sleep(milliseconds(1_000))
    return granted(request)
  })
  for (const open of crowd) usable(await machine.freshen(open))
  await clock.advance(milliseconds(0))
  const settled = machine.settled(milliseconds(10_000))
  await clock.advance(milliseconds(1_100))
  await settled
  expect(calls).toHaveLength(8)
})

test('at most so many calls at once; the breaker lets one probe through after its pause', async () => {
  const { clock } = createTestVault()
  const slots = createProviderSlots(clock, 2, () => 1)
  const enter = (ms: number) => slots.enter(milliseconds(ms), clock.now())
  const entered = await Promise.all([enter(0), enter(0)])
  const third = enter(100)
  await clock.advance(milliseconds(150))
  expect(await third).toMatchObject({ kind: 'closed', why: 'no_place' })
  for (const entry of entered) if (entry.kind === 'slot') entry.slot.succeeded()

  for (let failure = 0; failure < 5; failure += 1) {
    const entry = await enter(0)
    if (entry.kind !== 'slot') throw new Error('expected a slot')
    entry.slot.failed(undefined)
  }
  expect(await enter(0)).toMatchObject({ kind: 'closed', why: 'breaker_open' })
  await clock.advance(milliseconds(5_000))
  const [probe, other] = await Promise.all([enter(0), enter(0)])
  expect([probe.kind, other.kind].sort()).toEqual(['closed', 'slot'])
  if (probe.kind === 'slot') probe.slot.succeeded()
  expect((await enter(0)).kind).toBe('slot')
})

test('calls that fail together are one failure: the pause grows by probes alone, up to 5 seconds', async () => {
  const { clock } = createTestVault()
  const slots = createProviderSlots(clock, 32, () => 1)
  const enter = () => slots.enter(milliseconds(0), clock.now())
  const fail = async (retryAfter?: Milliseconds) => {
    const entry = await enter()
    if (entry.kind === 'slot') entry.slot.failed(retryAfter)
  }
  const pauseNow = async () => {
    const entry = await enter()
    return entry.kind === 'closed' ? entry.retryAfter : 0
  }
  const together = await Promise.all(Array.from({ length: 32 }, enter))
  for (const entry of together) if (entry.kind === 'slot') entry.slot.failed(undefined)
  const pauses = [await pauseNow()]
  for (let probes = 0; probes < 5; probes += 1) {
    await clock.advance(await pauseNow())
    await fail()
    pauses.push(await pauseNow())
  }
  expect(pauses).toEqual([500, 1_000, 2_000, 4_000, 5_000, 5_000])
  await clock.advance(5_000)
  await fail(milliseconds(90_000))
  expect(await pauseNow()).toBe(90_000)
})

test('a session that a logout overtook while it began ends at its refresh, its token revoked and not spent', async () => {
  const { machine, stores, later, calls, ended, clock } = await setUp()
  const at = clock.now()
  await stores.directory.markEnded(subjectIndex('http://127.0.0.1:3100', 'alice'), {
    at,
    reason: 'backchannel_logout',
  })
  const freshened = await machine.freshen(await later(EXPIRED_MS))
  expect(freshened).toEqual({ kind: 'ended', reason: 'backchannel_logout' })
  expect(calls).toEqual([])
  expect(ended()).toEqual(['backchannel_logout'])
})

test('a mark from before the sign-in began, or of somebody else, ends nothing', async () => {
  const { machine, stores, later, open } = await setUp()
  const { directory } = stores
  const { signInStartedAt } = open.session
  await directory.markEnded(subjectIndex('http://127.0.0.1:3100', 'alice'), {
    at: epochMs(signInStartedAt - 1),
    reason: 'backchannel_logout',
  })
  await directory.markEnded(subjectIndex('http://127.0.0.1:3100', 'bob'), {
    at: epochMs(signInStartedAt + 1),
    reason: 'backchannel_logout',
  })
  await directory.markEnded(subjectIndex('https://other.example', 'alice'), {
    at: epochMs(signInStartedAt + 1),
    reason: 'backchannel_logout',
  })
  expect(usable(await machine.freshen(await later(EXPIRED_MS))).generation).toBe(1)
})
