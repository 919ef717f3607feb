/** A session vault on the memory stores with a fake clock, and sessions to put in it. */

import { createMemoryStores } from '../../src/edges/memory/stores.ts'
import type { GatewayEvent } from '../../src/events.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createRecordSealer } from '../../src/session/record.ts'
import type { TokenSet } from '../../src/session/session.ts'
import { createSessionCache } from '../../src/session/session-cache.ts'
import { createVault, type NewSession } from '../../src/session/vault.ts'
import { epochMs, seconds } from '../../src/time.ts'
import { createFakeClock } from './fake-clock.ts'

export const TEST_SECRET = 'correct-horse-battery-staple-0001'

export const createTestVault = (lifetimes = { idle: seconds(1800), absolute: seconds(28_800) }) => {
  const clock = createFakeClock()
  const events: GatewayEvent[] = []
  const revoked: string[] = []
  const emit = (event: GatewayEvent) => void events.push(event)
  const ring = { current: createKeyRing([TEST_SECRET]) }
  const stores = createMemoryStores({ clock, sessionsMax: 1000 })
  const records = createRecordSealer(ring)
  const vaultOn = (store = stores.sessions, changes = stores.changes) => {
    const cache = createSessionCache({ changes, records, ring, clock, idle: lifetimes.idle })
    return createVault({
      store: cache.over(store),
      cache,
      directory: stores.directory,
      records,
      ring,
      clock,
      lifetimes,
      emit,
      revoke: (refreshToken) => void revoked.push(refreshToken),
      home: undefined,
    })
  }
  return { clock, revoked, events, emit, ring, stores, records, vaultOn, vault: vaultOn() }
}

export const tokenSet = (
  now: number,
  lifetimeSeconds: number,
  more: Partial<TokenSet> = {},
): TokenSet => ({
  accessToken: 'access-0',
  accessTokenExpiresAt: epochMs(now + lifetimeSeconds * 1000),
  accessTokenLifetime: seconds(lifetimeSeconds),
  scope: 'openid',
  refreshToken: 'refresh-0',
  refreshTokenExpiresAt: undefined,
  idToken: 'id-0',
  ...more,
})

export const newSession = (tokens: TokenSet, now: number): NewSession => ({
  issuer: 'http://127.0.0.1:3100',
  subject: 'alice',
  providerSessionId: 'sid-1',
  claims: { sub: 'alice', name: 'Alice' },
  acr: undefined,
  amr: undefined,
  authTime: undefined,
  signInStartedAt: epochMs(now - 1000),
  tokens,
})

export const SEEN = { device: 'test', address: '127.0.0.1' }
