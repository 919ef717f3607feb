/**
 * One connection to Redis or Valkey for reads and writes. It is made in the background, comes back by itself, and
 * whatever goes wrong is `store_unavailable` to the caller within a known time.
 */

import { Redis } from 'ioredis'
import { GatewayError } from '../../errors.ts'
import type { Milliseconds } from '../../time.ts'
import { ADVICE, causeWithoutArguments, type FailureReason, failureReason } from './failure.ts'
import { createKeyNames, type KeyNames } from './keys.ts'

export interface RedisConnectionOptions {
  /** `redis://` or `rediss://`, with credentials and database number where needed. */
  readonly url: string
  readonly namespace: string
  /** A command is answered within this, or fails; so is a wait for a connection that is just being made. */
  readonly commandTimeout: Milliseconds
  readonly connectTimeout: Milliseconds
  readonly notice: (notice: string, detail: string) => void
}

export type ScriptArgument = string | number | Buffer
export type Script = (keys: readonly string[], args: readonly ScriptArgument[]) => Promise<unknown>

export interface RedisConnection {
  readonly keys: KeyNames
  /** Rejects with `store_unavailable` and nothing else. A write that timed out may have been applied. */
  run<T>(command: (client: Redis) => Promise<T>): Promise<T>
  /** Defines a script on every server connected to; sent by its digest, and whole where the server lost it. */
  script(name: string, numberOfKeys: number, lua: string): Script
  /** Waits for replies that are due, no longer than one command may take. */
  close(): Promise<void>
}

const NAMESPACE = /^[\w-]{1,32}$/
const RECONNECT_FIRST_MS = 50
/** Short, because each replica sends one small request per try and every request of a user waits for it. */
const RECONNECT_MAX_MS = 500
const RETRY_AFTER_SECONDS = 1

const storeUnavailable = (reason: string, cause?: unknown): GatewayError =>
  new GatewayError('store_unavailable', {
    reason,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    ...(cause === undefined ? {} : { cause }),
  })

/** What is stored was written by a release that this one does not understand. That is no "absent". */
export const unreadableAnswer = (what: 'record' | 'lease'): GatewayError =>
  storeUnavailable(`${what}_unreadable`)

/** `connecting` is the short while in which requests wait for it; after a failed try they do not. */
type State = 'connecting' | 'ready' | 'failed' | 'closed'

export const createRedisConnection = (options: RedisConnectionOptions): RedisConnection => {
  const { url, namespace, commandTimeout, connectTimeout, notice } = options
  if (!NAMESPACE.test(namespace)) throw new TypeError('a store namespace is 1 to 32 of A-Za-z0-9_-')

  let state: State = 'connecting'
  let changed = Promise.withResolvers<void>()
  let lastFailure: FailureReason = 'not_connected'
  let announced: FailureReason | undefined

  const become = (next: State) => {
    if (state === next || state === 'closed') return
    state = next
    changed.resolve()
    changed = Promise.withResolvers()
  }

  const client = new Redis(url, {
    connectionName: 'coatcheck',
    commandTimeout,
    connectTimeout,
    disconnectTimeout: commandTimeout,
    // A black-holed connection stays open for minutes unless something notices that no reply comes.
    socketTimeout: commandTimeout * 4,
    // Nothing is queued or sent a second time: a command whose reply was lost may have been applied, and one whose
    // caller has gone must not be applied later.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // INFO is refused to restricted users; a server that still loads answers LOADING to commands instead.
    enableReadyCheck: false,
    // After a failover the former master answers READONLY: the name may already lead to the new one.
    reconnectOnError: (error) => failureReason(error) === 'read_only',
    retryStrategy: (times) =>
      Math.min(RECONNECT_FIRST_MS * 2 ** (times - 1), RECONNECT_MAX_MS) * (0.5 + Math.random() / 2),
  })

  const fail = (reason: FailureReason) => {
    lastFailure = reason
    become('failed')
    if (announced === reason || state === 'closed') return
    announced = reason
    notice('store_unreachable', ADVICE[reason])
  }

  client.on('ready', () => {
    become('ready')
    lastFailure = 'connection_lost'
    if (announced !== undefined) notice('store_reachable', 'The session store answers again.')
    announced = undefined
    void warnOfEviction(client, notice)
  })
  client.on('error', (error: unknown) => {
    if (state === 'ready') lastFailure = failureReason(error)
    else fail(failureReason(error))
  })
  client.on('close', () => {
    if (state === 'ready') become('connecting')
    else fail(lastFailure)
  })
  client.on('end', () => {
    // The client gives up for good where not even a socket could be made. Nothing restarts it but this.
    if (state !== 'closed')
      setTimeout(() => client.connect().catch(() => {}), RECONNECT_MAX_MS).unref()
  })

  const whenReady = async () => {
    if (state === 'connecting') {
      const late = Promise.withResolvers<void>()
      const timer = setTimeout(late.resolve, commandTimeout)
      await Promise.race([changed.promise, late.promise])
      clearTimeout(timer)
    }
    if (state !== 'ready') throw storeUnavailable(lastFailure)
  }

  const run = async <T>(command: (client: Redis) => Promise<T>): Promise<T> => {
    if (state !== 'ready') await whenReady()
    try {
      return await command(client)
    } catch (thrown) {
      throw storeUnavailable(failureReason(thrown), causeWithoutArguments(thrown))
    }
  }

  return {
    keys: createKeyNames(namespace),
    run,

    script: (name, numberOfKeys, lua) => {
      client.defineCommand(name, { numberOfKeys, lua })
      const call: (...of: ScriptArgument[]) => Promise<unknown> = Reflect.get(client, name)
      return (keys, args) => run((connected) => call.apply(connected, [...keys, ...args]))
    },

    close: async () => {
      become('closed')
      await client.quit().catch(() => client.disconnect())
    },
  }
}

/** A store that may evict sessions signs users out at random: the operator should know before they do. */
const warnOfEviction = async (
  client: Redis,
  notice: RedisConnectionOptions['notice'],
): Promise<void> => {
  // Restricted users may not ask; then there is nothing to say.
  const memory = await client.info('memory').catch(() => '')
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1]
  if (policy !== undefined && policy !== 'noeviction')
    notice('store_may_evict', `Set maxmemory-policy noeviction in Redis; it is ${policy}.`)
}
