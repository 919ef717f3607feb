/** What the benchmark of requests compares: the gateway and its peers, each started, signed in to and ready for load. */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { type DevelopmentProvider, startDevelopmentProvider } from '../../src/dev/provider.ts'
import { createBrowser } from '../../test/support/browser.ts'
import { startChild } from '../../test/support/child.ts'
import { findExecutable } from '../../test/support/executable.ts'
import { freePort } from '../../test/support/free-port.ts'
import { startGatewayProcess } from '../../test/support/gateway-process.ts'
import { formsOf } from '../../test/support/html.ts'
import { type RedisServer, startRedis } from '../../test/support/redis.ts'
import { waitFor } from '../../test/support/wait.ts'
import { sidecarEnvironment } from '../../test/support/whole-gateway.ts'
import { APACHE_MISSING, hasApache, startApache } from './apache.ts'
import { type BenchUpstream, NGINX_MISSING, startNginxProxy, startUpstream } from './nginx.ts'
import { OAUTH2_PROXY_MISSING, oauth2ProxyBinary, startOauth2Proxy } from './oauth2-proxy.ts'
import { keepOn } from './process-tree.ts'

export interface Target {
  readonly name: string
  /** Root of its processes; undefined where there is nothing between load and upstream. */
  readonly pid: number | undefined
  /** Origin that gets the requests. */
  readonly url: string
  /** `/api` needs a token at the upstream, `/open` does not. */
  readonly prefix: '/api' | '/open'
  /** Of somebody who is signed in. */
  readonly cookie: string | undefined
  /** What must hold after a slice of so many requests, beside their statuses: what is wrong, or undefined. */
  verify?(requests: number): Promise<string | undefined>
  close(): Promise<void>
}

export interface Scene {
  readonly targets: readonly Target[]
  readonly upstream: BenchUpstream
  /** What could not take part, and the command that installs it. */
  readonly absent: readonly { readonly name: string; readonly install: string }[]
  close(): Promise<void>
}

/** Name of the target that all others are a multiple of. */
export const REFERENCE = 'bare node:http + undici'
export const COATCHECK = {
  memory: 'coatcheck, memory',
  redis: 'coatcheck, Redis',
  withoutTracking: 'coatcheck, Redis each time',
} as const
export const PEERS = {
  express: 'express-openid-connect, Redis',
  apacheShm: 'mod_auth_openidc, shm',
  apacheRedis: 'mod_auth_openidc, Redis',
  oauth2Proxy: 'oauth2-proxy, Redis',
} as const

const CLIENT_SECRET = 'a-client-secret-for-the-benchmark-alone'
/** A peer on a machine that others load takes its time. */
const STARTING = { timeoutMs: 45_000 }
const TOKEN_SECONDS = 12 * 3_600
const BENCH = fileURLToPath(new URL('..', import.meta.url))
const PEERS_DIRECTORY = `${BENCH}peers`

interface Surroundings {
  readonly upstream: BenchUpstream
  readonly provider: DevelopmentProvider
  readonly redis: RedisServer
  /** Registers a client of its own for a redirect URI; the client's id. */
  register(redirectUri: string): Promise<string>
}

/** Signed in by the provider's own page, from a page load that needed it. */
const signedIn = async (startUrl: string): Promise<string> => {
  const browser = createBrowser()
  let page = await browser.navigate(startUrl)
  const { origin } = new URL(startUrl)
  for (let pages = 0; pages < 3 && new URL(page.url).origin !== origin; pages += 1) {
    const asksWho = formsOf(page.text)[0]?.fields.some(([name]) => name === 'login') === true
    page = await browser.submitForm(page, asksWho ? { login: 'alice', password: 'alice' } : {})
  }
  // The provider is on 127.0.0.1 and every gateway on localhost.
  const cookie = browser
    .cookies()
    .filter(({ host }) => host === 'localhost')
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')
  // The page after signing in may be anything; a call as the application makes it says whether it worked.
  const headers = { Cookie: cookie, 'Sec-Fetch-Site': 'same-origin' }
  const answer = await fetch(`${origin}/api/small`, { headers, redirect: 'manual' })
  if (answer.status !== 200)
    throw new Error(`after signing in at ${page.url}: ${answer.status}\n${await answer.text()}`)
  return cookie
}

const untilAnswered = async (
  url: string,
  child: { hasExited(): boolean; readonly stderr: readonly string[] },
) =>
  waitFor(
    `${url} answers`,
    async () => {
      if (child.hasExited()) throw new Error(`it ended:\n${child.stderr.join('\n')}`)
      return (await fetch(url, { redirect: 'manual' }).catch(() => undefined)) !== undefined
    },
    STARTING,
  )

// ── without sessions ──────────────────────────────────────────────────────────────────────────────────────────

