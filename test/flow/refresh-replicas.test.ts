/**
 * The headline claim, with real processes: two gateways, one Redis, a provider with 2-second tokens that rotates
 * strictly and revokes the grant on reuse. One refresh per expiry, no failure, nothing lost, nothing resurrected.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type ApiAnswer, type Replicas, startReplicas } from '../support/replicas.ts'
import { answerUnexpired } from '../support/upstream-api.ts'
import { waitFor } from '../support/wait.ts'

/** Each test has processes and a Redis of its own, so that they can run side by side: most of them wait. */
const start = async (
  { onTestFinished }: { onTestFinished: (close: () => Promise<void>) => void },
  options?: Parameters<typeof startReplicas>[0],
): Promise<Replicas> => {
  const replicas = await startReplicas(options)
  onTestFinished(() => replicas.close())
  return replicas
}

const statuses = (answers: readonly ApiAnswer[]) => [
  ...new Set(answers.map(({ status }) => status)),
]

const distinctTokens = (replicas: Replicas) =>
  new Set(replicas.api.requests.map((request) => request.header('authorization')))

const untilExpired = () => sleep(2_100)

const expectKept = async (replicas: Replicas, cookie: string) => {
  const answer = await waitFor(
    'the session works again',
    async () => {
      const now = await replicas.call(0, cookie)
      expect([200, 503]).toContain(now.status)
      return now.status === 200 && now
    },
    { timeoutMs: 12_000, intervalMs: 200 },
  )
  expect(answer.status).toBe(200)
}

