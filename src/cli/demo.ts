/** `coatcheck demo`: a provider, an API, the app and the gateway, or several behind a balancer, to try in a browser. */

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '../config/load.ts'
import { Breakage } from '../dev/breakage.ts'
import { type DemoApi, startDemoApi } from '../dev/demo-api.ts'
import { before, type Experiments, experiments, ownPaths } from '../dev/demo-front.ts'
import { freePortFrom } from '../dev/free-port.ts'
import {
  DEVELOPMENT_RESOURCE,
  DEVELOPMENT_RESOURCE_SCOPES,
  type DevelopmentProvider,
  type DevelopmentProviderOptions,
  isProviderInstalled,
  startDevelopmentProvider,
} from '../dev/provider.ts'
import { type RivalSite, startRivalSite } from '../dev/rival-site.ts'
import { tokenFingerprint } from '../dev/token-fingerprint.ts'
import { startListener } from '../edges/http/listener.ts'
import { createLogger } from '../edges/telemetry/logger.ts'
import { createGateway } from '../gateway.ts'
import { createCookieForms } from '../session/session-cookie.ts'
import { systemClock } from '../time.ts'
import { HELP_OPTION, parseArguments, shown, UsageError, type Values } from './arguments.ts'
import { FleetError } from './demo-fleet.ts'
import { startReplicas } from './demo-replicas.ts'
import { type Command, EXIT, type Io } from './io.ts'
import { findRedis, redisMissing } from './redis-program.ts'

const HOST = '127.0.0.1'
const CLIENT_ID = 'coatcheck-demo'
const [READ_SCOPE, WRITE_SCOPE] = DEVELOPMENT_RESOURCE_SCOPES

const REPLICAS_MAX = 4

const HELP = `Usage: coatcheck demo [--replicas NUMBER]

Runs the gateway on http://localhost:3000 with a development identity provider (3100), a demo API (4000) and a
small app, the operations listener (9090), and another site (4100) that the page has attack it. Ports that are taken are replaced by the next free ones. Sessions
live in memory, access tokens for 20 seconds. Accounts: alice / alice and bob / bob. Ctrl-C ends all of it.

With replicas, as many gateway processes share a Redis of their own behind a small balancer on the same URL, and
tokens live for 2 seconds. The page gets buttons that kill a replica (SIGKILL), restart it and stop Redis for 3
seconds, and counts calls, answers and lost sessions. Needs redis-server or valkey-server in PATH.

COATCHECK_LOGGING_LEVEL=info shows the log; no other setting is read.

Options:
  --replicas NUMBER  gateway processes, 2 to ${REPLICAS_MAX}; 1, the default, is one without Redis
  -h, --help         prints this`

const APP_DIRECTORY = fileURLToPath(new URL('../../demo-spa/dist', import.meta.url))

const OPTIONS = { ...HELP_OPTION, replicas: { type: 'string' } } as const

export interface Ports {
  readonly gateway: number
  readonly provider: number
  readonly api: number
  readonly operations: number
  readonly rival: number
}

export interface Closable {
  close(): Promise<void>
}

/** What runs before the gateway does, and which settings lead there. */
export interface Surroundings {
  readonly host: string
  readonly ports: Ports
  readonly publicUrl: string
  readonly env: Readonly<Record<string, string>>
  readonly refreshes: () => number
  readonly breakage: Breakage
  readonly rival: RivalSite
  /** The demo's own paths, but for those of replicas. */
  readonly experiments: Experiments
}

/** Adds to `running` what must be closed again; resolves, when the page can be opened, with lines about what runs. */
export type StartGateway = (
  surroundings: Surroundings,
  io: Io,
  running: Closable[],
) => Promise<readonly string[]>

export const demo: Command = async (argv, io) => {
  const values = parseArguments('demo', argv, OPTIONS)
  if (values.has('help')) {
    io.out(HELP)
    return EXIT.ok
  }
  const replicas = replicasIn(values)
  const redisProgram = findRedis(io.env.PATH)
  const missing =
    missingPart() ?? (replicas > 1 && redisProgram === undefined ? redisMissing() : undefined)
  if (missing !== undefined) {
    io.err(missing)
    return EXIT.unavailable
  }
  return replicas > 1 && redisProgram !== undefined
    ? run(io, FLEET_TOKENS, startReplicas(replicas, redisProgram))
    : run(io, {}, startOne)
}

