/** The admin API and `coatcheck sessions`: who has the token sees and ends sessions; nobody else learns anything. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { type ListeningServer, startListener } from '../../src/edges/http/listener.ts'
import { runCoatcheck } from '../cli/run-coatcheck.ts'
import type { Browser } from '../support/browser.ts'
import { startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'
import {
  sidecarEnvironment,
  startWholeGateway,
  type WholeGateway,
} from '../support/whole-gateway.ts'

const TOKEN = 'pZ4-an.admin~token+of/enough_characters=='
const NEXT_TOKEN = 'pZ5-an.admin~token+of/enough_characters'

interface Listed {
  readonly session: string
  readonly subject: string
  readonly issuer: string
  readonly sid: string | null
  readonly ip: string
}

let whole: WholeGateway
let operations: ListeningServer
beforeAll(async () => {
  whole = await startWholeGateway({
    env: {
      COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:9',
      COATCHECK_ADMIN_TOKEN: `${TOKEN},${NEXT_TOKEN}`,
    },
  })
  operations = await startListener({
    listener: whole.gateway.operations,
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
})
afterAll(async () => {
  await operations.close()
  await whole.close()
})

const admin = async (
  method: string,
  path: string,
  headers: Record<string, string> = { authorization: `Bearer ${TOKEN}` },
) => {
  const response = await fetch(`http://127.0.0.1:${operations.address.port}${path}`, {
    method,
    headers,
  })
  const body = (await response.json()) as Record<string, unknown>
  return { status: response.status, headers: response.headers, body }
}
const listed = async (query = ''): Promise<readonly Listed[]> => {
  const answer = await admin('GET', `/admin/sessions${query}`)
  expect(answer.status).toBe(200)
  return answer.body.sessions as Listed[]
}
const isAlive = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated

describe('who may ask', () => {
  it.each<[string, Record<string, string>]>([
    ['nobody', {}],
    ['a wrong token', { authorization: `Bearer ${TOKEN.slice(0, -1)}x` }],
    ['the beginning of the token', { authorization: `Bearer ${TOKEN.slice(0, 20)}` }],
    ['both tokens at once', { authorization: `Bearer ${TOKEN},${NEXT_TOKEN}` }],
    ['another scheme', { authorization: `Basic ${TOKEN}` }],
    ['no scheme', { authorization: TOKEN }],
    ['an empty token', { authorization: 'Bearer ' }],
    ['another field', { 'x-admin-token': TOKEN }],
  ])('not %s', async (_, headers) => {
    for (const [method, path] of [
      ['GET', '/admin/sessions'],
      ['DELETE', '/admin/sessions?all=true'],
      ['GET', '/admin/nothing'],
    ] as const) {
      const answer = await admin(method, path, headers)
      expect([answer.status, answer.body.code]).toEqual([401, 'bearer_invalid'])
      expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="coatcheck"')
      expect(answer.headers.get('cache-control')).toBe('no-store')
    }
  })

  it('each of two tokens, while one replaces the other', async () => {
    for (const token of [TOKEN, NEXT_TOKEN]) {
      const headers = { authorization: `Bearer ${token}` }
      expect((await admin('GET', '/admin/sessions', headers)).status).toBe(200)
    }
  })

  it.each<[string, Record<string, string>]>([
    ['Origin', { origin: 'http://127.0.0.1' }],
    ['Origin null', { origin: 'null' }],
    ['Sec-Fetch-Site', { 'sec-fetch-site': 'none' }],
  ])('no page in a browser, told by %s, even with the token', async (_, more) => {
    const headers = { authorization: `Bearer ${TOKEN}`, ...more }
    const answer = await admin('GET', '/admin/sessions', headers)
    expect([answer.status, answer.body.code]).toEqual([403, 'csrf_rejected'])
  })

  it('failures are audited, without what came', () => {
    const refusals = whole.log.filter(({ code }) => code === 'bearer_invalid')
    expect(refusals.length).toBeGreaterThan(0)
    expect(new Set(refusals.map(({ reason }) => reason))).toEqual(
      new Set(['admin_token_missing', 'admin_token_wrong']),
    )
    expect(whole.logText()).not.toContain(TOKEN.slice(0, 20))
  })

  it('the public listener has no such paths', async () => {
    const response = await fetch(`${whole.url}/admin/sessions`, {
      headers: { authorization: `Bearer ${TOKEN}`, 'x-csrf': '1' },
    })
    expect(response.status).toBe(404)
  })
})

describe('sessions', () => {
  it('are listed by subject, by issuer, or all, with what the store may tell', async () => {
    const [alice, bob] = [await whole.signedIn('alice'), await whole.signedIn('bob')]
    expect((await listed()).map(({ subject }) => subject).toSorted()).toEqual(['alice', 'bob'])
    const [entry, ...more] = await listed('?subject=alice')
    expect(more).toEqual([])
    expect(Object.keys(entry ?? {})).toEqual([
      ...['session', 'issuer', 'subject', 'sid', 'createdAt', 'lastSeenAt', 'expiresAt'],
      ...['device', 'ip'],
    ])
    expect(entry).toMatchObject({ issuer: whole.provider.issuer, ip: '127.0.0.1' })
    expect(await listed(`?issuer=${whole.provider.issuer}`)).toHaveLength(2)
    expect(await listed('?issuer=https://other.example')).toEqual([])
    expect(await listed('?subject=alice&issuer=https://other.example')).toEqual([])
    expect(await listed('?subject=nobody')).toEqual([])
    await admin('DELETE', '/admin/sessions?all=true')
    expect(await Promise.all([alice, bob].map(isAlive))).toEqual([false, false])
  })

  it('end one by one, by subject, or all', async () => {
    const [first, second, bob] = [
      await whole.signedIn('alice'),
      await whole.signedIn('alice'),
      await whole.signedIn('bob'),
    ]
    const [entry] = await listed('?subject=alice')
    const ended = await admin('DELETE', `/admin/sessions/${entry?.session}`)
    expect([ended.status, ended.body]).toEqual([200, { ended: 1 }])
    expect((await Promise.all([first, second].map(isAlive))).toSorted()).toEqual([false, true])
    const again = await admin('DELETE', `/admin/sessions/${entry?.session}`)
    expect([again.status, again.body.code]).toEqual([404, 'session_not_found'])

    expect((await admin('DELETE', '/admin/sessions?subject=alice')).body).toEqual({ ended: 1 })
    expect(await isAlive(bob)).toBe(true)
    expect((await admin('DELETE', '/admin/sessions?all=true')).body).toEqual({ ended: 1 })
    expect(await isAlive(bob)).toBe(false)
    expect(whole.log.filter(({ event }) => event === 'sessions_administered')).not.toEqual([])
    // Whoever signs in afterwards is welcome.
    expect(await isAlive(await whole.signedIn('alice'))).toBe(true)
  })

  it.each([
    ['DELETE', ''],
    ['DELETE', '?subject='],
    ['DELETE', '?all=1'],
    ['DELETE', '?all=true&subject=alice'],
    ['DELETE', '?subject=alice&sid=x'],
    ['DELETE', '?subject=alice&subject=bob'],
    ['DELETE', '?subjct=alice'],
    ['DELETE', '?issuer=https://id.example.com'],
    ['DELETE', '?subject=alice&issuer='],
    ['GET', '?issuer='],
    ['GET', '?all=true'],
    ['GET', '?cursor='],
    ['GET', '?cursor=x%20y'],
    ['GET', '?cursor=nonsense'],
    ['DELETE', '/x'],
    ['DELETE', `/${'A'.repeat(44)}`],
  ])('a request that is not clear ends nothing: %s %s', async (method, rest) => {
    const alice = await whole.signedIn('alice')
    const answer = await admin(method, `/admin/sessions${rest}`)
    expect([answer.status, answer.body.code]).toEqual([400, 'request_invalid'])
    expect(await isAlive(alice)).toBe(true)
    await admin('DELETE', '/admin/sessions?all=true')
  })

  it('RFC 3986 §3.4 a question mark belongs to the name that has it', async () => {
    const alice = await whole.signedIn('alice')
    expect(await listed('?subject=alice?x')).toEqual([])
    expect((await admin('DELETE', '/admin/sessions?subject=alice?x')).body).toEqual({ ended: 0 })
    expect(await isAlive(alice)).toBe(true)
    await admin('DELETE', '/admin/sessions?all=true')
  })

  it.each([
    ['POST', '/admin/sessions', 405],
    ['GET', `/admin/sessions/${'A'.repeat(43)}`, 405],
    ['GET', '/admin/', 404],
    ['GET', '/admin/other', 404],
  ])('%s %s is nothing', async (method, path, status) => {
    expect((await admin(method, path)).status).toBe(status)
  })
})

test('without a token there is no admin API', async () => {
  const plain = await startWholeGateway()
  const server = await startListener({
    listener: plain.gateway.operations,
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
  const response = await fetch(`http://127.0.0.1:${server.address.port}/admin/sessions`, {
    headers: { authorization: `Bearer ${TOKEN}` },
  })
  expect(response.status).toBe(404)
  await server.close()
  await plain.close()
})

test('guessing is limited', async () => {
  const limited = await startWholeGateway({
    env: { COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:9', COATCHECK_ADMIN_TOKEN: TOKEN },
  })
  const server = await startListener({
    listener: limited.gateway.operations,
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
  const statuses = new Set<number>()
  for (let count = 0; count < 210; count += 1)
    statuses.add((await fetch(`http://127.0.0.1:${server.address.port}/admin/sessions`)).status)
  expect(statuses).toEqual(new Set([401, 429]))
  await server.close()
  await limited.close()
})

test('a leaver: the operator ends a subject on one replica, and within a second every replica refuses', async () => {
  const replicas = await startReplicas({ env: { COATCHECK_ADMIN_TOKEN: TOKEN } })
  try {
    const cookies = [await replicas.signIn(), await replicas.signIn()]
    const { operationsUrl, port } = replicas.gateways[1]!
    const env = {
      ...sidecarEnvironment(port, replicas.provider, replicas.api),
      COATCHECK_OPERATIONS_LISTEN: new URL(operationsUrl).host,
      COATCHECK_ADMIN_TOKEN: TOKEN,
    }
    const shown = await runCoatcheck(['sessions', 'list', '--subject', 'alice'], env)
    expect(shown).toMatchObject({ code: 0, stderr: '' })
    expect(shown.stdout.split('\n').map((line) => JSON.parse(line).subject)).toEqual([
      ...['alice', 'alice'],
    ])

    const ended = await runCoatcheck(['sessions', 'end', '--subject', 'alice'], env)
    const startedAt = performance.now()
    expect(ended).toMatchObject({ code: 0, stdout: '2 sessions ended' })
    await waitFor('every replica refuses', async () => {
      const answers = await Promise.all(
        cookies.flatMap((cookie) => [0, 1].map((replica) => replicas.call(replica, cookie))),
      )
      return answers.every(({ code }) => code === 'session_ended')
    })
    expect(performance.now() - startedAt).toBeLessThan(1_000)
    // The refresh token is gone with the record: nothing refreshes it, however long somebody asks.
    const refreshes = replicas.refreshes().length
    await replicas.call(0, cookies[0]!)
    expect(replicas.refreshes()).toHaveLength(refreshes)

    expect(await runCoatcheck(['sessions', 'list'], env)).toMatchObject({ code: 0, stdout: '' })
    const wrong = { ...env, COATCHECK_ADMIN_TOKEN: `${TOKEN.replace('p', 'q')}` }
    expect(await runCoatcheck(['sessions', 'end', '--all'], wrong)).toMatchObject({
      code: 69,
      stdout: '',
      stderr: 'coatcheck: the gateway answered 401 (bearer_invalid)',
    })
  } finally {
    await replicas.close()
  }
}, 40_000)

describe('coatcheck sessions', () => {
  const env = {
    ...sidecarEnvironment(1, { issuer: 'http://127.0.0.1:2' }, { url: 'http://127.0.0.1:3' }),
    COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:4',
    COATCHECK_ADMIN_TOKEN: TOKEN,
  }

  it.each([
    [[]],
    [['remove']],
    [['end']],
    [['end', '--all', '--subject', 'alice']],
    [['list', '--subject', 'alice', '--sid', 'x']],
    [['list', '--all']],
    [['end', '--all', 'x']],
  ])('%j is wrong usage', async (args) => {
    expect((await runCoatcheck(['sessions', ...args], env)).code).toBe(64)
  })

  it('needs two settings only, and shows names whole but for what steers a terminal', async () => {
    const subject = `auth0|${'x'.repeat(250)}`
    const server = createServer((_request, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ sessions: [{ subject, device: 'a\u001b[2J\u202eb' }] }))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const answer = await runCoatcheck(['sessions', 'list'], {
      COATCHECK_ADMIN_TOKEN: TOKEN,
      COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${port}`,
    })
    server.close()
    server.closeAllConnections()
    expect(answer).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(answer.stdout)).toEqual({ subject, device: 'a?[2J?b' })
  })

  it('says what is missing, and that nobody answers', async () => {
    const { COATCHECK_ADMIN_TOKEN: _, ...without } = env
    expect(await runCoatcheck(['sessions', 'list'], without)).toMatchObject({
      code: 78,
      stderr: expect.stringContaining('COATCHECK_ADMIN_TOKEN'),
    })
    expect(await runCoatcheck(['sessions', 'list'], env)).toMatchObject({
      code: 69,
      stderr: expect.stringContaining('operations.listen'),
    })
  })
})
