/** Two gateways' stores on one real Redis, with a plain client beside them that looks at keys and ages them. */

import { Redis } from 'ioredis'
import { createRedisStores, type RedisStores } from '../../../src/edges/redis/stores.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import type { StoreRig } from '../../contract/session-store.contract.ts'
import { freePort } from '../../support/free-port.ts'
import { type RedisServer, startRedis } from '../../support/redis.ts'
import { waitFor } from '../../support/wait.ts'

export const NAMESPACE = 'test0001'

export interface RedisRig extends StoreRig {
  readonly gateways: readonly [RedisStores, RedisStores]
  readonly server: RedisServer
  readonly client: Redis
}

// TTLs shrink by the given time in one step: no test sleeps, and no key of another moment is half aged.
const AGE = `
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key) - ARGV[1]
  if left <= 0 then redis.call('DEL', key) else redis.call('PEXPIRE', key, left) end
end
`

// Contracts are about answers, not about speed: a busy machine must not turn one into a timeout.
const UNHURRIED = milliseconds(5_000)

const openStores = (url: string): RedisStores =>
  createRedisStores({
    url,
    namespace: NAMESPACE,
    commandTimeout: UNHURRIED,
    connectTimeout: UNHURRIED,
    notice: () => {},
  })

export const makeRedisRig = async (): Promise<RedisRig> => rigOn(await startRedis())

/** A Cluster of one node: it has every slot, and refuses a script whose keys lie in more than one. */
export const makeClusterRig = async (): Promise<RedisRig> => {
  // Without a port of its own the bus takes one 10,000 above, which somebody may have.
  const bus = ['--cluster-port', String(await freePort())]
  const rig = await rigOn(await startRedis({ args: ['--cluster-enabled', 'yes', ...bus] }))
  await rig.client.cluster('ADDSLOTSRANGE', 0, 16_383)
  await waitFor('the cluster takes commands', async () =>
    String(await rig.client.cluster('INFO')).includes('cluster_state:ok'),
  )
  return rig
}

const rigOn = async (server: RedisServer): Promise<RedisRig> => {
  const client = new Redis(server.url)
  const gateways = [openStores(server.url), openStores(server.url)] as const
  return {
    gateways,
    server,
    client,
    now: systemClock.now,
    advance: async (ms) => {
      await client.eval(AGE, 0, ms)
    },
    close: async () => {
      await Promise.all(gateways.map((stores) => stores.close()))
      client.disconnect()
      await server.close()
    },
  }
}
