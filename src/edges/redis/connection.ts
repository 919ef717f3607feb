/**
 * The way to Redis or Valkey for reads and writes. Where its URL or certificates change while it runs, a new link is
 * made beside the present one, which stays in use until the new one works.
 */

import { Cluster, type Redis } from 'ioredis'
import type { RedisAddress, RedisTimeouts } from './address.ts'
import { mastersNow, mastersOf, type RedisClient, type RedisCommands } from './client.ts'
import { ADVICE, type FailureReason, storeUnavailable } from './failure.ts'
import { createKeyNames, type KeyNames } from './keys.ts'
import { openRedisLink, type RedisLink } from './link.ts'

/** A value that may change while the gateway runs. */
export interface Followed<T> {
  readonly current: T
  subscribe(listener: (value: T) => void): () => void
}

export interface RedisConnectionOptions extends RedisTimeouts {
  readonly address: Followed<RedisAddress>
  readonly tls?: {
    readonly ca?: Followed<string> | undefined
    readonly cert?: Followed<string> | undefined
    readonly key?: Followed<string> | undefined
    readonly serverName?: string | undefined
  }
  readonly namespace: string
  readonly notice: (notice: string, detail: string) => void
  /** Told of every command. */
  readonly heard?: (outcome: 'answered' | 'failed') => void
}

export type ScriptArgument = string | number | Buffer
export type Script = (keys: readonly string[], args: readonly ScriptArgument[]) => Promise<unknown>

/** They must not be used for anything that blocks or subscribes; `options` says where each is. */
export type MastersListener = (masters: readonly Redis[]) => void

export interface RedisConnection {
  readonly keys: KeyNames
  /** Rejects with `store_unavailable` and nothing else. A write that timed out may have been applied. */
  run<T>(command: (client: RedisCommands) => Promise<T>): Promise<T>
  /** Like `run`, once for each server that takes writes; in a Cluster there are several. */
  runOnMasters<T>(command: (master: Redis) => Promise<T>): Promise<readonly T[]>
  /** Like `run`, with all of those servers at once. */
  withMasters<T>(command: (masters: readonly Redis[]) => Promise<T>): Promise<T>
  /** One command then takes keys of one hash tag only, and which server it goes to depends on that. */
  isCluster(): boolean
  /** Those servers now, in no order; none while there is no connection. */
  masters(): readonly Redis[]
  /**
   * Calls back with the servers that take writes, now if there are any, and again whenever they may be others: after a
   * reconnect, a failover, a change of the Cluster or of the URL, and in a Cluster whenever one comes or goes. Ends with
   * the returned function.
   */
  onMasters(listener: MastersListener): () => void
  /**
   * Calls back once one of those servers is connected to again, or for the first time after others were: it may have
   * lost writes. Not with the first connection, unless it was tried for in vain. Ends with the returned function.
   */
  onRegained(listener: () => void): () => void
  /** For whoever was just answered by a server that may be another: its listeners are told before it returns. */
  lookForMasters(): void
  /** Defines a script on every server connected to; sent by its digest, and whole where the server lost it. */
  script(name: string, numberOfKeys: number, lua: string): Script
  /** Waits for replies that are due, no longer than one command may take. */
  close(): Promise<void>
}

const NAMESPACE = /^[\w-]{1,32}$/

