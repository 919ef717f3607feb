/** Who is told that the masters may be others, or may have lost writes. */

import { it, onTestFinished } from 'vitest'
import { createRedisConnection } from '../../../src/edges/redis/connection.ts'
import { milliseconds } from '../../../src/time.ts'
import { startCluster, startSentinels } from '../../support/redis-deployments.ts'
import { waitFor } from '../../support/wait.ts'
import { COMMAND_TIMEOUT_MS, start, started } from './connected.ts'
import { addressOf } from './redis-rig.ts'

const FAILOVER = { timeoutMs: 15_000, intervalMs: 50 }

const listen = (url: string) => {
  const connection = createRedisConnection({
    address: addressOf(url),
    namespace: 'test0001',
    commandTimeout: milliseconds(COMMAND_TIMEOUT_MS),
    connectTimeout: milliseconds(1_000),
    notice: () => {},
  })
  onTestFinished(connection.close)
  const told: string[][] = []
  connection.onMasters((masters) =>
    told.push(masters.map(({ options }) => `${options.host}:${options.port}`)),
  )
  return told
}

it('tells once the first connection is made, and again after each reconnect', async () => {
  const server = await start()
  const told = listen(server.url)
  await waitFor('the first connection', () => told.length === 1)
  await server.kill()
  await server.restart()
  await waitFor('the second connection', () => told.length === 2, FAILOVER)
})

it('tells of the master that Sentinels promoted', async () => {
  const deployment = await started(startSentinels())
  const told = listen(deployment.url)
  await waitFor('the first connection', () => told.length === 1)
  await deployment.servers[0]?.kill()
  await waitFor('the new master', () => told.length > 1, FAILOVER)
})

it('tells of a replica of a Cluster that was promoted', async () => {
  const deployment = await started(startCluster())
  const told = listen(deployment.url)
  await waitFor('all masters', () => told.at(-1)?.length === 3)
  const before = new Set(told.at(-1))
  await deployment.servers[0]?.kill()
  await waitFor(
    'another set of three masters',
    () => told.at(-1)?.length === 3 && told.at(-1)?.some((name) => !before.has(name)),
    FAILOVER,
  )
})
