/** deploy/kubernetes/sidecar.yaml against itself, the settings and the image, and its environment as a process. */

import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { freePort } from '../support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../support/gateway-process.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { waitFor, within } from '../support/wait.ts'
import { repositoryUrl } from './compose-file.ts'
import { effectiveInstructions, lastArgument, readDockerfile } from './dockerfile.ts'
import { readKubernetesFile } from './kubernetes-file.ts'

const { deployment, service, disruptionBudget } = readKubernetesFile()
const pod = deployment.spec.template
const [gateway, api] = pod.spec.containers
const [volume] = pod.spec.volumes
const [mount] = gateway.volumeMounts
const page = readFileSync(new URL('docs/deploy-kubernetes.md', repositoryUrl), 'utf8')

const SECRETS: Readonly<Record<string, string>> = {
  'client-secret': 'a-client-secret-of-more-than-32-characters',
  secret: 'Wn8vPq2ZbT5xRk7LmC4dHs9Yg3JfAe6U',
}
const NEXT_SECRET = 'qX7mB2kZ9vN4cT8wR5yL3pD6gH1jF0sA'

/** As the kubelet lays a Secret out: files are links into `..data`, which is one itself and is swapped as a whole. */
const secretMount = () => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-mount-'))
  let version = 0
  const write = (files: Readonly<Record<string, string>>) => {
    version += 1
    const name = `..version_${version}`
    mkdirSync(join(directory, name))
    for (const { key, path } of volume?.secret.items ?? [])
      writeFileSync(join(directory, name, path), `${files[key]}\n`)
    symlinkSync(name, join(directory, '..data_tmp'))
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'))
  }
  for (const { path } of volume?.secret.items ?? [])
    symlinkSync(join('..data', path), join(directory, path))
  return { directory, write, remove: () => rmSync(directory, { recursive: true, force: true }) }
}

const imageVariables = (): Record<string, string> => {
  const written = lastArgument(effectiveInstructions(readDockerfile(), 'gateway'), 'ENV') ?? ''
  return Object.fromEntries(written.split(' ').map((pair) => pair.split('=', 2)))
}

/** As the container has it, but for where the secrets lie. */
const environment = (secrets: string): Record<string, string> => ({
  ...imageVariables(),
  ...Object.fromEntries(
    gateway.env.map(({ name, value }) => [name, value.replace(mount?.mountPath ?? '', secrets)]),
  ),
})

describe('the file', () => {
  it('has names that lead to each other', () => {
    expect(pod.metadata.labels).toMatchObject(deployment.spec.selector.matchLabels)
    expect(pod.metadata.labels).toMatchObject(service.spec.selector)
    expect(pod.metadata.labels).toMatchObject(disruptionBudget.spec.selector.matchLabels)
    expect(mount?.name).toBe(volume?.name)
    expect(service.spec.ports.map(({ targetPort }) => targetPort)).toEqual(['http'])
  })

  it('keeps one replica at least, through updates and through the draining of nodes', () => {
    expect(deployment.spec.replicas).toBe(2)
    expect(deployment.spec.strategy.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 })
    expect(disruptionBudget.spec.maxUnavailable).toBe(1)
  })

  it('lets the pod do as little as it needs', () => {
    expect(pod.spec).toMatchObject({
      enableServiceLinks: false,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    })
    for (const { securityContext } of [gateway, api])
      expect(securityContext).toMatchObject({
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      })
  })

  it('runs as the image’s user, who alone can read the secrets', () => {
    const { runAsUser, runAsGroup } = gateway.securityContext
    const user = lastArgument(effectiveInstructions(readDockerfile(), 'gateway'), 'USER')
    expect(`${runAsUser}:${runAsGroup}`).toBe(user)
    expect(pod.spec.securityContext.fsGroup).toBe(runAsGroup)
    expect(volume?.secret.defaultMode).toBe(0o440)
    expect(mount?.readOnly).toBe(true)
  })

  it('names the release that it belongs to', () => {
    const { version } = JSON.parse(readFileSync(new URL('package.json', repositoryUrl), 'utf8'))
    expect(gateway.image).toBe(`coatcheck:${version}`)
  })

  it('has no secret in a variable', () => {
    const names = gateway.env.map(({ name }) => name)
    expect(names.filter((name) => /SECRET|REDIS_URL|TOKEN/.test(name))).toEqual([
      'COATCHECK_CLIENT_SECRET_FILE',
      'COATCHECK_SECRET_FILE',
      'COATCHECK_REDIS_URL_FILE',
    ])
  })

  it('has the secrets that docs/deploy-kubernetes.md makes', () => {
    const made = [...page.matchAll(/--from-literal=([\w-]+)=/g)].map(([, key]) => key)
    expect(volume?.secret.items.map(({ key }) => key)).toEqual(made)
    expect(page).toContain(`kubectl create secret generic ${volume?.secret.secretName} `)
    const files = gateway.env.filter(({ name }) => name.endsWith('_FILE'))
    expect(files.map(({ value }) => value)).toEqual(
      volume?.secret.items.map(({ path }) => `${mount?.mountPath}/${path}`),
    )
  })
})

