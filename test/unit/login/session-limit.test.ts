/** The limit of sessions per user when a clock goes back: what a session's age is then worth. */

import { expect, test } from 'vitest'
import { createSessionLimit } from '../../../src/login/session-limit.ts'
import { createRoster } from '../../../src/session/roster.ts'
import { seconds } from '../../../src/time.ts'
import { createTestVault, newSession, tokenSet } from '../../support/vaults.ts'

test('who has just signed in is not the oldest, although others seem to have signed in later', async () => {
  const { clock, emit, stores, records, vault } = createTestVault()
  const roster = createRoster({
    store: stores.sessions,
    directory: stores.directory,
    records,
    clock,
    emit,
    idle: seconds(1800),
  })
  const limit = createSessionLimit({ roster, vault, clock, max: 2, beyondMax: 'evict-oldest' })
  const signIn = async () => {
    const open = await vault.begin(newSession(tokenSet(clock.now(), 300), clock.now()), {
      device: undefined,
      address: '192.0.2.1',
    })
    expect(await limit(open, undefined)).toBe('within')
    await clock.advance(1000)
    return open
  }
  const sessions = [await signIn(), await signIn()]
  clock.stepWallClock(-600_000)
  sessions.push(await signIn(), await signIn())
  const kinds = await Promise.all(
    sessions.map(async ({ ticket }) => (await vault.read(ticket)).kind),
  )
  expect(kinds).toEqual(['ended', 'ended', 'live', 'live'])
})
