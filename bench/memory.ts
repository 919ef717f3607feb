/**
 * What sessions cost: bytes each in Redis, and the price of finding one, from a thousand to a million. Starts a Redis
 * of its own on loopback (some 3 GB at a million), fills it through the session vault and reads sessions back by
 * their cookie, as a request does.
 *
 *   npm run bench -- memory [--records 1000000]
 */

import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { SessionReader } from '../src/guard/by-session.ts'
import { createCookieForms } from '../src/session/session-cookie.ts'
import { providerSessionIndex, subjectIndex } from '../src/session/session-index.ts'
import { digestOf, SECRET_BYTES, type Ticket, type TicketSealer } from '../src/session/ticket.ts'
import type { OpenSession } from '../src/session/vault.ts'
import { startRedis } from '../test/support/redis.ts'
import { printBudgets } from './support/budgets.ts'
import {
  inParallel,
  medianOf,
  printMachine,
  printTable,
  progress,
  residentBytes,
  rounded,
  spreadOf,
  watched,
} from './support/measure.ts'
import { newSignIn, seenAtSignIn } from './support/sign-ins.ts'
import { type BenchStore, openBenchStore } from './support/store.ts'

const { values } = parseArgs({
  options: { records: { type: 'string', default: '1000000' }, help: { type: 'boolean' } },
})
const RECORDS = Number(values.records)
const STEPS = [1_000, 100_000, RECORDS].filter(
  (step, at, all) => step <= RECORDS && all.indexOf(step) === at,
)

const ISSUER = 'https://id.example.com/realms/main'
const CLIENT_ID = 'spa'
const COOKIE_NAME = '__Host-Http-coatcheck'
const FILL_WIDTH = 200
const FILL_LIMIT_MS = 30 * 60_000

/** Rounds are short and take turns, so that a machine that grows slower meanwhile slows every row alike. */
const ROUNDS = 10
const WARM_SESSIONS = 500
const COLD_COOKIES = 10_000
const READS_AT_ONCE = 64
const SAMPLES = 1_000
const TOUCHED_WITHIN_MS = 250

/** Ids and keys of all sessions, 64 bytes each: tickets as objects would take a gigabyte. */
class Tickets {
  readonly #bytes: Buffer

  constructor(count: number) {
    this.#bytes = Buffer.alloc(count * SECRET_BYTES * 2)
  }

