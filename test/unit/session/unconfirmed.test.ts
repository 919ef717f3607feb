/** Writes that were made and not confirmed (`redis.confirm`): their callers hear 503, and nothing is left dangling. */

import { expect, it } from 'vitest'
import { GatewayError } from '../../../src/errors.ts'
import {
  isNotConfirmed,
  NOT_CONFIRMED,
  type SessionStore,
} from '../../../src/session/session-store.ts'
import { createTestVault, newSession, SEEN, tokenSet } from '../../support/vaults.ts'

const setUp = () => {
  const base = createTestVault()
  let isStalled = false
  const stalling: SessionStore = new Proxy(base.stores.sessions, {
    get: (target, method: keyof SessionStore) => {
      if (method !== 'create' && method !== 'end') return target[method]
      // Asked at the call: the vault takes its store's methods once.
      return async (...args: never[]) => {
        const outcome = await (target[method] as (...of: never[]) => Promise<unknown>)(...args)
        if (!isStalled) return outcome
        throw new GatewayError('store_unavailable', { reason: NOT_CONFIRMED })
      }
    },
  })
  const vault = base.vaultOn(stalling)
  const session = () => newSession(tokenSet(base.clock.now(), 300), base.clock.now())
  return {
    ...base,
    vault,
    session,
    stall: () => {
      isStalled = true
    },
  }
}

it('a sign-in that was not confirmed leaves no session that nobody has a cookie of', async () => {
  const { vault, stores, session, stall } = setUp()
  stall()
  await expect(vault.begin(session(), SEEN)).rejects.toSatisfy(isNotConfirmed)
  const { digests } = await stores.directory.listAll(undefined)
  const states = await Promise.all(digests.map(stores.sessions.load))
  expect(states).toMatchObject([{ kind: 'ended', reason: 'replaced_at_login' }])
})

it('an end that was not confirmed revokes the refresh token, which nobody can read again', async () => {
  const { vault, revoked, session, stall } = setUp()
  const open = await vault.begin(session(), SEEN)
  stall()
  await expect(vault.endAndRevoke(open, 'idle')).rejects.toSatisfy(isNotConfirmed)
  expect(revoked).toEqual(['refresh-0'])
})
