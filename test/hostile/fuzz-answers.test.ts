/**
 * Fuzz: valid answers of an API, damaged at random, on connections that later calls use too. After every batch nothing
 * may have crashed or hung; a browser may take for whole only what a second, independent reading of the very same bytes
 * finds whole, and exactly that; nobody may get a byte of what was answered to somebody else; and no POST may be sent
 * twice. Repeatable: `FUZZ_SEED`, `FUZZ_ROUNDS` (how many), `FUZZ_FROM` (the first).
 */

import type { Socket } from 'node:net'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type RawUpstream, rawExchange, startRawUpstream } from '../edges/upstream/raw-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { type Canary, startCanary } from './canary.ts'
import { FUZZ, faultReport, marker, watchCrashes } from './fuzz-run.ts'
import { below, mutated, pick, type Random, seededRandom } from './mutations.ts'
import { cookieLine, SAME_ORIGIN_FETCH } from './raw-request.ts'
import { type ReadAnswer, readAnswers } from './reference-parser.ts'
import { echo } from './strict-upstream.ts'

const ROUNDS = FUZZ.rounds ?? 500
const BATCH = 20

let upstream: RawUpstream
let whole: WholeGateway
let canary: Canary
let credentials: string
const crashes = watchCrashes()
const planned = new Map<string, Round>()
/** How often a target was asked for. */
const asked = new Map<string, number>()

beforeAll(async () => {
  upstream = await startRawUpstream(({ socket, received }) => {
    let read = 0
    socket.on('data', () => {
      for (;;) {
        const end = received().indexOf('\r\n\r\n', read)
        if (end === -1) return
        const [method = '', target = ''] = received().slice(read, end).split(' ')
        read = end + 4
        const round = planned.get(target)
        asked.set(target, (asked.get(target) ?? 0) + 1)
        if (round === undefined) socket.write(echo({ method, target, fields: [], body: '' }))
        else answerWith(round, socket)
      }
    })
  })
  whole = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: upstream.url,
      COATCHECK_UPSTREAM_TIMEOUT_FIRST_BYTE: '300ms',
      COATCHECK_UPSTREAM_TIMEOUT_IDLE: '300ms',
    },
  })
  const browser = await whole.signedIn()
  credentials = [cookieLine(browser), ...SAME_ORIGIN_FETCH].map((line) => `${line}\r\n`).join('')
  canary = await startCanary(whole.port, (target) => request('GET', target, ''))
})
afterAll(async () => {
  canary.close()
  await whole.close()
  await upstream.close()
  crashes.stop()
})

const request = (method: string, target: string, fields: string) =>
  `${method} ${target} HTTP/1.1\r\nHost: localhost:${whole.port}\r\n${credentials}${fields}\r\n`

interface Round {
  readonly round: number
  readonly method: string
  readonly target: string
  readonly bytes: string
  readonly cuts: readonly number[]
  /** The API closes behind it, as for a body without framing. */
  readonly ends: boolean
}

