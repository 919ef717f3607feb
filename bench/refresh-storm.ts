/**
 * A refresh storm: thousands of sessions become due in the same second, on two gateways and a strict provider. Half of
 * all requests are for sessions whose token is fresh: what those wait is what any request waits on this machine, and the
 * difference is what the storm costs a `due` request.
 *
 *   npm run bench -- refresh-storm [--sessions 10000] [--rate 400] [--delay 300] [--cap 32] [--outage 30]
 *
 * With `--outage` the provider answers 503 for so many seconds from the moment the tokens are due.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Pool } from 'undici'
import {
  printMachine,
  printTable,
  progress,
  residentBytes,
  rounded,
  spreadOf,
} from './support/measure.ts'
import { processorMs } from './support/process-tree.ts'
import { makeSessions, REPLICAS, type Stage, startStage } from './support/stage.ts'
import type { ProviderLog } from './support/surroundings.ts'

const HELP =
  'npm run bench -- refresh-storm [--sessions 10000] [--rate 400] [--delay 300] [--cap 32] [--outage 30]'

const { values } = parseArgs({
  options: {
    /** Due ones; as many fresh ones stand beside them. */
    sessions: { type: 'string', default: '10000' },
    /** Requests for due sessions a second; as many for fresh ones take turns with them. */
    rate: { type: 'string', default: '400' },
    /** What the provider takes for a refresh, in milliseconds. */
    delay: { type: 'string', default: '300' },
    /** `provider.concurrency` of each gateway. */
    cap: { type: 'string', default: '32' },
    /** Seconds. */
    outage: { type: 'string', default: '0' },
    help: { type: 'boolean' },
  },
})
const SESSIONS = Number(values.sessions)
const RATE = Number(values.rate)
const DELAY_MS = Number(values.delay)
const CAP = Number(values.cap)
const OUTAGE_MS = Number(values.outage) * 1_000

const TOKEN_SECONDS = 300
/** A token of 5 minutes is due this long before its end (credential/freshness.ts). */
const DUE_BEFORE_MS = 60_000
/** Longer than the benchmark runs. */
const FRESH_FOR_MS = 3_600_000
const STANDSTILL_MS = 20_000

interface Answer {
  readonly status: number
  readonly ms: number
}

type Kind = 'due' | 'fresh'
type Cookies = Readonly<Record<Kind, readonly string[]>>

const UNANSWERED = 0

/** What one phase saw of each kind: waits for 200, and how often each other status came. */
class Tally {
  readonly waits: Record<Kind, number[]> = { due: [], fresh: [] }
  readonly refused: Record<Kind, Map<number, number>> = { due: new Map(), fresh: new Map() }

  add(kind: Kind, { status, ms }: Answer): void {
    if (status === 200) this.waits[kind].push(ms)
    else this.refused[kind].set(status, (this.refused[kind].get(status) ?? 0) + 1)
  }

  get refusals(): readonly number[] {
    return [...this.refused.due.keys(), ...this.refused.fresh.keys()]
  }
}

// ── the requests ──────────────────────────────────────────────────────────────────────────────────────────────

