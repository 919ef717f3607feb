/**
 * Reads of sessions, those of one turn of the event loop in one command: under load a command costs more than what it
 * asks for. Nobody waits for others to come.
 */

import type { SessionDigest } from '../../session/session.ts'
import type { RedisConnection } from './connection.ts'

/** Record and last activity as they are stored. */
export type StoredPair = readonly [record: Buffer | null, idle: Buffer | null]
export type ReadPair = (digest: SessionDigest) => Promise<StoredPair>

/** Some 200 KB of answer: larger ones would keep Redis, and this process, from everybody else. */
const GATHERED_MAX = 64

interface Gathering {
  readonly names: string[]
  readonly answer: Promise<readonly (Buffer | null)[]>
}

/** Rejects with `store_unavailable` and nothing else. */
export const createGatheredReads = (connection: RedisConnection): ReadPair => {
  const { keys, run } = connection
  let gathering: Gathering | undefined

  const read = (names: readonly string[]) => run((client) => client.mgetBuffer(...names))

  const begin = (): Gathering => {
    const names: string[] = []
    const { promise: turn, resolve } = Promise.withResolvers<void>()
    const begun = { names, answer: turn.then(() => read(names)) }
    // Behind whatever else has arrived by now.
    setImmediate(() => {
      if (gathering === begun) gathering = undefined
      resolve()
    })
    return begun
  }

  return async (digest) => {
    const pair = [keys.record(digest), keys.idle(digest)] as const
    // Two sessions have two slots, and no command takes both; nor should one server's outage be that of others.
    if (connection.isCluster()) return pairAt(await read(pair), 0)
    gathering ??= begin()
    const { names, answer } = gathering
    const at = names.push(...pair) - pair.length
    if (names.length === GATHERED_MAX * pair.length) gathering = undefined
    return pairAt(await answer, at)
  }
}

const pairAt = (answer: readonly (Buffer | null)[], at: number): StoredPair => [
  answer[at] ?? null,
  answer[at + 1] ?? null,
]
