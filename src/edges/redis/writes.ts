/** Writes that must not be lost: scripts, which count once replicas have them where `redis.confirm` says so. */

import { Cluster } from 'ioredis'
import { type Milliseconds, milliseconds } from '../../time.ts'
import type { RedisClient } from './client.ts'
import type { RedisConnection, Script, ScriptArgument } from './connection.ts'
import { storeUnavailable } from './failure.ts'
import { slotOf } from './keys.ts'

export interface Written {
  readonly answer: unknown
  /** Replicas have it, as many as are demanded. Until then a failover may lose it. */
  readonly isConfirmed: boolean
}

export interface WriteScript {
  send(keys: readonly string[], args: readonly ScriptArgument[]): Promise<Written>
  /** Without waiting for replicas: what is written again may be so once more. */
  readonly again: Script
}

export interface Writes {
  script(name: string, numberOfKeys: number, lua: string): WriteScript
}

export interface Confirmation {
  /** Of its own: WAIT holds up every later command of its connection. */
  readonly connection: RedisConnection
  readonly replicas: number
  readonly commandTimeout: Milliseconds
}

export const createWrites = (
  connection: RedisConnection,
  confirmation: Confirmation | undefined,
): Writes => {
  const sendConfirmed = confirmation && confirming(confirmation)
  return {
    script: (name, numberOfKeys, lua) => {
      const again = connection.script(name, numberOfKeys, lua)
      return {
        again,
        send: async (keys, args) =>
          sendConfirmed === undefined
            ? { answer: await again(keys, args), isConfirmed: true }
            : sendConfirmed(lua, keys, args),
      }
    },
  }
}

type Pipelined = readonly [error: Error | null, result: unknown]

const confirming = ({ connection, replicas, commandTimeout }: Confirmation) => {
  // One half of the time is for one's turn, the other for the replicas.
  const share = milliseconds(Math.max(1, Math.floor(commandTimeout / 2)))
  const inTurn = createTurns(share)

  return (
    lua: string,
    keys: readonly string[],
    args: readonly ScriptArgument[],
  ): Promise<Written> =>
    connection.run(async (commands) => {
      const client = commands as RedisClient
      // Both in one pipeline: alone, WAIT goes to any node of a Cluster. The script goes whole, because a lost one
      // would come after the WAIT.
      const [script, wait] = await inTurn(serverOf(client, keys[0] ?? ''), async () => {
        const pipeline = client.pipeline()
        pipeline.eval(lua, keys.length, ...keys, ...args)
        pipeline.wait(replicas, share)
        return ((await pipeline.exec()) ?? []) as readonly Pipelined[]
      })
      if (script?.[0]) throw script[0]
      // A WAIT that is refused is a fault of the set-up, which the operator should hear of.
      if (wait?.[0]?.name === 'ReplyError') throw wait[0]
      return { answer: script?.[1], isConfirmed: Number(wait?.[1] ?? 0) >= replicas }
    })
}

const serverOf = (client: RedisClient, key: string): string =>
  client instanceof Cluster ? (client.slots[slotOf(key)]?.[0] ?? '') : ''

/**
 * One at a time for each server, and refused unsent when the turn does not come: behind replicas that stall, writes
 * would pile up in the socket and be applied long after their callers were told that they had failed.
 */
const createTurns = (limit: Milliseconds) => {
  const waiting = new Map<string, (() => void)[]>()

  const turn = (server: string): Promise<void> => {
    const queue = waiting.get(server)
    if (queue === undefined) {
      waiting.set(server, [])
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const go = () => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        queue.splice(queue.indexOf(go), 1)
        reject(storeUnavailable('timeout'))
      }, limit)
      queue.push(go)
    })
  }

  return async <T>(server: string, call: () => Promise<T>): Promise<T> => {
    await turn(server)
    try {
      return await call()
    } finally {
      const next = waiting.get(server)?.shift()
      if (next === undefined) waiting.delete(server)
      else next()
    }
  }
}
