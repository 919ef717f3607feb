/** The client for each kind of deployment: one server, the server that Sentinels name, or a Cluster. */

import { Cluster, Redis, type RedisCommander } from 'ioredis'
import {
  loginOptions,
  type RedisAddress,
  type RedisHost,
  type RedisTimeouts,
  type RedisTls,
  tlsOptions,
} from './address.ts'
import { createConnector, destinationOf } from './connector.ts'
import { failureReason } from './failure.ts'
import { createSentinels } from './sentinel.ts'

export type RedisClient = Redis | Cluster
/** What all kinds of clients can do. */
export type RedisCommands = RedisCommander

const RECONNECT_FIRST_MS = 50
/** Short, because each replica sends one small request per try and every request of a user waits for it. */
export const RECONNECT_MAX_MS = 500
const MASTERS_EVERY_MS = 250
const SLOTS_EVERY_MS = 1_000

/** For the first try, the second and so on. */
export const reconnectDelayMs = (times: number): number =>
  Math.min(RECONNECT_FIRST_MS * 2 ** (times - 1), RECONNECT_MAX_MS) * (0.5 + Math.random() / 2)

// Nothing is queued: a command whose caller has gone must not be applied later.
const SINGLE = { enableOfflineQueue: false, retryStrategy: reconnectDelayMs } as const

export interface OpenClient {
  readonly client: RedisClient
  /** Ends what stands beside the client, which itself may still be waiting for replies. */
  closeWatchers(): void
}

export interface ClientOptions extends RedisTimeouts {
  readonly address: RedisAddress
  readonly tls: RedisTls
  /** Of a node of a Cluster: the client itself says only that a connection closed. */
  readonly onNodeError: (error: Error) => void
}

export const openRedisClient = (options: ClientOptions): OpenClient => {
  const { address } = options
  const node = nodeOptions(options)
  switch (address.kind) {
    case 'standalone': {
      const Connector = createConnector(node)
      const at = { ...onlyHost(address), db: address.database, Connector }
      return { client: new Redis({ ...node, ...SINGLE, ...at }), closeWatchers: () => {} }
    }
    case 'sentinel': {
      const sentinels = createSentinels(address, { ...options, tls: node.tls })
      const at = { Connector: sentinels.Connector, db: address.database }
      const client = new Redis({ ...node, ...SINGLE, ...at })
      sentinels.watch(() => client.disconnect(true))
      return { client, closeWatchers: sentinels.close }
    }
    case 'cluster':
      return { client: createCluster(address.hosts, node, options), closeWatchers: () => {} }
  }
}

const createCluster = (
  hosts: readonly RedisHost[],
  node: ReturnType<typeof nodeOptions>,
  { commandTimeout, onNodeError }: ClientOptions,
): Cluster => {
  const Connector = createConnector({ ...node, onError: onNodeError })
  return new Cluster([...hosts], {
    redisOptions: { ...node, Connector },
    // For what waits for a node that is just being connected to; it fails with that try, and at the latest in time.
    enableOfflineQueue: true,
    // CLUSTER INFO is refused to restricted users; a Cluster that is down answers CLUSTERDOWN to commands instead.
    enableReadyCheck: false,
    // Without any node it ends, and all that waits with it; the link begins anew.
    clusterRetryStrategy: () => null,
    // A command whose reply was lost may have been applied, and one that finds no master is the caller's to repeat:
    // both fail at once. Redirections, and TRYAGAIN during the move of a slot, were never applied.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    maxRedirections: 4,
    slotsRefreshTimeout: commandTimeout,
    // Commands learn of a promoted replica by MOVED; whoever only listens learns of it by asking.
    slotsRefreshInterval: SLOTS_EVERY_MS,
    // The names stay, so that certificates are judged by them; connecting resolves them.
    dnsLookup: (hostname, found) => found(null, hostname),
  })
}

/** Each server that takes writes, as far as is known now, in no order. */
export const mastersNow = (client: RedisClient): readonly Redis[] =>
  client instanceof Cluster ? client.nodes('master') : [client]

/** The same in one order on every replica, for cursors over them. */
export const mastersOf = (client: RedisClient): readonly Redis[] =>
  mastersNow(client).toSorted((one, other) => (nameOf(one) < nameOf(other) ? -1 : 1))

