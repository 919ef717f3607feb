/** The development provider's memory: reuse, expiry and grants. */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ProviderStore } from '../../src/dev/provider-store.ts'

const revoked: string[] = []
const reuse = new Error('reuse')
let store: ProviderStore

beforeEach(() => {
  revoked.length = 0
  store = new ProviderStore({
    grantRevoked: (grantId) => revoked.push(grantId),
    refuseReuse: () => reuse,
  })
})
afterEach(() => {
  vi.useRealTimers()
})

const write = async (model: string, id: string, payload = {}, lifetimeSeconds = 60) =>
  store.adapter(model).upsert(id, payload, lifetimeSeconds)
const read = async (model: string, id: string) => store.adapter(model).find(id)

describe('a refresh token', () => {
  beforeEach(async () => {
    await write('Grant', 'g', { accountId: 'alice' })
    await write('RefreshToken', 'r1', { grantId: 'g' })
    await write('RefreshToken', 'r2', { grantId: 'g' })
  })

  test('RFC 9700 §4.14.2 ends its grant when two requests spend it that both found it unspent', async () => {
    const tokens = store.adapter('RefreshToken')
    await tokens.consume('r1')
    expect(await read('RefreshToken', 'r1')).toMatchObject({ consumed: expect.any(Number) })

    await expect(tokens.consume('r1')).rejects.toBe(reuse)
    expect(await read('RefreshToken', 'r2')).toBeUndefined()
    expect(await read('Grant', 'g')).toBeUndefined()
    expect(revoked).toEqual(['g'])
  })

  test('may be spent again for as long as reuse is tolerated, counted from the first use', async () => {
    vi.useFakeTimers()
    const tolerant = new ProviderStore(
      { grantRevoked: (grantId) => revoked.push(grantId), refuseReuse: () => reuse },
      10,
    )
    const tokens = tolerant.adapter('RefreshToken')
    await tokens.upsert('r', { grantId: 'g' }, 60)
    await tokens.consume('r')
    vi.advanceTimersByTime(6_000)
    expect(await tokens.find('r')).not.toHaveProperty('consumed')
    await tokens.consume('r')
    vi.advanceTimersByTime(3_999)
    await tokens.consume('r')
    vi.advanceTimersByTime(1)
    expect(await tokens.find('r')).toHaveProperty('consumed')
    await expect(tokens.consume('r')).rejects.toBe(reuse)
    expect(await tokens.find('r')).toBeUndefined()
  })

  test('dies with its grant, and with the grants of its user', async () => {
    await write('Grant', 'other', { accountId: 'bob' })
    await write('RefreshToken', 'r3', { grantId: 'other' })
    expect(store.revokeGrantsOf('alice')).toBe(1)
    expect(await read('RefreshToken', 'r1')).toBeUndefined()
    expect(await read('RefreshToken', 'r3')).toBeDefined()

    await store.adapter('RefreshToken').revokeByGrantId('other')
    expect(await read('RefreshToken', 'r3')).toBeUndefined()
    expect(revoked).toEqual(['g'])
  })
})

test('an entry is gone once its time is over, and a sweep takes it out of memory', async () => {
  vi.useFakeTimers()
  await write('AccessToken', 'a', { grantId: 'g' }, 10)
  vi.advanceTimersByTime(9_999)
  expect(await read('AccessToken', 'a')).toBeDefined()
  vi.advanceTimersByTime(1)
  expect(await read('AccessToken', 'a')).toBeUndefined()

  for (let index = 0; index < 500; index += 1) await write('AccessToken', `short-${index}`, {}, 10)
  vi.advanceTimersByTime(10_000)
  for (let index = 0; index < 500; index += 1) await write('AccessToken', `long-${index}`, {}, 60)
  expect(store.size).toBe(500)
})

test('what a request changes in an entry that it read changes nothing for others', async () => {
  await write('Session', 's', { uid: 'u', authorizations: { spa: { sid: '1' } } })
  const found = await read('Session', 's')
  if (found?.authorizations) found.authorizations.spa = { sid: '2' }
  expect(await store.adapter('Session').findByUid('u')).toMatchObject({
    authorizations: { spa: { sid: '1' } },
  })
})
