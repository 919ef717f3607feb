/** Who is told that the masters may be others, and that one of them may have lost writes. */

import { expect, it, onTestFinished } from 'vitest'
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
  const regained: number[] = []
  connection.onRegained(() => regained.push(told.length))
  const ping = () => {
    connection.lookForMasters()
    return connection
      .runOnMasters((master) => master.ping())
      .then(
        () => true,
        () => false,
      )
  }
  return { told, regained, ping }
}

it('tells once the first connection is made, and again after each reconnect', async () => {
  const server = await start()
  const { told, regained } = listen(server.url)
  await waitFor('the first connection', () => told.length === 1)
  expect(regained).toHaveLength(0)
  await server.kill()
  await server.restart()
  await waitFor('the second connection', () => told.length === 2, FAILOVER)
  expect(regained).toHaveLength(1)
})

it('tells of the first connection as of any other where it was tried for in vain', async () => {
  const server = await start()
  await server.kill()
  const { told, regained } = listen(server.url)
  await server.restart()
  await waitFor('the first connection', () => told.length === 1, FAILOVER)
  expect(regained).toHaveLength(1)
})

it('tells of the master that Sentinels promoted', async () => {
  const deployment = await started(startSentinels())
  const { told, regained } = listen(deployment.url)
  await waitFor('the first connection', () => told.length === 1)
  await deployment.servers[0]?.kill()
  await waitFor('the new master', () => told.length > 1 && regained.length > 0, FAILOVER)
})

it('tells of a replica of a Cluster that was promoted', async () => {
  const deployment = await started(startCluster())
  const { told, regained, ping } = listen(deployment.url)
  await waitFor('all masters', () => told.at(-1)?.length === 3)
  await ping()
  expect(regained).toHaveLength(0)
  const before = new Set(told.at(-1))
  await deployment.servers[0]?.kill()
  await waitFor(
    'another set of three masters',
    () => told.at(-1)?.length === 3 && told.at(-1)?.some((name) => !before.has(name)),
    FAILOVER,
  )
  await waitFor('it is connected to', async () => (await ping()) && regained.length > 0)
})

it('tells nothing of losses while a master of a Cluster is only missing, until it is back', async () => {
  const deployment = await started(
    startCluster([
      ...['--cluster-replica-no-failover', 'yes'],
      ...['--cluster-require-full-coverage', 'no'],
    ]),
  )
  const { told, regained, ping } = listen(deployment.url)
  await waitFor('all masters', () => told.at(-1)?.length === 3)
  await ping()
  await deployment.servers[0]?.kill()
  const before = told.length
  // It is listed as long as the others know no better, and each try to reach it takes it out again.
  await waitFor(
    'it came and went',
    async () => {
      await ping()
      return told.length > before + 5
    },
    FAILOVER,
  )
  expect(regained).toHaveLength(0)
  await deployment.servers[0]?.restart()
  await waitFor('it is back', async () => (await ping()) && regained.length > 0, FAILOVER)
})
