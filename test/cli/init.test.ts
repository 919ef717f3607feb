/** `coatcheck init`: what it writes loads, in development and in production, and nothing is overwritten. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { init as initCommand } from '../../src/cli/init.ts'
import { loadConfig } from '../../src/config/load.ts'
import { runCoatcheck, SMALLEST } from './run-coatcheck.ts'

const directory = (packageJson?: unknown): string => {
  const cwd = mkdtempSync(join(tmpdir(), 'coatcheck-init-'))
  onTestFinished(() => rmSync(cwd, { recursive: true, force: true }))
  if (packageJson !== undefined)
    writeFileSync(join(cwd, 'package.json'), JSON.stringify(packageJson))
  return cwd
}

const init = async (cwd: string, ...args: readonly string[]) => {
  const out: string[] = []
  const err: string[] = []
  const code = await initCommand(args, {
    env: {},
    cwd,
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    stopSignal: () => new Promise(() => undefined),
    onReloadSignal: () => undefined,
  })
  return { code, stdout: out.join('\n'), stderr: err.join('\n') }
}

interface Compose {
  readonly services: {
    readonly coatcheck: {
      readonly environment: Readonly<Record<string, string>>
      readonly volumes: readonly string[]
    }
  }
}

/** As Compose fills it in. */
const compose = (cwd: string, values: Readonly<Record<string, string>>) => {
  const text = readFileSync(join(cwd, 'compose.coatcheck.yaml'), 'utf8')
  const filled = text.replace(/\$\{(\w+):([?-])([^}]*)\}/g, (_all, name, kind, rest) =>
    kind === '-' ? rest : (values[name] ?? `missing ${name}`),
  )
  return (parse(filled) as Compose).services.coatcheck
}

test('the file is for development as it is', async () => {
  const cwd = directory({ devDependencies: { vite: '8.0.0' }, scripts: { dev: 'vite' } })
  const { code, stdout } = await init(cwd)
  expect({ code, stdout }).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('Next: npx coatcheck dev -- npm run dev'),
  })
  const text = readFileSync(join(cwd, 'coatcheck.yaml'), 'utf8')
  expect(text.split('\n')[0]).toBe(
    '# yaml-language-server: $schema=./node_modules/coatcheck/docs/coatcheck.schema.json',
  )
  const { config } = loadConfig({
    env: {
      COATCHECK_PUBLIC_URL: 'http://localhost:3000',
      COATCHECK_ISSUER: 'http://127.0.0.1:3100',
      COATCHECK_CLIENT_ID: 'dev',
      COATCHECK_CLIENT_SECRET: 'secret',
    },
    cwd,
    profile: 'dev',
  })
  expect(config.routes).toMatchObject([{ path: '/api', upstream: 'http://localhost:4000' }])
  expect(config.spa).toEqual({ kind: 'upstream', origin: 'http://localhost:5173' })
})

test('what is commented out is valid too', async () => {
  const cwd = directory()
  await init(cwd)
  const file = join(cwd, 'coatcheck.yaml')
  const [head = '', ...paragraphs] = readFileSync(file, 'utf8').split('\n\n')
  const open = paragraphs.map((paragraph) => paragraph.replace(/^# (?= *[a-zA-Z]+:(?: |$))/gm, ''))
  writeFileSync(file, [head, ...open].join('\n\n'))
  const { config } = loadConfig({ env: { ...SMALLEST, COATCHECK_UPSTREAM: undefined }, cwd })
  expect(config).toMatchObject({
    audience: 'my-api',
    scope: 'openid profile email offline_access orders:read',
    user: { claims: ['roles', 'groups'] },
    session: { idle: 1800, absolute: 28_800 },
    routes: [{ stripPrefix: true }],
  })
})

test('the compose snippet is a whole configuration beside it', async () => {
  const cwd = directory({ dependencies: { vite: '8.0.0' } })
  await init(cwd, '--api', 'http://localhost:8080/v1')
  mkdirSync(join(cwd, 'app'))
  const { environment, volumes } = compose(cwd, SMALLEST)
  expect(volumes).toContain('./dist:/srv/app:ro')
  const env = {
    ...environment,
    COATCHECK_CONFIG: join(cwd, 'coatcheck.yaml'),
    COATCHECK_SPA: join(cwd, 'app'),
  }
  const { config } = loadConfig({ env, cwd })
  expect(config.routes).toMatchObject([{ upstream: 'http://api:8080/v1' }])
  expect(config.spa).toMatchObject({ kind: 'directory' })
  const { code, stdout } = await runCoatcheck(
    ['check'],
    { ...env, COATCHECK_REDIS_URL: undefined },
    cwd,
  )
  expect(stdout).toContain('The configuration is valid')
  expect(code).toBe(0)
}, 30_000)

test.each([
  [{ dependencies: { next: '16' }, devDependencies: { vite: '8' } }, 'http://localhost:3000'],
  [
    { dependencies: { '@angular/core': '21' }, scripts: { start: 'ng serve' } },
    'http://localhost:4200',
  ],
  [{}, 'http://localhost:5173'],
])('%j is found at %s', async (packageJson, origin) => {
  const cwd = directory(packageJson)
  await init(cwd)
  expect(readFileSync(join(cwd, 'coatcheck.yaml'), 'utf8')).toContain(`upstream: ${origin}\n`)
})

test('an app on the gateway’s own port is told to move', async () => {
  const { stdout } = await init(directory({ dependencies: { next: '16' } }))
  expect(stdout).toContain('coatcheck dev --spa http://localhost:3001')
})

test('nothing is overwritten', async () => {
  const cwd = directory()
  writeFileSync(join(cwd, 'coatcheck.yaml'), 'mine')
  const { code, stdout } = await init(cwd)
  expect(code).toBe(0)
  expect(stdout).toContain('coatcheck.yaml is there already and stays as it is.')
  expect(readFileSync(join(cwd, 'coatcheck.yaml'), 'utf8')).toBe('mine')
  expect(readdirSync(cwd)).toContain('compose.coatcheck.yaml')
})

test('a place that cannot be written to is said', async () => {
  const { code, stderr } = await init(join(directory(), 'gone'))
  expect(code).toBe(69)
  expect(stderr).toContain('coatcheck.yaml cannot be written here')
})

test('an address that is none is refused before anything is written', async () => {
  const cwd = directory()
  await expect(init(cwd, '--api', 'localhost:4000')).rejects.toThrow(/^--api must be /)
  expect(readdirSync(cwd)).toEqual([])
})
