/**
 * People at work while things break: every session calls the API again and again, through a balancer that does what
 * real ones do, and every answer is counted.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ApiAnswer, Replicas } from './replicas.ts'

export interface LoadedSession {
  readonly cookie: string
  /** As the gateway's log names it. */
  readonly label: string
  /** As the provider's log names it. */
  readonly grantId: string
  /** Milliseconds since the epoch at which its last call with a good answer began. */
  goodAt: number
  /** Set by the first 401; such a session calls no more, as an app would send its user to sign in. */
  signedOut?: { readonly at: number; readonly code: string }
}

export interface Tally {
  readonly requests: number
  readonly good: number
  readonly unavailable: number
  readonly unauthorized: number
  /** Answers of any other kind, by status and code; nothing belongs here. */
  readonly other: Readonly<Record<string, number>>
  /** Connections that a killed process cut in the middle of a request. */
  readonly cut: number
  /** 503 without `Retry-After`, or with a cookie. */
  readonly rude: number
  readonly slowestMs: number
  /** What the slowest was; 0 where it was cut. */
  readonly slowestStatus: number
  /** How long this process itself was kept waiting at worst: a machine that is too busy, and no fault of a gateway. */
  readonly stalledMs: number
}

export interface Load {
  /** Since the beginning, or since the last `forget`. */
  tally(): Tally
  /** Counts begin anew. */
  forget(): void
  /** Waits for the calls under way. */
  stop(): Promise<void>
}

/** The sessions begin one by one over `rampMs`, so that they do not walk in step. */
export const startLoad = (
  replicas: Replicas,
  sessions: readonly LoadedSession[],
  { pauseMs, rampMs }: { readonly pauseMs: number; readonly rampMs: number },
): Load => {
  const balanced = balance(replicas)
  const stopping = new AbortController()
  const pause = (milliseconds: number) =>
    sleep(milliseconds, undefined, { signal: stopping.signal }).catch(() => {})
  const stalls = monitorEventLoopDelay({ resolution: 20 })
  stalls.enable()
  let tally = emptyTally()

  const count = (session: LoadedSession, answer: ApiAnswer, startedAt: number) => {
    const { status, code = '', headers } = answer
    if (status === 503) {
      tally.unavailable += 1
      if (headers['retry-after'] === undefined || headers['set-cookie'] !== undefined)
        tally.rude += 1
    } else if (status === 401) {
      tally.unauthorized += 1
      session.signedOut = { at: Date.now(), code }
    } else if (status >= 200 && status < 300) {
      tally.good += 1
      session.goodAt = startedAt
    } else {
      const kind = `${status} ${code}`
      tally.other[kind] = (tally.other[kind] ?? 0) + 1
    }
  }

  const use = async (session: LoadedSession, index: number) => {
    await pause((rampMs * index) / sessions.length)
    while (!stopping.signal.aborted && session.signedOut === undefined) {
      const startedAt = Date.now()
      const startedMs = performance.now()
      tally.requests += 1
      const status = await balanced(session.cookie).then(
        (answer) => {
          count(session, answer, startedAt)
          return answer.status
        },
        () => {
          tally.cut += 1
          return 0
        },
      )
      const tookMs = performance.now() - startedMs
      if (tookMs > tally.slowestMs) {
        tally.slowestMs = tookMs
        tally.slowestStatus = status
      }
      await pause(pauseMs)
    }
  }
  const users = sessions.map(use)

  return {
    tally: () => ({ ...tally, other: { ...tally.other }, stalledMs: stalls.max / 1e6 }),
    forget: () => {
      tally = emptyTally()
      stalls.reset()
    },
    stop: async () => {
      stopping.abort()
      await Promise.all(users)
      stalls.disable()
    },
  }
}

const emptyTally = () => ({
  requests: 0,
  good: 0,
  unavailable: 0,
  unauthorized: 0,
  other: {} as Record<string, number>,
  cut: 0,
  rude: 0,
  slowestMs: 0,
  slowestStatus: 0,
})

/** Round robin. Where nobody listens nothing was sent, so the next replica is asked; a cut call stays cut. */
const balance = (replicas: Replicas): ((cookie: string) => Promise<ApiAnswer>) => {
  let turn = 0
  return async (cookie) => {
    const count = replicas.gateways.length
    const first = turn
    turn += 1
    for (let tried = 0; ; tried += 1) {
      try {
        return await replicas.call((first + tried) % count, cookie)
      } catch (error) {
        const refused = (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
        if (!refused || tried + 1 >= count) throw error
      }
    }
  }
}
