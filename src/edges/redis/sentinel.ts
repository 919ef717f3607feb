/** Sentinels: they are asked for the master before each connection, and tell when another server became it. */

import { Redis, type RedisOptions } from 'ioredis'
import {
  loginOptions,
  type RedisHost,
  type RedisTimeouts,
  type SentinelAddress,
  type TlsOptions,
} from './address.ts'
import { type Connector, createConnector } from './connector.ts'
import { UnknownMaster } from './failure.ts'

interface SentinelSettings extends RedisTimeouts {
  readonly tls: TlsOptions | undefined
}

export interface Sentinels {
  /** Connects to whatever is the master now. */
  readonly Connector: Connector
  /** Another server than that of the latest connection became the master. */
  watch(onSwitch: () => void): void
  close(): void
}

const SWITCHED = '+switch-master'
/** Between tries to reach a Sentinel that would tell; meanwhile the others do. */
const WATCH_AGAIN_MS = 2_000

/**
 * The client's own connector keeps its place in the list of Sentinels, reports its end as an outage although nobody
 * was asked, and turns refusals into prose. This one asks each Sentinel once per connection, begins behind the one
 * that answered last, so that one with old news is not asked twice in a row, and passes the cause on.
 */
export const createSentinels = (
  { hosts, masterName, sentinelLogin }: SentinelAddress,
  { tls, commandTimeout, connectTimeout }: SentinelSettings,
): Sentinels => {
  const watchers: Redis[] = []
  let next = 0
  let master: RedisHost | undefined
  /** The master that a Sentinel told of, before all of them know it. */
  let told: RedisHost | undefined

  const plainConnector = createConnector({ tls, disconnectTimeout: commandTimeout })
  const clientOf = (
    sentinel: RedisHost,
    options: Pick<RedisOptions, 'retryStrategy' | 'commandTimeout' | 'autoResubscribe'>,
  ): Redis =>
    new Redis({
      ...sentinel,
      ...(sentinelLogin === undefined ? {} : loginOptions(sentinelLogin)),
      ...(tls === undefined ? {} : { tls }),
      Connector: plainConnector,
      connectionName: 'coatcheck',
      disableClientInfo: true,
      enableReadyCheck: false,
      connectTimeout,
      disconnectTimeout: commandTimeout,
      ...options,
    })

  const ask = async (sentinel: RedisHost): Promise<RedisHost> => {
    // The question waits for the connection.
    const answeredWithin = connectTimeout + commandTimeout
    const client = clientOf(sentinel, { commandTimeout: answeredWithin, retryStrategy: null })
    let failure: unknown
    client.on('error', (error: unknown) => {
      failure = error
    })
    try {
      const answer = await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', masterName)
      const [host, port] = Array.isArray(answer) ? answer : []
      const found = hostOf(host, port)
      if (found === undefined) throw new UnknownMaster()
      return found
    } catch (thrown) {
      // A command that waited in vain for its connection knows no cause.
      throw failure ?? thrown
    } finally {
      client.disconnect()
    }
  }

  const findMaster = async (): Promise<RedisHost> => {
    let failure: unknown
    for (let asked = 0; asked < hosts.length; asked += 1) {
      const sentinel = hosts[next % hosts.length]
      next += 1
      if (sentinel === undefined) break
      try {
        return await ask(sentinel)
      } catch (thrown) {
        if (!(failure instanceof UnknownMaster)) failure = thrown
      }
    }
    throw failure
  }

  const Connector = createConnector({
    tls,
    disconnectTimeout: commandTimeout,
    find: async () => {
      const announced = told
      told = undefined
      master = announced ?? (await findMaster())
      return master
    },
  })

  return {
    Connector,

    watch: (onSwitch) => {
      for (const sentinel of hosts) {
        const watcher = clientOf(sentinel, {
          retryStrategy: () => WATCH_AGAIN_MS * (0.5 + Math.random() / 2),
          autoResubscribe: false,
        })
        watchers.push(watcher)
        // What is wrong with a Sentinel is told by whoever asks it for the master.
        watcher.on('error', () => {})
        watcher.on('ready', () => {
          watcher.subscribe(SWITCHED).catch(() => {})
        })
        watcher.on('message', (_channel, message: string) => {
          const now = switchedTo(message, masterName)
          if (now === undefined || (now.host === master?.host && now.port === master.port)) return
          told = now
          onSwitch()
        })
      }
    },

    close: () => {
      for (const watcher of watchers) watcher.disconnect()
    },
  }
}

/** `<name> <former host> <former port> <host> <port>` */
const switchedTo = (message: string, masterName: string): RedisHost | undefined => {
  const [name, , , host, port] = message.split(' ')
  return name === masterName ? hostOf(host, port) : undefined
}

const hostOf = (host: unknown, port: unknown): RedisHost | undefined =>
  typeof host === 'string' && /^\d+$/.test(String(port)) ? { host, port: Number(port) } : undefined
