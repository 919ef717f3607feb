/**
 * Fuzz: valid requests, damaged at random, against the whole gateway with a live session. After every batch nothing may
 * have crashed or hung; the API may have seen only requests that a second, independent reading of the very same bytes
 * finds in them, each well-formed and once; each answer must belong to the request at its place; and a canary on another
 * connection must not have noticed. Repeatable: `FUZZ_SEED`, `FUZZ_ROUNDS` (how many), `FUZZ_FROM` (the first).
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { type Canary, startCanary } from './canary.ts'
import { FUZZ, faultReport, marker, watchCrashes } from './fuzz-run.ts'
import { below, mutated, pick, type Random, seededRandom } from './mutations.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { type ReadRequest, readAnswers, readRequests } from './reference-parser.ts'
import { type StrictUpstream, startStrictUpstream } from './strict-upstream.ts'

const ROUNDS = FUZZ.rounds ?? 1_000
const BATCH = 20
/** Quiet for so long: the gateway waits for more, and the client leaves. */
const QUIET_MS = 60
const SETTLED_MS = 10_000

const directory = mkdtempSync(join(tmpdir(), 'coatcheck-app-'))
writeFileSync(join(directory, 'index.html'), '<!doctype html><title>App</title>')

let upstream: StrictUpstream
let whole: WholeGateway
let canary: Canary
let credentials: string
const crashes = watchCrashes()
beforeAll(async () => {
  upstream = await startStrictUpstream()
  whole = await startWholeGateway({
    // Damaged cookies are failures of their client: each round is another one.
    env: {
      COATCHECK_UPSTREAM: upstream.url,
      COATCHECK_SPA: directory,
      COATCHECK_TRUSTED_PROXIES: 'private',
    },
  })
  const browser = await whole.signedIn()
  credentials = [cookieLine(browser), ...SAME_ORIGIN_FETCH].join('\r\n')
  canary = await startCanary(whole.port, (target) =>
    withSecrets(`GET ${target} HTTP/1.1\r\n§${address(0)}\r\n`),
  )
})
afterAll(async () => {
  canary.close()
  await whole.close()
  await upstream.close()
  rmSync(directory, { recursive: true })
  crashes.stop()
})

/** `§` stands for host, cookie and origin, so that damage rarely ends in "not signed in" and no report has a cookie. */
const withSecrets = (text: string): string =>
  text.replaceAll('§', `Host: localhost:${whole.port}\r\n${credentials}\r\n`)

const address = (round: number): string =>
  `X-Forwarded-For: 2001:db8:${(round >> 16).toString(16)}:${(round & 0xffff).toString(16)}::1\r\n`

const HANDSHAKE =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

/** RFC 6455 §5: masked (with zeros) text, a ping, a message in two parts, the length in 16 bits, a close. */
const FRAMES = [
  '\x81\x85\0\0\0\0hello',
  '\x89\x80\0\0\0\0',
  '\x01\x83\0\0\0\0par\x80\x81\0\0\0\0t',
  `\x82\xfe\x01\0\0\0\0\0${'x'.repeat(256)}`,
  '\x88\x82\0\0\0\0\x03\xe8',
]

/** One valid request. Bodies hold what would be a request if anybody lost count. */
const seedRequest = (random: Random, name: string, round: number): string => {
  const target = pick(random, [
    `/api/${name}`,
    `/api/${name}?a=%20b`,
    '/bff/session',
    '/index.html',
  ])
  const head = (method: string, fields: string) =>
    `${method} ${target} HTTP/1.1\r\n§${address(round)}${fields}\r\n`
  const inner = `GET /api/inner-${name} HTTP/1.1\r\n§\r\n`
  switch (below(random, 9)) {
    case 0:
      return head('POST', `Content-Length: ${withSecrets(inner).length}\r\n`) + inner
    case 1:
      return `${head('POST', 'Transfer-Encoding: chunked\r\n')}${withSecrets(inner).length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`
    case 2:
      return `${head('PUT', 'Transfer-Encoding: chunked\r\nTrailer: X-T\r\n')}2;x=y\r\nhi\r\n3\r\nyou\r\n0\r\nX-T: 1\r\n\r\n`
    case 3:
      return `${head('PATCH', 'Expect: 100-continue\r\nContent-Length: 5\r\n')}hello`
    case 4:
      return head(pick(random, ['HEAD', 'DELETE', 'OPTIONS']), 'X-Long: a, b;c="d"\r\n')
    case 5:
      return head('GET', 'Connection: Upgrade\r\nUpgrade: h2c\r\n')
    case 6:
      return `${head('GET', HANDSHAKE)}${FRAMES.slice(below(random, FRAMES.length)).join('')}`
    default:
      return head('GET', 'Accept: */*\r\nX-Empty:\r\n')
  }
}

interface Round {
  readonly round: number
  /** With `§` for the credentials. */
  readonly text: string
  readonly sent: string
  readonly cuts: readonly number[]
  readonly expected: readonly ReadRequest[]
}