export const createRedisConnection = (options: RedisConnectionOptions): RedisConnection => {
  const { address, tls = {}, namespace, notice } = options
  if (!NAMESPACE.test(namespace)) throw new TypeError('a store namespace is 1 to 32 of A-Za-z0-9_-')

  const scripts = new Map<string, { readonly numberOfKeys: number; readonly lua: string }>()
  let isClosed = false
  let isChanging = false
  /** What was told last, so that it is told once. */
  let announced: string | undefined

  const announce = (name: string, detail: string) => {
    if (isClosed || announced === name + detail) return
    announced = name + detail
    notice(name, detail)
  }

  const mastersListeners = new Set<MastersListener>()
  const tellMasters = (listeners: Iterable<MastersListener>) => {
    const masters = current.isReady() ? mastersOf(current.client) : []
    if (masters.length === 0) return
    for (const listener of listeners) listener(masters)
  }

  const regainedListeners = new Set<() => void>()
  /** There was a connection, or an outage. */
  let isRegaining = false

  const open = (): RedisLink => {
    const link = openRedisLink({
      address: address.current,
      tls: {
        ca: tls.ca?.current,
        cert: tls.cert?.current,
        key: tls.key?.current,
        serverName: tls.serverName,
      },
      commandTimeout: options.commandTimeout,
      connectTimeout: options.connectTimeout,
      onReady: () => onReady(link),
      onMasters: () => {
        if (link === current) tellMasters(mastersListeners)
      },
      onRegained: () => {
        if (link !== current) return
        if (isRegaining) for (const listener of regainedListeners) listener()
        isRegaining = true
      },
      onFailed: (reason) => onFailed(link, reason),
    })
    for (const [name, script] of scripts) link.client.defineCommand(name, script)
    return link
  }

  const onReady = (link: RedisLink) => {
    if (link === successor) succeed()
    if (announced !== undefined) notice('store_reachable', 'The session store answers again.')
    announced = undefined
    void warnOfEviction(link.client, notice)
  }

  const onFailed = (link: RedisLink, reason: FailureReason) => {
    isRegaining = true
    if (link === successor)
      announce(
        'store_change_failed',
        `The changed settings of Redis lead to no connection; the former stay in use. ${ADVICE[reason]}`,
      )
    else if (successor === undefined) announce('store_unreachable', ADVICE[reason])
    // Neither works: the changed settings are what the operator wants.
    else succeed()
  }

  /** The successor takes over; calls under way keep the former link until their replies came. */
  const succeed = () => {
    if (successor === undefined) return
    const former = current
    current = successor
    successor = undefined
    void former.close()
  }

  /** A certificate and its key change one after the other: what changes in one step is one change. */
  const change = () => {
    if (isChanging) return
    isChanging = true
    queueMicrotask(() => {
      isChanging = false
      if (isClosed) return
      void successor?.close()
      successor = open()
      if (!current.isReady()) succeed()
    })
  }

  let successor: RedisLink | undefined
  let current = open()
  const unsubscribe = [address, tls.ca, tls.cert, tls.key].map((followed) =>
    followed?.subscribe(change),
  )

  const run = async <T>(command: (client: RedisClient) => Promise<T>): Promise<T> => {
    try {
      const answer = await current.run(command)
      options.heard?.('answered')
      return answer
    } catch (thrown) {
      options.heard?.('failed')
      throw thrown
    }
  }

  const withMasters: RedisConnection['withMasters'] = (command) =>
    run((client) => {
      const masters = mastersOf(client)
      if (masters.length === 0) throw storeUnavailable('cluster_down')
      return command(masters)
    })

  return {
    keys: createKeyNames(namespace),
    run,

    runOnMasters: (command) => withMasters((masters) => Promise.all(masters.map(command))),
    withMasters,

    isCluster: () => current.client instanceof Cluster,
    masters: () => (current.isReady() ? mastersNow(current.client) : []),

    onMasters: (listener) => {
      mastersListeners.add(listener)
      tellMasters([listener])
      return () => mastersListeners.delete(listener)
    },
    onRegained: (listener) => {
      regainedListeners.add(listener)
      return () => regainedListeners.delete(listener)
    },
    lookForMasters: () => current.lookForMasters(),

    script: (name, numberOfKeys, lua) => {
      scripts.set(name, { numberOfKeys, lua })
      for (const link of [current, successor])
        link?.client.defineCommand(name, { numberOfKeys, lua })
      return (keys, args) =>
        run((client) => {
          const call: (...of: ScriptArgument[]) => Promise<unknown> = Reflect.get(client, name)
          return call.apply(client, [...keys, ...args])
        })
    },

    close: async () => {
      isClosed = true
      for (const leave of unsubscribe) leave?.()
      await Promise.all([current.close(), successor?.close()])
    },
  }
}

/** A store that may evict sessions signs users out at random: the operator should know before they do. */
const warnOfEviction = async (
  client: RedisClient,
  notice: RedisConnectionOptions['notice'],
): Promise<void> => {
  // Restricted users may not ask; then there is nothing to say.
  const answers = await Promise.all(
    mastersOf(client).map((master) => master.info('memory').catch(() => '')),
  )
  const policies = answers.map((memory) => /^maxmemory_policy:(\S+)/m.exec(memory)?.[1])
  const evicting = policies.find((policy) => policy !== undefined && policy !== 'noeviction')
  if (evicting !== undefined)
    notice('store_may_evict', `Set maxmemory-policy noeviction in Redis; it is ${evicting}.`)
}
