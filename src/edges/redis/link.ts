/** One client and what is known of it: it is made in the background, comes back by itself, and nobody waits long. */

import { GatewayError } from '../../errors.ts'
import {
  type ClientOptions,
  openRedisClient,
  type RedisClient,
  reconnectDelayMs,
  watchMasters,
} from './client.ts'
import {
  causeWithoutArguments,
  type FailureReason,
  failureReason,
  storeUnavailable,
} from './failure.ts'

export interface RedisLink {
  readonly client: RedisClient
  isReady(): boolean
  /** Calls `onMasters` and `onRegained` before it returns, if there are others by now. */
  lookForMasters(): void
  /** Rejects with `store_unavailable` and nothing else. A write that timed out may have been applied. */
  run<T>(command: (client: RedisClient) => Promise<T>): Promise<T>
  /** Waits for replies that are due, no longer than one command may take. */
  close(): Promise<void>
}

interface LinkOptions extends Omit<ClientOptions, 'onNodeError'> {
  readonly onReady: () => void
  /** There may be other masters. */
  readonly onMasters: () => void
  /** A master that was not there, or not connected to, is so now: it may lack the latest writes. */
  readonly onRegained: () => void
  /** There is no connection, and requests no longer wait for one. Comes again for each try. */
  readonly onFailed: (reason: FailureReason) => void
}

/** `connecting` is the short while in which requests wait for it; after a failed try they do not. */
type State = 'connecting' | 'ready' | 'failed' | 'closed'

export const openRedisLink = (options: LinkOptions): RedisLink => {
  const { commandTimeout } = options
  let state: State = 'connecting'
  let changed = Promise.withResolvers<void>()
  let lastFailure: FailureReason = 'not_connected'
  /** Why a node of a Cluster could not be connected to. */
  let nodeFailure: FailureReason | undefined
  let restarts = 0
  let restart: NodeJS.Timeout | undefined

  const become = (next: State) => {
    if (state === next || state === 'closed') return
    state = next
    changed.resolve()
    changed = Promise.withResolvers()
  }

  const fail = (reason: FailureReason) => {
    if (state === 'closed') return
    lastFailure = reason
    become('failed')
    options.onFailed(reason)
  }

  const { client, closeWatchers } = openRedisClient({
    ...options,
    onNodeError: (error) => {
      nodeFailure = failureReason(error)
    },
  })
  client.on('ready', () => {
    if (state === 'closed') return
    become('ready')
    lastFailure = 'connection_lost'
    nodeFailure = undefined
    restarts = 0
    options.onReady()
  })
  const masters = watchMasters(client, {
    changed: () => {
      if (state === 'ready') options.onMasters()
    },
    regained: () => {
      if (state === 'ready') options.onRegained()
    },
  })
  client.on('error', (error: unknown) => {
    const reason = failureReason(error)
    if (state === 'ready') lastFailure = reason
    else fail(reason === 'connection_lost' ? (nodeFailure ?? reason) : reason)
  })
  client.on('close', () => {
    if (state === 'ready') become('connecting')
    else fail(lastFailure)
  })
  client.on('end', () => {
    // The client gives up for good where not even a socket could be made. Nothing restarts it but this.
    if (state === 'closed') return
    restarts += 1
    restart = setTimeout(() => client.connect().catch(() => {}), reconnectDelayMs(restarts)).unref()
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

  const refusalOf = (thrown: unknown): GatewayError => {
    if (thrown instanceof GatewayError) return thrown
    return storeUnavailable(failureReason(thrown), causeWithoutArguments(thrown))
  }

  return {
    client,
    isReady: () => state === 'ready',
    lookForMasters: masters.look,

    run: async (command) => {
      if (state !== 'ready') await whenReady()
      try {
        return await command(client)
      } catch (thrown) {
        throw refusalOf(thrown)
      }
    },

    close: async () => {
      become('closed')
      clearTimeout(restart)
      masters.stop()
      closeWatchers()
      await client.quit().catch(() => client.disconnect())
    },
  }
}
