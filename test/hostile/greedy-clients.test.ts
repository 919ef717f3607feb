/**
 * Attack: one client takes what is there for all, by more calls or more connections than anybody needs; or it makes
 * others pay for them, with headers that name their addresses or pages that they look at.
 */

import { afterEach, describe, expect, it } from 'vitest'
import { createCallAdmission, createConnectionAdmission } from '../../src/guard/admission.ts'
import { type RawConnection, rawClient } from '../edges/upstream/raw-sockets.ts'
import { createFakeClock } from '../support/fake-clock.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGatewayOptions } from '../support/whole-gateway.ts'
import { rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})
const start = async (env: NonNullable<WholeGatewayOptions['env']>) => {
  const whole = await startWholeGateway({
    env,
    file: ({ api }) => ({
      routes: [{ path: '/public', upstream: api, accept: ['anonymous'] }],
    }),
  })
  cleanups.push(whole.close)
  const call = async (...lines: string[]) => rawRequest(whole.port, { target: '/public/x', lines })
  const statusOf = async (...lines: string[]) => (await call(...lines)).status
  return { whole, call, statusOf }
}

describe('more calls than limits.requestsPerClient', () => {
  const THREE = { COATCHECK_LIMITS_REQUESTS_PER_CLIENT: '3' }
  const from = (...addresses: string[]) => `X-Forwarded-For: ${addresses.join(', ')}`

  it('get 429 with Retry-After and never reach the API; the gateway’s own endpoints go on', async () => {
    const { whole, call, statusOf } = await start(THREE)
    for (let n = 0; n < 3; n += 1) expect(await statusOf()).toBe(200)
    whole.api.forgetRequests()
    const refused = await call()
    expect(refused.status).toBe(429)
    expect(refused.json()).toMatchObject({ code: 'rate_limited', retryable: true })
    expect(Number(refused.header('retry-after'))).toBeGreaterThan(0)
    expect(Number(refused.header('retry-after'))).toBeLessThanOrEqual(60)
    expect(whole.api.requests).toEqual([])
    expect(whole.log.findLast(({ code }) => code === 'rate_limited')?.reason).toBe('too_many_calls')
    expect(
      (await rawRequest(whole.port, { target: '/bff/session', lines: SAME_ORIGIN_FETCH })).status,
    ).toBe(200)
  })

  it('count for the address that a trusted proxy names, and not for what a client wrote before it', async () => {
    const { statusOf } = await start({ ...THREE, COATCHECK_TRUSTED_PROXIES: '127.0.0.1' })
    for (let n = 0; n < 3; n += 1)
      expect(await statusOf(from(`198.51.100.${n}`, '192.0.2.1'))).toBe(200)
    expect(await statusOf(from('198.51.100.77', '192.0.2.1'))).toBe(429)
    expect(await statusOf(from('192.0.2.2'))).toBe(200)
  })

  it('count for the peer where nobody is trusted, whatever addresses it writes', async () => {
    const { statusOf } = await start(THREE)
    const statuses: number[] = []
    for (let n = 0; n < 80; n += 1) statuses.push(await statusOf(from(`192.0.2.${n}`)))
    expect(statuses.filter((status) => status === 200)).toHaveLength(75)
    expect(statuses.at(-1)).toBe(429)
  })

  it('that another site’s page makes its visitor’s browser send are none of the visitor’s', async () => {
    const { statusOf } = await start(THREE)
    const crossSite = [
      'Sec-Fetch-Site: cross-site',
      'Sec-Fetch-Mode: no-cors',
      'Sec-Fetch-Dest: image',
    ]
    for (let n = 0; n < 3; n += 1) expect(await statusOf(...crossSite)).toBe(200)
    expect(await statusOf(...crossSite)).toBe(429)
    expect(await statusOf()).toBe(200)
  })

  it('are over with the minute', async () => {
    const clock = createFakeClock()
    const admit = createCallAdmission(clock, 2)
    const client = { address: '192.0.2.1', shared: false }
    const facts = { method: 'GET', header: () => undefined }
    const call = () => admit(client, facts)
    call()
    call()
    expect(call).toThrow(expect.objectContaining({ code: 'rate_limited' }))
    await clock.advance(60_000)
    expect(call).not.toThrow()
  })
})

describe('more connections than limits.connectionsPerClient', () => {
  const TWO = { COATCHECK_LIMITS_CONNECTIONS_PER_CLIENT: '2' }
  const request = (port: number) =>
    `GET /bff/session HTTP/1.1\r\nHost: localhost:${port}\r\nX-CSRF: 1\r\n\r\n`

  it('get 429 and their end, while those that are open go on; an end makes room', async () => {
    const { whole } = await start(TWO)
    const { port } = whole
    const held: RawConnection[] = []
    for (let n = 0; n < 2; n += 1) {
      const client = await rawClient(port, request(port))
      await client.receives(/^HTTP\/1\.1 200 /)
      held.push(client)
    }
    const flood = await Promise.all(
      Array.from({ length: 50 }, () => rawClient(port, request(port))),
    )
    await within(5_000, 'the flood’s end', Promise.all(flood.map(({ closed }) => closed)))
    const answers = flood.map((client) => client.received()).filter((answer) => answer !== '')
    expect(answers.length).toBeGreaterThan(0)
    for (const answer of answers) {
      expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 429'])
      expect(answer).toMatch(/\r\nretry-after: 1\r\n/)
    }
    held[0]?.socket.write(request(port))
    await held[0]?.receives(/HTTP\/1\.1 200[\s\S]*HTTP\/1\.1 200/)
    held[1]?.socket.destroy()
    await waitFor('room', async () => {
      const client = await rawClient(port, request(port))
      const answer = await client.receives(/^HTTP\/1\.1 (?:200|429) /)
      client.socket.destroy()
      return answer.includes(' 200 ')
    })
    expect(whole.log.find(({ reason }) => reason === 'too_many_connections')?.code).toBe(
      'rate_limited',
    )
    held[0]?.socket.destroy()
  })

  it('are nobody’s where they come from a trusted proxy', async () => {
    const { whole } = await start({ ...TWO, COATCHECK_TRUSTED_PROXIES: 'private' })
    const clients = await Promise.all(
      Array.from({ length: 10 }, () => rawClient(whole.port, request(whole.port))),
    )
    for (const client of clients) {
      await client.receives(/^HTTP\/1\.1 200 /)
      client.socket.destroy()
    }
  })

  it('are counted for a whole IPv6 /64, and IPv4 on a dual-stack socket is IPv4', () => {
    const admit = createConnectionAdmission(1, () => false)
    expect(admit('2001:db8:0:1::1')).toBeDefined()
    expect(admit('2001:db8:0:1:ffff::2')).toBeUndefined()
    expect(admit('2001:db8:0:2::1')).toBeDefined()
    expect(admit('::ffff:192.0.2.1')).toBeDefined()
    expect(admit('192.0.2.1')).toBeUndefined()
  })
})
