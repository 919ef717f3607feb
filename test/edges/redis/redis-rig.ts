/** Two gateways' stores on a real Redis of each kind, with plain clients beside them that look at keys and age them. */

import { Redis } from 'ioredis'
import { redisUrl } from '../../../src/config/redis-address.ts'
import { constant } from '../../../src/config/watched.ts'
import type { RedisAddress } from '../../../src/edges/redis/address.ts'
import type { Followed, RedisConnectionOptions } from '../../../src/edges/redis/connection.ts'
import { createRedisStores, type RedisStores } from '../../../src/edges/redis/stores.ts'
import { milliseconds, systemClock } from '../../../src/time.ts'
import type { StoreRig } from '../../contract/session-store.contract.ts'
import { freePort } from '../../support/free-port.ts'
import { type RedisServer, startRedis } from '../../support/redis.ts'
import {
  createTlsFiles,
  type RedisDeployment,
  startCluster,
  startSentinels,
  type TlsFiles,
} from '../../support/redis-deployments.ts'
import { documentedRights } from './documented-rights.ts'

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

/** An address as the configuration makes it from a URL, which never changes. */
export const addressOf = (url: string): Followed<RedisAddress> =>
  constant(redisUrl.schema.parse(url))

export const certificatesOf = ({ ca, client }: TlsFiles) => ({
  ca: constant(ca),
  cert: constant(client.cert),
  key: constant(client.key),
})

const openStores = (url: string, tls: RedisConnectionOptions['tls'] = {}): RedisStores =>
  createRedisStores({
    address: addressOf(url),
    tls,
    namespace: NAMESPACE,
    commandTimeout: UNHURRIED,
    connectTimeout: UNHURRIED,
    confirm: 0,
    clock: systemClock,
    emit: () => {},
    notice: () => {},
  })

export const makeRedisRig = async (): Promise<RedisRig> => {
  const server = await startRedis()
  const client = new Redis(server.url)
  const rig = rigOn(server.url, [client], async () => {
    client.disconnect()
    await server.close()
  })
  return { ...rig, server, client }
}

/** As a user who may do what docs/session-data.md says, and nothing else. */
export const makeRestrictedRig = async (): Promise<StoreRig> => {
  const rig = await makeRedisRig()
  const { single } = await documentedRights('works')
  await rig.client.acl('SETUSER', ...single)
  const restricted = rigOn(`redis://coatcheck:works@127.0.0.1:${rig.server.port}`, [rig.client])
  return { ...restricted, close: () => closeAll(restricted.close, rig.close) }
}

/** TLS by a private authority, to a server that asks for a certificate. */
export const makeTlsRig = async (): Promise<StoreRig> => {
  const files = await createTlsFiles('redis.test', '127.0.0.1')
  const tlsPort = await freePort()
  const server = await startRedis({ args: [...files.args, '--tls-port', String(tlsPort)] })
  const client = new Redis(server.url)
  return rigOn(
    `rediss://127.0.0.1:${tlsPort}`,
    [client],
    async () => {
      client.disconnect()
      await closeAll(server.close, files.remove)
    },
    certificatesOf(files),
  )
}

export const makeSentinelRig = async (): Promise<StoreRig> => {
  const { sentinel } = await documentedRights('works')
  return rigOnAll(await startSentinels({ sentinelUser: sentinel }))
}

/** Six nodes, and a user who may do what docs/session-data.md says for a Cluster. */
export const makeClusterRig = async (): Promise<StoreRig> => {
  const cluster = await startCluster()
  const rights = (await documentedRights('works')).cluster
  await Promise.all(
    cluster.servers.map(async ({ port }) => {
      const client = new Redis(port)
      await client.acl('SETUSER', ...rights)
      client.disconnect()
    }),
  )
  return rigOnAll({ ...cluster, url: cluster.url.replace('://', '://coatcheck:works@') })
}

const rigOnAll = ({ url, masters, close }: RedisDeployment): StoreRig => rigOn(url, masters, close)

const rigOn = (
  url: string,
  masters: readonly Redis[],
  closeServers: () => Promise<void> = async () => {},
  tls?: RedisConnectionOptions['tls'],
) => {
  const gateways = [openStores(url, tls), openStores(url, tls)] as const
  return {
    gateways,
    now: systemClock.now,
    advance: async (ms: number) => {
      await Promise.all(masters.map((master) => master.eval(AGE, 0, ms)))
    },
    close: () => closeAll(...gateways.map((stores) => stores.close), closeServers),
  }
}

const closeAll = async (...closes: readonly (() => Promise<void>)[]): Promise<void> => {
  for (const close of closes) await close()
}
