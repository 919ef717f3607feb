/** Several real Redis servers that belong together: Sentinels with a master and a replica, a Cluster, TLS. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { type Certificate, createAuthority } from './certificates.ts'
import { freePort } from './free-port.ts'
import { type RedisServer, startRedis } from './redis.ts'
import { waitFor } from './wait.ts'

export interface RedisDeployment {
  /** As `COATCHECK_REDIS_URL` would say it. */
  readonly url: string
  /** A plain client on each server that took writes at the start. */
  readonly masters: readonly Redis[]
  readonly servers: readonly RedisServer[]
  /** As an operator does before maintenance: the first master hands over to its replica. */
  failOver(): Promise<unknown>
  close(): Promise<void>
}

export const SENTINEL_PASSWORD = 'only-for-sentinels'
const MASTER_NAME = 'mymaster'
/** Short, so that a failover takes 2 to 3 seconds instead of 10 to 30. */
const DOWN_AFTER_MS = 700
const START_TIMEOUT = { timeoutMs: 20_000, intervalMs: 50 }

/** `servers` is the master, its replica, and the three Sentinels, which ask for a password of their own. */
export const startSentinels = async (
  options: {
    readonly args?: readonly string[]
    readonly tls?: TlsFiles
    /** `ACL SETUSER` of a user of the Sentinels, without these two words; its password is `works`. */
    readonly sentinelUser?: readonly string[]
  } = {},
): Promise<RedisDeployment> => {
  const { args = [], tls, sentinelUser } = options
  const replicating = [...args, '--repl-diskless-sync-delay', '0']
  const servers: RedisServer[] = []
  const masterTlsPort = await freePort()
  const tlsArgs = (port: number) =>
    tls === undefined ? [] : [...tls.args, '--tls-port', `${port}`]
  const master = await startRedis({ args: [...replicating, ...tlsArgs(masterTlsPort)] })
  servers.push(master)
  const replicaOf = ['--replicaof', '127.0.0.1', String(master.port)]
  servers.push(await startRedis({ args: [...replicating, ...replicaOf] }))
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-sentinel-'))
  const hosts: string[] = []
  for (const number of [1, 2, 3]) {
    const file = join(directory, `${number}.conf`)
    const [port, tlsPort] = [await freePort(), await freePort()]
    await writeFile(
      file,
      [
        `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${tls === undefined ? master.port : masterTlsPort} 2`,
        `sentinel down-after-milliseconds ${MASTER_NAME} ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout ${MASTER_NAME} 3000`,
        `requirepass ${SENTINEL_PASSWORD}`,
        ...(tls === undefined ? [] : ['tls-replication yes']),
        ...(sentinelUser === undefined ? [] : [`user ${sentinelUser.join(' ')}`]),
        '',
      ].join('\n'),
    )
    servers.push(
      await startRedis({
        port,
        configFile: file,
        args: ['--sentinel', ...tlsArgs(tlsPort)],
      }),
    )
    hosts.push(`127.0.0.1:${tls === undefined ? port : tlsPort}`)
  }
  const masters = [plainClient(master)]
  const login =
    sentinelUser === undefined
      ? `sentinelPassword=${SENTINEL_PASSWORD}`
      : `sentinelUsername=${sentinelUser[0]}&sentinelPassword=works`
  await Promise.all(
    servers
      .slice(2)
      .map(({ port }) =>
        waitFor(
          'the Sentinels know each other and the replica',
          () => isWatching(port),
          START_TIMEOUT,
        ),
      ),
  )
  return {
    url: `redis${tls === undefined ? '' : 's'}+sentinel://${hosts.join(',')}/${MASTER_NAME}/0?${login}`,
    masters,
    servers,
    failOver: () => askSentinel(servers[2]?.port, 'FAILOVER'),
    close: async () => {
      for (const client of masters) client.disconnect()
      await Promise.all(servers.map((server) => server.close()))
      await rm(directory, { recursive: true, force: true })
    },
  }
}

const askSentinel = async (port: number | undefined, question: string): Promise<unknown> => {
  const client = new Redis({ port: port ?? 0, password: SENTINEL_PASSWORD, retryStrategy: null })
  client.on('error', () => {})
  try {
    return await client.call('SENTINEL', question, MASTER_NAME)
  } finally {
    client.disconnect()
  }
}

