/**
 * After a reconnect or failover this process writes again what it wrote lately, and makes the ends that were asked for
 * in vain: tombstones and marks first. Every such write leaves alone what is newer, so any number of processes may do
 * it at once and in any order.
 */

import type { Emit } from '../../events.ts'
import { type Clock, milliseconds } from '../../time.ts'
import type { RedisConnection } from './connection.ts'
import { type Journal, STAGES } from './journal.ts'

/** Under way at once: 10,000 records are written in about half a second. */
const BATCH = 256
const PAUSE_FIRST_MS = 50
const PAUSE_MAX_MS = 1_000

export interface Reassertion {
  /** The rest is left to the other processes. */
  close(): void
}

export const createReassertion = (options: {
  /** All that write: each may lose a master by itself. */
  readonly connections: readonly Pick<RedisConnection, 'onRegained'>[]
  readonly journal: Journal
  readonly clock: Clock
  readonly emit: Emit
}): Reassertion => {
  const { connections, journal, clock, emit } = options
  const closed = new AbortController()
  let isRunning = false
  /** Ends the pause: what could not be written may be now. */
  let regained = new AbortController()

  /** Until nothing is in doubt: what cannot be written now is tried again after a pause. */
  const run = async () => {
    const startedMs = clock.monotonicMs()
    let pauseMs = PAUSE_FIRST_MS
    while (!closed.signal.aborted && STAGES.some((stage) => journal.doubted(stage).length > 0)) {
      regained = new AbortController()
      if (await round()) continue
      await clock.sleep(
        milliseconds(pauseMs * (0.5 + Math.random() / 2)),
        AbortSignal.any([closed.signal, regained.signal]),
      )
      pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)
    }
    isRunning = false
    const count = journal.takeCount()
    if (count.written === 0) return
    const durationMs = Math.round(clock.monotonicMs() - startedMs)
    emit({ type: 'store_reasserted', ...count, durationMs })
  }

  /** True if all could be written. */
  const round = async (): Promise<boolean> => {
    let isComplete = true
    for (const stage of STAGES) {
      const entries = journal.doubted(stage)
      for (let start = 0; start < entries.length && !closed.signal.aborted; start += BATCH) {
        const batch = entries.slice(start, start + BATCH)
        // Whatever failed, the connection has told the operator; the pauses bound how often it is tried.
        const results = await Promise.allSettled(batch.map(journal.restore))
        const failed = results.filter(({ status }) => status === 'rejected').length
        if (failed > 0) isComplete = false
        // The store is away: the rest would fail as well. The other stages may not, where one master of a Cluster is.
        if (failed === batch.length) break
      }
    }
    return isComplete
  }

  journal.onDoubt(() => {
    if (isRunning || closed.signal.aborted) return
    isRunning = true
    void run()
  })
  const leaves = connections.map((connection) =>
    connection.onRegained(() => {
      regained.abort()
      journal.doubt()
    }),
  )

  return {
    close: () => {
      for (const leave of leaves) leave()
      closed.abort()
    },
  }
}
