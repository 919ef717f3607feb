/** Event streams with real processes on one Redis: what happens on one replica is heard on the other within a second. */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { type EventStream, openEventStream } from '../support/event-source.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { within } from '../support/wait.ts'

const WITHIN_A_SECOND_MS = 1_000

let replicas: Replicas
const opened: EventStream[] = []
beforeAll(async () => {
  replicas = await startReplicas({ backchannelLogout: true, accessTokenLifetimeSeconds: 60 })
})
afterEach(() => {
  for (const stream of opened.splice(0)) stream.close()
})
afterAll(() => replicas.close())

const open = async (replica: number, cookie: string): Promise<EventStream> => {
  const stream = await openEventStream({ port: replicas.gateways[replica]!.port, cookie })
  opened.push(stream)
  return stream
}

describe('on the other replica', () => {
  it('a sign-out is heard, and nobody else’s stream ends', async () => {
    const [cookie, other] = [await replicas.signIn(), await replicas.signIn()]
    const streams = [await open(0, cookie), await open(1, cookie)]
    const bystander = await open(1, other)
    const startedAt = performance.now()
    expect((await replicas.call(0, cookie, '/bff/logout', 'POST')).status).toBe(200)
    for (const stream of streams) {
      const ended = await stream.next('ended')
      expect(ended.data).toEqual({ reason: 'logout' })
      expect(ended.at - startedAt).toBeLessThan(WITHIN_A_SECOND_MS)
      await stream.ended()
    }
    expect(bystander.hasEnded()).toBe(false)
  })

  it('a sign-out cuts an event stream of the API, and nobody else’s', async () => {
    replicas.api.answerWith((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    })
    const [cookie, other] = [await replicas.signIn(), await replicas.signIn()]
    const openApi = async (of: string) => {
      const { port } = replicas.gateways[1]!
      const stream = await openEventStream({ port, cookie: of, path: '/api/events' })
      opened.push(stream)
      return stream
    }
    const [mine, bystander] = [await openApi(cookie), await openApi(other)]
    expect((await replicas.call(0, cookie, '/bff/logout', 'POST')).status).toBe(200)
    await mine.ended(WITHIN_A_SECOND_MS)
    expect(bystander.hasEnded()).toBe(false)
  })

  it('a sign-out at the provider is heard', async () => {
    const browser = createBrowser()
    const cookie = await replicas.signIn(browser)
    const streams = [await open(0, cookie), await open(1, cookie)]
    const form = await browser.navigate(new URL('/session/end', replicas.provider.issuer).href)
    const startedAt = performance.now()
    await browser.submitForm(form)
    for (const stream of streams) {
      const ended = await stream.next('ended')
      expect(ended.data).toEqual({ reason: 'backchannel_logout' })
      // Counted from the user's click: the provider has to tell us first.
      expect(ended.at - startedAt).toBeLessThan(2 * WITHIN_A_SECOND_MS)
    }
  })

  it('a superseded stream that comes back is known, and told to stay away', async () => {
    const cookie = await replicas.signIn()
    const first = await open(0, cookie)
    await open(0, cookie)
    await open(0, cookie)
    const { id } = await first.next('superseded')
    const back = await openEventStream({
      port: replicas.gateways[1]!.port,
      cookie,
      headers: { 'sec-fetch-site': 'same-origin', 'last-event-id': id },
    })
    expect(back.status).toBe(204)
  })
})

describe('what ends no stream', () => {
  it('Redis that is frozen for three seconds; what happened meanwhile is heard', async () => {
    const cookies = [await replicas.signIn(), await replicas.signIn()]
    const streams = [
      await open(0, cookies[0]!),
      await open(1, cookies[0]!),
      await open(0, cookies[1]!),
      await open(1, cookies[1]!),
    ]
    replicas.redis.pause()
    await sleep(3_000)
    expect(streams.map((stream) => stream.hasEnded())).toEqual([false, false, false, false])
    replicas.redis.resume()
    const startedAt = performance.now()
    let status = 0
    while (status !== 200) {
      expect(performance.now() - startedAt).toBeLessThan(5_000)
      ;({ status } = await replicas.call(0, cookies[0]!, '/bff/logout', 'POST'))
    }
    for (const stream of streams.slice(0, 2))
      expect((await stream.next('ended')).data).toEqual({ reason: 'logout' })
    await sleep(1_000)
    expect(streams.slice(2).map((stream) => stream.hasEnded())).toEqual([false, false])
    expect(streams.at(-1)?.events.map(({ event }) => event)).toEqual(['session'])
  })
})

describe('a replica that is stopped', () => {
  it('ends its streams, is held up by none, and their pages go on with the other one', async () => {
    const cookie = await replicas.signIn()
    const [leaving, staying] = [await open(1, cookie), await open(0, cookie)]
    const exit = within(5_000, 'the replica ends', replicas.gateways[1]!.kill('SIGTERM'))
    await leaving.ended()
    expect(leaving.events.map(({ event }) => event)).toEqual(['session'])
    expect((await exit).code).toBe(0)
    expect(staying.hasEnded()).toBe(false)
    const back = await open(0, cookie)
    expect((await back.next('session')).data.expiresIn).toBeGreaterThan(0)
    await replicas.start(1)
  })
})
