/** `coatcheck demo`: a provider, an API, the app and the gateway in one process, to try it all in a browser. */

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadConfig } from '../config/load.ts'
import { type DemoApi, startDemoApi } from '../dev/demo-api.ts'
import { freePortFrom } from '../dev/free-port.ts'
import {
  DEVELOPMENT_RESOURCE,
  DEVELOPMENT_RESOURCE_SCOPES,
  type DevelopmentProvider,
  startDevelopmentProvider,
} from '../dev/provider.ts'
import { startListener } from '../edges/http/listener.ts'
import { createLogger } from '../edges/telemetry/logger.ts'
import { createGateway } from '../gateway.ts'
import { HELP_OPTION, parseArguments } from './arguments.ts'
import { type Command, EXIT, type Io } from './io.ts'

const HOST = '127.0.0.1'
const CLIENT_ID = 'coatcheck-demo'
const [READ_SCOPE, WRITE_SCOPE] = DEVELOPMENT_RESOURCE_SCOPES

const HELP = `Usage: coatcheck demo

Runs the gateway on http://localhost:3000 with a development identity provider (3100), a demo API (4000) and a
small app, and the operations listener (9090). Ports that are taken are replaced by the next free ones. Sessions
live in memory, access tokens for 20 seconds. Accounts: alice / alice and bob / bob. Ctrl-C ends all of it.

COATCHECK_LOGGING_LEVEL=info shows the log; no other setting is read.

Options:
  -h, --help  prints this`

const APP_DIRECTORY = fileURLToPath(new URL('../../demo-spa/dist', import.meta.url))

interface Ports {
  readonly gateway: number
  readonly provider: number
  readonly api: number
  readonly operations: number
}

interface Closable {
  close(): Promise<void>
}

export const demo: Command = async (argv, io) => {
  if (parseArguments('demo', argv, HELP_OPTION).has('help')) {
    io.out(HELP)
    return EXIT.ok
  }
  const missing = missingPart()
  if (missing !== undefined) {
    io.err(missing)
    return EXIT.unavailable
  }
  const stopSignal = io.stopSignal()
  const ports = await pickPorts(io)
  const publicUrl = `http://localhost:${ports.gateway}`
  const clientSecret = randomBytes(32).toString('base64url')
  const running: Closable[] = []
  try {
    const provider = await startDevelopmentProvider({
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
    })
    running.push(provider)
    const api = await startDemoApi({
      host: HOST,
      port: ports.api,
      issuer: provider.issuer,
      jwksUri: provider.jwksUri,
      audience: DEVELOPMENT_RESOURCE,
      readScope: READ_SCOPE,
      writeScope: WRITE_SCOPE,
    })
    running.push(api)
    const env = settings({ io, ports, publicUrl, clientSecret, provider, api })
    running.push(await startGateway(env, io.cwd))

    io.out(`Coatcheck demo: open ${publicUrl} and sign in as alice / alice or bob / bob`)
    io.out(`  identity provider  ${provider.issuer}`)
    io.out(`  API                ${api.origin}`)
    io.out(`  operations         http://${HOST}:${ports.operations}/metrics`)
    await stopSignal
    return EXIT.ok
  } finally {
    // The gateway goes first: it may still have a token to revoke at the provider.
    for (const part of running.reverse()) await part.close()
  }
}

/** What this installation lacks for the demo, in words that help. */
const missingPart = (): string | undefined => {
  if (!existsSync(APP_DIRECTORY)) {
    return 'The demo app is not built yet: run node scripts/build-demo-spa.ts, or npm run demo.'
  }
  try {
    import.meta.resolve('oidc-provider')
    return undefined
  } catch {
    // The container image leaves the package out.
    return 'The development identity provider is not part of this installation: run the demo from a checkout.'
  }
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
  COATCHECK_LOGGING_LEVEL: parts.io.env.COATCHECK_LOGGING_LEVEL ?? 'error',
})

const startGateway = async (env: Record<string, string>, cwd: string): Promise<Closable> => {
  const { config } = loadConfig({ env, cwd, profile: 'demo' })
  const gateway = createGateway(config, { logger: createLogger({ level: config.logging.level }) })
  const { listener, upgrade, operations, onError } = gateway
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
    opened.push(await startListener({ listener, upgrade, address: config.listen, onError }))
    await gateway.ready()
  } catch (thrown) {
    await close()
    throw thrown
  }
  return { close }
}
