/** The examples as they are: each is built or started, stands behind one `coatcheck dev`, signs in and calls. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@playwright/test'
import { build, preview } from 'vite'
import { startChild } from '../test/support/child.ts'
import { freePort } from '../test/support/free-port.ts'
import { answerJson, startUpstreamApi } from '../test/support/upstream-api.ts'
import { waitFor } from '../test/support/wait.ts'
import { fillSignInPage } from './fixtures.ts'

const BUILT = ['react', 'vue', 'angular'] as const
const root = (example: string) => join(import.meta.dirname, '../examples', example)

const main = join(import.meta.dirname, '../src/main.ts')
const source = (name: string) => join(import.meta.dirname, `../src/client/${name}.ts`)

let url: string
let api: Awaited<ReturnType<typeof startUpstreamApi>>
const closing: (() => unknown)[] = []

test.beforeAll(async () => {
  test.setTimeout(120_000)
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-examples-'))
  closing.push(() => rmSync(directory, { recursive: true, force: true }))

  for (const example of BUILT)
    await build({
      root: root(example),
      base: `/${example}/`,
      logLevel: 'error',
      resolve: {
        alias: { 'coatcheck/client': source('client'), 'coatcheck/react': source('react') },
      },
      build: { outDir: join(directory, 'dist', example), emptyOutDir: true },
    })
  writeFileSync(join(directory, 'dist/index.html'), '<!doctype html><title>signed out</title>')
  const [gatewayPort, providerPort, pagesPort, spaPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ]
  const app = await preview({
    root: directory,
    appType: 'mpa',
    configFile: false,
    preview: { port: spaPort, strictPort: true, host: '127.0.0.1' },
  })
  closing.push(() => app.close())

  api = await startUpstreamApi({ answer: answerJson(['umbrella', 'hat']) })
  closing.push(() => api.close())

  const provider = `http://127.0.0.1:${providerPort}`
  const pages = await startChild(process.execPath, [join(root('hono'), 'server.ts')], {
    env: { PATH: process.env.PATH, PORT: String(pagesPort), ISSUER: provider },
  })
  closing.push(() => pages.kill())

  const settings = readFileSync(join(root('hono'), 'coatcheck.yaml'), 'utf8')
  expect(settings).toContain('127.0.0.1:4100')
  writeFileSync(
    join(directory, 'coatcheck.yaml'),
    settings.replace('127.0.0.1:4100', `127.0.0.1:${pagesPort}`),
  )
  const gateway = await startChild(
    process.execPath,
    [main, 'dev', '--spa', `http://127.0.0.1:${spaPort}`, '--api', `http://127.0.0.1:${api.port}`],
    {
      cwd: directory,
      env: {
        PATH: process.env.PATH,
        COATCHECK_LISTEN: `127.0.0.1:${gatewayPort}`,
        COATCHECK_DEV_PROVIDER_LISTEN: `127.0.0.1:${providerPort}`,
      },
    },
  )
  closing.push(() => gateway.kill())
  url = await waitFor(
    'coatcheck dev says which address to open',
    () => {
      if (gateway.hasExited()) throw new Error(gateway.stderr.join('\n'))
      return /open (http:\S+)/.exec(gateway.stdout.join('\n'))?.[1]
    },
    { timeoutMs: 20_000 },
  )
})

test.afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

for (const example of BUILT)
  test(`${example}: signs in, calls the API with a token, and signs out`, async ({ page }) => {
    await page.goto(`${url}/${example}/?from=link`)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await fillSignInPage(page, 'alice')
    await expect(page.getByRole('heading')).toHaveText(/^Hello Alice/)
    expect(page.url()).toBe(`${url}/${example}/?from=link`)

    api.forgetRequests()
    await page.getByRole('button', { name: 'Load items' }).click()
    await expect(page.getByRole('listitem')).toHaveText(['umbrella', 'hat'])
    expect(api.requests.map(({ url: path }) => path)).toEqual(['/api/items'])
    expect(api.requests[0]?.header('authorization')).toMatch(/^Bearer ey/)
    expect(api.requests[0]?.header('cookie')).toBeUndefined()

    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.waitForURL((now) => now.pathname === '/')
    await page.goto(`${url}/${example}/`)
    await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible()
  })

test('hono: a page load signs in and comes back to the page, whose server has verified the token', async ({
  page,
}) => {
  await page.goto(`${url}/account`)
  await fillSignInPage(page, 'bob')
  await expect(page.getByRole('heading')).toHaveText('Hello bob')
  expect(page.url()).toBe(`${url}/account`)
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForURL((now) => now.pathname === '/')
})
