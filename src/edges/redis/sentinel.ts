/** Asking Sentinels for the master, anew for each connection. Each Sentinel is asked once, within a known time. */

import { connect as connectPlainly, type Socket } from 'node:net'
import { connect as connectByTls } from 'node:tls'
import { AbstractConnector, Redis } from 'ioredis'
import {
  loginOptions,
  type RedisHost,
  type RedisTimeouts,
  type SentinelAddress,
} from './address.ts'
import { UnknownMaster } from './failure.ts'

interface SentinelSettings {
  readonly tls?: object
  readonly disconnectTimeout: number
}

/**
 * The client's own connector keeps its place in the list of Sentinels, reports its end as an outage although nobody
 * was asked, and turns refusals into prose. This one starts behind the Sentinel that answered last, so that one with
 * old news is not asked twice in a row, and passes the cause on.
 */
export const createSentinelConnector = (
  { hosts, masterName, sentinelLogin }: SentinelAddress,
  { tls, disconnectTimeout }: SentinelSettings,
  { connectTimeout, commandTimeout }: RedisTimeouts,
) => {
  let first = 0

  const ask = async (sentinel: RedisHost): Promise<RedisHost> => {
    const client = new Redis({
      ...sentinel,
      ...(sentinelLogin === undefined ? {} : loginOptions(sentinelLogin)),
      ...(tls === undefined ? {} : { tls }),
      connectionName: 'coatcheck',
      disableClientInfo: true,
      enableReadyCheck: false,
      connectTimeout,
      commandTimeout: connectTimeout + commandTimeout,
      disconnectTimeout,
      retryStrategy: null,
    })
    let failure: unknown
    client.on('error', (error: unknown) => {
      failure = error
    })
    try {
      const answer = await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', masterName)
      return masterFrom(answer)
    } catch (thrown) {
      // A command that waits for the connection hears only that it closed.
      throw failure ?? thrown
    } finally {
      client.disconnect()
    }
  }

  const findMaster = async (): Promise<RedisHost> => {
    let failure: unknown
    for (let asked = 0; asked < hosts.length; asked += 1) {
      const sentinel = hosts[first % hosts.length]
      first += 1
      if (sentinel === undefined) break
      try {
        return await ask(sentinel)
      } catch (thrown) {
        if (!(failure instanceof UnknownMaster)) failure = thrown
      }
    }
    throw failure
  }

  return class extends AbstractConnector {
    constructor() {
      super(disconnectTimeout)
    }

    async connect(): Promise<Socket> {
      this.connecting = true
      const master = await findMaster()
      if (!this.connecting) throw new Error('the connection was given up')
      const stream =
        tls === undefined ? connectPlainly(master) : connectByTls({ ...master, ...tls })
      stream.once('error', (error) => {
        this.firstError = error
      })
      this.stream = stream
      return stream
    }
  }
}

const masterFrom = (answer: unknown): RedisHost => {
  const [host, port] = Array.isArray(answer) ? answer : []
  if (typeof host !== 'string' || !/^\d+$/.test(String(port))) throw new UnknownMaster()
  return { host, port: Number(port) }
}