const direct = ({ upstream }: Surroundings): Target => ({
  name: 'upstream alone',
  pid: undefined,
  url: upstream.url,
  prefix: '/open',
  cookie: undefined,
  close: async () => {},
})

const nginxProxy = async ({ upstream }: Surroundings): Promise<Target> => ({
  name: 'nginx, proxy only',
  prefix: '/open',
  cookie: undefined,
  ...(await startNginxProxy(upstream.url)),
})

const bareProxy = async ({ upstream }: Surroundings): Promise<Target> => {
  const port = await freePort()
  const child = await startChild(process.execPath, [
    `${PEERS_DIRECTORY}/bare-proxy.ts`,
    String(port),
    upstream.url,
  ])
  const url = `http://localhost:${port}`
  await untilAnswered(url, child)
  return {
    name: REFERENCE,
    pid: child.pid,
    url,
    prefix: '/open',
    cookie: undefined,
    close: child.kill,
  }
}

// ── session gateways ──────────────────────────────────────────────────────────────────────────────────────────

/** Sessions that requests looked up so far, by where they were found. */
const lookups = async (operationsUrl: string) => {
  const text = await (await fetch(`${operationsUrl}/metrics`)).text()
  const from = (where: string) =>
    Number(
      new RegExp(`^coatcheck_session_lookups_total\\{from="${where}"\\} (\\d+)`, 'm').exec(
        text,
      )?.[1] ?? 0,
    )
  return { memory: from('memory'), store: from('store') }
}

const coatcheck = async (
  surroundings: Surroundings,
  name: string,
  redisUrl: string | undefined,
): Promise<Target> => {
  const port = await freePort()
  const operations = await freePort()
  const url = `http://localhost:${port}`
  const clientId = await surroundings.register(`${url}/bff/callback`)
  const { COATCHECK_RESOURCE: _, ...sidecar } = sidecarEnvironment(
    port,
    surroundings.provider,
    surroundings.upstream,
  )
  const gateway = await startGatewayProcess(
    {
      ...sidecar,
      COATCHECK_CLIENT_ID: clientId,
      COATCHECK_CLIENT_SECRET: CLIENT_SECRET,
      COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${operations}`,
      ...(redisUrl === undefined ? {} : { COATCHECK_REDIS_URL: redisUrl }),
      ...(process.env.BENCH_NODE_OPTIONS === undefined
        ? {}
        : { NODE_OPTIONS: process.env.BENCH_NODE_OPTIONS }),
    },
    { port },
  )
  const where = name === COATCHECK.withoutTracking ? 'store' : 'memory'
  let before = { memory: 0, store: 0 }
  return {
    name,
    pid: gateway.pid,
    url,
    prefix: '/api',
    cookie: await signedIn(`${url}/bff/login?returnTo=/`),
    // A cache that is off by accident would be measured as if it were on.
    verify: async (requests) => {
      const now = await lookups(gateway.operationsUrl)
      const found = now[where] - before[where]
      before = now
      return found < requests * 0.95
        ? `only ${found} of ${requests} sessions came from ${where}`
        : undefined
    },
    close: async () => {
      await gateway.kill('SIGTERM')
    },
  }
}

/** A user of Redis who may do everything but hear of changes, so that every request reads the store. */
const withoutTracking = async ({ port, url }: RedisServer): Promise<string> => {
  const redis = new Redis(url)
  const rights = ['on', '>works', '~*', '&*', '+@all', '-client|tracking']
  await redis.call('ACL', 'SETUSER', 'untold', ...rights)
  redis.disconnect()
  return `redis://untold:works@127.0.0.1:${port}`
}

const expressOpenidConnect = async (surroundings: Surroundings): Promise<Target> => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const { upstream, provider, redis, register } = surroundings
  const clientId = await register(`${url}/callback`)
  const child = await startChild(
    process.execPath,
    [
      `${PEERS_DIRECTORY}/express-openid-connect.mjs`,
      ...[String(port), upstream.url, provider.issuer, clientId, CLIENT_SECRET, redis.url],
    ],
    { env: { PATH: process.env.PATH, NODE_ENV: 'production' } },
  )
  await untilAnswered(url, child)
  const cookie = await signedIn(`${url}/api/small`)
  return {
    name: PEERS.express,
    pid: child.pid,
    url,
    prefix: '/api',
    cookie,
    close: async () => void (await child.kill()),
  }
}

const modAuthOpenidc = async (
  surroundings: Surroundings,
  name: string,
  cache: 'shm' | 'redis',
): Promise<Target> => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const apache = await startApache({
    port,
    upstream: surroundings.upstream.url,
    issuer: surroundings.provider.issuer,
    clientId: await surroundings.register(`${url}/oidc/callback`),
    clientSecret: CLIENT_SECRET,
    cache: cache === 'shm' ? { kind: 'shm' } : { kind: 'redis', port: surroundings.redis.port },
  })
  await waitFor(
    'Apache answers',
    async () => (await fetch(url).catch(() => undefined)) && true,
    STARTING,
  )
  const cookie = await signedIn(`${url}/api/small`)
  return { name, url, prefix: '/api', cookie, ...apache }
}

