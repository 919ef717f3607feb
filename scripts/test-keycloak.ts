/** `npm run test:keycloak`: what docker-compose.yml promises, proven on a real Keycloak without containers. */

import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { browserChecks, startChromium } from '../test/deploy/browser-check.ts'
import { environmentOf, readComposeFile, repositoryUrl } from '../test/deploy/compose-file.ts'
import { startForwarder } from '../test/deploy/forwarder.ts'
import { type ImageLayout, layImageOut } from '../test/deploy/image-layout.ts'
import { startImageProcess } from '../test/deploy/image-process.ts'
import { fetchKeycloak, type Keycloak, startKeycloak } from '../test/deploy/keycloak.ts'
import { type Check, providerChecks } from '../test/deploy/provider-check.ts'
import { readRealmFile, realmFileUrl } from '../test/deploy/realm-file.ts'
import { startChild } from '../test/support/child.ts'
import { freePort } from '../test/support/free-port.ts'
import { startRedis } from '../test/support/redis.ts'
import { within } from '../test/support/wait.ts'

const USAGE = `Usage: npm run test:keycloak [-- --provider-only]

Fetches Keycloak through Maven (160 MB, kept in .cache/), starts it with the realm and the variables of
docker-compose.yml, and signs in. Needs Java 17 or newer, Maven, redis-server and Chromium.

  --provider-only  checks Keycloak and its realm alone, without gateway and browser
  --help           prints this
`

// The first run fetches 160 MB; later ones take about two minutes.
const RUN_TIMEOUT_MS = 20 * 60_000

const { services } = readComposeFile()
const realm = readRealmFile()
const startedAt = performance.now()
let passed = 0

/** Closed in reverse order at the end, whatever the end is. */
const closers: (() => unknown)[] = []

const say = (line: string): void =>
  console.log(`${((performance.now() - startedAt) / 1_000).toFixed(1).padStart(6)} s  ${line}`)

/** A step that leaves something running registers how to end it. */
const started = <T>(what: string, thing: T, close: (thing: T) => unknown): T => {
  closers.push(() => close(thing))
  say(`started: ${what}`)
  return thing
}

const runChecks = async (checks: readonly Check[]): Promise<void> => {
  for (const { promise, holds } of checks) {
    try {
      await holds()
    } catch (cause) {
      throw new Error(`does not hold: ${promise}`, { cause })
    }
    passed += 1
    say(`ok: ${promise}`)
  }
}

/** The port that docker-compose.yml publishes, or a free one when somebody else has it. */
const portLike = async (publicUrl: string): Promise<number> => {
  const wanted = Number(new URL(publicUrl).port)
  const server = createServer()
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false))
    server.listen(wanted, '127.0.0.1', () => server.close(() => resolve(true)))
  })
  const port = free ? wanted : await freePort()
  if (!free) say(`port ${wanted} is taken: ${port} takes its place everywhere`)
  return port
}

interface Addresses {
  readonly publicPort: number
  readonly issuerPort: number
  readonly keycloakPort: number
  /** Puts the chosen public ports where the files have theirs; nothing changes when those were free. */
  readonly placed: (text: string) => string
}

const chooseAddresses = async (): Promise<Addresses> => {
  const publicUrl = environmentOf(services.gateway, 'COATCHECK_PUBLIC_URL')
  const issuerOrigin = environmentOf(services.keycloak, 'KC_HOSTNAME')
  const publicPort = await portLike(publicUrl)
  const issuerPort = await portLike(issuerOrigin)
  return {
    publicPort,
    issuerPort,
    keycloakPort: await freePort(),
    placed: (text) =>
      text
        .replaceAll(issuerOrigin, `http://localhost:${issuerPort}`)
        .replaceAll(publicUrl, `http://localhost:${publicPort}`)
        // The gateway's address among the containers.
        .replaceAll('http://gateway:3000', `http://127.0.0.1:${publicPort}`),
  }
}

const checkProvider = async ({ keycloakPort, placed }: Addresses): Promise<Keycloak> => {
  const version = /:([\d.]+)$/.exec(services.keycloak.image ?? '')?.[1] ?? ''
  say(`fetching Keycloak ${version}, unless .cache/ has it`)
  const home = await fetchKeycloak(version)
  const keycloak = started(
    `Keycloak on port ${keycloakPort}, which calls itself ${placed(environmentOf(services.keycloak, 'KC_HOSTNAME'))}`,
    await startKeycloak({
      home,
      service: services.keycloak,
      // In memory, so that every run starts from the realm file.
      environment: {
        KC_HOSTNAME: placed(environmentOf(services.keycloak, 'KC_HOSTNAME')),
        KC_DB: 'dev-mem',
      },
      port: keycloakPort,
      managementPort: await freePort(),
      realm: placed(readFileSync(realmFileUrl, 'utf8')),
    }),
    ({ close }) => close(),
  )
  await runChecks(
    await providerChecks({
      issuer: placed(environmentOf(services.gateway, 'COATCHECK_ISSUER')),
      port: keycloakPort,
      clientId: environmentOf(services.gateway, 'COATCHECK_CLIENT_ID'),
      clientSecret: environmentOf(services.gateway, 'COATCHECK_CLIENT_SECRET'),
      redirectUri: placed(realm.clients[0].redirectUris[0] ?? ''),
      audience: environmentOf(services['demo-api'], 'DEMO_API_AUDIENCE'),
    }),
  )
  return keycloak
}

