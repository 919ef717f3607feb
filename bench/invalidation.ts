/**
 * How soon one replica sees what another did to a session: two gateway processes on one Redis, both under load.
 *
 *   node bench/invalidation.ts [--sessions 1000] [--rate 300]
 *
 * Each session is served from the memory of replica 0, which goes on answering one request after the other for it, and
 * is then signed out, ended by the admin API, or refreshed on replica 1. Counted is the time from replica 1's answer to
 * the first answer of replica 0 that refuses the session, or that carried the new token: an upper bound, for it contains
 * that whole request. Then: what Redis has to do for 1,000 signed-in requests with that memory, and for a user who may
 * not track. Nothing but loopback; needs redis-server in PATH.
 */

import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { Redis } from 'ioredis'
import { createBrowser } from '../test/support/browser.ts'
import { sessionCookie } from '../test/support/cookies.ts'
import { FakeProvider } from '../test/support/fake-provider.ts'
import { freePort } from '../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../test/support/gateway-process.ts'
import { startRedis } from '../test/support/redis.ts'
import { waitFor } from '../test/support/wait.ts'
import { CLIENT_ID, sidecarEnvironment } from '../test/support/whole-gateway.ts'
import { printMachine, printTable, progress } from './support/measure.ts'

const ADMIN_TOKEN = 'an-admin-token-of-the-benchmark-alone'
const LOADED_SESSIONS = 50
const LOAD_AT_ONCE_MAX = 64
const COUNTED_REQUESTS = 1_000
const VISIBLE_WITHIN_MS = 35_000

interface Answer {
  readonly status: number
  readonly body: string
  readonly arrivedAtMs: number
}

const agent = new http.Agent({ keepAlive: true })
const send = (
  port: number,
  path: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: http.OutgoingHttpHeaders },
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    http
      .request({ agent, host: '127.0.0.1', port, path, method, headers }, (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('error', reject)
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body, arrivedAtMs: performance.now() }),
        )
      })
      .on('error', reject)
      .end()
  })

