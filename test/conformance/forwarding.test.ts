/**
 * Who, from where and through what (RFC 7239, RFC 9110 §7.6.3, and the `X-Forwarded-*` that came before): an API hears
 * it from the gateway alone, which believes the proxies that it was told to believe.
 */

import { connect, createServer, type Server } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { rawRequest } from '../hostile/raw-request.ts'
import { freePort } from '../support/free-port.ts'
import { answerJson } from '../support/upstream-api.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

/** Everything that is sent to it goes to the port it is told. */
const startForwarder = async (port: number): Promise<Server> => {
  const forwarder = createServer((socket) => {
    forwarded += 1
    const onwards = connect({ port: onwardsTo, host: '127.0.0.1' })
    for (const side of [socket, onwards]) side.on('error', () => side.destroy())
    socket.pipe(onwards).pipe(socket)
  })
  await new Promise<void>((resolve) => forwarder.listen(port, '127.0.0.1', resolve))
  return forwarder
}

let trusting: WholeGateway
let doubting: WholeGateway
let forwarder: Server
let onwardsTo = 0
/** Connections so far; while a call loops, each round needs one of its own. */
let forwarded = 0
beforeAll(async () => {
  const loopPort = await freePort()
  const routes = (api: string) => [
    { path: '/public', upstream: api, accept: ['anonymous'] },
    { path: '/kept', upstream: api, accept: ['anonymous'], preserveHost: true },
    { path: '/loop', upstream: `http://127.0.0.1:${loopPort}`, accept: ['anonymous'] },
  ]
  forwarder = await startForwarder(loopPort)
  doubting = await startWholeGateway({ file: ({ api }) => ({ routes: routes(api) }) })
  trusting = await startWholeGateway({
    env: { COATCHECK_TRUSTED_PROXIES: '127.0.0.1,10.0.0.0/8,2001:db8:ffff::/48' },
    file: ({ api }) => ({ routes: routes(api) }),
  })
})
afterAll(async () => {
  await trusting.close()
  await doubting.close()
  forwarder.close()
})
beforeEach(() => {
  for (const { api } of [trusting, doubting]) {
    api.forgetRequests()
    api.answerWith(answerJson({ ok: true }))
  }
})

const seenBy = async (gateway: WholeGateway, lines: readonly string[], target = '/public') => {
  const answer = await rawRequest(gateway.port, { target, lines })
  expect([lines, answer.status]).toEqual([lines, 200])
  return gateway.api.requests.at(-1) ?? expect.unreachable()
}

const FORGED = [
  'X-Forwarded-For: 203.0.113.9',
  'X-Forwarded-For: 198.51.100.7, 10.0.0.2',
  'X-Forwarded-Host: evil.example',
  'X-Forwarded-Proto: gopher',
  'X-Forwarded-Port: 1',
  'X-Forwarded-Prefix: /evil',
  'X-Forwarded-Server: evil.example',
  'Forwarded: for=203.0.113.9;host=evil.example;proto=gopher',
  'X-Real-IP: 203.0.113.9',
  'True-Client-IP: 203.0.113.9',
  'X_Forwarded_For: 203.0.113.9',
]

describe('a peer that nobody trusts', () => {
  it('RFC 7239 §8.1 says nothing of where it comes from: all is dropped and made anew', async () => {
    const seen = await seenBy(doubting, FORGED)
    const host = new URL(doubting.url).host
    expect(seen.headerLines('x-forwarded-for')).toEqual(['127.0.0.1'])
    expect(seen.headerLines('x-forwarded-host')).toEqual([host])
    expect(seen.headerLines('x-forwarded-proto')).toEqual(['http'])
    expect(seen.headerLines('forwarded')).toEqual([`for=127.0.0.1;host="${host}";proto=http`])
    expect(seen.rawHeaders.join('\n')).not.toMatch(
      /203\.0|198\.51|evil|gopher|real-ip|true-client|port$|prefix|_/im,
    )
  })
})