const isWatching = async (port: number): Promise<boolean> => {
  const answer = await askSentinel(port, 'MASTER')
  const fields = Array.isArray(answer) ? answer : []
  const field = (name: string) => fields[fields.indexOf(name) + 1]
  return field('num-other-sentinels') === '2' && field('num-slaves') === '1'
}

/** `servers` is three masters, a third of the slots each, and then the replica of each. */
export const startCluster = async (args: readonly string[] = []): Promise<RedisDeployment> => {
  const ports: { readonly port: number; readonly bus: number }[] = []
  for (let node = 0; node < 6; node += 1)
    ports.push({ port: await freePort(), bus: await freePort() })
  const servers = await Promise.all(
    ports.map(({ port, bus }) =>
      startRedis({
        port,
        args: [
          ...['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000'],
          // Without a port of its own the bus takes one 10,000 above, which somebody may have.
          ...['--cluster-port', String(bus), '--repl-diskless-sync-delay', '0'],
          ...args,
        ],
      }),
    ),
  )
  const clients = servers.map(plainClient)
  await Promise.all(
    clients.map((client, index) => client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)),
  )
  await Promise.all(
    clients.slice(0, 3).map((client, index) => {
      const [first, last] =
        [
          [0, 5460],
          [5461, 10_922],
          [10_923, 16_383],
        ][index] ?? []
      return client.call('CLUSTER', 'ADDSLOTSRANGE', String(first), String(last))
    }),
  )
  const [firstClient, ...others] = clients
  for (const { port, bus } of ports.slice(1))
    await firstClient?.call('CLUSTER', 'MEET', '127.0.0.1', String(port), String(bus))
  const everyNode = (what: string, holds: (client: Redis) => Promise<boolean>) =>
    Promise.all(clients.map((client) => waitFor(what, () => holds(client), START_TIMEOUT)))
  await everyNode('the nodes know each other', async (client) =>
    String(await client.cluster('INFO')).includes('cluster_known_nodes:6'),
  )
  await Promise.all(
    others.slice(2).map(async (replica, index) => {
      const id = String(await clients[index]?.cluster('MYID'))
      await waitFor('the replica knows its master', () => replica.call('CLUSTER', 'REPLICATE', id))
    }),
  )
  await everyNode('the Cluster takes commands', async (client) =>
    String(await client.cluster('INFO')).includes('cluster_state:ok'),
  )
  await Promise.all(
    clients
      .slice(0, 3)
      .map((client) =>
        waitFor(
          'each master has its replica',
          async () => /^slave0:.*state=online/m.test(await client.info('replication')),
          START_TIMEOUT,
        ),
      ),
  )
  for (const client of clients.slice(3)) client.disconnect()
  const masters = clients.slice(0, 3)
  return {
    url: `redis+cluster://${ports.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    masters,
    servers,
    failOver: async () => {
      const replica = new Redis(ports[3]?.port ?? 0)
      await replica.call('CLUSTER', 'FAILOVER').finally(() => replica.disconnect())
    },
    close: async () => {
      for (const client of masters) client.disconnect()
      await Promise.all(servers.map((server) => server.close()))
    },
  }
}

export interface TlsFiles {
  readonly ca: string
  /** What a client shows, signed by the same authority. */
  readonly client: Certificate
  /** Another certificate of the same authority. */
  issue(...names: readonly string[]): Certificate
  /** Arguments of redis-server; it then asks clients for a certificate. */
  readonly args: readonly string[]
  remove(): Promise<void>
}

/** A private authority, and a certificate of the server for `names`. */
export const createTlsFiles = async (...names: readonly string[]): Promise<TlsFiles> => {
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-tls-'))
  const authority = createAuthority()
  const server = authority.issue(...names)
  const contents = { 'ca.pem': authority.cert, 'server.pem': server.cert, 'server.key': server.key }
  for (const [name, content] of Object.entries(contents))
    await writeFile(join(directory, name), content)
  return {
    ca: authority.cert,
    client: authority.issue('gateway'),
    issue: authority.issue,
    args: [
      ...['--tls-ca-cert-file', join(directory, 'ca.pem')],
      ...['--tls-cert-file', join(directory, 'server.pem')],
      ...['--tls-key-file', join(directory, 'server.key')],
    ],
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}

const plainClient = ({ port }: RedisServer): Redis => {
  const client = new Redis(port)
  // Some tests take the server away; the client then reports it for as long as it is gone.
  client.on('error', () => {})
  return client
}
