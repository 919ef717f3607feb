/** What a session costs in Redis, all of its keys together, against the budget of 2.5 KiB. */

import { generateKeyPairSync, randomBytes, randomUUID, sign } from 'node:crypto'
import { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { createRedisStores } from '../../../src/edges/redis/stores.ts'
import { createKeyRing } from '../../../src/session/key-ring.ts'
import { createRecordSealer } from '../../../src/session/record.ts'
import { createSessionCache } from '../../../src/session/session-cache.ts'
import { createVault } from '../../../src/session/vault.ts'
import { epochMs, milliseconds, seconds, systemClock } from '../../../src/time.ts'
import { startRedis } from '../../support/redis.ts'
import { ownKeys } from './connected.ts'
import { addressOf } from './redis-rig.ts'

const SESSIONS = 2_000
const AT_A_TIME = 50
const BUDGET_BYTES = 2_560
const TOKEN_BYTES = 1_024

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
const HEADER = encoded({
  alg: 'RS256',
  typ: 'JWT',
  kid: 'Xk3bq0lV8m2Jp6sYt4uWz1Rr7Nn9Cc5Ff0Hh2Kk4',
})
const SIGNATURE_CHARACTERS = 342

const WORDS = ['orders', 'stock', 'prices', 'invoices', 'returns', 'catalog', 'audit', 'billing']
/** Roles of all kinds, until the token has its kilobyte. */
const ofOneKilobyte = (payload: (roles: readonly string[]) => object): string => {
  const roles: string[] = []
  for (;;) {
    const signed = `${HEADER}.${encoded(payload(roles))}`
    if (signed.length + 1 + SIGNATURE_CHARACTERS >= TOKEN_BYTES)
      return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`
    const [word = 0, number = 0] = randomBytes(2)
    roles.push(`${WORDS[word % WORDS.length]}:write-${number}`)
  }
}

const tokensOf = (subject: string, providerSessionId: string, now: number) => {
  const claims = {
    exp: now + 300,
    iat: now,
    auth_time: now,
    iss: 'https://login.example.com/realms/shop',
    sub: subject,
    sid: providerSessionId,
    azp: 'shop-web',
    acr: '1',
    preferred_username: subject.slice(0, 8),
  }
  return {
    accessToken: ofOneKilobyte((roles) => ({
      ...claims,
      jti: randomUUID(),
      aud: 'https://api.example.com',
      scope: 'openid profile email',
      realm_access: { roles },
    })),
    idToken: ofOneKilobyte((groups) => ({
      ...claims,
      jti: randomUUID(),
      aud: 'shop-web',
      nonce: randomBytes(32).toString('base64url'),
      at_hash: randomBytes(16).toString('base64url'),
      email: `${subject.slice(0, 8)}@example.com`,
      email_verified: true,
      given_name: 'Alice',
      groups,
    })),
    refreshToken: randomBytes(32).toString('base64url'),
  }
}

test(`with signed access and ID tokens of 1 KiB each, ${SESSIONS} sessions of as many users keep the budget`, async () => {
  const server = await startRedis()
  const client = new Redis(server.url)
  const stores = createRedisStores({
    address: addressOf(server.url),
    tls: {},
    namespace: 'byjFl2zd',
    commandTimeout: milliseconds(10_000),
    connectTimeout: milliseconds(5_000),
    confirm: 0,
    clock: systemClock,
    emit: () => {},
    notice: () => {},
  })
  onTestFinished(async () => {
    client.disconnect()
    await stores.close()
    await server.close()
  })
  const ring = { current: createKeyRing(['a-ring-secret-of-more-than-32-characters']) }
  const records = createRecordSealer(ring)
  const cache = createSessionCache({
    changes: stores.changes,
    records,
    ring,
    clock: systemClock,
    idle: seconds(1_800),
  })
  const vault = createVault({
    store: cache.over(stores.sessions),
    cache,
    directory: stores.directory,
    records,
    ring,
    clock: systemClock,
    lifetimes: { idle: seconds(1_800), absolute: seconds(28_800) },
    emit: () => {},
    revoke: () => {},
    home: undefined,
  })

  /** Signed in, and refreshed since, as every session is that is used. */
  const begin = async () => {
    const [subject, providerSessionId] = [randomUUID(), randomUUID()]
    const now = Math.floor(Date.now() / 1_000)
    const open = await vault.begin(
      {
        issuer: 'https://login.example.com/realms/shop',
        subject,
        providerSessionId,
        claims: {
          given_name: 'Alice',
          preferred_username: subject.slice(0, 8),
          email: `${subject.slice(0, 8)}@example.com`,
          email_verified: true,
        },
        acr: '1',
        amr: ['pwd'],
        authTime: now,
        signInStartedAt: systemClock.now(),
        tokens: {
          ...tokensOf(subject, providerSessionId, now),
          scope: 'openid profile email',
          accessTokenExpiresAt: epochMs((now + 300) * 1_000),
          accessTokenLifetime: seconds(300),
          refreshTokenExpiresAt: undefined,
        },
      },
      {
        device:
          'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
        address: '203.0.113.7',
      },
    )
    const attemptId = randomBytes(16).toString('base64url')
    await vault.replace(open, { ...open.session, generation: 1 }, attemptId)
  }
  const usedBytes = async () => Number(/^used_memory:(\d+)/m.exec(await client.info('memory'))?.[1])

  await begin()
  const before = await usedBytes()
  for (let begun = 0; begun < SESSIONS; begun += AT_A_TIME)
    await Promise.all(Array.from({ length: AT_A_TIME }, begin))
  const bytesEach = ((await usedBytes()) - before) / SESSIONS
  // Record, activity, the attempt that refreshed it, and an entry for the user and for the sign-in at the provider.
  expect(await ownKeys(client)).toHaveLength(5 * (SESSIONS + 1))
  expect(bytesEach).toBeLessThanOrEqual(BUDGET_BYTES)
}, 120_000)
