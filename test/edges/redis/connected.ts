/** Stores on a Redis that a test breaks: opened with short times, and closed with the test. */

import { Redis, type RedisOptions } from 'ioredis'
import { expect, onTestFinished } from 'vitest'
import type { RedisConnectionOptions } from '../../../src/edges/redis/connection.ts'
import {
  createRedisStores,
  type RedisStores,
  type RedisStoresOptions,
} from '../../../src/edges/redis/stores.ts'
import { GatewayError } from '../../../src/errors.ts'
import type { GatewayEvent } from '../../../src/events.ts'
import { epochMs, milliseconds, systemClock } from '../../../src/time.ts'
import { HOUR_MS, newDigest, newRecord } from '../../contract/session-store.contract.ts'
import { type RedisServer, startRedis } from '../../support/redis.ts'
import type { RedisDeployment } from '../../support/redis-deployments.ts'
import { addressOf } from './redis-rig.ts'

export const COMMAND_TIMEOUT_MS = 250
/** A busy machine adds to every wait; a wait without a limit is far above this. */
export const SLACK_MS = 1_500

export interface ConnectedStores extends RedisStores {
  readonly events: readonly GatewayEvent[]
  readonly notices: readonly (readonly [name: string, detail: string])[]
}

export const connect = (
  url: string | RedisConnectionOptions['address'],
  options: Partial<
    Pick<RedisStoresOptions, 'namespace' | 'tls' | 'commandTimeout' | 'confirm' | 'clock'>
  > = {},
): ConnectedStores => {
  const events: GatewayEvent[] = []
  const notices: (readonly [string, string])[] = []
  const stores = createRedisStores({
    address: typeof url === 'string' ? addressOf(url) : url,
    namespace: 'test0001',
    commandTimeout: milliseconds(COMMAND_TIMEOUT_MS),
    connectTimeout: milliseconds(1_000),
    confirm: 0,
    clock: systemClock,
    emit: (event) => events.push(event),
    notice: (...notice) => notices.push(notice),
    ...options,
  })
  onTestFinished(stores.close)
  return { ...stores, notices, events }
}

/** A followed value that the test changes, as a file would. */
export const changeable = <T>(initial: T) => {
  const listeners = new Set<(value: T) => void>()
  let current = initial
  return {
    get current() {
      return current
    },
    subscribe: (listener: (value: T) => void) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    change: (value: T) => {
      current = value
      for (const listener of listeners) listener(value)
    },
  }
}

export const start = async (...of: Parameters<typeof startRedis>): Promise<RedisServer> => {
  const server = await startRedis(...of)
  onTestFinished(server.close)
  return server
}

export const started = async (deployment: Promise<RedisDeployment>): Promise<RedisDeployment> => {
  const running = await deployment
  onTestFinished(running.close)
  return running
}

export const connectPlainly = (
  url: string,
  options: Pick<RedisOptions, 'enableReadyCheck'> = {},
): Redis => {
  const client = new Redis(url, options)
  // Some tests take the server away; the client then reports it for as long as it is gone.
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

export const refusal = async (call: Promise<unknown>): Promise<GatewayError> => {
  const thrown = await call.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (thrown instanceof GatewayError) return thrown
  throw new Error('the call did not fail as it should', { cause: thrown })
}

export const works = async ({ sessions, health }: RedisStores): Promise<true> => {
  await health.ping()
  const digest = newDigest()
  expect(await sessions.create(digest, oneHourRecord(), systemClock.now())).toBe('created')
  expect((await sessions.load(digest)).kind).toBe('live')
  return true
}

/** All keys but those of trackers, which live for a moment. */
export const ownKeys = async (client: Redis): Promise<readonly string[]> =>
  (await client.keys('*')).filter((key) => !key.includes(':probe-')).toSorted()

export const oneHourRecord = (generation = 0) =>
  newRecord(epochMs(systemClock.now() + HOUR_MS), generation)
