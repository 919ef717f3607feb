/** `coatcheck demo --replicas` as a visitor runs it: buttons that kill, a Redis that stops, and nothing left at the end. */

import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { request as sendRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { redisInstallCommand } from '../../src/cli/redis-program.ts'
import { type Browser, createBrowser } from '../support/browser.ts'
import { type Child, startChild } from '../support/child.ts'
import { signIn } from '../support/sign-in.ts'
import { waitFor } from '../support/wait.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

interface State {
  readonly replicas: readonly { readonly state: string; readonly answered: number }[]
  readonly redis: string
  readonly calls: Readonly<Record<'total' | 'ok' | 'unauthorized' | 'unavailable', number>>
  readonly sessions: { readonly seen: number; readonly lost: number }
  readonly refreshes: number
  readonly happenings: readonly { readonly text: string }[]
}

let temporary: string
let demo: Child
let url: string

const startDemo = async (): Promise<void> => {
  demo = await startChild(process.execPath, ['src/main.ts', 'demo', '--replicas', '2'], {
    cwd: repository,
    env: { PATH: process.env.PATH, TMPDIR: temporary },
  })
  url = await waitFor(
    'the demo prints its URL',
    () => /open (http:\/\/localhost:\d+) /.exec(demo.stdout.join('\n'))?.[1],
    { timeoutMs: 45_000 },
  )
}

beforeAll(async () => {
  await run(process.execPath, ['scripts/build-demo-spa.ts'], { cwd: repository, timeout: 30_000 })
}, 60_000)

beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'coatcheck-test-'))
})

afterEach(async () => {
  await demo?.kill()
  await rm(temporary, { recursive: true, force: true })
})

/** Process ids, parent's ids and group ids of all that runs, and how it was called. */
const processes = async () => {
  const { stdout } = await run('ps', ['-A', '-o', 'pid=,ppid=,pgid=,args='])
  return stdout.split('\n').map((line) => {
    const [pid = '', parent = '', group = '', ...args] = line.trim().split(/\s+/)
    return { pid: Number(pid), parent: Number(parent), group: Number(group), args: args.join(' ') }
  })
}

const childrenOf = async (pid: number): Promise<number[]> =>
  (await processes()).filter(({ parent }) => parent === pid).map((child) => child.pid)

/** Redis, which was started first, and the replicas; without the shells that watch over them. */
const programsOf = async (pid: number): Promise<number[]> =>
  (await processes())
    .filter(({ parent, args }) => parent === pid && !args.startsWith('/bin/sh'))
    .map((child) => child.pid)
    .toSorted((one, other) => one - other)

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    // ESRCH: there is no such process.
    return false
  }
}

const ask = (
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ status: number; text: string; headers: Readonly<Record<string, unknown>> }> =>
  new Promise((resolve, reject) => {
    const { port, host } = new URL(url)
    const request = sendRequest(
      { host: '127.0.0.1', port, method, path, headers: { host, ...headers } },
      async (response) => {
        let text = ''
        for await (const chunk of response.setEncoding('utf8')) text += chunk
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers })
      },
    )
    request.on('error', reject)
    request.end()
  })

const press = async (button: string): Promise<number> =>
  (await ask('POST', `/demo/${button}`, { origin: url })).status

const state = async (): Promise<State> => JSON.parse((await ask('GET', '/demo/state')).text)

/**
 * Calls until enough of them were made and the provider has refreshed twice. A replica that is killed while it
 * refreshes leaves a lease behind: until that is over a call may hear 503, and nothing worse.
 */
const callOn = async (browser: Browser): Promise<void> => {
  const { refreshes } = await state()
  const statuses = new Set<number>()
  for (let calls = 0; calls < 20 || (await state()).refreshes < refreshes + 2; calls += 1) {
    statuses.add((await browser.fetch('/api/whoami')).status)
    expect(calls).toBeLessThan(5_000)
  }
  expect([200, 503]).toEqual(expect.arrayContaining([...statuses]))
}