/** The variables of docker-compose.yml, except where a container's address stands in them. */
const startDeployment = async (
  layout: ImageLayout,
  { publicPort, keycloakPort, placed }: Addresses,
): Promise<void> => {
  const redis = started('Redis', await startRedis(), ({ close }) => close())
  const apiPort = await freePort()
  const api = await startImageProcess(layout, {
    target: 'demo-api',
    environment: {
      ...placedEnvironment(services['demo-api'].environment, placed),
      DEMO_API_LISTEN: `127.0.0.1:${apiPort}`,
      DEMO_API_JWKS_URL: environmentOf(services['demo-api'], 'DEMO_API_JWKS_URL').replace(
        'keycloak:8080',
        `127.0.0.1:${keycloakPort}`,
      ),
    },
    ports: { 4000: apiPort },
  })
  started(`the demo API on port ${apiPort}`, api, ({ kill }) => kill())

  const gateway = await startImageProcess(layout, {
    target: 'gateway',
    environment: {
      ...placedEnvironment(services.gateway.environment, placed),
      COATCHECK_LISTEN: `127.0.0.1:${publicPort}`,
      COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
      COATCHECK_PROVIDER_CONNECT_TO: `127.0.0.1:${keycloakPort}`,
      COATCHECK_REDIS_URL: redis.url,
      COATCHECK_UPSTREAM: `http://127.0.0.1:${apiPort}`,
      COATCHECK_SPA: fileURLToPath(new URL('demo-spa/dist', repositoryUrl)),
    },
  })
  started(
    `the gateway at http://localhost:${publicPort}`,
    gateway,
    async ({ signal, exited, kill }) => {
      signal('SIGTERM')
      await within(30_000, 'the gateway drains', exited).catch(kill)
      if (process.exitCode !== 0) console.log([...gateway.stdout, ...gateway.stderr].join('\n'))
    },
  )
}

const placedEnvironment = (
  environment: Readonly<Record<string, string>>,
  placed: Addresses['placed'],
): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, placed(value)]))

/** First of all, because what does not compile need not wait for Keycloak. */
const build = async (): Promise<ImageLayout> => {
  const layout = await layImageOut()
  closers.push(layout.remove)
  say('built: what the image holds')
  const child = await startChild(process.execPath, ['scripts/build-demo-spa.ts'], {
    cwd: fileURLToPath(repositoryUrl),
    env: { ...process.env },
  })
  const { code } = await within(120_000, 'the demo SPA is built', child.exited)
  if (code !== 0) throw new Error(`the demo SPA cannot be built:\n${child.stderr.join('\n')}`)
  say('built: the demo SPA')
  return layout
}

/** Keycloak's administration, as its console uses it. */
const administration = (keycloakPort: number) => {
  const origin = `http://127.0.0.1:${keycloakPort}`
  const ask = async (path: string, init: RequestInit): Promise<unknown> => {
    const response = await fetch(origin + path, { ...init, signal: AbortSignal.timeout(10_000) })
    if (!response.ok) throw new Error(`${path} answered ${response.status}`)
    return response.status === 204 ? undefined : response.json()
  }
  const signedIn = async (): Promise<{ authorization: string }> => {
    const { access_token } = (await ask('/realms/master/protocol/openid-connect/token', {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'password',
        client_id: 'admin-cli',
        username: environmentOf(services.keycloak, 'KC_BOOTSTRAP_ADMIN_USERNAME'),
        password: environmentOf(services.keycloak, 'KC_BOOTSTRAP_ADMIN_PASSWORD'),
      }),
    })) as { access_token: string }
    return { authorization: `Bearer ${access_token}` }
  }
  const users = `/admin/realms/${realm.realm}/users`
  const about = async (username: string, method: 'GET' | 'POST', what: string) => {
    const headers = await signedIn()
    const [user] = (await ask(`${users}?exact=true&username=${username}`, { headers })) as [
      { id: string },
    ]
    return ask(`${users}/${user.id}/${what}`, { method, headers })
  }
  return {
    sessions: async (username: string) =>
      ((await about(username, 'GET', 'sessions')) as unknown[]).length,
    signOut: async (username: string) => {
      await about(username, 'POST', 'logout')
    },
  }
}

const checkInBrowser = async (addresses: Addresses): Promise<void> => {
  const { publicPort, issuerPort, keycloakPort, placed } = addresses
  const forwarder = started(
    `the way from localhost:${issuerPort} to Keycloak, for the browser alone`,
    await startForwarder(issuerPort, keycloakPort),
    ({ close }) => close(),
  )
  const browser = started('Chromium', await startChromium(), (chromium) => chromium.close())
  const { sessions, signOut } = administration(keycloakPort)
  await runChecks(
    browserChecks({
      page: await browser.newPage(),
      publicUrl: `http://localhost:${publicPort}`,
      issuer: placed(environmentOf(services.gateway, 'COATCHECK_ISSUER')),
      audience: environmentOf(services['demo-api'], 'DEMO_API_AUDIENCE'),
      accessTokenSeconds: realm.accessTokenLifespan,
      forwarder,
      providerSessions: sessions,
      signOutAtProvider: signOut,
    }),
  )
}

const run = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      'provider-only': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(USAGE)
    return
  }
  const addresses = await chooseAddresses()
  if (values['provider-only']) {
    await checkProvider(addresses)
  } else {
    const layout = await build()
    await checkProvider(addresses)
    await startDeployment(layout, addresses)
    await checkInBrowser(addresses)
  }
  say(`all ${passed} promises hold`)
}

const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => reject(new Error(`ended by ${signal}`)))
  }
})

process.exitCode = 0
try {
  await within(RUN_TIMEOUT_MS, 'the run ends', Promise.race([run(), interrupted]))
} catch (error) {
  process.exitCode = 1
  console.error(error)
}
for (const close of closers.reverse()) await close()
// An interrupted run may still be in the middle of a step; whatever that had started ends here with it.
process.exit()