const replicasIn = (values: Values): number => {
  const given = values.get('replicas') ?? '1'
  const replicas = Number(given)
  if (
    typeof given !== 'string' ||
    !/^[0-9]$/.test(given) ||
    replicas < 1 ||
    replicas > REPLICAS_MAX
  )
    throw new UsageError(
      `--replicas takes a number from 1 to ${REPLICAS_MAX}, not "${shown(String(given))}"`,
      'demo',
    )
  return replicas
}

/** Short, so that refreshes meet every kill; and a token may come twice, because a killed holder cannot tell. */
const FLEET_TOKENS = { accessTokenLifetimeSeconds: 2, refreshRotation: 'tolerant' } as const

const run = async (
  io: Io,
  tokens: Pick<DevelopmentProviderOptions, 'accessTokenLifetimeSeconds' | 'refreshRotation'>,
  startGateway: StartGateway,
): Promise<number> => {
  const stopped = Promise.race([io.stopSignal(), hangUp()])
  const ports = await pickPorts(io)
  const publicUrl = `http://localhost:${ports.gateway}`
  const clientSecret = randomBytes(32).toString('base64url')
  let refreshes = 0
  const running: Closable[] = []
  try {
    const provider = await startDevelopmentProvider({
      ...tokens,
      host: HOST,
      port: ports.provider,
      clients: [
        {
          clientId: CLIENT_ID,
          clientSecret,
          redirectUris: [`${publicUrl}/bff/callback`],
          postLogoutRedirectUris: [`${publicUrl}/bff/logged-out`],
          backchannelLogoutUri: `${publicUrl}/bff/backchannel-logout`,
          resource: true,
        },
      ],
      afterTokenRequest: async ({ grantType }, { status }) => {
        if (grantType === 'refresh_token' && status === 200) refreshes += 1
        return 'continue'
      },
    })
    running.push(provider)
    const breakage = new Breakage(
      provider,
      startGateway === startOne ? 'told' : 'waited_for',
      systemClock,
    )
    const api = await startDemoApi({
      host: HOST,
      port: ports.api,
      issuer: provider.issuer,
      jwksUri: provider.jwksUri,
      audience: DEVELOPMENT_RESOURCE,
      readScope: READ_SCOPE,
      writeScope: WRITE_SCOPE,
      breakage,
    })
    running.push(api)
    const env = settings({ io, ports, publicUrl, clientSecret, provider, api })
    const rival = await startRivalSite({
      host: HOST,
      port: ports.rival,
      publicUrl,
      sessionCookies: createCookieForms(publicUrl, true, 'plain').all.map((names) => names.session),
    })
    running.push(rival)
    const surroundings: Surroundings = {
      host: HOST,
      ports,
      publicUrl,
      env,
      refreshes: () => refreshes,
      breakage,
      rival,
      experiments: experiments({
        host: HOST,
        port: ports.gateway,
        publicUrl,
        rival,
        breakage,
        hasReplicas: startGateway !== startOne,
      }),
    }
    const about = await startGateway(surroundings, io, running)

    io.out(`Coatcheck demo: open ${publicUrl} and sign in as alice / alice or bob / bob`)
    io.out(`  identity provider  ${provider.issuer}`)
    io.out(`  API                ${api.origin}`)
    io.out(`  another site       ${rival.url}, which means no good`)
    for (const line of about) io.out(`  ${line}`)
    await stopped
    return EXIT.ok
  } catch (thrown) {
    if (!(thrown instanceof FleetError)) throw thrown
    io.err(`coatcheck: ${thrown.message}`)
    return EXIT.unavailable
  } finally {
    // The gateway goes first: it may still have a token to revoke at the provider.
    for (const part of running.reverse()) await part.close()
  }
}