/**
 * A further connection to the server that `master` is connected to, made as that one was, which hears messages. No
 * name or Sentinel is asked who the master is, so that both lead to one server. It is for one use: once lost it stays
 * lost.
 */
export const openSubscriber = (master: Redis): Redis => {
  const { host = '', port = 0, tls, disconnectTimeout = 0 } = master.options
  return master.duplicate({
    ...(destinationOf(master.stream) ?? { host, port }),
    Connector: createConnector({ tls, disconnectTimeout }),
    connectionName: 'coatcheck-tracker',
    // Over RESP3 the client drops invalidations silently (observed, ioredis 6.0).
    protocol: 2,
    lazyConnect: false,
    enableOfflineQueue: false,
    autoResubscribe: false,
    retryStrategy: null,
    reconnectOnError: null,
    // Whoever listens judges by the age of the latest answer, which is much stricter.
    commandTimeout: undefined,
    socketTimeout: undefined,
  })
}

export interface MastersWatch {
  /** Compares now, for whoever was just answered by a server that may be another. */
  look(): void
  stop(): void
}

/**
 * Calls `changed` whenever the servers that take writes may be others, or the same one after it was lost, and
 * `regained` once one of them is connected to that was not among them before: it may lack writes. Nodes of a Cluster
 * are compared besides, because a promoted replica is told of by no event. A lost master of a Cluster is listed anew
 * every second until its replica is promoted: that nobody can connect to it is no news of the others.
 */
export const watchMasters = (
  client: RedisClient,
  { changed, regained }: { readonly changed: () => void; readonly regained: () => void },
): MastersWatch => {
  if (client instanceof Redis) {
    const ready = () => {
      changed()
      regained()
    }
    client.on('ready', ready)
    return { look: () => {}, stop: () => client.off('ready', ready) }
  }
  let known: readonly Redis[] | undefined
  const follow = () => {
    const masters = mastersOf(client)
    // Whoever is connected to for the first time, together with all others, was not lost.
    const added = known === undefined ? [] : masters.filter((master) => !known?.includes(master))
    const isSame = added.length === 0 && masters.length === known?.length
    known = masters
    if (!isSame) changed()
    for (const master of added) {
      if (master.status === 'ready') regained()
      else master.once('ready', regained)
    }
  }
  const ready = () => {
    follow()
    regained()
  }
  const timer = setInterval(follow, MASTERS_EVERY_MS).unref()
  client.on('ready', ready)
  return {
    look: follow,
    stop: () => {
      client.off('ready', ready)
      clearInterval(timer)
    },
  }
}

const nameOf = ({ options }: Redis): string => `${options.host}:${options.port}`

const nodeOptions = ({ address, tls, commandTimeout, connectTimeout }: ClientOptions) => ({
  connectionName: 'coatcheck',
  // Redis before 7.2 does not know CLIENT SETINFO, and no rights could be given for it.
  disableClientInfo: true,
  commandTimeout,
  connectTimeout,
  disconnectTimeout: commandTimeout,
  // A black-holed connection stays open for minutes unless something notices that no reply comes.
  socketTimeout: commandTimeout * 4,
  // Nothing is sent a second time: a command whose reply was lost may have been applied.
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  // INFO is refused to restricted users; a server that still loads answers LOADING to commands instead.
  enableReadyCheck: false,
  reconnectOnError: leavingReadOnly(),
  ...(address.login === undefined ? {} : loginOptions(address.login)),
  tls: address.tls ? tlsOptions(tls) : undefined,
})

/**
 * After a failover the former master answers READONLY, or NOREPLICAS: name or Sentinels may already lead to the new
 * one. Not for each of many such answers: where it is the master all the same, its replicas being away, reads go on.
 */
const leavingReadOnly = () => {
  let againAtMs = 0
  return (error: Error): boolean => {
    if (failureReason(error) !== 'read_only' || performance.now() < againAtMs) return false
    againAtMs = performance.now() + RECONNECT_MAX_MS
    return true
  }
}

const onlyHost = ({ hosts }: RedisAddress): RedisHost => {
  const [host] = hosts
  if (host === undefined) throw new TypeError('a Redis address has a host')
  return host
}
