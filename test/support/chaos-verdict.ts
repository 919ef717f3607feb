/** What a scene of chaos must keep, and whose session may be lost: by the provider's own log and the kills. */

import type { TokenRequestRecord } from '../../src/dev/token-endpoint.ts'
import type { Tally } from './chaos-load.ts'

export interface Loss {
  readonly session: string
  readonly code: string
  /** From the gateway's log; undefined where no process told of the end. */
  readonly reason: string | undefined
  /** The kill that excuses it, by the provider's log. */
  readonly killedAt: KilledAt | undefined
  /** When the provider saw the last refresh token of the session, in milliseconds since the first time. */
  readonly presentedAfterMs: readonly number[]
}

/** What a scene measured. */
export interface Findings {
  readonly tally: Tally
  readonly kills: number
  readonly sessionsBefore: number
  readonly losses: readonly Loss[]
  /** Sessions that neither worked again nor were refused in time. */
  readonly stuck: number
  /** From the end of the fault until every session had worked again. */
  readonly recoveredAfterMs: number
  /** Requests to the token endpoint from the beginning of the scene to its end. */
  readonly providerCalls: number
  /** Of these, between the fault and its end. */
  readonly providerCallsMeanwhile: number
}

/** What a scene allows beyond what always holds. */
export interface Terms {
  /** The provider forbids reuse of refresh tokens, so that a kill may cost a session. */
  readonly killsMayCostSessions: boolean
  readonly providerCallsMeanwhileMax?: number
  /** Whether anything was tried at all. */
  readonly felt: (findings: Findings) => boolean
}

const SLOWEST_MS_MAX = 3_000
/** A call passes the process of the load twice: as the caller, and as the API behind the gateway. */
const STALLS_PER_CALL = 2

/** The promises of the gateway that did not hold, as sentences; none when all is well. */
export const brokenPromises = (findings: Findings, terms: Terms): readonly string[] => {
  const { tally, losses } = findings
  const callsMax = terms.providerCallsMeanwhileMax ?? Number.POSITIVE_INFINITY
  const checks: readonly (readonly [boolean, string])[] = [
    [terms.felt(findings), 'the fault was not felt, so that nothing is proven'],
    // A session that is over asks no more: each loss is one 401, and there is no other.
    [tally.unauthorized === losses.length, `${tally.unauthorized} answers were 401`],
    [Object.keys(tally.other).length === 0, `other answers: ${JSON.stringify(tally.other)}`],
    [tally.rude === 0, `${tally.rude} answers 503 without Retry-After, or with a cookie`],
    [tally.cut === 0 || findings.kills > 0, `${tally.cut} calls cut where nothing was killed`],
    [
      tally.slowestMs - STALLS_PER_CALL * tally.stalledMs <= SLOWEST_MS_MAX,
      `the slowest answer (${tally.slowestStatus}) took ${Math.round(tally.slowestMs)} ms, and the load itself stalled ${Math.round(tally.stalledMs)} ms`,
    ],
    [
      findings.providerCallsMeanwhile <= callsMax,
      `the provider was called ${findings.providerCallsMeanwhile} times while it was down`,
    ],
    [findings.stuck === 0, `${findings.stuck} sessions did not work again`],
  ]
  return [
    ...checks.filter(([kept]) => !kept).map(([, sentence]) => sentence),
    ...losses
      .filter(
        ({ killedAt, reason }) =>
          !terms.killsMayCostSessions || killedAt === undefined || reason !== 'refresh_lost',
      )
      .map(
        ({ session, reason, code }) =>
          `session ${session} was lost without excuse: ${code}, ${reason ?? 'no reason in any log'}`,
      ),
  ]
}

/** What the provider's log must tell of a request. */
export type LoggedRequest = Pick<
  TokenRequestRecord,
  | 'at'
  | 'grantId'
  | 'consumed'
  | 'refreshTokenFingerprint'
  | 'issuedRefreshTokenFingerprint'
  | 'connection'
>

/** Milliseconds since the epoch, taken just before SIGKILL was sent. */
export type KilledAt = number

/** A provider call and the write of its result take milliseconds; this leaves room for a busy machine. */
const REFRESH_MS_MAX = 2_000
/** The kernel closes the connections of a killed process at once; the provider may be late to notice. */
const NOTICED_WITHIN_MS = 1_000

/**
 * The kill that cost a session its refresh token: the provider had spent the last token of the grant for a process
 * that was killed meanwhile, and nobody ever came with the token that was issued for it. Undefined where there was
 * no such kill, and then nothing excuses the loss.
 */
export const killThatLost = (
  grantId: string,
  log: readonly LoggedRequest[],
  kills: readonly KilledAt[],
): KilledAt | undefined => {
  const last = lastSpent(grantId, log)
  if (last === undefined) return undefined
  const { issuedRefreshTokenFingerprint: issued, connection } = last
  const cameHome = log.some(({ refreshTokenFingerprint }) => refreshTokenFingerprint === issued)
  if (issued !== undefined && cameHome) return undefined
  return kills.find(
    (killedAt) =>
      Math.abs(last.at - killedAt) <= REFRESH_MS_MAX &&
      connection.closedAt !== undefined &&
      connection.closedAt >= killedAt &&
      connection.closedAt <= killedAt + NOTICED_WITHIN_MS,
  )
}

/** The refresh that last spent a token of the grant. */
const lastSpent = (grantId: string, log: readonly LoggedRequest[]): LoggedRequest | undefined =>
  log.findLast((request) => request.grantId === grantId && request.consumed)

/** When the provider saw that token: once when it was spent, and again whenever somebody had no newer one. */
export const presentationsOfLast = (
  grantId: string,
  log: readonly LoggedRequest[],
): readonly number[] => {
  const token = lastSpent(grantId, log)?.refreshTokenFingerprint
  const times = log
    .filter(({ refreshTokenFingerprint }) => refreshTokenFingerprint === token)
    .map(({ at }) => at)
  return token === undefined ? [] : times.map((at) => at - (times[0] ?? 0))
}