const oauth2Proxy = async (binary: string, surroundings: Surroundings): Promise<Target> => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const child = await startOauth2Proxy(binary, {
    port,
    upstream: surroundings.upstream.url,
    issuer: surroundings.provider.issuer,
    clientId: await surroundings.register(`${url}/oauth2/callback`),
    clientSecret: CLIENT_SECRET,
    redisUrl: surroundings.redis.url,
  })
  await untilAnswered(`${url}/ping`, child)
  const cookie = await signedIn(`${url}/api/small`)
  return {
    name: PEERS.oauth2Proxy,
    pid: child.pid,
    url,
    prefix: '/api',
    cookie,
    close: child.close,
  }
}

// ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────

/** Peers that cannot be started here, and what would change that. */
const missing = (): readonly { readonly name: string; readonly install: string }[] => {
  const absent: { name: string; install: string }[] = []
  if (!existsSync(`${PEERS_DIRECTORY}/node_modules`) && !installPeers())
    absent.push({ name: PEERS.express, install: 'npm ci --prefix bench/peers' })
  if (!hasApache()) {
    absent.push({ name: PEERS.apacheShm, install: APACHE_MISSING })
    absent.push({ name: PEERS.apacheRedis, install: APACHE_MISSING })
  }
  if (oauth2ProxyBinary() === undefined)
    absent.push({ name: PEERS.oauth2Proxy, install: OAUTH2_PROXY_MISSING })
  return absent
}

const installPeers = (): boolean => {
  console.log('Installing the peers of the benchmark: npm ci --prefix bench/peers')
  const { status } = spawnSync('npm', ['ci', '--prefix', PEERS_DIRECTORY, '--no-audit'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    timeout: 180_000,
  })
  return status === 0
}

/** `isWanted` takes a target's name. */
export const startScene = async (isWanted: (name: string) => boolean): Promise<Scene> => {
  if (findExecutable('nginx') === undefined)
    throw new Error(`nginx is not installed, and it is the upstream. Run: ${NGINX_MISSING}`)
  const [upstream, redis] = await Promise.all([startUpstream(), startRedis()])
  const provider = await startDevelopmentProvider({
    accessTokenLifetimeSeconds: TOKEN_SECONDS,
    idTokenLifetimeSeconds: TOKEN_SECONDS,
  })
  let clients = 0
  const register = async (redirectUri: string) => {
    clients += 1
    const clientId = `bench-${clients}`
    const redirectUris = [redirectUri]
    await provider.registerClient({
      clientId,
      clientSecret: CLIENT_SECRET,
      redirectUris,
      resource: true,
    })
    return clientId
  }
  const surroundings = { upstream, provider, redis, register }
  const targets: Target[] = []
  const close = async () => {
    await Promise.all(targets.map((target) => target.close()))
    await Promise.all([upstream.close(), redis.close(), provider.close()])
  }
  try {
    const absent = missing().filter(({ name }) => isWanted(name))
    const binary = oauth2ProxyBinary()
    const starting: readonly (readonly [string, () => Target | Promise<Target>])[] = [
      ['upstream alone', () => direct(surroundings)],
      ['nginx, proxy only', () => nginxProxy(surroundings)],
      [REFERENCE, () => bareProxy(surroundings)],
      [COATCHECK.memory, () => coatcheck(surroundings, COATCHECK.memory, undefined)],
      [COATCHECK.redis, () => coatcheck(surroundings, COATCHECK.redis, redis.url)],
      [
        COATCHECK.withoutTracking,
        async () =>
          coatcheck(surroundings, COATCHECK.withoutTracking, await withoutTracking(redis)),
      ],
      [PEERS.express, () => expressOpenidConnect(surroundings)],
      [PEERS.apacheShm, () => modAuthOpenidc(surroundings, PEERS.apacheShm, 'shm')],
      [PEERS.apacheRedis, () => modAuthOpenidc(surroundings, PEERS.apacheRedis, 'redis')],
      [PEERS.oauth2Proxy, () => oauth2Proxy(binary ?? '', surroundings)],
    ]
    for (const [name, start] of starting)
      if (isWanted(name) && !absent.some((other) => other.name === name))
        targets.push(await start())
    // All of them are children of this process, whose tree is the first to be told.
    keepOn(process.pid, 'load')
    for (const { pid } of targets) if (pid !== undefined) keepOn(pid, 'gateway')
    return { targets, upstream, absent, close }
  } catch (cause) {
    await close()
    throw cause
  }
}
