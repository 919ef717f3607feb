/** The commands that the containers run, run directly on what the image would hold. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { fencedBlock } from '../architecture/markdown.ts'
import { type Child, startChild } from '../support/child.ts'
import { findExecutable } from '../support/executable.ts'
import { freePort } from '../support/free-port.ts'
import { waitFor, within } from '../support/wait.ts'
import { healthCommandOf, readComposeFile, repositoryUrl } from './compose-file.ts'
import { type ImageLayout, layImageOut } from './image-layout.ts'
import { startImageProcess } from './image-process.ts'

const { gateway, redis, 'demo-api': demoApi } = readComposeFile().services
let layout: ImageLayout
beforeAll(async () => {
  layout = await layImageOut()
}, 120_000)
afterAll(() => layout?.remove())

const endBySigterm = async (child: Child, timeoutMs: number) => {
  child.signal('SIGTERM')
  return within(timeoutMs, 'the process ends', child.exited).finally(() => child.kill())
}

it('the image answers --version with the package’s version', async () => {
  const child = await startChild(process.execPath, ['dist/main.js', '--version'], {
    cwd: layout.directory,
    env: {},
  })
  expect(await within(10_000, 'the process ends', child.exited)).toMatchObject({ code: 0 })
  const { version } = JSON.parse(readFileSync(new URL('package.json', repositoryUrl), 'utf8'))
  expect(child.stdout.join()).toContain(version)
})

/** As on the page for those who embed the gateway, run and type-checked as it stands there. */
it('a program embeds the package with what docs/embedding.md shows', async () => {
  const page = readFileSync(new URL('docs/embedding.md', repositoryUrl), 'utf8')
  const program = join(layout.directory, 'embedding.ts')
  writeFileSync(program, fencedBlock(page, 'ts'))

  const compiler = fileURLToPath(new URL('node_modules/typescript/bin/tsc', repositoryUrl))
  const options = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--ignoreConfig']
  const resolution = ['--module', 'nodenext', '--target', 'es2024', '--types', 'node']
  const checked = await startChild(
    process.execPath,
    [compiler, ...options, ...resolution, program],
    { cwd: layout.directory, env: {} },
  )
  const { code } = await within(60_000, 'the compiler ends', checked.exited)
  expect({ code, output: checked.stdout }).toEqual({ code: 0, output: [] })

  const port = await freePort()
  const child = await startChild(process.execPath, [program], {
    cwd: layout.directory,
    env: {
      COATCHECK_PUBLIC_URL: `http://localhost:${port}`,
      COATCHECK_LISTEN: `127.0.0.1:${port}`,
      COATCHECK_ISSUER: 'http://127.0.0.1:1',
      COATCHECK_CLIENT_ID: 'shop',
      COATCHECK_CLIENT_SECRET: 'c1ient-5ecret',
      COATCHECK_UPSTREAM: 'http://127.0.0.1:2',
      COATCHECK_SECRET: 'Wn8vPq2ZbT5xRk7LmC4dHs9Yg3JfAe6U',
      COATCHECK_LOGGING_LEVEL: 'error',
    },
  })
  try {
    const answer = await waitFor(
      'the embedded gateway answers',
      () => fetch(`http://localhost:${port}/bff/session`, { headers: { 'x-csrf': '1' } }),
      { timeoutMs: 30_000 },
    )
    expect(await answer.json()).toMatchObject({ authenticated: false })
    expect(await endBySigterm(child, 30_000)).toEqual({ code: 0, signal: null })
  } finally {
    await child.kill()
  }
}, 120_000)

it('everything that package.json points at is packed', () => {
  const { bin, exports, files } = JSON.parse(
    readFileSync(new URL('package.json', repositoryUrl), 'utf8'),
  ) as {
    bin: Record<string, string>
    exports: Record<string, Record<string, string> | string>
    files: string[]
  }
  const targets = [bin, ...Object.values(exports)].flatMap((to) =>
    typeof to === 'string' ? [to] : Object.values(to),
  )
  expect(targets).toContain('./dist/embedding.js')
  for (const target of targets) {
    const path = target.replace(/^\.\//, '')
    if (path === 'package.json') continue
    expect(existsSync(join(layout.directory, path)), target).toBe(true)
    expect(files.some((packed) => path.startsWith(`${packed}/`))).toBe(true)
  }
})

it('the gateway is healthy while everything else is down, and SIGTERM ends it with 0', async () => {
  const nobody = `127.0.0.1:${await freePort()}`
  const child = await startImageProcess(layout, {
    target: 'gateway',
    environment: {
      ...gateway.environment,
      COATCHECK_LISTEN: `127.0.0.1:${await freePort()}`,
      COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
      COATCHECK_PROVIDER_CONNECT_TO: nobody,
      COATCHECK_REDIS_URL: `redis://${nobody}`,
      COATCHECK_UPSTREAM: `http://${nobody}`,
      COATCHECK_SPA: layout.directory,
    },
  })
  expect(await endBySigterm(child, 30_000)).toEqual({ code: 0, signal: null })
}, 60_000)

it('the demo API is healthy, and SIGTERM ends it with 0', async () => {
  const port = await freePort()
  const child = await startImageProcess(layout, {
    target: 'demo-api',
    environment: { ...demoApi.environment, DEMO_API_LISTEN: `127.0.0.1:${port}` },
    ports: { 4000: port },
  })
  expect(await endBySigterm(child, 5_000)).toEqual({ code: 0, signal: null })
}, 30_000)

it('the demo API says which variable it misses, and ends with 78', async () => {
  const child = await startChild(process.execPath, ['deploy/demo-api.mjs'], {
    cwd: layout.directory,
    env: { DEMO_API_LISTEN: '127.0.0.1:0' },
  })
  expect(await within(10_000, 'the process ends', child.exited)).toMatchObject({ code: 78 })
  expect(child.stderr.join()).toBe('DEMO_API_ISSUER is not set')
})

it('Redis takes its command line and passes its health check', async () => {
  const port = await freePort()
  const [, ...args] = redis.command ?? []
  const server = await startChild(
    findExecutable('redis-server', 'valkey-server') ?? 'redis-server',
    [...args, '--bind', '127.0.0.1', '--port', String(port)],
    { cwd: layout.directory, env: { PATH: process.env.PATH } },
  )
  try {
    const [, ...health] = healthCommandOf(redis)
    const check = () =>
      startChild(
        findExecutable('redis-cli', 'valkey-cli') ?? 'redis-cli',
        ['-p', String(port), ...health],
        { env: {} },
      )
    await waitFor('redis-server is healthy', async () => (await (await check()).exited).code === 0)
  } finally {
    await server.kill()
  }
})
