/** What chaos does to two gateways: the scenes of `npm run test:chaos`, and the short form in `npm test`. */

import { setTimeout as sleep } from 'node:timers/promises'
import type { TokenRequestFate } from '../../src/dev/token-endpoint.ts'
import type { Findings, KilledAt, Terms } from './chaos-verdict.ts'
import type { GatewayProcess } from './gateway-process.ts'
import type { RedisDeployment } from './redis-deployments.ts'
import type { Replicas } from './replicas.ts'

/** Where scenes play; neighbours with the same scenery share it. */
export interface Scenery {
  readonly rotation: 'strict' | 'tolerant'
  readonly store: 'redis' | 'sentinels'
}

/** What a scene may lay hands on. */
export interface Stage {
  readonly replicas: Replicas
  /** The Sentinels and their servers, where the scenery has them. */
  readonly deployment: RedisDeployment | undefined
  /** In the order of time; whoever kills adds to it. */
  readonly kills: KilledAt[]
  /** Every process that was started, killed ones included. */
  readonly processes: GatewayProcess[]
  /** Waits until each session has worked since that instant, or is over; how many did neither in time. */
  settledSince(at: number): Promise<number>
}

export interface Scene {
  readonly name: string
  readonly what: string
  readonly scenery: Scenery
  /** Breaks something, and mends it. */
  act(stage: Stage, tell: (event: string) => void): Promise<void>
  readonly terms: Terms
}

const STRICT: Scenery = { rotation: 'strict', store: 'redis' }
const TOLERANT: Scenery = { rotation: 'tolerant', store: 'redis' }
const SENTINELS: Scenery = { rotation: 'strict', store: 'sentinels' }

const REPLICA_DOWN_MS = 1_000
const FREEZE_MS = 4_000
/** Of one process: `provider.concurrency` calls that were under way when it began, and then the breaker's probes. */
const OUTAGE_CALLS_MAX = 32
const PROBE_EVERY_MS_MIN = 2_500

const someRefused = ({ tally }: Findings): boolean => tally.unavailable > 0

/** Each replica in turn, each at least once, until the time is over; the next when all work again. */
const killInTurn =
  (durationMs: number): Scene['act'] =>
  async ({ replicas, kills, processes, settledSince }, tell) => {
    const untilMs = performance.now() + durationMs
    let turn = 0
    while (turn < replicas.gateways.length || performance.now() < untilMs) {
      const index = turn % replicas.gateways.length
      tell(`kill -9 of replica ${index + 1}`)
      kills.push(Date.now())
      await replicas.gateways[index]?.kill()
      await sleep(REPLICA_DOWN_MS)
      await replicas.start(index)
      processes.push(...replicas.gateways.slice(index, index + 1))
      tell(`replica ${index + 1} is back`)
      await settledSince(Date.now())
      turn += 1
    }
  }

const killsUnder = (scenery: Scenery, durationMs: number): Scene => ({
  name: scenery.rotation === 'strict' ? 'kills' : 'kills-tolerant',
  what: `each replica killed in turn; the provider ${
    scenery.rotation === 'strict' ? 'forbids' : 'tolerates for 10 s'
  } reuse of refresh tokens`,
  scenery,
  act: killInTurn(durationMs),
  terms: {
    killsMayCostSessions: scenery.rotation === 'strict',
    felt: ({ kills }) => kills >= 2,
  },
})

const FROZEN_REDIS: Scene = {
  name: 'redis-frozen',
  what: `Redis frozen (SIGSTOP) for ${FREEZE_MS / 1000} s`,
  scenery: STRICT,
  act: async ({ replicas }, tell) => {
    tell('Redis is frozen')
    replicas.redis.pause()
    await sleep(FREEZE_MS)
    replicas.redis.resume()
    tell('Redis goes on')
  },
  terms: { killsMayCostSessions: false, felt: someRefused },
}

const FAILOVER: Scene = {
  name: 'failover',
  what: 'the master behind Sentinels killed, its replica promoted',
  scenery: SENTINELS,
  act: async ({ deployment }, tell) => {
    tell('kill -9 of the master')
    await deployment?.servers[0]?.kill()
  },
  terms: { killsMayCostSessions: false, felt: someRefused },
}

const providerOutage = (name: string, fate: TokenRequestFate, durationMs: number): Scene => ({
  name,
  what: `the provider ${fate === 'hang' ? 'never answers' : 'answers 503'} for ${durationMs / 1000} s`,
  scenery: STRICT,
  act: async ({ replicas }, tell) => {
    tell('the provider is down')
    replicas.provider.setFault(fate)
    await sleep(durationMs)
    replicas.provider.setFault('continue')
    tell('the provider is back')
  },
  terms: {
    killsMayCostSessions: false,
    providerCallsMeanwhileMax: 2 * (OUTAGE_CALLS_MAX + Math.ceil(durationMs / PROBE_EVERY_MS_MIN)),
    felt: (findings) => someRefused(findings) && findings.providerCallsMeanwhile > 0,
  },
})

const DOWN: TokenRequestFate = { status: 503, body: 'down' }

export const LONG_FORM: readonly Scene[] = [
  killsUnder(STRICT, 60_000),
  FROZEN_REDIS,
  providerOutage('provider-down', DOWN, 30_000),
  providerOutage('provider-silent', 'hang', 15_000),
  FAILOVER,
  killsUnder(TOLERANT, 60_000),
]

export const SHORT_FORM: readonly Scene[] = [
  killsUnder(STRICT, 0),
  FROZEN_REDIS,
  providerOutage('provider-down', DOWN, 5_000),
]
