/**
 * Chaos with real processes: two gateways, a real Redis, a provider with 2-second tokens and sessions under constant
 * load, while processes are killed, frozen and cut off. Each scene ends in a report and the promises it broke.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { type Load, type LoadedSession, startLoad, type Tally } from './chaos-load.ts'
import type { Scene, Scenery, Stage } from './chaos-scenes.ts'
import {
  brokenPromises,
  type Findings,
  killThatLost,
  type Loss,
  presentationsOfLast,
} from './chaos-verdict.ts'
import { startSentinels } from './redis-deployments.ts'
import { type Replicas, startReplicas } from './replicas.ts'
import { answerUnexpired } from './upstream-api.ts'
import { waitFor } from './wait.ts'

export interface Report extends Findings {
  readonly scene: Scene
  readonly broken: readonly string[]
}

export interface ChaosOptions {
  readonly sessions: number
  /** Between two calls of one session. */
  readonly pauseMs: number
  /** Told of each event, and of the counts every few seconds. */
  readonly onProgress?: (scene: Scene, event: string, tally: Tally) => void
}

interface PreparedStage extends Stage {
  readonly sessions: readonly LoadedSession[]
  readonly load: Load
  close(): Promise<void>
}

/** Longer than a token lives: whoever works after it works with a newer one. */
const TOKEN_LIFE_MS = 2_500
/** The breaker may leave a provider alone for 30 s before it tries again. */
const RECOVERY_MS_MAX = 45_000
const PROGRESS_EVERY_MS = 5_000

export const runChaos = async (
  scenes: readonly Scene[],
  options: ChaosOptions,
): Promise<readonly Report[]> => {
  const reports: Report[] = []
  let current: { readonly scenery: Scenery; readonly stage: PreparedStage } | undefined
  try {
    for (const scene of scenes) {
      if (current?.scenery !== scene.scenery) {
        await current?.stage.close()
        current = undefined
        current = { scenery: scene.scenery, stage: await prepare(scene.scenery, options) }
      }
      reports.push(await play(scene, current.stage, options))
    }
  } finally {
    await current?.stage.close()
  }
  return reports
}

const prepare = async (
  scenery: Scenery,
  { sessions: sessionCount, pauseMs }: ChaosOptions,
): Promise<PreparedStage> => {
  const deployment = scenery.store === 'sentinels' ? await startSentinels() : undefined
  const replicas = await startReplicas({
    refreshRotation: scenery.rotation,
    ...(deployment && { env: { COATCHECK_REDIS_URL: deployment.url } }),
  })
  let load: Load | undefined
  const close = async () => {
    await load?.stop()
    await replicas.close()
    await deployment?.close()
  }
  replicas.api.answerWith(answerUnexpired)
  try {
    const sessions: LoadedSession[] = []
    while (sessions.length < sessionCount) sessions.push(await signIn(replicas))
    load = startLoad(replicas, sessions, { pauseMs, rampMs: TOKEN_LIFE_MS })
    await sleep(TOKEN_LIFE_MS)
    return {
      ...{ replicas, deployment, sessions, load, close },
      ...{ kills: [], processes: [...replicas.gateways] },
      settledSince: (at) => settledSince(sessions, at),
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** One after another, so that the newest line of either log is this session's. */
const signIn = async (replicas: Replicas): Promise<LoadedSession> => {
  const log = replicas.gateways[0]?.stdout ?? []
  const before = eventsIn(log, 'login_succeeded').length
  const cookie = await replicas.signIn()
  const event = await waitFor(
    'the log tells of the sign-in',
    () => eventsIn(log, 'login_succeeded')[before],
  )
  const grantId = replicas.provider.tokenRequests().at(-1)?.grantId
  if (grantId === undefined) throw new Error('the provider did not log the grant of a sign-in')
  return { cookie, label: String(event.session), grantId, goodAt: 0 }
}

const eventsIn = (
  log: readonly string[],
  type: string,
): readonly Readonly<Record<string, unknown>>[] =>
  log.filter((line) => line.includes(`"event":"${type}"`)).map((line) => JSON.parse(line))

const play = async (
  scene: Scene,
  stage: PreparedStage,
  { onProgress = () => {} }: ChaosOptions,
): Promise<Report> => {
  const { replicas, kills, load } = stage
  const sessions = stage.sessions.filter(({ signedOut }) => signedOut === undefined)
  const killsBefore = kills.length
  const callsOfProvider = () => replicas.provider.tokenRequests().length

  load.forget()
  const callsBefore = callsOfProvider()
  const tell = (event: string) => onProgress(scene, event, load.tally())
  const telling = setInterval(() => {
    tell('…')
    // The API keeps what it was asked, which nobody reads here.
    replicas.api.forgetRequests()
  }, PROGRESS_EVERY_MS)
  try {
    tell(`${sessions.length} sessions are at work`)
    await scene.act(stage, tell)
    const callsAfter = callsOfProvider()
    const mendedAt = Date.now()
    await stage.settledSince(mendedAt)
    const recoveredAfterMs = Date.now() - mendedAt
    tell('every session has worked again, or is over')
    await sleep(TOKEN_LIFE_MS)
    const stuck = await stage.settledSince(mendedAt + TOKEN_LIFE_MS)
    const findings: Findings = {
      tally: load.tally(),
      kills: kills.length - killsBefore,
      sessionsBefore: sessions.length,
      losses: lossesOf(stage, sessions),
      stuck,
      recoveredAfterMs,
      providerCalls: callsOfProvider() - callsBefore,
      providerCallsMeanwhile: callsAfter - callsBefore,
    }
    return { scene, ...findings, broken: brokenPromises(findings, scene.terms) }
  } finally {
    clearInterval(telling)
  }
}

const settledSince = async (sessions: readonly LoadedSession[], since: number): Promise<number> => {
  const unsettled = () =>
    sessions.filter(({ goodAt, signedOut }) => goodAt < since && signedOut === undefined).length
  await waitFor('every session has worked again, or is over', () => unsettled() === 0, {
    timeoutMs: RECOVERY_MS_MAX,
  }).catch(() => {})
  return unsettled()
}

const lossesOf = (stage: PreparedStage, sessions: readonly LoadedSession[]): readonly Loss[] => {
  const ends = stage.processes.flatMap(({ stdout }) => eventsIn(stdout, 'session_ended'))
  const log = stage.replicas.provider.tokenRequests()
  return sessions.flatMap(({ signedOut, label, grantId }) => {
    if (signedOut === undefined) return []
    const end = ends.find(({ session }) => session === label)
    return {
      session: label,
      code: signedOut.code,
      reason: end === undefined ? undefined : String(end.reason),
      killedAt: killThatLost(grantId, log, stage.kills),
      presentedAfterMs: presentationsOfLast(grantId, log),
    }
  })
}