const replicaIs = (number: number, wanted: string) =>
  waitFor(
    `replica ${number} is ${wanted}`,
    async () => (await state()).replicas[number - 1]?.state === wanted,
    { timeoutMs: 20_000 },
  )

test('each replica is killed and comes back while calls go on; Redis stops; no session is lost; Ctrl-C ends it all', async () => {
  await startDemo()
  const browser = createBrowser()
  await signIn(browser, url)
  await callOn(browser)
  const calm = await state()
  expect(calm.replicas.map(({ state }) => state)).toEqual(['up', 'up'])
  for (const { answered } of calm.replicas) expect(answered).toBeGreaterThan(0)

  for (const killed of [1, 2]) {
    expect(await press(`replicas/${killed}/kill`)).toBe(200)
    expect(await press(`replicas/${killed}/kill`)).toBe(409)
    expect(await programsOf(demo.pid)).toHaveLength(2)
    await callOn(browser)
    const { replicas } = await state()
    expect(replicas.map(({ state }) => state)).toEqual(
      killed === 1 ? ['down', 'up'] : ['up', 'down'],
    )
    expect(await press(`replicas/${killed}/restart`)).toBe(200)
    expect(await press(`replicas/${killed}/restart`)).toBe(409)
    await replicaIs(killed, 'up')
    const before = (await state()).replicas[killed - 1]?.answered ?? 0
    await callOn(browser)
    expect((await state()).replicas[killed - 1]?.answered).toBeGreaterThan(before)
  }

  expect(await press('redis/pause')).toBe(200)
  expect((await state()).redis).toBe('paused')
  expect(await press('redis/pause')).toBe(409)
  const statuses = new Set<number>()
  while ((await state()).redis === 'paused')
    statuses.add((await browser.fetch('/api/whoami')).status)
  expect([200, 503]).toEqual(expect.arrayContaining([...statuses]))
  await waitFor(
    'calls are answered again',
    async () => (await browser.fetch('/api/whoami')).status === 200,
  )
  await callOn(browser)

  const { calls, sessions, happenings } = await state()
  expect(calls.unauthorized).toBe(0)
  expect(calls.ok + calls.unavailable).toBe(calls.total)
  expect(sessions).toEqual({ seen: 1, lost: 0 })
  expect(happenings.map(({ text }) => text)).toContain('Redis goes on')
  expect(demo.stderr.join('\n')).not.toContain('by itself')

  const children = await childrenOf(demo.pid)
  const programs = await programsOf(demo.pid)
  expect(programs).toHaveLength(3)
  // A terminal sends its Ctrl-C to the demo's group alone: the demo decides who ends when.
  const groups = (await processes()).filter(({ pid }) => [demo.pid, ...programs].includes(pid))
  expect(new Set(groups.map(({ group }) => group)).size).toBe(4)
  expect(await readdir(temporary)).toHaveLength(1)
  demo.signal('SIGINT')
  expect(await demo.exited).toEqual({ code: 0, signal: null })
  expect(children.filter(isAlive)).toEqual([])
  expect(await readdir(temporary)).toEqual([])
}, 120_000)

