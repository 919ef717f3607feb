/**
 * Two replicas are restarted one after the other behind a plain TCP balancer, under load: no call is lost, none reaches
 * the API twice, and nobody is signed out.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startCountedLoad } from '../support/counted-load.ts'
import { openEventStream } from '../support/event-source.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { startTcpBalancer, type TcpBalancer } from '../support/tcp-balancer.ts'
import type { UpstreamAnswer } from '../support/upstream-api.ts'
import { waitFor, within } from '../support/wait.ts'

const SLOW_ANSWER_MS = 400
const UNDER_LOAD_MS = 500

/** Says which call it was and what came with it, at once or after a while. */
const answer: UpstreamAnswer = async (request, response) => {
  const body = (await request.wholeBody).toString()
  const { pathname, searchParams } = new URL(request.url, 'http://api')
  if (pathname === '/api/slow') {
    response.write(`${searchParams.get('call')} `)
    await sleep(SLOW_ANSWER_MS)
    response.end(body)
  } else response.end(`${searchParams.get('call')} ${body}`)
}

let replicas: Replicas
let balancer: TcpBalancer
beforeAll(async () => {
  replicas = await startReplicas({
    env: { COATCHECK_DRAIN_DELAY: '1s', COATCHECK_DRAIN_DEADLINE: '10s' },
  })
  replicas.api.answerWith(answer)
  balancer = await startTcpBalancer(() => replicas.gateways)
})
afterAll(async () => {
  await balancer.close()
  await replicas.close()
})

const restart = async (index: number) => {
  const gateway = replicas.gateways[index]!
  gateway.signal('SIGTERM')
  const exit = await within(10_000, 'the replica ends', gateway.exited)
  await replicas.start(index)
  await waitFor('the balancer knows that it is back', () => balancer.isReady(index))
  await sleep(UNDER_LOAD_MS)
  return exit
}

it('a rolling restart under load loses no call', { timeout: 60_000 }, async () => {
  const cookies = await Promise.all(
    ['alice', 'bob', 'alice'].map((login) => replicas.signIn(undefined, login)),
  )
  const stream = await openEventStream({ port: balancer.port, cookie: cookies[0] })
  const load = startCountedLoad(balancer.port, cookies)
  await sleep(UNDER_LOAD_MS)
  const exits = [await restart(0), await restart(1)]
  const calls = await load.stop()

  expect(exits).toEqual([
    { code: 0, signal: null },
    { code: 0, signal: null },
  ])
  const lost = calls.filter(({ outcome }) => outcome !== 200)
  expect(lost).toEqual([])
  expect(balancer.refused).toBe(0)
  const wrong = calls.filter(
    ({ number, method, body }) =>
      body !== `${number} ${method === 'POST' ? 'first half, second half' : ''}`,
  )
  expect(wrong).toEqual([])

  const arrivals = new Map<string, number>()
  for (const { url } of replicas.api.requests) arrivals.set(url, (arrivals.get(url) ?? 0) + 1)
  expect([...arrivals].filter(([, times]) => times > 1)).toEqual([])
  // Enough of each kind went by for this to mean something, also while tokens were refreshed.
  expect(arrivals.size).toBe(calls.length)
  expect(calls.length).toBeGreaterThan(500)
  expect(replicas.refreshes().length).toBeGreaterThan(0)

  await stream.ended()
  expect(stream.text()).toMatch(/\nretry: \d+\n$/)
})