  keep(index: number, ticket: Ticket): void {
    const at = index * SECRET_BYTES * 2
    this.#bytes.write(ticket.id, at, 'base64url')
    ticket.key.copy(this.#bytes, at + SECRET_BYTES)
  }

  at(index: number): Ticket {
    const at = index * SECRET_BYTES * 2
    const id = this.#bytes.subarray(at, at + SECRET_BYTES).toString('base64url')
    const key = Buffer.from(this.#bytes.subarray(at + SECRET_BYTES, at + SECRET_BYTES * 2))
    return { digest: digestOf(id), id, key, home: undefined, form: 'prefixed' }
  }
}

const begin = (store: BenchStore) =>
  store.vault.begin(
    newSignIn({
      issuer: ISSUER,
      clientId: CLIENT_ID,
      subject: randomUUID(),
      accessTokenExpiresAt: Date.now() + 8 * 3_600_000,
      accessTokenSeconds: 8 * 3_600,
      refreshToken: randomBytes(32).toString('base64url'),
    }),
    seenAtSignIn(),
  )

const fill = async (store: BenchStore, tickets: Tickets, from: number, to: number) => {
  const startedMs = performance.now()
  let made = 0
  await watched(
    () =>
      `${from + made} of ${to} sessions, ${Math.round((made / (performance.now() - startedMs)) * 1000)}/s`,
    inParallel(to - from, FILL_WIDTH, async (index) => {
      if (performance.now() - startedMs > FILL_LIMIT_MS)
        throw new Error(
          `${made} sessions in ${FILL_LIMIT_MS / 60_000} minutes: this machine is too slow`,
        )
      tickets.keep(from + index, (await begin(store)).ticket)
      made += 1
    }),
  )
}

// ── what one session takes ────────────────────────────────────────────────────────────────────────────────────

const sizesOf = async (store: BenchStore, tickets: Tickets, count: number) => {
  const sizes = { record: 0, activity: 0, indices: 0, sealed: 0, tokens: 0 }
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    const ticket = tickets.at(randomInt(count))
    const seen = await store.vault.read(ticket)
    if (seen.kind !== 'live') throw new Error(`a session that was made is ${seen.kind}`)
    const { session, record } = seen.open
    const indices = [
      subjectIndex(ISSUER, session.subject),
      providerSessionIndex(ISSUER, session.providerSessionId ?? ''),
    ]
    const { accessToken, idToken, refreshToken } = session.tokens
    sizes.record += await store.bytesOf(store.keys.record(ticket.digest))
    sizes.activity += await store.bytesOf(store.keys.idle(ticket.digest))
    for (const index of indices) sizes.indices += await store.bytesOf(store.keys.index(index))
    sizes.sealed += record.sealed.byteLength + record.metadata.byteLength
    sizes.tokens += accessToken.length + (idToken?.length ?? 0) + (refreshToken?.length ?? 0)
  }
  const mean = (sum: number) => Math.round(sum / SAMPLES)
  return {
    record: mean(sizes.record),
    activity: mean(sizes.activity),
    indices: mean(sizes.indices),
    sealed: mean(sizes.sealed),
    tokens: mean(sizes.tokens),
  }
}

// ── what finding one takes ────────────────────────────────────────────────────────────────────────────────────

/** Per read. */
interface Slice {
  readonly gatewayMicros: number
  readonly redisMicros: number
  readonly commands: number
}

const readAll = async (
  reader: SessionReader,
  cookies: readonly string[],
  width: number,
  seen: (open: OpenSession) => void = () => {},
): Promise<number[]> => {
  const latencies: number[] = []
  await inParallel(cookies.length, width, async (index) => {
    const startedMs = performance.now()
    const reading = await reader.read(reader.presented(cookies[index]))
    latencies.push(performance.now() - startedMs)
    if (reading.kind !== 'live') throw new Error(`a session that was made is ${reading.kind}`)
    seen(reading.open)
  })
  return latencies
}

/** With many reads under way, as under load. */
const sliceOf = async (
  store: BenchStore,
  reader: SessionReader,
  cookies: readonly string[],
): Promise<Slice> => {
  const redisBefore = await store.counters()
  const before = process.cpuUsage()
  await readAll(reader, cookies, READS_AT_ONCE)
  const used = process.cpuUsage(before)
  const redisAfter = await store.counters()
  return {
    gatewayMicros: (used.user + used.system) / cookies.length,
    redisMicros: (redisAfter.processorMicros - redisBefore.processorMicros) / cookies.length,
    commands: (redisAfter.commands - redisBefore.commands) / cookies.length,
  }
}

const shuffled = <T>(list: readonly T[], times: number): T[] =>
  Array.from({ length: list.length * times }, () => list[randomInt(list.length)] as T)

const sealAll = async (sealer: TicketSealer, tickets: readonly Ticket[]): Promise<string[]> => {
  const cookies: string[] = []
  await inParallel(tickets.length, 16, async (index) => {
    const ticket = tickets[index]
    if (ticket !== undefined) cookies[index] = `${COOKIE_NAME}=${await sealer.seal(ticket)}`
  })
  return cookies
}

/** As requests do: memory keeps no session whose activity is to be remembered first. */
const use = async (store: BenchStore, reader: SessionReader, cookies: readonly string[]) => {
  await readAll(reader, cookies, READS_AT_ONCE, store.vault.touch)
  await sleep(TOUCHED_WITHIN_MS)
  await readAll(reader, cookies, READS_AT_ONCE)
}

/** The ways to a session, dearest last. Each has the cookies of one round. */
interface Way {
  readonly name: string
  reader(): SessionReader
  cookies(round: number): readonly string[]
  readonly slices: Slice[]
  /** One read at a time: what a request on an idle machine waits. */
  readonly latenciesMs: number[]
}

const measureReads = async (store: BenchStore, tickets: Tickets, count: number): Promise<Way[]> => {
  const { load, read } = store.vault
  const sealer = store.newTicketSealer()
  const spread = (some: number, offset: number) =>
    Array.from({ length: some }, (_, at) => tickets.at(Math.floor((at / some) * count) + offset))
  const warm = await sealAll(sealer, spread(WARM_SESSIONS, 0))
  const cold = await sealAll(sealer, spread(Math.min(COLD_COOKIES, count / 2), 1))
  const perRound = Math.floor(cold.length / ROUNDS)

  const known = store.newTicketSealer()
  const fromMemory = store.newReader(known, load)
  const fromRedis = store.newReader(known, read)
  const way = (
    name: string,
    reader: () => SessionReader,
    cookies: (round: number) => string[],
  ): Way => ({
    name,
    reader,
    cookies,
    slices: [],
    latenciesMs: [],
  })
  const ways = [
    way(
      'seal known, session at hand',
      () => fromMemory,
      () => shuffled(warm, 20),
    ),
    way(
      'seal known, session from Redis',
      () => fromRedis,
      () => shuffled(warm, 6),
    ),
    way(
      'seal opened for the first time',
      () => store.newReader(store.newTicketSealer(), read),
      (round) => cold.slice(round * perRound, (round + 1) * perRound),
    ),
  ]
  for (let round = 0; round < ROUNDS; round += 1) {
    await use(store, fromMemory, warm)
    for (const { reader, cookies, slices, latenciesMs } of ways) {
      const all = cookies(round)
      const half = Math.ceil(all.length / 2)
      latenciesMs.push(...(await readAll(reader(), all.slice(0, half), 1)))
      slices.push(await sliceOf(store, reader(), all.slice(half)))
    }
  }
  return ways
}

// ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────

const main = async () => {
  printMachine()
  const redis = await startRedis()
  const store = openBenchStore({
    port: redis.port,
    namespace: 'bench001',
    ringSecret: randomBytes(32).toString('base64url'),
    cookies: createCookieForms('https://app.example.com', false, undefined),
  })
  const memoryRows: string[][] = []
  let bytesEach = 0
  const readRows: string[][] = []
  try {
    // Scripts and tables that the first session brings are no session's cost.
    await begin(store)
    const { usedBytes: emptyBytes } = await store.counters()
    const tickets = new Tickets(RECORDS)
    let from = 0
    for (const step of STEPS) {
      progress(`${step} sessions: filling`)
      await fill(store, tickets, from, step)
      from = step
      const each = ((await store.counters()).usedBytes - emptyBytes) / step
      bytesEach = each
      const sizes = await sizesOf(store, tickets, step)
      memoryRows.push(
        [
          step,
          Math.round(each),
          sizes.record,
          sizes.activity,
          sizes.indices,
          sizes.sealed,
          sizes.tokens,
        ]
          .map(String)
          .concat(rounded(residentBytes(redis.pid) / 2 ** 20, 0)),
      )
      progress(`${step} sessions: ${Math.round(each)} bytes each; reading`)
      for (const { name, slices, latenciesMs } of await measureReads(store, tickets, step)) {
        const median = (of: (slice: Slice) => number) => medianOf(slices.map(of))
        const { p50, p99 } = spreadOf(latenciesMs)
        readRows.push([
          name,
          String(step),
          rounded(median((slice) => slice.gatewayMicros)),
          rounded(median((slice) => slice.redisMicros)),
          rounded(
            median((slice) => slice.commands),
            2,
          ),
          rounded(p50 * 1000),
          rounded(p99 * 1000),
        ])
      }
    }
  } finally {
    await store.close()
    await redis.close()
  }
  printTable(
    'Redis memory, bytes per session (all: used_memory; parts: MEMORY USAGE; contents: record as sealed, tokens as issued)',
    ['sessions', 'all', 'record', 'activity', 'indices', 'sealed', 'tokens', 'RSS MiB'],
    memoryRows,
  )
  printTable(
    `Finding a session by its cookie (processor time: ${READS_AT_ONCE} reads at once, median of ${ROUNDS} rounds; wait: one at a time)`,
    ['way', 'sessions', 'gateway µs', 'Redis µs', 'commands', 'wait p50 µs', 'p99 µs'],
    readRows.toSorted((one, other) => (one[0] ?? '').localeCompare(other[0] ?? '')),
  )
  printBudgets([
    {
      what: `Redis memory per session, ${RECORDS} of them`,
      measured: bytesEach / 1024,
      must: 2.5,
      aim: undefined,
      unit: 'KiB',
    },
  ])
  if (
    readRows.some(([name, , , , commands]) => /at hand/.test(name ?? '') && Number(commands) > 0.01)
  )
    console.log(
      '\nSessions at hand were read from Redis all the same: this build keeps none in memory.',
    )
}

if (values.help) console.log('npm run bench -- memory [--records 1000000]')
else await main()
