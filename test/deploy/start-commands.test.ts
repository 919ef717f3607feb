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
import { installFreshApp } from './fresh-app.ts'
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

/** Every public name of every entry; `import 'coatcheck/client'` and so on. */
const PUBLIC: Readonly<Record<string, readonly string[]>> = {
  coatcheck: ['ConfigError', 'ListenError', 'createGateway', 'loadConfig', 'startListener'],
  'coatcheck/client': ['CoatcheckError', 'createClient'],
  'coatcheck/react': ['SessionProvider', 'SignedIn', 'SignedOut', 'useSession'],
  'coatcheck/testing': ['expect', 'signInAs', 'test'],
  'coatcheck/vite': ['coatcheck'],
}

const APP = `
import { ConfigError, createGateway, loadConfig } from 'coatcheck'
import { type Client, CoatcheckError, createClient, type SessionState } from 'coatcheck/client'
import { SessionProvider, SignedIn, SignedOut, useSession } from 'coatcheck/react'
import { expect, test } from 'coatcheck/testing'
import { coatcheck } from 'coatcheck/vite'
import { defineConfig } from 'vite'

export const config = defineConfig({ plugins: [coatcheck({ api: 'http://localhost:4000' })] })
export const gateway = () => createGateway(loadConfig({ env: {}, cwd: '/' }).config, {})
export const isConfigError = (thrown: unknown) => thrown instanceof ConfigError

export const client: Client = createClient({ prefix: '/auth', onSignedOut: 'throw' })
export const name = (state: SessionState) => state.user?.name
client.login({ returnTo: '/orders?page=2' })
// @ts-expect-error: another origin
client.login({ returnTo: 'https://evil.example' })
client.fetch('/api').catch((thrown) => thrown instanceof CoatcheckError && thrown.code)

test('alice sees her orders', async ({ page, signInAs }) => {
  await signInAs('alice')
  // @ts-expect-error: a login is a text
  await signInAs(1)
  await expect(page).toHaveURL('/orders')
})

const Status = () => {
  const session = useSession()
  // @ts-expect-error: signed out, there is no user
  session.user.sub
  return <button onClick={() => session.logout()}>{session.status}</button>
}
export const app = (
  <SessionProvider client={client}>
    <SignedIn>{(user) => user.sub}</SignedIn>
    <SignedOut>nobody</SignedOut>
    <Status />
  </SessionProvider>
)
`

const RUN = `
import { createElement } from 'react'
import { renderToString } from 'react-dom/server'
import { createClient } from 'coatcheck/client'
import { SessionProvider, SignedOut, useSession } from 'coatcheck/react'
import { coatcheck } from 'coatcheck/vite'
const Status = () => useSession().status
const names = {}
for (const entry of process.argv.slice(2)) names[entry] = Object.keys(await import(entry))
let misuse
try { createClient() } catch (thrown) { misuse = thrown.code }
const html = renderToString(
  createElement(SessionProvider, null, createElement(SignedOut, null, 'out'), createElement(Status)))
console.log(JSON.stringify({ names, misuse, html, plugin: coatcheck().name }))
`

it('a fresh app installs the package and uses all of it by its public names', async () => {
  const { exports } = JSON.parse(readFileSync(new URL('package.json', repositoryUrl), 'utf8'))
  const entries = Object.keys(exports).filter((entry) => entry !== './package.json')
  expect(entries.map((entry) => join('coatcheck', entry)).toSorted()).toEqual(
    Object.keys(PUBLIC).toSorted(),
  )
  const types = ['@types/node', '@types/react', '@types/react-dom']
  const app = await installFreshApp(layout.directory, ['react-dom', 'typescript', ...types])
  try {
    await app.write('run.js', RUN)
    expect(JSON.parse(await app.run('run.js', ...Object.keys(PUBLIC)))).toEqual({
      names: Object.fromEntries(
        Object.entries(PUBLIC).map(([entry, names]) => [entry, [...names].toSorted()]),
      ),
      misuse: 'misuse',
      html: 'loading',
      plugin: 'coatcheck',
    })
    expect(await app.run('node_modules/coatcheck/dist/main.js', '--help')).toContain('coatcheck')

    await app.write('app.tsx', APP)
    const page = readFileSync(new URL('docs/client.md', repositoryUrl), 'utf8')
    const shown = [...page.matchAll(/^```(tsx?)\n(?:\/\/ (\S+)\n)?(.*?)^```$/gms)].map(
      ([, extension, name, text = ''], index) => ({
        name: name ?? `shown-${index}.${extension}`,
        text,
      }),
    )
    expect(shown.length).toBeGreaterThan(3)
    for (const { name, text } of shown) await app.write(name, text)
    const resolution = ['--module', 'esnext', '--moduleResolution', 'bundler', '--jsx', 'react-jsx']
    const checks = ['--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck']
    const around = ['--target', 'es2024', '--lib', 'es2024,dom', '--types', 'node']
    await app.run(
      'node_modules/typescript/bin/tsc',
      ...checks,
      ...resolution,
      ...around,
      'app.tsx',
      ...shown.map(({ name }) => name),
    )
  } finally {
    await app.remove()
  }
}, 120_000)