/** Answers with the token that came; refuses it where the request says so, until the replay brings another. */
const startApi = async () => {
  const server = http.createServer((req, res) => {
    const { authorization, 'x-refuse': refused } = req.headers
    if (refused !== undefined && refused === authorization)
      res.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' }).end()
    else res.end(authorization)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

const startParts = async () => {
  const redis = await startRedis()
  const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 7_200 })
  const api = await startApi()
  const ports = [await freePort(), await freePort(), await freePort()]
  const client = new Redis(redis.url)
  await client.acl(
    ...(['SETUSER', 'untold', 'on', '>works', '~*', '+@all', '-client|tracking'] as const),
  )
  const start = async (index: number, redisUrl: string): Promise<GatewayProcess> => {
    const { COATCHECK_RESOURCE: _, ...env } = sidecarEnvironment(ports[0] ?? 0, provider, api)
    const port = ports[index] ?? 0
    return startGatewayProcess(
      {
        ...env,
        COATCHECK_LISTEN: `127.0.0.1:${port}`,
        COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
        COATCHECK_REDIS_URL: redisUrl,
        COATCHECK_ADMIN_TOKEN: ADMIN_TOKEN,
        // Everybody signs in from an address of their own: one address may begin 600 sign-ins a minute.
        COATCHECK_TRUSTED_PROXIES: '127.0.0.1/32,::1/128',
      },
      { port },
    )
  }
  const replicas = [await start(0, redis.url), await start(1, redis.url)] as const
  const untold = await start(2, `redis://untold:works@127.0.0.1:${redis.port}`)
  return {
    provider,
    client,
    publicUrl: `http://localhost:${ports[0]}`,
    replicas,
    untold,
    close: async () => {
      agent.destroy()
      client.disconnect()
      await Promise.all([...replicas, untold].map((gateway) => gateway.kill()))
      await provider.close()
      api.close()
      await redis.close()
    },
  }
}
type Parts = Awaited<ReturnType<typeof startParts>>

interface BenchSession {
  readonly cookie: string
  /** As the provider names it. */
  readonly sid: string
}

let addresses = 0

const signIn = async ({ publicUrl, provider }: Parts): Promise<BenchSession> => {
  const sid = randomUUID()
  provider.lieInIdTokens({ claims: { sid } })
  const browser = createBrowser()
  addresses += 1
  const address = `10.0.${addresses >> 8}.${addresses & 255}`
  await browser.navigate(`${publicUrl}/bff/login?returnTo=/`, {
    headers: { 'x-forwarded-for': address },
  })
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('sign-in set no session cookie')
  return { cookie: `${cookie.name}=${cookie.value}`, sid }
}

const call = (
  { port }: GatewayProcess,
  cookie: string,
  { path = '/api/x', ...request }: { path?: string; method?: string; refuse?: string } = {},
) =>
  send(port, path, {
    ...(request.method === undefined ? {} : { method: request.method }),
    headers: {
      cookie,
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'cors',
      ...(request.refuse === undefined ? {} : { 'x-refuse': request.refuse }),
    },
  })

/** So many requests a second over both replicas, as long as they are answered in time. */
const startLoad = (
  replicas: readonly GatewayProcess[],
  sessions: readonly BenchSession[],
  rate: number,
) => {
  const counts = { sent: 0, answered: 0, other: 0 }
  let underWay = 0
  const startedAtMs = performance.now()
  const timer = setInterval(() => {
    const due = ((performance.now() - startedAtMs) * rate) / 1000
    while (counts.sent < due && underWay < LOAD_AT_ONCE_MAX) {
      const replica = replicas[counts.sent % replicas.length]
      const session = sessions[Math.floor(counts.sent / replicas.length) % sessions.length]
      if (replica === undefined || session === undefined) return
      counts.sent += 1
      underWay += 1
      call(replica, session.cookie)
        .then(
          ({ status }) => {
            if (status === 200) counts.answered += 1
            else counts.other += 1
          },
          () => {
            counts.other += 1
          },
        )
        .finally(() => {
          underWay -= 1
        })
    }
  }, 5)
  return {
    stop: () => {
      clearInterval(timer)
      const seconds = (performance.now() - startedAtMs) / 1000
      return { ...counts, perSecond: Math.round(counts.answered / seconds) }
    },
  }
}

interface Change {
  readonly name: string
  /** Resolves with replica 1's answer. */
  make(session: BenchSession, served: Answer): Promise<Answer>
  isSeenIn(answer: Answer, before: Answer): boolean
}

const isOver = ({ status, body }: Answer) => status === 401 && body.includes('session_ended')

const changesOn = (replica: GatewayProcess): readonly Change[] => [
  {
    name: 'sign-out',
    make: ({ cookie }) => call(replica, cookie, { path: '/bff/logout', method: 'POST' }),
    isSeenIn: isOver,
  },
  {
    name: 'end by an admin',
    make: ({ sid }) =>
      send(Number(new URL(replica.operationsUrl).port), `/admin/sessions?sid=${sid}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
      }),
    isSeenIn: isOver,
  },
  {
    name: 'refresh',
    make: ({ cookie }, { body }) => call(replica, cookie, { refuse: body }),
    isSeenIn: ({ status, body }, before) => status === 200 && body !== before.body,
  },
]

interface Seen {
  /** Since replica 1's answer; 0 where replica 0 knew before. */
  readonly visibleMs: number
  readonly sinceSentMs: number
  /** Requests that began after replica 1's answer and were still served as before. */
  readonly staleAfter: number
}

/** One session: served by replica 0 without a pause, changed on replica 1. */
const measure = async (
  { replicas: [served] }: Parts,
  change: Change,
  session: BenchSession,
): Promise<Seen> => {
  let changedAtMs = Number.POSITIVE_INFINITY
  let staleAfter = 0
  await call(served, session.cookie)
  const before = await call(served, session.cookie)
  if (before.status !== 200) throw new Error(`a session is not served: ${before.status}`)

  const watching = (async () => {
    const untilMs = performance.now() + VISIBLE_WITHIN_MS
    while (performance.now() < untilMs) {
      const sentAtMs = performance.now()
      const answer = await call(served, session.cookie)
      if (change.isSeenIn(answer, before)) return answer.arrivedAtMs
      if (answer.status !== 200 || answer.body !== before.body)
        throw new Error(`neither before nor after: ${answer.status} ${answer.body}`)
      if (sentAtMs > changedAtMs) staleAfter += 1
    }
    throw new Error(`not seen within ${VISIBLE_WITHIN_MS} ms`)
  })()
  const sentAtMs = performance.now()
  const changing = change.make(session, before).then((answer) => {
    if (answer.status !== 200) throw new Error(`no change: ${answer.status} ${answer.body}`)
    changedAtMs = answer.arrivedAtMs
  })
  const [seenAtMs] = await Promise.all([watching, changing])
  return {
    visibleMs: Math.max(0, seenAtMs - changedAtMs),
    sinceSentMs: seenAtMs - sentAtMs,
    staleAfter,
  }
}

const HEAD = ['change', 'median', 'p99', 'worst', 'stale*', 'median**', 'worst**']

const rowOf = (name: string, seen: readonly Seen[]): string[] => {
  const shares = (of: (each: Seen) => number, ...wanted: readonly number[]) => {
    const sorted = seen.map(of).toSorted((one, other) => one - other)
    return wanted.map((share) => (sorted[Math.ceil(share * sorted.length) - 1] ?? 0).toFixed(1))
  }
  const stale = seen.reduce((sum, { staleAfter }) => sum + staleAfter, 0)
  return [
    name,
    ...shares(({ visibleMs }) => visibleMs, 0.5, 0.99, 1),
    String(stale),
    ...shares(({ sinceSentMs }) => sinceSentMs, 0.5, 1),
  ]
}

/** Commands by name, those of other clients and of trackers' proofs left out. */
const commandsFor = async (
  client: Redis,
  gateway: GatewayProcess,
  sessions: readonly BenchSession[],
): Promise<string> => {
  for (const { cookie } of sessions) await call(gateway, cookie)
  await client.config('RESETSTAT')
  let sent = 0
  const caller = async () => {
    while (sent < COUNTED_REQUESTS) {
      sent += 1
      const { status } = await call(gateway, sessions[sent % sessions.length]?.cookie ?? '')
      if (status !== 200) throw new Error(`a session is not served: ${status}`)
    }
  }
  await Promise.all(Array.from({ length: 8 }, caller))
  const stats = [
    ...(await client.info('commandstats')).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm),
  ].flatMap(([, name = '', calls]) =>
    /^(config|info|ping)/.test(name) ? [] : [`${calls} × ${name}`],
  )
  return stats.length === 0 ? 'none' : stats.join(', ')
}

const positive = (text: string, name: string): number => {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new Error(`--${name} takes a whole number from 1`)
  return Number(text)
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      sessions: { type: 'string', default: '1000' },
      rate: { type: 'string', default: '300' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return console.log('node bench/invalidation.ts [--sessions 1000] [--rate 300]')
  const count = positive(values.sessions, 'sessions')
  const rate = positive(values.rate, 'rate')

  printMachine()
  const stage = await startParts()
  try {
    const loaded: BenchSession[] = []
    while (loaded.length < LOADED_SESSIONS) loaded.push(await signIn(stage))
    for (const replica of stage.replicas)
      await waitFor('changes are told', async () =>
        (await (await fetch(`${replica.operationsUrl}/metrics`)).text()).includes(
          'coatcheck_session_changes_told 1',
        ),
      )

    const twenty = loaded.slice(0, 20)
    const [told] = stage.replicas
    printTable(
      `Redis commands for ${COUNTED_REQUESTS} signed-in requests of 20 sessions`,
      ['session', 'commands'],
      [
        ['from memory', await commandsFor(stage.client, told, twenty)],
        ['without tracking', await commandsFor(stage.client, stage.untold, twenty)],
      ],
    )

    const load = startLoad(stage.replicas, loaded, rate)
    const rows: string[][] = []
    for (const change of changesOn(stage.replicas[1])) {
      const seen: Seen[] = []
      while (seen.length < count) seen.push(await measure(stage, change, await signIn(stage)))
      rows.push(rowOf(change.name, seen))
      progress(`${change.name}: ${count} sessions`)
    }
    const { answered, other, perSecond } = load.stop()
    printTable(`ms until replica 0 sees it, ${count} sessions each`, HEAD, rows)
    console.log(
      `* requests that began after replica 1's answer and were served as before\n** since replica 1 was asked\nload beside: ${perSecond} requests/s answered, ${answered} in all, ${other} otherwise`,
    )
  } finally {
    await stage.close()
  }
}

await main()