const roundOf = (round: number): Round => {
  const random = seededRandom(`${FUZZ.seed}:requests:${round}`)
  const name = marker(random)
  const count = 1 + below(random, 3)
  const requests = Array.from({ length: count }, (_, index) =>
    seedRequest(random, `${name}-${index}`, round),
  )
  const text = `${mutated(requests.join(''), random)}GET /api/${name}-tail HTTP/1.1\r\n§Connection: close\r\n\r\n`
  const sent = withSecrets(text)
  const cuts = Array.from({ length: below(random, 3) }, () => below(random, sent.length)).sort(
    (a, b) => a - b,
  )
  return { round, text, sent, cuts, expected: readRequests(sent) }
}

/** Sends it in its pieces and gives all that came until the connection was over. */
const play = async ({ sent, cuts }: Round): Promise<string> => {
  const socket = connect({ port: whole.port, host: '127.0.0.1', noDelay: true })
  let received = ''
  let lastMs = performance.now()
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    lastMs = performance.now()
  })
  socket.on('error', () => undefined)
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  let from = 0
  for (const to of [...cuts, sent.length]) {
    socket.write(sent.slice(from, to), 'latin1')
    from = to
    await new Promise(setImmediate)
  }
  lastMs = performance.now()
  while (!socket.destroyed && performance.now() - lastMs < QUIET_MS) await sleep(5)
  socket.end()
  await within(SETTLED_MS, 'it settles', closed).catch((error: unknown) => {
    socket.destroy()
    throw new Error(
      `${error}; until then came ${JSON.stringify(received.replaceAll(credentials, '§'))}`,
    )
  })
  return received
}

/** What is wrong with the answers of one connection. */
const faultOf = (received: string, { expected }: Round): string | undefined => {
  // Behind an agreement to a handshake there are frames.
  const answers = readAnswers(
    received.split('HTTP/1.1 101 ', 1)[0] ?? '',
    expected.map(({ method }) => method),
    true,
  )
  if (answers === undefined) {
    // A refusal of HEAD has no body; whether what was refused was one, nobody can say.
    return /HTTP\/1\.1 [45]\d\d [\s\S]*connection: close/i.test(received) ? undefined : 'no answers'
  }
  if (answers.length > expected.length + 1) return 'more answers than requests'
  for (const [index, answer] of answers.entries()) {
    const target = answer.fields.find(([name]) => name === 'x-target')?.[1]
    if (answer.status >= 500 && ![501, 503, 505].includes(answer.status))
      return `status ${answer.status}`
    if (target !== undefined && target !== expected[index]?.target)
      return `the answer to ${target} in place of that to ${expected[index]?.target ?? 'nothing'}`
  }
  return undefined
}

const sameRequest = (one: ReadRequest) => (other: ReadRequest) =>
  one.method === other.method && one.target === other.target && one.body === other.body

/** What is wrong after all rounds of the batch are over. */
const faultOfBatch = async (rounds: readonly Round[]): Promise<string | undefined> => {
  upstream.forget()
  const from = whole.log.length
  const outcomes = await Promise.allSettled(rounds.map(play))
  for (const [index, outcome] of outcomes.entries()) {
    const round = rounds[index] as Round
    if (outcome.status === 'rejected') return `round ${round.round}: ${outcome.reason}`
    const fault = faultOf(outcome.value, round)
    if (fault !== undefined)
      return `round ${round.round}: ${fault}: ${JSON.stringify(outcome.value)}`
  }
  if (upstream.faults.length > 0) return `the API got ${upstream.faults[0]}`
  const unclaimed = rounds.flatMap(({ expected }) => expected)
  for (const seen of upstream.requests) {
    const index = unclaimed.findIndex(sameRequest(seen))
    if (index === -1)
      return `the API got what nobody asked, or twice: ${seen.method} ${seen.target} ${JSON.stringify(seen.body)}`
    unclaimed.splice(index, 1)
  }
  const internal = whole.log.slice(from).find((line) => line.code === 'internal')
  if (internal !== undefined) return `a fault of the gateway’s own: ${JSON.stringify(internal)}`
  if (crashes.seen.length > 0) return `a crash: ${crashes.seen[0]}`
  await canary.sings()
  return undefined
}

it(
  `${ROUNDS} damaged connections from seed ${FUZZ.seed} on harm nobody`,
  async () => {
    let answered = 0
    for (let first = FUZZ.from; first < FUZZ.from + ROUNDS; first += BATCH) {
      const count = Math.min(BATCH, FUZZ.from + ROUNDS - first)
      const batch = Array.from({ length: count }, (_, index) => roundOf(first + index))
      const fault = await faultOfBatch(batch)
      answered += upstream.requests.length
      if (fault !== undefined)
        throw new Error(await faultReport(fault, batch, { play: faultOfBatch, shown }))
    }
    // A run in which nothing gets through says nothing.
    if (ROUNDS >= 100) expect(answered).toBeGreaterThan(ROUNDS / 4)
  },
  60_000 + ROUNDS * 100,
)

const shown = ({ round, text, cuts }: Round): string =>
  `${round}: sent (§ for host and cookie, in pieces up to ${cuts.join(', ') || 'the end'}): ${JSON.stringify(text)}`