describe('its settings', () => {
  const secrets = secretMount()
  afterAll(secrets.remove)
  secrets.write({ ...SECRETS, 'redis-url': 'redis://redis:6379' })
  const { config, warnings } = loadConfig({ env: environment(secrets.directory), cwd: tmpdir() })

  it('are known, valid and worth no warning', () => {
    expect(warnings).toEqual([])
  })

  it('listen on the ports that Service and probes use', () => {
    const named = Object.fromEntries(gateway.ports.map((port) => [port.name, port.containerPort]))
    expect(config.listen).toEqual({ host: '0.0.0.0', port: named.http })
    expect(config.operations.listen).toEqual({ host: '0.0.0.0', port: named.operations })
  })

  it('send calls to the API of the same pod', () => {
    expect(config.routes.map(({ upstream }) => new URL(upstream).hostname)).toEqual(['127.0.0.1'])
  })

  it('give a pod no calls before its API takes them, asked where it listens', () => {
    const [address] = api.readinessProbe.exec.command.filter((word) => word.startsWith('http'))
    expect(config.routes.map(({ upstream }) => new URL(upstream).origin)).toEqual([
      new URL(address ?? '').origin,
    ])
  })

  it('end the drain before the API goes, and both before the pod is killed', () => {
    const { delay, deadline } = config.drain
    const apiWaits = api.lifecycle?.preStop.sleep.seconds ?? 0
    expect(delay).toBeGreaterThanOrEqual(5)
    expect(apiWaits).toBeGreaterThanOrEqual(deadline)
    expect(pod.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(apiWaits + 10)
  })

  it('fail readiness for longer than it takes to be noticed', () => {
    const { periodSeconds, failureThreshold, timeoutSeconds = 1 } = gateway.readinessProbe
    expect(config.drain.delay).toBeGreaterThan(periodSeconds * failureThreshold + timeoutSeconds)
  })

  it('are the numbers that docs/deploy-kubernetes.md explains', () => {
    for (const row of [
      `| \`COATCHECK_DRAIN_DELAY\` | ${config.drain.delay} s |`,
      `| \`COATCHECK_DRAIN_DEADLINE\` | ${config.drain.deadline} s |`,
      `| \`preStop.sleep\` of the API | ${api.lifecycle?.preStop.sleep.seconds} s |`,
      `| \`terminationGracePeriodSeconds\` | ${pod.spec.terminationGracePeriodSeconds} s |`,
    ])
      expect(page).toContain(row)
  })
})

describe('its environment as a process', () => {
  const secrets = secretMount()
  let redis: RedisServer
  let process: GatewayProcess
  let ports: Readonly<Record<string, number>>
  beforeAll(async () => {
    redis = await startRedis()
    ports = { http: await freePort(), operations: await freePort() }
    secrets.write({ ...SECRETS, 'redis-url': redis.url })
    process = await startGatewayProcess(
      {
        ...environment(secrets.directory),
        // A test has no network of its own: other ports, and no interface but loopback.
        COATCHECK_LISTEN: `127.0.0.1:${ports.http}`,
        COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${ports.operations}`,
        // What Kubernetes adds for a Service of this name where enableServiceLinks is forgotten.
        COATCHECK_PORT: 'tcp://10.0.0.1:80',
        COATCHECK_SERVICE_HOST: '10.0.0.1',
      },
      { port: ports.http as number },
    )
  })
  afterAll(async () => {
    await process?.kill()
    await redis?.close()
    secrets.remove()
  })

  const ask = (probe: { httpGet: { path: string; port: string } } | undefined) =>
    fetch(`http://127.0.0.1:${ports[probe?.httpGet.port ?? '']}${probe?.httpGet.path}`)

  it('passes its probes, and finds the Redis of the secret file', async () => {
    for (const probe of [gateway.startupProbe, gateway.livenessProbe, gateway.readinessProbe])
      expect((await ask(probe)).status).toBe(200)
    expect(await (await ask(gateway.readinessProbe)).json()).toMatchObject({ store: 'ok' })
  })

  it('answers for its public URL', async () => {
    const answer = await fetch(`http://127.0.0.1:${ports.http}/api/items`, {
      headers: { 'x-csrf': '1', 'x-forwarded-proto': 'https' },
    })
    expect(answer.status).toBe(401)
    expect(await answer.json()).toMatchObject({ code: 'session_required' })
  })

  it('sends what the ingress lets in by http to https', async () => {
    // Node's fetch adds Fetch Metadata, which a browser does not over http.
    const location = await new Promise((resolve, reject) => {
      const url = `http://127.0.0.1:${ports.http}/orders?page=2`
      const headers = { accept: 'text/html', 'x-forwarded-proto': 'http' }
      get(url, { headers }, (answer) => {
        answer.resume()
        resolve(answer.headers.location)
      }).once('error', reject)
    })
    expect(location).toBe('https://shop.example.com/orders?page=2')
  })

  it('takes a new version of the Secret without a restart', async () => {
    const rings = () => process.stdout.filter((line) => line.includes('key_ring_changed'))
    expect(rings()).toHaveLength(1)
    const secret = `${SECRETS.secret}\n${NEXT_SECRET}`
    secrets.write({ ...SECRETS, secret, 'redis-url': redis.url })
    process.signal('SIGHUP')
    await waitFor('the new ring is in use', () => rings().length === 2, { timeoutMs: 5_000 })
  })

  it('fails readiness alone when it is to stop, and ends with 0 within the grace period', async () => {
    process.signal('SIGTERM')
    await waitFor('readiness fails', async () => (await ask(gateway.readinessProbe)).status === 503)
    expect((await ask(gateway.livenessProbe)).status).toBe(200)
    const graceMs = pod.spec.terminationGracePeriodSeconds * 1000
    expect(await within(graceMs, 'the process ends', process.exited)).toEqual({
      code: 0,
      signal: null,
    })
    expect(process.stderr).toEqual([])
  }, 60_000)
})