describe('a proxy that is trusted', () => {
  it.each([
    ['the only one', ['X-Forwarded-For: 203.0.113.9'], '203.0.113.9'],
    ['what the client made up before it', ['X-Forwarded-For: 1.2.3.4, 203.0.113.9'], '203.0.113.9'],
    [
      'over several lines',
      ['X-Forwarded-For: 1.2.3.4', 'X-Forwarded-For: 203.0.113.9, 10.0.0.2'],
      '203.0.113.9',
    ],
    ['an IPv6 address', ['X-Forwarded-For: 2001:db8::1'], '2001:db8::1'],
    ['behind another by IPv6', ['X-Forwarded-For: 2001:db8::1, 2001:db8:ffff::2'], '2001:db8::1'],
    ['nothing but proxies', ['X-Forwarded-For: 10.0.0.3, 10.0.0.2'], '10.0.0.3'],
    ['no address at all', ['X-Forwarded-For: unknown, nonsense'], '127.0.0.1'],
    ['nothing', [], '127.0.0.1'],
  ])('names the client: %s', async (_, lines, address) => {
    const seen = await seenBy(trusting, lines)
    expect(seen.headerLines('x-forwarded-for')).toEqual([address])
    // RFC 7239 §6: an IPv6 address is bracketed and quoted, and both fields say the same.
    const node = address.includes(':') ? `"[${address}]"` : address
    expect(seen.header('forwarded')).toMatch(new RegExp(`^for=${node.replace(/[[\]]/g, '\\$&')};`))
  })

  it('RFC 7239 §4 host and scheme are those of the public URL all the same', async () => {
    const seen = await seenBy(trusting, FORGED)
    expect(seen.header('x-forwarded-host')).toBe(new URL(trusting.url).host)
    expect(seen.header('x-forwarded-proto')).toBe('http')
    expect(seen.header('x-forwarded-for')).toBe('198.51.100.7')
    expect(seen.rawHeaders.join('\n')).not.toMatch(/evil|gopher|real-ip/i)
  })
})

describe('Host', () => {
  it('RFC 9112 §3.2 is the upstream’s own, or the public one where the route keeps it', async () => {
    expect((await seenBy(doubting, [])).header('host')).toBe(new URL(doubting.api.url).host)
    expect((await seenBy(doubting, [], '/kept')).header('host')).toBe(new URL(doubting.url).host)
  })
})

describe('RFC 9110 §7.6.3 Via', () => {
  it('gets the gateway’s pseudonym behind what is there, and no name of a host', async () => {
    expect((await seenBy(doubting, [])).header('via')).toMatch(/^1\.1 coatcheck \([0-9a-f-]{36}\)$/)
    const seen = await seenBy(doubting, ['Via: 1.0 fred', 'via: 1.1 cdn.example (x)'])
    expect(seen.header('via')).toMatch(/^1\.0 fred, 1\.1 cdn\.example \(x\), 1\.1 coatcheck \(/)
  })

  it('of the upstream does not show what runs behind the gateway', async () => {
    doubting.api.answerWith(answerJson({}, 200, { via: '1.1 internal-lb', server: 'x/1.2' }))
    const answer = await rawRequest(doubting.port, { target: '/public' })
    expect([answer.header('via'), answer.header('server')]).toEqual([undefined, undefined])
  })

  it('cannot be nominated away', async () => {
    const seen = await seenBy(doubting, [
      'Connection: close, via, x-forwarded-for, forwarded',
      'Via: 1.0 fred',
    ])
    expect(seen.header('via')).toMatch(/fred, 1\.1 coatcheck/)
    expect(seen.header('x-forwarded-for')).toBe('127.0.0.1')
    expect(seen.header('forwarded')).toMatch(/^for=127/)
  })
})

describe('RFC 9110 §7.6 a gateway that is led to itself', () => {
  it.each([
    ['one', () => [doubting]],
    ['by way of another one', () => [trusting, doubting]],
  ])('notices at the second visit: %s', async (_, gateways) => {
    const [first, second = first] = gateways()
    if (first === undefined || second === undefined) return expect.unreachable()
    onwardsTo = second.port
    forwarded = 0
    const answer = await rawRequest(first.port, { target: '/loop/x' })
    expect(answer.status).toBe(502)
    expect(answer.json()).toMatchObject({ code: 'upstream_unreachable' })
    expect(second.log.filter(({ reason }) => reason === 'loop').length).toBeGreaterThan(0)
    expect(forwarded).toBeLessThanOrEqual(gateways().length)
  })
})

describe('RFC 9110 §7.6.2 Max-Forwards', () => {
  const asked = (lines: readonly string[], method = 'OPTIONS') =>
    rawRequest(doubting.port, { method, target: '/public', lines })

  it('0: OPTIONS is answered here, and the API hears nothing of it', async () => {
    const answer = await asked(['Max-Forwards: 0'])
    expect(answer.status).toBe(204)
    expect(doubting.api.requests).toHaveLength(0)
  })

  it.each([
    ['1', '0'],
    ['17', '16'],
    ['99999999999999999999999999', '1000'],
    ['many', 'many'],
  ])('%s is sent on as %s', async (value, expected) => {
    expect((await asked([`Max-Forwards: ${value}`])).status).toBe(200)
    expect(doubting.api.requests.at(-1)?.headerLines('max-forwards')).toEqual([expected])
  })

  it('other methods need not heed it, and never get less than 0', async () => {
    expect((await asked(['Max-Forwards: 0'], 'GET')).status).toBe(200)
    expect(doubting.api.requests.at(-1)?.headerLines('max-forwards')).toEqual(['0'])
  })
})
