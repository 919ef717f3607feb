/**
 * What a proxied request costs: the gateway beside what others use, all signed in, in short slices that take turns.
 * Needs wrk and nginx in PATH; takes in mod_auth_openidc where Debian's packages are installed, and oauth2-proxy where
 * OAUTH2_PROXY names its binary.
 *
 *   npm run bench -- requests [--rounds 12] [--seconds 3] [--quick] [--only coatcheck] [--scenarios small,large,post]
 *
 * Processor time is that of a target's own processes, its children included, without load, upstream and Redis. Every
 * figure is the median of the rounds; a ratio is the median of the ratios within a round. A slice counts only if all
 * answers were good and the upstream got as many requests, each with a token. A whole run writes the plot and README's
 * figures; `--quick` leaves them alone.
 */

import { availableParallelism, cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { printBudgets } from './support/budgets.ts'
import { type LoadResult, runLoad } from './support/load.ts'
import { medianOf, printMachine, printTable, progress, rounded } from './support/measure.ts'
import { treeProcessorMs } from './support/process-tree.ts'
import { writeFiguresToReadme } from './support/readme.ts'
import { type PlottedTarget, writeRequestsPlot } from './support/requests-plot.ts'
import { type Budget, keepFigures } from './support/results.ts'
import {
  COATCHECK,
  PEERS,
  REFERENCE,
  type Scene,
  startScene,
  type Target,
} from './support/targets.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    quick: { type: 'boolean', default: false },
    /** Targets whose name begins so, beside the reference. */
    only: { type: 'string', default: '' },
    scenarios: { type: 'string', default: 'small,large,post' },
  },
})
const ROUNDS = Number(values.rounds ?? (values.quick ? 1 : 12))
const SECONDS = Number(values.seconds ?? (values.quick ? 1 : 3))
const CONNECTIONS = 64
/** So that what is measured is compiled; a target that is slow to get there begins all the same after some slices. */
const WARM_UP = values.quick ? { requests: 2_000, slices: 1 } : { requests: 20_000, slices: 8 }
const ATTEMPTS_MAX = 3
/** What is still under way when the load has ended. */
const SETTLE_MS = 150

interface Scenario {
  readonly key: string
  readonly name: string
  readonly path: string
  readonly method: 'GET' | 'POST'
  readonly body?: string
  /** How often nginx counts one request: it asks itself when it takes a body. */
  readonly countedTimes: number
}

const SCENARIOS: readonly Scenario[] = [
  { key: 'small', name: 'GET, 1 KiB', path: '/small', method: 'GET', countedTimes: 1 },
  { key: 'large', name: 'GET, 100 KiB', path: '/large', method: 'GET', countedTimes: 1 },
  {
    key: 'post',
    name: 'POST, 10 KiB',
    path: '/post',
    method: 'POST',
    body: JSON.stringify({ text: 'y'.repeat(10 * 1024 - 11) }),
    countedTimes: 2,
  },
].filter(({ key }) => values.scenarios.split(',').includes(key)) as Scenario[]

/** What a browser sends with `fetch` on the application's own page. */
const headersOf = ({ url, cookie }: Target, { method, body }: Scenario) => ({
  Host: new URL(url).host,
  'User-Agent':
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
  Accept: 'application/json, text/plain, */*',
  'Accept-Encoding': 'gzip, deflate, br, zstd',
  'Accept-Language': 'en-GB,en;q=0.9',
  Referer: `${url}/orders`,
  'Sec-Fetch-Site': 'same-origin',
  'Sec-Fetch-Mode': 'cors',
  'Sec-Fetch-Dest': 'empty',
  ...(method === 'POST' ? { Origin: url } : {}),
  ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
  ...(cookie === undefined ? {} : { Cookie: cookie }),
})

interface Slice {
  readonly load: LoadResult
  /** NaN for the upstream alone. */
  readonly microsPerRequest: number
}

/** Why a slice does not count; undefined when it does. */
const faultOf = (load: LoadResult, seen: number): string | undefined => {
  if (load.requests === 0) return 'no request was answered'
  if (load.failures !== undefined) return load.failures
  return seen < load.requests
    ? `${load.requests} good answers, and the upstream saw ${seen} requests`
    : undefined
}

/** On a machine that others use as well a slice may fail by bad luck; a target that goes on failing has no result. */
const slice = async (
  scene: Scene,
  target: Target,
  scenario: Scenario,
  seconds: number,
): Promise<Slice> => {
  for (let attempt = 1; ; attempt += 1) {
    const { pid } = target
    const seenBefore = await scene.upstream.requests()
    const before = pid === undefined ? Number.NaN : treeProcessorMs(pid)
    const load = await runLoad({
      url: `${target.url.replace('localhost', '127.0.0.1')}${target.prefix}${scenario.path}`,
      method: scenario.method,
      headers: headersOf(target, scenario),
      ...(scenario.body === undefined ? {} : { body: scenario.body }),
      connections: CONNECTIONS,
      seconds,
    })
    await sleep(SETTLE_MS)
    const used = pid === undefined ? Number.NaN : treeProcessorMs(pid) - before
    const seen = ((await scene.upstream.requests()) - seenBefore) / scenario.countedTimes
    const fault = faultOf(load, seen) ?? (await target.verify?.(load.requests))
    if (fault === undefined) return { load, microsPerRequest: (used * 1000) / load.requests }
    progress(`${target.name}, ${scenario.name}: this slice does not count: ${fault}`)
    if (attempt === ATTEMPTS_MAX) throw new Error(`${target.name} fails under load: ${fault}`)
  }
}

type Slices = ReadonlyMap<string, readonly Slice[]>

