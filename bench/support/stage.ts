/** Gateway processes on one Redis, with a provider and an API beside them, and sessions in their store. */

import { randomBytes, randomUUID } from 'node:crypto'
import { Pool } from 'undici'
import { storeNamespace } from '../../src/edges/redis/keys.ts'
import { cookieNames, createCookieForms } from '../../src/session/session-cookie.ts'
import { freePort } from '../../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../../test/support/gateway-process.ts'
import { type RedisServer, startRedis } from '../../test/support/redis.ts'
import { inParallel, watched } from './measure.ts'
import { newSignIn, seenAtSignIn } from './sign-ins.ts'
import { type BenchStore, openBenchStore } from './store.ts'
import { firstRefreshToken, type Surroundings, startSurroundings } from './surroundings.ts'

const CLIENT_ID = 'spa'
const RING_SECRET = randomBytes(32).toString('base64url')
export const REPLICAS = 2
const ANSWER_LIMIT_MS = 15_000

export interface StageOptions {
  readonly accessTokenSeconds: number
  /** `provider.concurrency` of each gateway. */
  readonly concurrency: number
}

export interface Stage {
  readonly redis: RedisServer
  readonly surroundings: Surroundings
  readonly gateways: readonly GatewayProcess[]
  readonly pools: readonly Pool[]
  readonly publicUrl: string
  readonly options: StageOptions
  readonly store: BenchStore
  close(): Promise<void>
}

export const startStage = async (options: StageOptions): Promise<Stage> => {
  const redis = await startRedis()
  const surroundings = await startSurroundings({
    clientId: CLIENT_ID,
    accessTokenSeconds: options.accessTokenSeconds,
  })
  const ports = await Promise.all(Array.from({ length: REPLICAS }, freePort))
  const publicUrl = `http://localhost:${ports[0]}`
  const gateways = await Promise.all(
    ports.map(async (port) =>
      startGatewayProcess(
        {
          COATCHECK_PUBLIC_URL: publicUrl,
          COATCHECK_LISTEN: `127.0.0.1:${port}`,
          COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
          COATCHECK_ISSUER: surroundings.issuer,
          COATCHECK_CLIENT_ID: CLIENT_ID,
          COATCHECK_CLIENT_SECRET: 'a-client-secret-for-the-benchmark-alone',
          COATCHECK_UPSTREAM: surroundings.apiUrl,
          COATCHECK_SECRET: RING_SECRET,
          COATCHECK_REDIS_URL: redis.url,
          COATCHECK_PROVIDER_CONCURRENCY: String(options.concurrency),
        },
        { port },
      ),
    ),
  )
  const pools = ports.map(
    (port) =>
      new Pool(`http://127.0.0.1:${port}`, { connections: 128, headersTimeout: ANSWER_LIMIT_MS }),
  )
  const store = openBenchStore({
    port: redis.port,
    namespace: storeNamespace(surroundings.issuer, CLIENT_ID),
    ringSecret: RING_SECRET,
    cookies: createCookieForms(publicUrl, true, undefined),
  })
  return {
    redis,
    surroundings,
    gateways,
    pools,
    publicUrl,
    options,
    store,
    close: async () => {
      await store.close()
      await Promise.all(pools.map((pool) => pool.destroy()))
      await Promise.all(gateways.map((gateway) => gateway.kill()))
      await Promise.all([surroundings.close(), redis.close()])
    },
  }
}

/**
 * `Cookie` headers of so many new sessions, written through the session vault with tickets of their own, as a callback
 * does; `expiresAt` says when the access token of each one ends.
 */
export const makeSessions = async (
  { store, publicUrl, surroundings, options }: Stage,
  count: number,
  expiresAt: (index: number) => number,
): Promise<readonly string[]> => {
  const { session: cookieName } = cookieNames(publicUrl, true)
  const sealer = store.newTicketSealer()
  const cookies: string[] = []
  let made = 0
  await watched(
    () => `${made} of ${count} sessions made`,
    inParallel(count, 32, async (index) => {
      const subject = randomUUID()
      const open = await store.vault.begin(
        newSignIn({
          issuer: surroundings.issuer,
          clientId: CLIENT_ID,
          subject,
          accessTokenExpiresAt: expiresAt(index),
          accessTokenSeconds: options.accessTokenSeconds,
          refreshToken: firstRefreshToken(subject),
        }),
        seenAtSignIn(),
      )
      cookies[index] = `${cookieName}=${await sealer.seal(open.ticket)}`
      made += 1
    }),
  )
  return cookies
}