describe.concurrent('two replicas, one Redis', { timeout: 120_000 }, () => {
  test.for(['strict', 'none'] as const)(
    'rotation %s: 200 parallel requests over 5 expiries, no failure, one refresh per expiry',
    async (refreshRotation, context) => {
      const replicas = await start(context, { refreshRotation })
      const cookie = await replicas.signIn()
      // On a busy machine a token may run out on its way.
      replicas.api.answerWith(answerUnexpired)
      while (distinctTokens(replicas).size < 6) {
        const answers = await Promise.all(
          Array.from({ length: 200 }, (_, index) => replicas.call(index % 2, cookie)),
        )
        expect(new Set(answers.map(({ status, code }) => code ?? status))).toEqual(new Set([200]))
        await sleep(150)
      }
      await waitFor('no refresh is under way', () =>
        replicas.refreshes().every(({ delivered }) => delivered),
      )
      const refreshes = replicas.refreshes()
      expect(refreshes.map(({ status }) => status)).toEqual(refreshes.map(() => 200))
      // The last refresh may still run behind the requests when the loop ends.
      expect(refreshes.length - (distinctTokens(replicas).size - 1)).toBeLessThanOrEqual(1)
      expect(replicas.provider.revokedGrants()).toEqual([])
    },
  )

  test('a holder killed mid-refresh, nothing spent: the other replica finishes, the session is kept', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    replicas.provider.setFault('hang', 'before')
    await untilExpired()
    const held = replicas.call(1, cookie).catch(() => undefined)
    await waitFor('the holder calls the provider', () => replicas.refreshes().length === 1)
    await replicas.gateways[1]?.kill()
    await held
    replicas.provider.setFault('continue', 'before')
    await expectKept(replicas, cookie)
    expect(replicas.refreshes().filter(({ status }) => status === 200)).toHaveLength(1)
  })

  test('a holder killed after the provider rotated: that session, and no other, ends with refresh_lost', async (context) => {
    const replicas = await start(context)
    const lost = await replicas.signIn()
    const other = await replicas.signIn()
    replicas.provider.setFault({ delayMs: 3_000 }, 'after')
    await untilExpired()
    const held = replicas.call(1, lost).catch(() => undefined)
    await waitFor(
      'the provider has spent the refresh token',
      () => replicas.refreshes()[0]?.consumed,
    )
    await replicas.gateways[1]?.kill()
    await held
    replicas.provider.setFault('continue', 'after')
    // The provider's own log names the session: a token consumed whose answer reached nobody.
    expect(
      replicas.refreshes().filter(({ consumed, delivered }) => consumed && !delivered),
    ).toHaveLength(1)
    const ended = await waitFor(
      'the session is found lost',
      async () => {
        const now = await replicas.call(0, lost)
        expect([401, 503]).toContain(now.status)
        return now.status === 401 && now
      },
      { timeoutMs: 15_000, intervalMs: 200 },
    )
    expect(ended.code).toBe('session_ended')
    await waitFor('the log says why', () =>
      replicas.gateways[0]?.stdout.some((line) => line.includes('"reason":"refresh_lost"')),
    )
    await expectKept(replicas, other)
  })

  test('a provider slower than the lease: one refresh, the lease is renewed, nobody is signed out', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    replicas.provider.setFault({ delayMs: 3_500 }, 'before')
    await untilExpired()
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => replicas.call(index % 2, cookie)),
    )
    expect(statuses(answers)).toEqual([503])
    expect(answers.every(({ headers }) => Number(headers['retry-after']) >= 1)).toBe(true)
    expect(answers.every(({ code }) => code === 'provider_unavailable')).toBe(true)
    await waitFor('the slow refresh ends', () => replicas.refreshes()[0]?.delivered)
    replicas.provider.setFault('continue', 'before')
    await expectKept(replicas, cookie)
    expect(replicas.provider.revokedGrants()).toEqual([])
  })

  test.for([
    ['500', { status: 500, body: 'down' }],
    [
      '429 with Retry-After',
      { status: 429, headers: { 'retry-after': '2' }, body: { error: 'slow_down' } },
    ],
    ['reset', 'reset'],
    ['hang', 'hang'],
  ] as const)(
    'provider answers %s: 503 and never 401, and afterwards the session goes on',
    async ([, fate], context) => {
      const replicas = await start(context, { env: { COATCHECK_PROVIDER_TOKEN_TIMEOUT: '1s' } })
      const cookie = await replicas.signIn()
      replicas.provider.setFault(fate, 'before')
      await untilExpired()
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) => replicas.call(index % 2, cookie)),
      )
      expect(statuses(answers)).toEqual([503])
      expect(answers.every(({ headers }) => Number(headers['retry-after']) >= 1)).toBe(true)
      expect(answers.every(({ headers }) => headers['set-cookie'] === undefined)).toBe(true)
      // Whatever the crowd asks, the provider is called a bounded number of times.
      expect(replicas.refreshes().length).toBeLessThanOrEqual(4)
      replicas.provider.setFault('continue', 'before')
      await expectKept(replicas, cookie)
    },
  )

  test('Retry-After that one replica was told keeps the other one away from the provider as long', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    const slowDown = { status: 429, headers: { 'retry-after': '4' }, body: { error: 'slow_down' } }
    replicas.provider.setFault(slowDown, 'before')
    await untilExpired()
    const told = await replicas.call(0, cookie)
    expect([told.status, told.code]).toEqual([503, 'provider_unavailable'])
    // One failure opens no breaker, and this replica has seen none: it knows from the store alone.
    replicas.provider.setFault('continue', 'before')
    const asked = await replicas.call(1, cookie)
    expect([asked.status, asked.code]).toEqual([503, 'provider_unavailable'])
    expect(Number(asked.headers['retry-after'])).toBeGreaterThan(1)
    expect(replicas.refreshes()).toHaveLength(1)
    await expectKept(replicas, cookie)
    const [refused, refreshed] = replicas.refreshes().map(({ at }) => at)
    expect((refreshed ?? 0) - (refused ?? 0)).toBeGreaterThanOrEqual(4_000)
  })

  test('a logout during a refresh stays a logout, and the token that came back is revoked', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    replicas.provider.setFault({ delayMs: 1_500 }, 'after')
    await untilExpired()
    const held = replicas.call(1, cookie)
    await waitFor('the provider has rotated', () => replicas.refreshes()[0]?.consumed)
    const out = await replicas.call(0, cookie, '/bff/logout', 'POST')
    expect(out.status).toBe(200)
    expect((await held).status).toBe(401)
    await waitFor('the grant is revoked', () => replicas.provider.revokedGrants().length > 0)
    for (const replica of [0, 1]) {
      const answer = await replicas.call(replica, cookie)
      expect([answer.status, answer.code]).toEqual([401, 'session_ended'])
    }
  })

  test('SIGTERM during a refresh: its result is written before the process ends with 0', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    replicas.provider.setFault({ delayMs: 1_500 }, 'after')
    await untilExpired()
    const held = replicas.call(1, cookie)
    await waitFor('the provider has rotated', () => replicas.refreshes()[0]?.consumed)
    replicas.provider.setFault('continue', 'after')
    const ended = await replicas.gateways[1]?.kill('SIGTERM')
    expect(ended).toMatchObject({ code: 0 })
    expect((await held).status).toBe(200)
    await expectKept(replicas, cookie)
    expect(replicas.provider.revokedGrants()).toEqual([])
    const spent = replicas.refreshes().map(({ refreshTokenFingerprint }) => refreshTokenFingerprint)
    expect(new Set(spent).size).toBe(spent.length)
  })

  test('Redis frozen for 3 s: 503 and the cookie kept, then everything goes on', async (context) => {
    const replicas = await start(context)
    const cookie = await replicas.signIn()
    expect((await replicas.call(0, cookie)).status).toBe(200)
    replicas.redis.pause()
    // For a moment it may be served from memory: as long as Redis was alive a moment ago.
    await waitFor(
      'what is in memory counts no longer',
      async () => (await replicas.call(0, cookie)).status === 503,
    )
    const answers = await Promise.all([0, 1, 0, 1].map((replica) => replicas.call(replica, cookie)))
    expect(statuses(answers)).toEqual([503])
    expect(new Set(answers.map(({ code }) => code))).toEqual(new Set(['store_unavailable']))
    const session = await replicas.call(0, cookie, '/bff/session')
    expect([session.status, session.code]).toEqual([503, 'store_unavailable'])
    await sleep(2_000)
    replicas.redis.resume()
    await expectKept(replicas, cookie)
  })

  test('Redis frozen for 3 s exactly between the provider’s answer and the write: the rotation is kept', async (context) => {
    let freeze: (() => void) | undefined
    const replicas = await start(context, {
      afterTokenRequest: async ({ grantType }) => {
        if (grantType === 'refresh_token') freeze?.()
        return 'continue'
      },
    })
    const cookie = await replicas.signIn()
    await untilExpired()
    freeze = () => {
      freeze = undefined
      replicas.redis.pause()
      setTimeout(() => replicas.redis.resume(), 3_000)
    }
    const answers = await Promise.all([0, 1, 0, 1].map((replica) => replicas.call(replica, cookie)))
    expect(answers.every(({ status }) => status === 200 || status === 503)).toBe(true)
    await sleep(3_000)
    await expectKept(replicas, cookie)
    await expectKept(replicas, cookie)
    expect(replicas.provider.revokedGrants()).toEqual([])
    const spent = replicas.refreshes().map(({ refreshTokenFingerprint }) => refreshTokenFingerprint)
    expect(new Set(spent).size).toBe(spent.length)
  })
})
