/** The copy of a remote document: when it is fetched, what is served meanwhile, and when it is given up. */

import { expect, test } from 'vitest'
import { RemoteCopy } from '../../../src/edges/openid-client/remote-copy.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'

const NEVER = new AbortController().signal

const setUp = (patienceMs = 50) => {
  let nowMs = 1_000_000
  let version = 0
  let fetches = 0
  let fetch = async () => `v${++version}`
  const failures: string[] = []
  const copy = new RemoteCopy<string>({
    name: 'thing',
    fetch: () => {
      fetches += 1
      return fetch()
    },
    clock: { ...systemClock, monotonicMs: () => milliseconds(nowMs) },
    freshFor: milliseconds(60_000),
    patience: milliseconds(patienceMs),
    keptFor: milliseconds(600_000),
    failed: (reason) => failures.push(reason),
  })
  return {
    copy,
    failures,
    pass: (ms: number) => {
      nowMs += ms
    },
    fetchWith: (next: () => Promise<string>) => {
      fetch = next
    },
    fetches: () => fetches,
  }
}

const fails = async (): Promise<string> => {
  throw new TypeError('fetch failed')
}

test('a fresh copy is served without a fetch, an old one is renewed', async () => {
  const { copy, pass, fetches } = setUp()
  expect(copy.known()).toBeUndefined()
  expect(await copy.get(NEVER)).toBe('v1')
  pass(59_000)
  expect(await copy.get(NEVER)).toBe('v1')
  pass(2_000)
  expect(await copy.get(NEVER)).toBe('v2')
  expect(fetches()).toBe(2)
})

test('an old copy is served while it cannot be renewed, up to its limit', async () => {
  const { copy, pass, fetchWith, failures } = setUp()
  await copy.get(NEVER)
  fetchWith(fails)
  pass(300_000)
  expect(await copy.get(NEVER)).toBe('v1')
  pass(290_000)
  expect(await copy.get(NEVER)).toBe('v1')
  pass(20_000)
  await expect(copy.get(NEVER)).rejects.toMatchObject({
    code: 'provider_unavailable',
    reason: 'thing_network',
  })
  expect(failures).toEqual(['thing_network', 'thing_network', 'thing_network'])
})

test('nobody waits longer than patience for a renewal, which goes on for the next', async () => {
  const { copy, pass, fetchWith, fetches } = setUp(30)
  await copy.get(NEVER)
  pass(61_000)
  const renewal = Promise.withResolvers<string>()
  fetchWith(() => renewal.promise)
  expect(await copy.get(NEVER)).toBe('v1')
  expect(await copy.get(NEVER)).toBe('v1')
  renewal.resolve('later')
  await renewal.promise
  expect(await copy.get(NEVER)).toBe('later')
  expect(fetches()).toBe(2)
})

test('after a failure the pauses grow, with jitter, to five seconds at most', async () => {
  const { copy, pass, fetchWith, fetches } = setUp()
  fetchWith(fails)
  for (let failure = 1; failure <= 8; failure += 1) {
    await expect(copy.get(NEVER)).rejects.toThrow()
    expect(fetches()).toBe(failure)
    await expect(copy.get(NEVER)).rejects.toMatchObject({ reason: 'thing_backoff' })
    pass(failure === 1 ? 249 : 2_499)
    if (failure === 1 || failure > 4) await expect(copy.get(NEVER)).rejects.toThrow()
    expect(fetches()).toBe(failure)
    pass(2_502)
  }
  fetchWith(async () => 'back')
  expect(await copy.get(NEVER)).toBe('back')
  // What came back starts with the first pause when it fails again.
  pass(601_000)
  fetchWith(fails)
  await expect(copy.get(NEVER)).rejects.toMatchObject({ reason: 'thing_network' })
  pass(501)
  fetchWith(async () => 'back again')
  expect(await copy.get(NEVER)).toBe('back again')
})

test('a refetch asks at once, and then not again for ten seconds', async () => {
  const { copy, pass, fetches } = setUp()
  await copy.get(NEVER)
  expect(await copy.refetch(NEVER)).toBe('v2')
  expect(await copy.refetch(NEVER)).toBeUndefined()
  pass(9_999)
  expect(await copy.refetch(NEVER)).toBeUndefined()
  pass(2)
  expect(await copy.refetch(NEVER)).toBe('v3')
  expect(fetches()).toBe(3)
})

test('a refetch that fails counts as one: the throttle fails closed', async () => {
  const { copy, fetchWith } = setUp()
  await copy.get(NEVER)
  fetchWith(fails)
  await expect(copy.refetch(NEVER)).rejects.toMatchObject({ code: 'provider_unavailable' })
  expect(await copy.refetch(NEVER)).toBeUndefined()
  expect(copy.known()).toBe('v1')
})

test('a deadline ends the waiting of its caller alone', async () => {
  const { copy, fetchWith } = setUp()
  const answer = Promise.withResolvers<string>()
  fetchWith(() => answer.promise)
  const patient = copy.get(NEVER)
  const deadline = AbortSignal.timeout(20)
  await expect(copy.get(deadline)).rejects.toMatchObject({ name: 'TimeoutError' })
  await expect(copy.get(deadline)).rejects.toMatchObject({ name: 'TimeoutError' })
  answer.resolve('late')
  expect(await patient).toBe('late')
})

test('a failure that nobody waits for any more is no unhandled rejection', async () => {
  const { copy, fetchWith } = setUp()
  const answer = Promise.withResolvers<string>()
  fetchWith(() => answer.promise)
  await expect(copy.get(AbortSignal.timeout(5))).rejects.toThrow()
  answer.reject(new TypeError('fetch failed'))
  await new Promise((done) => setTimeout(done, 20))
})