/** One valid answer. Bodies hold what would be an answer if anybody lost count. */
const seedAnswer = (random: Random, name: string): string => {
  const inner = `HTTP/1.1 200 OK\r\nX-Target: inner-${name}\r\nContent-Length: 5\r\n\r\ninner`
  const head = (status: string, fields: string) =>
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nX-Target: ${name}\r\nSet-Cookie: a=b\r\n${fields}\r\n`
  switch (below(random, 7)) {
    case 0:
      return `${head('200 OK', `Content-Length: ${inner.length}\r\n`)}${inner}`
    case 1:
      return `${head('200 OK', 'Transfer-Encoding: chunked\r\n')}${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`
    case 2:
      return `${head('404 Not Found', 'Transfer-Encoding: chunked\r\nTrailer: X-T\r\n')}2;x=y\r\nhi\r\n3\r\nyou\r\n0\r\nX-T: 1\r\n\r\n`
    case 3:
      return `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${head('201 Created', 'Location: /a\r\nContent-Length: 2\r\n')}ok`
    case 4:
      return head(pick(random, ['204 No Content', '304 Not Modified']), 'ETag: "a"\r\n')
    case 5:
      return `${head('200 OK', 'Connection: close\r\n')}until the end`
    default:
      return `${head('200 OK', 'Keep-Alive: timeout=5\r\nContent-Length: 11\r\n')}hello world`
  }
}

const roundOf = (round: number): Round => {
  const random = seededRandom(`${FUZZ.seed}:answers:${round}`)
  const name = marker(random)
  // Nothing at all looks like a kept-alive connection that the API closed just then.
  const isSilent = random() < 0.05
  const bytes = isSilent ? '' : mutated(seedAnswer(random, name), random)
  const method = pick(random, ['GET', 'GET', 'GET', 'POST', 'HEAD'])
  const cuts = Array.from({ length: below(random, 3) }, () => below(random, bytes.length))
  return {
    round,
    method,
    target: `/api/${name}`,
    bytes,
    // What comes a moment behind a whole answer may be that to the next request: no client of HTTP/1.1 can tell.
    cuts: cuts.filter((cut) => !isWhole(bytes.slice(0, cut), method)).sort((a, b) => a - b),
    ends: isSilent || random() < 0.5,
  }
}

const isWhole = (bytes: string, method: string): boolean =>
  readAnswers(bytes, [method], false)?.[0]?.isWhole === true

const answerWith = async ({ bytes, cuts, ends }: Round, socket: Socket) => {
  let from = 0
  for (const to of [...cuts, bytes.length]) {
    if (socket.destroyed) return
    socket.write(bytes.slice(from, to), 'latin1')
    from = to
    await new Promise(setImmediate)
  }
  if (ends) socket.end()
}

const play = (round: Round): Promise<string> =>
  rawExchange(whole.port, request(round.method, round.target, 'Connection: close\r\n'))

const faultOf = (received: string, { method, bytes, ends }: Round): string | undefined => {
  const [answer, ...more] = readAnswers(received, [method], false) ?? []
  if (more.length > 0) return 'more than one answer'
  if (answer === undefined) return received === '' ? undefined : 'an answer that is none'
  if (isOwn(answer)) return undefined
  // Cut where its framing does not say so: every client sees that.
  if (!answer.isWhole) return undefined
  const meant = readAnswers(bytes, [method], ends)?.[0] ?? firstOf(bytes, method, ends)
  if (meant === undefined) return 'an answer where the API gave none'
  if (!meant.isWhole) return 'a whole answer from a broken one'
  if (meant.status !== answer.status) return `status ${answer.status} for ${meant.status}`
  return meant.body === answer.body ? undefined : 'another body'
}

/** The gateway’s own refusal: the API's answer was unusable, or came too late. */
const isOwn = ({ status, fields }: ReadAnswer) =>
  [502, 504].includes(status) &&
  fields.some(([name, value]) => name === 'content-type' && value === 'application/problem+json')

/** What is behind the answer may be broken; the answer is not, for that. */
const firstOf = (bytes: string, method: string, ends: boolean): ReadAnswer | undefined => {
  for (let end = bytes.length - 1; end > 0; end -= 1) {
    const answers = readAnswers(bytes.slice(0, end), [method], ends)
    if (answers?.[0]?.isWhole) return answers[0]
  }
  return undefined
}

let passed = 0
const faultOfBatch = async (rounds: readonly Round[]): Promise<string | undefined> => {
  const from = whole.log.length
  for (const round of rounds) planned.set(round.target, round)
  const outcomes = await Promise.allSettled(rounds.map(play))
  for (const [index, outcome] of outcomes.entries()) {
    const round = rounds[index] as Round
    if (outcome.status === 'rejected') return `round ${round.round}: ${outcome.reason}`
    const fault = faultOf(outcome.value, round)
    if (fault !== undefined)
      return `round ${round.round}: ${fault}: ${JSON.stringify(outcome.value)}`
    const times = asked.get(round.target) ?? 0
    // RFC 9110 §9.2.2: once more at most, and POST never.
    if (times > (round.method === 'POST' ? 1 : 2))
      return `round ${round.round} was sent ${times} times`
    if (/^HTTP\/1\.1 [234]/.test(outcome.value)) passed += 1
    const other = rounds.find(
      ({ target }) => target !== round.target && outcome.value.includes(target.slice(5)),
    )
    if (other !== undefined) return `round ${round.round} got something of round ${other.round}`
  }
  const internal = whole.log.slice(from).find((line) => line.code === 'internal')
  if (internal !== undefined) return `a fault of the gateway’s own: ${JSON.stringify(internal)}`
  if (crashes.seen.length > 0) return `a crash: ${crashes.seen[0]}`
  for (let song = 0; song < 3; song += 1) await canary.sings()
  planned.clear()
  asked.clear()
  return undefined
}

it(
  `${ROUNDS} damaged answers from seed ${FUZZ.seed} on harm nobody`,
  async () => {
    for (let first = FUZZ.from; first < FUZZ.from + ROUNDS; first += BATCH) {
      const count = Math.min(BATCH, FUZZ.from + ROUNDS - first)
      const batch = Array.from({ length: count }, (_, index) => roundOf(first + index))
      const fault = await faultOfBatch(batch).catch(String)
      if (fault !== undefined)
        throw new Error(await faultReport(fault, batch, { play: faultOfBatch, shown }))
    }
    // A run in which nothing gets through says nothing.
    if (ROUNDS >= 100) expect(passed).toBeGreaterThan(ROUNDS / 10)
  },
  60_000 + ROUNDS * 200,
)

const shown = ({ round, method, bytes, cuts, ends }: Round): string =>
  `${round}: to ${method}, in pieces up to ${cuts.join(', ') || 'the end'}${ends ? ', then the end of the connection' : ''}: ${JSON.stringify(bytes)}`
