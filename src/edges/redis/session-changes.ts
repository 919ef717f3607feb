/** Changes of sessions in Redis: a tracker for each server that takes writes, and silence from one is doubt in all. */

import type { Redis } from 'ioredis'
import type { SessionChangeListener, SessionChanges } from '../../session/session-changes.ts'
import { reconnectDelayMs } from './client.ts'
import type { RedisConnection } from './connection.ts'
import { ADVICE, type FailureReason, failureReason } from './failure.ts'
import { BEAT_MS, openTracker, type Tracker } from './tracker.ts'

export interface RedisSessionChanges extends SessionChanges {
  close(): void
}

/** Rights are seldom given while somebody waits; nor does a server learn a command. */
const REFUSED_AGAIN_MS = 10_000
const REFUSALS: readonly FailureReason[] = ['permission_refused', 'command_refused']
/** Some seconds of tries. What passes by itself, such as a failover, is no news. */
const ATTEMPTS_UNTOLD = 10

interface Followed {
  /** Of the connection that reads and writes; undefined while a node of a Cluster was not needed yet. */
  stream: object | undefined
  tracker: Tracker | undefined
  /** That failed in a row. */
  attempts: number
  again: NodeJS.Timeout | undefined
}

export const createRedisSessionChanges = (
  connection: Pick<RedisConnection, 'keys' | 'masters' | 'onMasters'>,
  notice: (notice: string, detail: string) => void,
): RedisSessionChanges => {
  const { keys } = connection
  const listeners = new Set<SessionChangeListener>()
  const followed = new Map<Redis, Followed>()
  let isTold = false
  /** Why nothing is told, as far as the operator has heard. */
  let announced: FailureReason | undefined

  const gap = () => {
    for (const listener of listeners) listener.gap()
  }
  const everyMasterIsTracked = (): boolean => {
    const masters = connection.masters()
    return masters.length > 0 && masters.every((master) => followed.get(master)?.tracker?.isAlive())
  }
  const doubt = () => {
    if (!isTold) return
    isTold = false
    gap()
  }
  const trust = () => {
    if (isTold || !everyMasterIsTracked()) return
    gap()
    isTold = true
    if (announced === undefined) return
    announced = undefined
    notice('session_changes_told', 'Redis tells of changed sessions again.')
  }

  const announce = (reason: FailureReason) => {
    if (announced === reason) return
    announced = reason
    notice(
      'session_changes_untold',
      `Redis does not tell of changed sessions, so each request reads its own. ${ADVICE[reason]}`,
    )
  }

  const track = (master: Redis, of: Followed) => {
    let isSettled = false
    of.tracker = openTracker(master, {
      keys,
      onChanged: (key) => {
        const digest = keys.digestOf(key)
        if (digest === undefined) return
        for (const listener of listeners) listener.changed(digest)
      },
      onFlushed: gap,
      onAlive: () => {
        // One that is lost again at once is not tried again at once.
        if (isSettled) of.attempts = 0
        isSettled = true
        trust()
      },
      onLost: (failure) => {
        doubt()
        tryAgain(master, of, failureReason(failure))
      },
    })
  }

  const tryAgain = (master: Redis, of: Followed, reason: FailureReason) => {
    of.attempts += 1
    const isRefused = REFUSALS.includes(reason)
    if (isRefused || of.attempts > ATTEMPTS_UNTOLD) announce(reason)
    const pauseMs = isRefused
      ? REFUSED_AGAIN_MS * (0.5 + Math.random() / 2)
      : reconnectDelayMs(of.attempts)
    of.again = setTimeout(() => {
      // Without the connection that reads there is nothing to be told of; once it is back, all of them are told.
      if (connection.masters().includes(master)) track(master, of)
      else followed.delete(master)
    }, pauseMs).unref()
  }

  const leave = (master: Redis, { tracker, again }: Followed) => {
    clearTimeout(again)
    tracker?.close()
    followed.delete(master)
  }

  const unsubscribe = connection.onMasters((masters) => {
    doubt()
    for (const [master, entry] of followed) {
      const isSame = entry.stream === undefined || entry.stream === master.stream
      if (!masters.includes(master) || !isSame) leave(master, entry)
      else entry.stream = master.stream
    }
    for (const master of masters) {
      if (followed.has(master)) continue
      const entry = { stream: master.stream, tracker: undefined, attempts: 0, again: undefined }
      followed.set(master, entry)
      track(master, entry)
    }
  })

  const beat = setInterval(() => {
    for (const { tracker } of followed.values()) tracker?.beat()
  }, BEAT_MS).unref()

  return {
    areTold: () => {
      if (!isTold) return false
      if (everyMasterIsTracked()) return true
      doubt()
      return false
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => {
      clearInterval(beat)
      unsubscribe()
      for (const [master, entry] of followed) leave(master, entry)
    },
  }
}
