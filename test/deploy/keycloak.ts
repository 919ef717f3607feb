/** A real Keycloak without a container: fetched from Maven Central once, started as docker-compose.yml starts it. */

import { existsSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type Child, startChild } from '../support/child.ts'
import { findExecutable } from '../support/executable.ts'
import { waitFor, within } from '../support/wait.ts'
import { type ComposeService, healthCommandOf, repositoryUrl } from './compose-file.ts'

const cacheUrl = new URL('.cache/', repositoryUrl)
const FETCH_TIMEOUT_MS = 10 * 60_000
// 25 s were measured on two cores, of which ten go into rebuilding itself.
const START_TIMEOUT_MS = 180_000
const STOP_TIMEOUT_MS = 15_000

/** The distribution of the image's version, from .cache or else through Maven; resolves to its directory. */
export const fetchKeycloak = async (version: string): Promise<URL> => {
  const home = new URL(`keycloak-${version}/`, cacheUrl)
  // Written last of all, so that an interrupted unpacking does not pass for a whole one.
  const complete = new URL('.complete', home)
  if (existsSync(complete)) return home
  required('java', 'openjdk-17-jre-headless')
  const maven = required('mvn', 'maven')
  // Maven marks what it has unpacked; a mark that outlived the files would make it skip them.
  const marks = new URL('maven/', cacheUrl)
  for (const remainder of [home, marks]) await rm(remainder, { recursive: true, force: true })
  await mkdir(marks, { recursive: true })
  const child = await startChild(
    maven,
    [
      ...['--batch-mode', '--no-transfer-progress'],
      'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack',
      `-Dartifact=org.keycloak:keycloak-quarkus-dist:${version}:zip`,
      `-DoutputDirectory=${fileURLToPath(cacheUrl)}`,
      `-Dproject.basedir=${fileURLToPath(marks)}`,
    ],
    { cwd: fileURLToPath(marks), env: { ...process.env } },
  )
  const { code } = await within(FETCH_TIMEOUT_MS, 'Maven fetches Keycloak', child.exited).catch(
    async (cause) => {
      await child.kill()
      throw cause
    },
  )
  if (code !== 0)
    throw new Error(`Maven ended with ${code}:\n${child.stdout.slice(-15).join('\n')}`)
  await writeFile(complete, '')
  return home
}

const required = (command: string, debianPackage: string): string => {
  const path = findExecutable(command)
  if (path === undefined) {
    throw new Error(`${command} is not in PATH. Run: apt-get install -y ${debianPackage}`)
  }
  return path
}

export interface Keycloak {
  readonly port: number
  readonly log: readonly string[]
  close(): Promise<void>
}

interface KeycloakOptions {
  readonly home: URL
  /** The service of docker-compose.yml: its command, variables and health check are used as they stand. */
  readonly service: ComposeService
  /** Variables that differ from the service's, e.g. its public address. */
  readonly environment: Readonly<Record<string, string>>
  readonly port: number
  readonly managementPort: number
  /** The realm to import, as JSON text. */
  readonly realm: string
}

export const startKeycloak = async (options: KeycloakOptions): Promise<Keycloak> => {
  const { home, service, port, managementPort } = options
  const imports = new URL('data/import/', home)
  await rm(new URL('data/', home), { recursive: true, force: true })
  await mkdir(imports, { recursive: true })
  await writeFile(new URL('coatcheck-realm.json', imports), options.realm)
  const child = await startChild(
    required('bash', 'bash'),
    [fileURLToPath(new URL('bin/kc.sh', home)), ...(service.command ?? [])],
    {
      env: {
        PATH: process.env.PATH,
        JAVA_HOME: process.env.JAVA_HOME,
        ...service.environment,
        ...options.environment,
        KC_HTTP_HOST: '127.0.0.1',
        KC_HTTP_PORT: String(port),
        KC_HTTP_MANAGEMENT_PORT: String(managementPort),
      },
    },
  )
  try {
    await waitFor(
      'Keycloak passes the health check of docker-compose.yml',
      async () => {
        if (child.hasExited()) return 'exited' as const
        return (await isHealthy(service, managementPort)) && ('healthy' as const)
      },
      { timeoutMs: START_TIMEOUT_MS, intervalMs: 500 },
    )
    if (child.hasExited()) throw new Error('Keycloak ended instead of listening')
  } catch (cause) {
    await stop(child)
    throw new Error(`Keycloak did not start:\n${child.stdout.slice(-15).join('\n')}`, { cause })
  }
  return { port, log: child.stdout, close: () => stop(child) }
}

/** The container asks port 9000 of itself; here the management port is another, and nothing else differs. */
const isHealthy = async (service: ComposeService, managementPort: number): Promise<boolean> => {
  const [command = '', ...args] = healthCommandOf(service).map((word) =>
    word.replace('/127.0.0.1/9000', `/127.0.0.1/${managementPort}`),
  )
  const check = await startChild(command, args, { env: { PATH: process.env.PATH } })
  const exit = await within(3_000, 'the health check ends', check.exited).catch(() => undefined)
  if (exit === undefined) await check.kill()
  return exit?.code === 0
}

/** kc.sh hands SIGTERM on to Java, and becomes it in the end; SIGKILL would orphan the Java of its first phase. */
const stop = async (child: Child): Promise<void> => {
  child.signal('SIGTERM')
  await within(STOP_TIMEOUT_MS, 'Keycloak ends', child.exited).catch(() => child.kill())
}
