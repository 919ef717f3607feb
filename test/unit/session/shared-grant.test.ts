/** Sessions of one sign-in at the provider share its grant: the end of one by time leaves the others theirs. */

import { expect, it } from 'vitest'
import type { OpenSession } from '../../../src/session/vault.ts'
import { milliseconds, seconds } from '../../../src/time.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../../support/vaults.ts'

const IDLE = seconds(60)

const setUp = async (...sids: readonly (string | undefined)[]) => {
  const { clock, vault, stores, revoked } = createTestVault({ idle: IDLE, absolute: seconds(3600) })
  const sessions: OpenSession[] = []
  for (const [place, providerSessionId] of sids.entries()) {
    const refreshToken = `refresh-${place}`
    const begun = newSession(tokenSet(clock.now(), 3600, { refreshToken }), clock.now())
    sessions.push(await vault.begin({ ...begun, providerSessionId }, SEEN))
  }
  /** The first one is left alone until it is over; the others are used meanwhile, if at all. */
  const firstEnds = async (used: boolean) => {
    await clock.advance(milliseconds(40_000))
    if (used)
      for (const { ticket } of sessions.slice(1))
        await stores.sessions.touch(ticket.digest, clock.now())
    await clock.advance(milliseconds(30_000))
    expect(await vault.read(sessions[0]!.ticket)).toEqual({ kind: 'ended', reason: 'idle' })
    return revoked
  }
  return firstEnds
}

it.each([
  ['of the same sid', ['a', 'a']],
  ['of the same user, where the provider names no sid', [undefined, undefined]],
])('nothing is revoked while another session %s is used', async (_, sids) => {
  const firstEnds = await setUp(...sids)
  expect(await firstEnds(true)).toEqual([])
})

it.each([
  ['no other session is there', ['a'], true],
  ['the other one has another sid', ['a', 'b'], true],
  ['the other one is over too', ['a', 'a'], false],
])('it is revoked where %s', async (_, sids, used) => {
  const firstEnds = await setUp(...sids)
  expect(await firstEnds(used)).toEqual(['refresh-0'])
})