const warmUp = async (scene: Scene, target: Target, scenario: Scenario) => {
  let answered = 0
  for (let turn = 0; turn < WARM_UP.slices && answered < WARM_UP.requests; turn += 1)
    answered += (await slice(scene, target, scenario, SECONDS)).load.requests
}

const measure = async (scene: Scene, scenario: Scenario): Promise<Slices> => {
  const { targets } = scene
  const slices = new Map<string, Slice[]>(targets.map(({ name }) => [name, []]))
  for (const target of targets) await warmUp(scene, target, scenario)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const target of targets)
      slices.get(target.name)?.push(await slice(scene, target, scenario, SECONDS))
    progress(`${scenario.name}: round ${round + 1} of ${ROUNDS}`)
  }
  return slices
}

// ── what came of it ───────────────────────────────────────────────────────────────────────────────────────────

interface TargetFigures extends PlottedTarget {
  readonly requestsPerSecond: number
}

const quartiles = (list: readonly number[]): [number, number, number] => {
  const sorted = list.toSorted((one, other) => one - other)
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN
  return [at(0.25), medianOf(list), at(0.75)]
}

const ratiosBetween = (slices: Slices, one: string, other: string): number[] =>
  (slices.get(one) ?? []).map(
    ({ microsPerRequest }, round) =>
      microsPerRequest / (slices.get(other)?.[round]?.microsPerRequest ?? Number.NaN),
  )

const figuresOf = (slices: Slices): TargetFigures[] =>
  [...slices].map(([target, all]) => {
    const median = (of: (slice: Slice) => number) => medianOf(all.map(of))
    return {
      target,
      microsPerRequest: median((one) => one.microsPerRequest),
      ratio: quartiles(ratiosBetween(slices, target, REFERENCE)),
      requestsPerSecond: median(({ load }) => load.requests / load.seconds),
      latencyMs: {
        p50: median(({ load }) => load.latencyMs.p50),
        p90: median(({ load }) => load.latencyMs.p90),
        p99: median(({ load }) => load.latencyMs.p99),
      },
    }
  })

const printScenario = ({ name }: Scenario, figures: readonly TargetFigures[]): void =>
  printTable(
    `${name} (processor time of the target's own processes; × the reference: median, 25th–75th percentile of ${ROUNDS} rounds)`,
    ['target', 'CPU µs/request', '× bare', '25th–75th', 'requests/s', 'p50 ms', 'p90', 'p99'],
    figures.map(({ target, microsPerRequest, ratio, requestsPerSecond, latencyMs }) => [
      target,
      rounded(microsPerRequest),
      rounded(ratio[1], 2),
      Number.isFinite(ratio[0]) ? `${rounded(ratio[0], 2)}–${rounded(ratio[2], 2)}` : '–',
      rounded(requestsPerSecond, 0),
      ...[latencyMs.p50, latencyMs.p90, latencyMs.p99].map((value) => rounded(value)),
    ]),
  )

const budgetsOf = (slices: Slices): Budget[] => {
  const { redis, memory, withoutTracking } = COATCHECK
  const budget = (
    what: string,
    [one, other]: readonly [string, string],
    [must, aim]: readonly [number, number | undefined],
    atLeast = false,
  ): Budget[] =>
    slices.has(one) && slices.has(other)
      ? [
          {
            what,
            measured: medianOf(ratiosBetween(slices, one, other)),
            must,
            aim,
            unit: '×',
            atLeast,
          },
        ]
      : []
  return [
    ...budget('session at hand, Redis : bare proxy', [redis, REFERENCE], [1.25, 1]),
    ...budget('session at hand, memory : bare proxy', [memory, REFERENCE], [1.25, 1]),
    ...budget('one Redis read : bare proxy', [withoutTracking, REFERENCE], [1.6, 1.3]),
    ...budget('express-openid-connect : coatcheck', [PEERS.express, redis], [3, 4], true),
    ...budget('coatcheck : mod_auth_openidc, shm', [redis, PEERS.apacheShm], [1, 0.5]),
    ...budget('coatcheck : mod_auth_openidc, Redis', [redis, PEERS.apacheRedis], [0.5, 0.25]),
    ...budget('coatcheck : oauth2-proxy, Redis', [redis, PEERS.oauth2Proxy], [0.5, 0.25]),
  ]
}

const main = async () => {
  printMachine()
  progress('starting and signing in')
  const scene = await startScene((name) => name === REFERENCE || name.startsWith(values.only))
  try {
    for (const { name, install } of scene.absent)
      console.log(`\n  ABSENT: ${name} takes no part. To take it in: ${install}\n`)
    const all: { scenario: string; figures: TargetFigures[] }[] = []
    const found: (() => void)[] = []
    for (const scenario of SCENARIOS) {
      const slices = await measure(scene, scenario)
      const figures = figuresOf(slices)
      all.push({ scenario: scenario.name, figures })
      found.push(() => printScenario(scenario, figures))
      if (scenario.key === 'small') found.push(() => printBudgets(budgetsOf(slices)))
    }
    for (const print of found) print()
    keepFigures({ rounds: ROUNDS, seconds: SECONDS, absent: scene.absent, scenarios: all })
    if (values.only === '' && SCENARIOS.length === 3 && !values.quick) {
      const machine = `${availableParallelism()} × ${cpus()[0]?.model ?? 'unknown processor'}`
      const caption = `64 keep-alive connections from wrk, ${ROUNDS} interleaved rounds of ${SECONDS} s, medians; less is better. ${machine}, Node ${process.versions.node}, ${new Date().toISOString().slice(0, 10)}`
      writeRequestsPlot(all, caption)
      writeFiguresToReadme(all, caption)
    }
  } finally {
    await scene.close()
  }
}

await main()