const ask = async (pool: Pool, cookie: string): Promise<Answer> => {
  const startedMs = performance.now()
  const { statusCode, body } = await pool.request({
    path: '/api/items',
    method: 'GET',
    headers: { cookie, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
  })
  await body.dump()
  return { status: statusCode, ms: performance.now() - startedMs }
}

/**
 * Due and fresh sessions take turns at a fixed pace, whatever the answers take: once through all of them, or round
 * and round until it is over. Every tenth session asks both replicas at once.
 */
const wave = async (
  stage: Stage,
  cookies: Cookies,
  tally: Tally,
  isOver?: () => boolean,
): Promise<void> => {
  const startedMs = performance.now()
  const underWay = new Set<Promise<void>>()
  const send = (kind: Kind, session: number, replica: number) => {
    const pool = stage.pools[replica % REPLICAS]
    const cookie = cookies[kind][session]
    if (pool === undefined || cookie === undefined) throw new Error('no such session')
    const asked = ask(pool, cookie)
      .then((answer) => tally.add(kind, answer))
      .catch(() => tally.add(kind, { status: UNANSWERED, ms: Number.NaN }))
      .finally(() => underWay.delete(asked))
    underWay.add(asked)
  }
  const once = 2 * SESSIONS
  for (let turn = 0; isOver === undefined ? turn < once : !isOver(); turn += 1) {
    const aheadMs = startedMs + (turn * 1_000) / (2 * RATE) - performance.now()
    if (aheadMs > 1) await sleep(aheadMs)
    const kind = turn % 2 === 0 ? 'due' : 'fresh'
    const session = (turn >> 1) % SESSIONS
    const replica = session + Math.floor(turn / once)
    send(kind, session, replica)
    if (session % 10 === 0) send(kind, session, replica + 1)
  }
  await Promise.all(underWay)
}

// ── what it took ──────────────────────────────────────────────────────────────────────────────────────────────

interface Usage {
  /** Processor time, in cores, of each kind of process. */
  readonly cores: Record<'gateways' | 'redis' | 'surroundings' | 'this', number>
  readonly gatewayMiBMax: number
  readonly seconds: number
  readonly refreshed: number
  /** That Redis carried out, those inside scripts included. */
  readonly commands: number
}

/** Measures while the work runs. */
const measured = async (stage: Stage, work: () => Promise<void>): Promise<Usage> => {
  const now = async () => ({
    refreshed: (await stage.surroundings.log()).refreshed,
    commands: (await stage.store.counters()).commands,
    ms: performance.now(),
    gateways: stage.gateways.reduce((sum, { pid }) => sum + processorMs(pid), 0),
    redis: processorMs(stage.redis.pid),
    surroundings: processorMs(stage.surroundings.pid),
    this: processorMs(process.pid),
  })
  const before = await now()
  let residentMax = 0
  const look = () => {
    for (const { pid } of stage.gateways) residentMax = Math.max(residentMax, residentBytes(pid))
  }
  look()
  const timer = setInterval(look, 500)
  await work().finally(() => clearInterval(timer))
  const after = await now()
  const cores = (of: keyof Usage['cores']) => (after[of] - before[of]) / (after.ms - before.ms)
  return {
    cores: {
      gateways: cores('gateways'),
      redis: cores('redis'),
      surroundings: cores('surroundings'),
      this: cores('this'),
    },
    gatewayMiBMax: residentMax / 2 ** 20,
    seconds: (after.ms - before.ms) / 1_000,
    refreshed: after.refreshed - before.refreshed,
    commands: after.commands - before.commands,
  }
}

/** `coatcheck_refresh_total` of all gateways, by outcome and reason. */
const refreshOutcomes = async (stage: Stage): Promise<ReadonlyMap<string, number>> => {
  const outcomes = new Map<string, number>()
  for (const { operationsUrl } of stage.gateways) {
    const text = await (await fetch(`${operationsUrl}/metrics`)).text()
    for (const [, labels = '', count] of text.matchAll(
      /^coatcheck_refresh_total\{(.*)\} (\d+)$/gm,
    )) {
      const name = [...labels.matchAll(/"([^"]*)"/g)].map(([, value]) => value).join(' ')
      outcomes.set(name, (outcomes.get(name) ?? 0) + Number(count))
    }
  }
  return outcomes
}

/** Waits until the provider has refreshed them all, or nothing moves any more. */
const drained = async (stage: Stage): Promise<void> => {
  let known = -1
  let movedMs = performance.now()
  for (;;) {
    const { refreshed } = await stage.surroundings.log()
    if (refreshed >= SESSIONS || performance.now() - movedMs > STANDSTILL_MS) return
    if (refreshed !== known) movedMs = performance.now()
    known = refreshed
    await sleep(250)
  }
}

// ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────

interface Phase {
  readonly name: string
  readonly tally: Tally
  readonly usage: Usage
}

const phase = async (
  stage: Stage,
  name: string,
  run: (tally: Tally) => Promise<void>,
): Promise<Phase> => {
  progress(name)
  const tally = new Tally()
  return { name, tally, usage: await measured(stage, () => run(tally)) }
}

const IDLE = 'nothing asked, until all are due'
const AFTERWARDS = 'afterwards: once each'
const LAST_REFRESHES = 'refreshes alone, until the last'

const storm = async (stage: Stage, cookies: Cookies): Promise<Phase[]> => [
  await phase(stage, 'all due: once each', (tally) => wave(stage, cookies, tally)),
  await phase(stage, LAST_REFRESHES, async () => drained(stage)),
]

const stormWithOutage = async (stage: Stage, cookies: Cookies, dueAt: number): Promise<Phase[]> => {
  const backAt = dueAt + OUTAGE_MS
  const outage = await phase(stage, 'provider unavailable', (tally) =>
    wave(stage, cookies, tally, () => Date.now() >= backAt),
  )
  await stage.surroundings.behave({ delayMs: DELAY_MS, unavailable: false })
  const recovery = await phase(stage, 'provider back', async (tally) => {
    let isDrained = false
    const draining = drained(stage).then(() => {
      isDrained = true
    })
    await wave(stage, cookies, tally, () => isDrained)
    await draining
  })
  return [outage, recovery]
}

const report = async (stage: Stage, phases: readonly Phase[], dueAt: number): Promise<void> => {
  const rows = phases.flatMap(({ name, tally }) =>
    (['due', 'fresh'] as const).map((kind) => {
      const { count, p50, p99, max } = spreadOf(tally.waits[kind])
      const refused = [...tally.refused[kind]].map(([status, times]) => `${times} × ${status}`)
      return [name, kind, String(count), rounded(p50, 2), rounded(p99, 2), rounded(max, 0)].concat(
        refused.join(' ') || '–',
      )
    }),
  )
  printTable(
    'Answers with 200, by what the session’s token was (waits in ms)',
    ['phase', 'token', '200', 'p50', 'p99', 'max', 'other answers'],
    rows.filter(([, , count, , , , refused]) => count !== '0' || refused !== '–'),
  )
  for (const { name, tally } of phases) {
    const [due, fresh] = [spreadOf(tally.waits.due), spreadOf(tally.waits.fresh)]
    if (due.count > 0 && fresh.count > 0)
      console.log(
        `  ${name}: a due token adds ${rounded(due.p50 - fresh.p50, 2)} ms at p50, ${rounded(due.p99 - fresh.p99, 2)} ms at p99`,
      )
  }
  printTable(
    'Processor time, in cores, and memory',
    ['phase', 'gateways', 'Redis', 'provider and API', 'this', 'gateway RSS max, MiB'],
    phases.map(({ name, usage: { cores, gatewayMiBMax } }) => [
      name,
      ...[cores.gateways, cores.redis, cores.surroundings, cores.this].map((of) => rounded(of, 2)),
      rounded(gatewayMiBMax, 0),
    ]),
  )
  const usageOf = (phase: string) => phases.find(({ name }) => name === phase)?.usage
  const alone = usageOf(LAST_REFRESHES)
  const idle = usageOf(IDLE)
  if (alone !== undefined && idle !== undefined && alone.refreshed > 0) {
    const micros = (of: keyof Usage['cores']) =>
      rounded(((alone.cores[of] - idle.cores[of]) * alone.seconds * 1e6) / alone.refreshed, 0)
    printTable(
      `One refresh, of ${alone.refreshed} that ran while nothing was asked (beyond what idle processes take)`,
      ['gateway µs', 'Redis µs', 'Redis commands, scripts’ own included'],
      [[micros('gateways'), micros('redis'), rounded(alone.commands / alone.refreshed)]],
    )
  }
  const log = await stage.surroundings.log()
  const seconds = (log.lastRefreshedAt - log.firstRefreshedAt) / 1_000
  printTable(
    'The provider’s own log',
    ['what', 'count'],
    [
      ['sessions that were due', String(SESSIONS)],
      ['token requests', String(log.calls)],
      ['refreshed', String(log.refreshed)],
      ['spent tokens that came again', String(log.reused)],
      ['answered 503', String(log.refused)],
      [`in flight at once, of ${REPLICAS} × ${CAP} allowed`, String(log.inFlightMax)],
      ['first refresh, s after all were due', rounded((log.firstRefreshedAt - dueAt) / 1_000)],
      ['last refresh, s after all were due', rounded((log.lastRefreshedAt - dueAt) / 1_000)],
      ['refreshes a second', rounded(log.refreshed / seconds)],
      ['refreshes a second that the caps allow', rounded((REPLICAS * CAP * 1_000) / DELAY_MS)],
    ],
  )
  printTable(
    'What the gateways counted',
    ['coatcheck_refresh_total', 'count'],
    [...(await refreshOutcomes(stage))].map(([name, count]) => [name, String(count)]),
  )
}

/** What must hold; the exit code says whether it did. */
const judge = async (stage: Stage, phases: readonly Phase[]): Promise<void> => {
  const log = await stage.surroundings.log()
  // Where the provider is away for longer than tokens live, 503 is the right answer, and 401 never is.
  const allowed = (phase: string) => (OUTAGE_MS > 0 && phase !== AFTERWARDS ? [503] : [])
  const failures = [
    log.refreshed === SESSIONS ? undefined : `${log.refreshed} refreshes for ${SESSIONS} sessions`,
    log.reused === 0 ? undefined : `${log.reused} spent tokens were sent again`,
    log.inFlightMax <= REPLICAS * CAP ? undefined : `${log.inFlightMax} calls in flight at once`,
    ...phases.map(({ name, tally }) => {
      const wrong = tally.refusals.filter((status) => !allowed(name).includes(status))
      return wrong.length === 0 ? undefined : `${name}: answers ${wrong.join(' ')}`
    }),
  ].filter((failure) => failure !== undefined)
  console.log(failures.length === 0 ? '\nEvery promise held.' : `\nBROKEN: ${failures.join('; ')}`)
  if (failures.length > 0) process.exitCode = 1
}

const main = async () => {
  printMachine()
  const stage = await startStage({ accessTokenSeconds: TOKEN_SECONDS, concurrency: CAP })
  try {
    const warmUpMs = (SESSIONS / RATE) * 1_000
    const dueAt = Date.now() + 3 * SESSIONS + warmUpMs + 8_000
    progress(`making 2 × ${SESSIONS} sessions`)
    const made = await makeSessions(
      stage,
      2 * SESSIONS,
      (index) => dueAt + (index % 2 === 0 ? DUE_BEFORE_MS : FRESH_FOR_MS),
    )
    const cookies = {
      due: made.filter((_, index) => index % 2 === 0),
      fresh: made.filter((_, index) => index % 2 === 1),
    }
    const calm = await phase(stage, 'nothing due: once each', (tally) =>
      wave(stage, cookies, tally),
    )
    const unavailable = OUTAGE_MS > 0
    await stage.surroundings.behave({ delayMs: DELAY_MS, unavailable })
    const { calls } = await stage.surroundings.log()
    if (calls > 0 || Date.now() > dueAt)
      throw new Error('the sessions were due before all was ready')
    const idle = await phase(stage, IDLE, () => sleep(dueAt - Date.now()))
    const stormy = unavailable
      ? await stormWithOutage(stage, cookies, dueAt)
      : await storm(stage, cookies)
    const last = await phase(stage, AFTERWARDS, (tally) => wave(stage, cookies, tally))
    const phases = [calm, idle, ...stormy, last]
    await report(stage, phases, dueAt)
    if (unavailable) reportOutage(await stage.surroundings.log(), dueAt)
    await judge(stage, phases)
  } finally {
    await stage.close()
  }
}

const reportOutage = (log: ProviderLog, dueAt: number): void => {
  const backAt = dueAt + OUTAGE_MS
  printTable(
    `The outage of ${OUTAGE_MS / 1_000} s`,
    ['what', 'value'],
    [
      ['calls to the unavailable provider', String(log.refused)],
      [
        'of them in its first second',
        String(log.refusedAt.filter((at) => at < dueAt + 1_000).length),
      ],
      ['first refresh, s after it was back', rounded((log.firstRefreshedAt - backAt) / 1_000)],
      ['last refresh, s after it was back', rounded((log.lastRefreshedAt - backAt) / 1_000)],
    ],
  )
}

if (values.help) console.log(HELP)
else await main()
