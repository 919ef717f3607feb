/**
 * A refresh storm: thousands of sessions with 5-minute tokens become due in the same second, on two gateway processes
 * and one Redis, at a provider that rotates strictly. Half of all requests are for sessions whose token is fresh: what
 * those wait is what any request waits on this machine, and the difference is what the storm costs a `due` request.
 *
 *   npm run bench -- refresh-storm [--sessions 10000] [--rate 400] [--delay 200] [--cap 32] [--outage 30]
 *
 * With `--outage` the provider answers 503 for so many seconds from the moment the tokens are due.
 */

import { randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Pool } from 'undici'
import { storeNamespace } from '../src/edges/redis/keys.ts'
import { cookieNames } from '../src/session/session-cookie.ts'
import { freePort } from '../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../test/support/gateway-process.ts'
import { type RedisServer, startRedis } from '../test/support/redis.ts'
import {
  inParallel,
  printMachine,
  printTable,
  processorMs,
  progress,
  residentBytes,
  rounded,
  spreadOf,
  watched,
} from './support/measure.ts'
import { newSignIn, seenAtSignIn } from './support/sign-ins.ts'
import { type BenchStore, openBenchStore } from './support/store.ts'
import { firstRefreshToken, type Surroundings, startSurroundings } from './support/surroundings.ts'

const HELP =
  'npm run bench -- refresh-storm [--sessions 10000] [--rate 400] [--delay 200] [--cap 32] [--outage 30]'