test('a replica that ends by itself is named; without any the balancer says so; a closed terminal ends it all', async () => {
  await startDemo()
  const [, replica = 0] = await programsOf(demo.pid)
  process.kill(replica, 'SIGTERM')
  await waitFor('it is named', () =>
    demo.stderr.some((line) => /^Replica [12] ended by itself \(exit code 0\)/.test(line)),
  )
  const { replicas, happenings } = await state()
  expect(happenings[0]?.text).toContain('ended by itself')
  const survivor = replicas.findIndex(({ state }) => state === 'up') + 1
  expect(await press(`replicas/${survivor}/kill`)).toBe(200)

  const problem = await waitFor('nobody answers', async () => {
    const answer = await ask('GET', '/api/items')
    return answer.status === 503 && answer
  })
  expect(JSON.parse(problem.text)).toMatchObject({ status: 503, code: 'no_replica' })
  expect(problem.headers['retry-after']).toBe('1')
  const page = await ask('GET', '/', { 'sec-fetch-mode': 'navigate' })
  expect(page.text).toContain('action="/demo/replicas/1/restart"')
  expect(page.headers['content-security-policy']).toContain("default-src 'none'")

  // As that page's form does it.
  const pressed = await ask('POST', `/demo/replicas/${survivor}/restart`, {
    origin: url,
    'sec-fetch-mode': 'navigate',
  })
  expect(pressed).toMatchObject({ status: 303, headers: { location: '/' } })
  await replicaIs(survivor, 'up')

  expect(await programsOf(demo.pid)).toHaveLength(2)
  const left = await childrenOf(demo.pid)
  demo.signal('SIGHUP')
  expect(await demo.exited).toEqual({ code: 0, signal: null })
  expect(left.filter(isAlive)).toEqual([])
  expect(await readdir(temporary)).toEqual([])
}, 60_000)

test('other sites press no button and read no state; a second Ctrl-C ends everything at once', async () => {
  await startDemo()
  for (const headers of [
    {},
    { origin: 'http://evil.example' },
    { origin: url.replace(/\d+$/, '1') },
    { origin: 'null' },
    { origin: url, host: 'evil.example' },
  ]) {
    expect((await ask('POST', '/demo/replicas/1/kill', headers)).status).toBe(403)
  }
  expect((await ask('GET', '/demo/state', { host: 'evil.example' })).status).toBe(403)
  expect((await ask('GET', '/demo/replicas/1/kill')).status).toBe(404)
  for (const button of ['replicas/3/kill', 'replicas/3/restart', 'replicas/1/restart'])
    expect(await press(button)).toBe(409)
  expect((await state()).replicas.map(({ state }) => state)).toEqual(['up', 'up'])

  const children = await childrenOf(demo.pid)
  const programs = await programsOf(demo.pid)
  expect(programs).toHaveLength(3)
  // Replicas that no longer hear anything do not hold it up.
  for (const child of programs) process.kill(child, 'SIGSTOP')
  demo.signal('SIGINT')
  demo.signal('SIGTERM')
  await demo.exited
  await waitFor('they are gone', () => !children.some(isAlive))
  expect(await readdir(temporary)).toEqual([])
}, 60_000)

test('without a Redis server the demo with replicas says which command brings it', async () => {
  const failed = await run(process.execPath, ['src/main.ts', 'demo', '--replicas', '2'], {
    cwd: repository,
    env: { PATH: temporary },
  }).catch((thrown: { code: number; stdout: string; stderr: string }) => thrown)
  expect(failed).toMatchObject({ code: 69, stdout: '' })
  const lines = failed.stderr.trimEnd().split('\n')
  expect(lines[0]).toContain('neither redis-server nor valkey-server is in PATH')
  expect(lines[1]).toMatch(/^Install /)
  expect(failed.stderr).not.toMatch(/^\s+at /m)
})

test.each([
  ['linux', 'ID=debian\n', true, 'apt-get update && apt-get install -y redis-server'],
  [
    'linux',
    'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n',
    false,
    'sudo apt-get update && sudo apt-get install -y redis-server',
  ],
  ['linux', 'ID="rocky"\nID_LIKE="rhel centos fedora"', false, 'sudo dnf install -y valkey'],
  ['linux', 'ID=arch', false, 'sudo pacman -S --noconfirm valkey'],
  ['linux', 'ID=alpine', true, 'apk add valkey'],
  ['linux', 'ID=constructor', false, undefined],
  ['darwin', '', false, 'brew install redis'],
])('the command for %s with %j, root: %s', (platform, osRelease, isRoot, command) => {
  expect(redisInstallCommand({ platform, osRelease, isRoot })).toBe(command)
})