/** The terminal was closed. Without a listener the process would end at once, and its replicas would not. */
const hangUp = (): Promise<void> =>
  new Promise((resolve) => process.once('SIGHUP', () => resolve()))

const startOne: StartGateway = async (surroundings, io, running) => {
  const { ports } = surroundings
  running.push(await serveHere(surroundings, io.cwd))
  return [`operations         http://${HOST}:${ports.operations}/metrics`]
}

/** What this installation lacks for the demo, in words that help. */
const missingPart = (): string | undefined => {
  if (!existsSync(APP_DIRECTORY)) {
    return 'The demo app is not built yet: run node scripts/build-demo-spa.ts, or npm run demo.'
  }
  return isProviderInstalled()
    ? undefined
    : 'The development identity provider is not part of this installation: run the demo from a checkout.'
}

/** Everything has a port of its own before anything starts: each part is told the addresses of the others. */
const pickPorts = async (io: Io): Promise<Ports> => {
  const pick = async (what: string, preferred: number, hosts: readonly string[]) => {
    const port = await freePortFrom(preferred, hosts)
    if (port !== preferred) io.out(`Port ${preferred} is taken: ${what} uses ${port}.`)
    return port
  }
  return {
    gateway: await pick('the gateway', 3000, [HOST, '::1']),
    provider: await pick('the identity provider', 3100, [HOST]),
    api: await pick('the API', 4000, [HOST]),
    operations: await pick('the operations listener', 9090, [HOST]),
    rival: await pick('the other site', 4100, [HOST, '::1']),
  }
}

/** The provider stays on 127.0.0.1: another port of localhost would be the same site, and hide what Strict does. */
const settings = (parts: {
  readonly io: Io
  readonly ports: Ports
  readonly publicUrl: string
  readonly clientSecret: string
  readonly provider: DevelopmentProvider
  readonly api: DemoApi
}): Record<string, string> => ({
  COATCHECK_PUBLIC_URL: parts.publicUrl,
  COATCHECK_LISTEN: `${HOST}:${parts.ports.gateway}`,
  COATCHECK_OPERATIONS_LISTEN: `${HOST}:${parts.ports.operations}`,
  COATCHECK_ISSUER: parts.provider.issuer,
  COATCHECK_CLIENT_ID: CLIENT_ID,
  COATCHECK_CLIENT_SECRET: parts.clientSecret,
  COATCHECK_SCOPE: `openid profile email offline_access ${READ_SCOPE} ${WRITE_SCOPE}`,
  COATCHECK_RESOURCE: DEVELOPMENT_RESOURCE,
  COATCHECK_UPSTREAM: parts.api.origin,
  COATCHECK_SPA: APP_DIRECTORY,
  COATCHECK_SPA_CSP: 'strict',
  COATCHECK_PLAIN_COOKIES: 'true',
  COATCHECK_LOGGING_LEVEL: parts.io.env.COATCHECK_LOGGING_LEVEL ?? 'error',
})

const serveHere = async (surroundings: Surroundings, cwd: string): Promise<Closable> => {
  const { env, publicUrl, breakage, rival } = surroundings
  const { config } = loadConfig({ env, cwd, profile: 'demo' })
  const gateway = createGateway(config, {
    logger: createLogger({ level: config.logging.level }),
    judgedAt: (tokens, now) =>
      breakage.someExpired && breakage.isExpired(tokenFingerprint(tokens.accessToken))
        ? tokens.accessTokenExpiresAt
        : now,
  })
  const { upgrade, operations, limits, onError, onRefused } = gateway
  const listener = before(gateway.listener, ownPaths(publicUrl, surroundings.experiments), rival)
  const opened: Closable[] = []
  const close = async () => {
    for (const server of opened.reverse()) await server.close()
    await gateway.close()
  }
  try {
    if (config.operations.listen !== 'off') {
      const address = config.operations.listen
      opened.push(await startListener({ listener: operations, address, onError }))
    }
    const address = config.listen
    opened.push(await startListener({ listener, upgrade, limits, address, onError, onRefused }))
    await gateway.ready()
  } catch (thrown) {
    await close()
    throw thrown
  }
  return { close }
}