const { values } = parseArgs({
  options: {
    /** Due ones; as many fresh ones stand beside them. */
    sessions: { type: 'string', default: '10000' },
    /** Requests for due sessions a second; as many for fresh ones take turns with them. */
    rate: { type: 'string', default: '400' },
    /** What the provider takes for a refresh, in milliseconds. */
    delay: { type: 'string', default: '200' },
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

const CLIENT_ID = 'spa'
const TOKEN_SECONDS = 300
/** A token of 5 minutes is due this long before its end (credential/freshness.ts). */
const DUE_BEFORE_MS = 60_000
const RING_SECRET = randomBytes(32).toString('base64url')
const REPLICAS = 2
const DRAIN_LIMIT_MS = 240_000
const ANSWER_LIMIT_MS = 15_000

interface Answer {
  readonly status: number
  readonly ms: number
}

type Kind = 'due' | 'fresh'

/** What one phase saw: statuses and waits of each kind. */
class Tally {
  readonly waits: Record<Kind, number[]> = { due: [], fresh: [] }
  readonly statuses = new Map<number, number>()

  add(kind: Kind, { status, ms }: Answer): void {
    if (status === 200) this.waits[kind].push(ms)
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1)
  }
}

// ── the stage ─────────────────────────────────────────────────────────────────────────────────────────────────

interface Stage {
  readonly redis: RedisServer
  readonly surroundings: Surroundings
  readonly gateways: readonly GatewayProcess[]
  readonly pools: readonly Pool[]
  readonly publicUrl: string
  readonly store: BenchStore
  close(): Promise<void>
}

const startStage = async (): Promise<Stage> => {
  const redis = await startRedis()
  const surroundings = await startSurroundings({
    clientId: CLIENT_ID,
    accessTokenSeconds: TOKEN_SECONDS,
  })
  const ports = await Promise.all(Array.from({ length: REPLICAS }, freePort))
  const publicUrl = `http://localhost:${ports[0]}`
  const gateways = await Promise.all(
    ports.map(async (port) =>
      startGatewayProcess(
        {
          COATCHECK_PUBLIC_URL: publicUrl,
          COATCHECK_LISTEN: `127.0.0.1:${port}`,
          COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
          COATCHECK_ISSUER: surroundings.issuer,
          COATCHECK_CLIENT_ID: CLIENT_ID,
          COATCHECK_CLIENT_SECRET: 'a-client-secret-for-the-benchmark-alone',
          COATCHECK_UPSTREAM: surroundings.apiUrl,
          COATCHECK_SECRET: RING_SECRET,
          COATCHECK_REDIS_URL: redis.url,
          COATCHECK_PROVIDER_CONCURRENCY: String(CAP),
        },
        { port },
      ),
    ),
  )
  const pools = ports.map(
    (port) =>
      new Pool(`http://127.0.0.1:${port}`, { connections: 128, headersTimeout: ANSWER_LIMIT_MS }),
  )
  const store = openBenchStore({
    port: redis.port,
    namespace: storeNamespace(surroundings.issuer, CLIENT_ID),
    ringSecret: RING_SECRET,
    cookieName: cookieNames(publicUrl, true).session,
  })
  return {
    redis,
    surroundings,
    gateways,
    pools,
    publicUrl,
    store,
    close: async () => {
      await store.close()
      await Promise.all(pools.map((pool) => pool.destroy()))
      await Promise.all(gateways.map((gateway) => gateway.kill()))
      await Promise.all([surroundings.close(), redis.close()])
    },
  }
}

/**
 * Written through the session vault with tickets of their own, as a callback does. The due ones all end in the same
 * millisecond; when they are due is decided once everything else is ready.
 */
const makeSessions = async (stage: Stage, expiresAt: Record<Kind, number>) => {
  const { store, publicUrl } = stage
  const { issuer } = stage.surroundings
  const { session: cookieName } = cookieNames(publicUrl, true)
  const sealer = store.newTicketSealer()
  const cookies: Record<Kind, string[]> = { due: [], fresh: [] }
  let made = 0
  await watched(
    () => `${made} of ${2 * SESSIONS} sessions made`,
    inParallel(2 * SESSIONS, 32, async (index) => {
      const kind = index % 2 === 0 ? 'due' : 'fresh'
      const subject = randomUUID()
      const open = await store.vault.begin(
        newSignIn({
          issuer,
          clientId: CLIENT_ID,
          subject,
          accessTokenExpiresAt: expiresAt[kind],
          accessTokenSeconds: TOKEN_SECONDS,
          refreshToken: firstRefreshToken(subject),
        }),
        seenAtSignIn(),
      )
      cookies[kind][index >> 1] = `${cookieName}=${await sealer.seal(open.ticket)}`
      made += 1
    }),
  )
  return cookies
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
  cookies: Record<Kind, string[]>,
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
      .catch(() => tally.add(kind, { status: 0, ms: Number.NaN }))
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

/** Waits until the provider has refreshed them all. */
const drained = async (stage: Stage): Promise<void> => {
  const giveUpMs = performance.now() + DRAIN_LIMIT_MS
  for (;;) {
    const { refreshed } = await stage.surroundings.log()
    if (refreshed >= SESSIONS || performance.now() > giveUpMs) return
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

const LAST_REFRESHES = 'refreshes alone, until the last'

const storm = async (stage: Stage, cookies: Record<Kind, string[]>): Promise<Phase[]> => [
  await phase(stage, 'all due: once each', (tally) => wave(stage, cookies, tally)),
  await phase(stage, LAST_REFRESHES, async () => drained(stage)),
]

const stormWithOutage = async (
  stage: Stage,
  cookies: Record<Kind, string[]>,
  dueAt: number,
): Promise<Phase[]> => {
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
      return [name, kind, String(count), rounded(p50, 2), rounded(p99, 2), rounded(max, 0)]
    }),
  )
  printTable(
    'Answers with 200, by what the session’s token was (waits in ms)',
    ['phase', 'token', 'answers', 'p50', 'p99', 'max'],
    rows.filter(([, , count]) => count !== '0'),
  )
  printTable(
    'Processor time, in cores, and memory',
    ['phase', 'gateways', 'Redis', 'provider and API', 'this', 'gateway RSS max, MiB'],
    phases.map(({ name, usage: { cores, gatewayMiBMax } }) => [
      name,
      ...[cores.gateways, cores.redis, cores.surroundings, cores.this].map((of) => rounded(of, 2)),
      rounded(gatewayMiBMax, 0),
    ]),
  )
  const alone = phases.find(({ name }) => name === LAST_REFRESHES)?.usage
  if (alone !== undefined && alone.refreshed > 0) {
    const micros = (cores: number) => rounded((cores * alone.seconds * 1e6) / alone.refreshed, 0)
    printTable(
      `One refresh, of ${alone.refreshed} that ran while nothing was asked`,
      ['gateway µs', 'Redis µs', 'Redis commands, scripts’ own included'],
      [
        [
          micros(alone.cores.gateways),
          micros(alone.cores.redis),
          rounded(alone.commands / alone.refreshed),
        ],
      ],
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
const judge = async (stage: Stage, phases: readonly Phase[], lost: number): Promise<void> => {
  const log = await stage.surroundings.log()
  const statuses = phases.flatMap(({ tally }) => [...tally.statuses.keys()])
  const failures = [
    log.refreshed === SESSIONS ? undefined : `${log.refreshed} refreshes for ${SESSIONS} sessions`,
    log.reused === 0 ? undefined : `${log.reused} spent tokens were sent again`,
    log.inFlightMax <= REPLICAS * CAP ? undefined : `${log.inFlightMax} calls in flight at once`,
    lost === 0 ? undefined : `${lost} sessions lost`,
    OUTAGE_MS > 0 || statuses.every((status) => status === 200)
      ? undefined
      : `answers other than 200: ${statuses.join(' ')}`,
    OUTAGE_MS === 0 || statuses.every((status) => status === 200 || status === 503)
      ? undefined
      : `answers other than 200 and 503: ${statuses.join(' ')}`,
  ].filter((failure) => failure !== undefined)
  console.log(failures.length === 0 ? '\nEvery promise held.' : `\nBROKEN: ${failures.join('; ')}`)
  if (failures.length > 0) process.exitCode = 1
}

const main = async () => {
  printMachine()
  const stage = await startStage()
  try {
    const warmUpMs = (SESSIONS / RATE) * 1_000
    const dueAt = Date.now() + 2 * SESSIONS + warmUpMs + 8_000
    progress(`making 2 × ${SESSIONS} sessions`)
    const cookies = await makeSessions(stage, {
      due: dueAt + DUE_BEFORE_MS,
      fresh: dueAt + TOKEN_SECONDS * 1_000,
    })
    const calm = await phase(stage, 'nothing due: once each', (tally) =>
      wave(stage, cookies, tally),
    )
    const unavailable = OUTAGE_MS > 0
    await stage.surroundings.behave({ delayMs: DELAY_MS, unavailable })
    const { calls } = await stage.surroundings.log()
    if (calls > 0 || Date.now() > dueAt)
      throw new Error('the sessions were due before all was ready')
    progress(`due in ${rounded((dueAt - Date.now()) / 1_000)} s`)
    await sleep(dueAt - Date.now())
    const stormy = unavailable
      ? await stormWithOutage(stage, cookies, dueAt)
      : await storm(stage, cookies)
    const phases = [calm, ...stormy]

    progress('looking for lost sessions')
    const last = new Tally()
    await wave(stage, cookies, last)
    const lost = [...last.statuses].reduce(
      (sum, [code, count]) => (code === 200 ? sum : sum + count),
      0,
    )
    await report(stage, phases, dueAt)
    if (unavailable) reportOutage(phases, await stage.surroundings.log(), dueAt)
    await judge(stage, phases, lost)
  } finally {
    await stage.close()
  }
}

const reportOutage = (
  phases: readonly Phase[],
  log: Awaited<ReturnType<Surroundings['log']>>,
  dueAt: number,
): void => {
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
      ...phases.map(({ name, tally }) => [
        name,
        [...tally.statuses].map(([code, count]) => `${count} × ${code}`).join(', '),
      ]),
    ],
  )
}

if (values.help) console.log(HELP)
else await main()
