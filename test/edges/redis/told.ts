/** Who is told of changes, seen from outside and inside. */

import type { Redis } from 'ioredis'
import { onTestFinished } from 'vitest'
import type { RedisStores } from '../../../src/edges/redis/stores.ts'
import { systemClock } from '../../../src/time.ts'
import { listenTo } from '../../contract/session-changes.contract.ts'
import { newDigest } from '../../contract/session-store.contract.ts'
import { waitFor } from '../../support/wait.ts'
import { oneHourRecord } from './connected.ts'

export const begin = async ({ sessions }: RedisStores, digest = newDigest()) => {
  await sessions.create(digest, oneHourRecord(), systemClock.now())
  return digest
}

/** New sessions, wherever they lie, of which the other gateway is told. */
export const isTold = async (writer: RedisStores, { changes }: RedisStores, sessions = 12) => {
  const listening = listenTo(changes)
  for (let session = 0; session < sessions; session += 1) {
    const digest = await begin(writer)
    await waitFor('the change', () => listening.count(digest) > 0)
  }
  listening.leave()
  return true
}

/** Every answer of `areTold`, as often as this process gets to ask; `runs` has one for each row of equal ones. */
export const watch = ({ changes }: RedisStores) => {
  const listening = listenTo(changes)
  const runs: boolean[] = []
  const timer = setInterval(() => {
    const now = changes.areTold()
    if (runs.at(-1) !== now) runs.push(now)
  }, 5)
  onTestFinished(() => clearInterval(timer))
  return { runs, gaps: () => listening.count('gap') }
}

/** Ids of the connections that listen there. */
export const trackersOn = async (client: Redis): Promise<readonly string[]> =>
  [...String(await client.client('LIST')).matchAll(/^id=(\d+) .* name=coatcheck-tracker /gm)].map(
    ([, id = '']) => id,
  )
