/**
 * Chaos with real processes: two gateways, a real Redis, a provider with 2-second tokens and sessions under constant
 * load, while processes are killed, frozen and cut off. Each scene ends in a report and the promises it broke.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { type LoadedSession, startLoad, type Tally } from './chaos-load.ts'
import type { Scene, Scenery, Stage } from './chaos-scenes.ts'
import { brokenPromises, type Findings, killThatLost, type Loss } from './chaos-verdict.ts'
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
  close(): Promise<void>
}

/** Longer than a token lives: whoever works after it works with a newer one. */
const TOKEN_LIFE_MS = 2_500
/** The breaker may leave a provider alone for 30 s before it tries again. */
const RECOVERY_MS_MAX = 45_000
/** Every session has called by then. */
const WARM_UP_MS = 500
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
        current = { scenery: scene.scenery, stage: await prepare(scene.scenery, options.sessions) }
      }
      reports.push(await play(scene, current.stage, options))
    }
  } finally {
    await current?.stage.close()
  }
  return reports
}

const prepare = async (scenery: Scenery, sessionCount: number): Promise<PreparedStage> => {
  const deployment = scenery.store === 'sentinels' ? await startSentinels() : undefined
  const replicas = await startReplicas({
    refreshRotation: scenery.rotation,
    ...(deployment && { env: { COATCHECK_REDIS_URL: deployment.url } }),
  })
  const close = async () => {
    await replicas.close()
    await deployment?.close()
  }
  replicas.api.answerWith(answerUnexpired)
  try {
    const sessions: LoadedSession[] = []
    while (sessions.length < sessionCount) sessions.push(await signIn(replicas))
    return { replicas, deployment, kills: [], processes: [...replicas.gateways], sessions, close }
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
  { pauseMs, onProgress = () => {} }: ChaosOptions,
): Promise<Report> => {
  const { replicas, kills } = stage
  const sessions = stage.sessions.filter(({ signedOut }) => signedOut === undefined)
  const killsBefore = kills.length
  const callsOfProvider = () => replicas.provider.tokenRequests().length
  const callsAtFirst = callsOfProvider()

  const load = startLoad(replicas, sessions, pauseMs)
  const tell = (event: string) => onProgress(scene, event, load.tally())
  const telling = setInterval(() => {
    tell('…')
    // The API keeps what it was asked, which nobody reads here.
    replicas.api.forgetRequests()
  }, PROGRESS_EVERY_MS)
  try {
    tell(`${sessions.length} sessions begin to work`)
    await sleep(WARM_UP_MS)
    const callsBefore = callsOfProvider()
    await scene.act(stage, tell)
    const callsAfter = callsOfProvider()
    const mendedAt = Date.now()
    await settledSince(sessions, mendedAt)
    const recoveredAfterMs = Date.now() - mendedAt
    tell('every session has worked again, or is over')
    await sleep(TOKEN_LIFE_MS)
    const stuck = await settledSince(sessions, mendedAt + TOKEN_LIFE_MS)
    const tally = await load.stop()
    const findings: Findings = {
      tally,
      kills: kills.length - killsBefore,
      sessionsBefore: sessions.length,
      losses: lossesOf(stage, sessions),
      stuck,
      recoveredAfterMs,
      providerCalls: callsOfProvider() - callsAtFirst,
      providerCallsMeanwhile: callsAfter - callsBefore,
    }
    return { scene, ...findings, broken: brokenPromises(findings, scene.terms) }
  } finally {
    clearInterval(telling)
    await load.stop()
  }
}

/** Waits until each session has worked since, or is over; how many did neither in time. */
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
    }
  })
}
