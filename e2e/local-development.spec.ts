/**
 * The arrangements of docs/local-development.md with a real Vite + React app: a sign-in, a call of the API, and an edit
 * that reaches the page without a reload.
 */

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test as base, expect, type Page } from '@playwright/test'
import { type Child, startChild } from '../test/support/child.ts'
import { freePort } from '../test/support/free-port.ts'
import { answerJson, startUpstreamApi, type UpstreamApi } from '../test/support/upstream-api.ts'
import { waitFor } from '../test/support/wait.ts'
import { fillSignInPage } from './fixtures.ts'

const MAIN = resolve('src/main.ts')
const VITE = resolve('node_modules/vite/bin/vite.js')
const PLUGIN = resolve('src/vite-plugin.ts')

interface App {
  readonly directory: string
  readonly api: UpstreamApi
  readonly vitePort: number
  readonly gatewayPort: number
  /** As in a terminal; without an address that another test may use. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** `node`, in the directory of the app; ended with the test. */
  run(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Child>
  writeConfig(imports: string, settings: string): void
}

const test = base.extend<{ readonly app: App }>({
  // biome-ignore lint/correctness/noEmptyPattern: Playwright reads the dependencies of a fixture from this pattern.
  app: async ({}, use, testInfo) => {
    const directory = mkdtempSync(join(tmpdir(), 'coatcheck-vite-react-app-'))
    cpSync('e2e/vite-react-app', directory, { recursive: true })
    mkdirSync(join(directory, 'node_modules'))
    for (const name of ['react', 'react-dom', 'vite', '@vitejs'])
      symlinkSync(resolve('node_modules', name), join(directory, 'node_modules', name))
    const api = await startUpstreamApi({ answer: answerJson(['an umbrella', 'a hat']) })
    const [vitePort, gatewayPort, providerPort] = [
      await freePort(),
      await freePort(),
      await freePort(),
    ]
    const env = {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      COATCHECK_LISTEN: `127.0.0.1:${gatewayPort}`,
      COATCHECK_DEV_PROVIDER_LISTEN: `127.0.0.1:${providerPort}`,
    }
    const children: Child[] = []
    const writeConfig = (imports: string, settings: string) =>
      writeFileSync(
        join(directory, 'vite.config.js'),
        `import react from '@vitejs/plugin-react'
${imports}
export default { clearScreen: false, ${settings} }
`,
      )
    await use({
      directory,
      api,
      vitePort,
      gatewayPort,
      env,
      writeConfig,
      run: async (args, more = {}) => {
        const child = await startChild(process.execPath, args, {
          cwd: directory,
          env: { ...env, ...more },
        })
        children.push(child)
        return child
      },
    })
    if (testInfo.status !== testInfo.expectedStatus)
      for (const { stdout, stderr } of children) console.log([...stdout, ...stderr].join('\n'))
    for (const child of children.reverse()) {
      child.signal('SIGTERM')
      await waitFor('it ends', child.hasExited, { timeoutMs: 10_000 }).catch(child.kill)
    }
    await api.close()
    rmSync(directory, { recursive: true, force: true })
  },
})

const saysIn = (child: Child, words: string | RegExp) =>
  waitFor(
    `it says ${words}`,
    () => {
      const output = [...child.stdout, ...child.stderr].join('\n')
      if (child.hasExited()) throw new Error(output)
      return output.search(words) >= 0
    },
    { timeoutMs: 20_000, intervalMs: 50 },
  )

/** What a developer does in the first ten minutes. */
const signInCallAndEdit = async (page: Page, app: App, url: string) => {
  await page.goto(url)
  await page.getByRole('link', { name: 'Sign in' }).click()
  await fillSignInPage(page, 'alice')
  await expect(page).toHaveURL(`${url}/`)
  await expect(page.getByRole('heading')).toHaveText('Hello Alice Archer')

  await page.getByRole('button', { name: 'Load' }).click()
  await expect(page.getByRole('listitem')).toHaveText(['an umbrella', 'a hat'])
  const authorization = app.api.requests.at(-1)?.header('authorization')
  expect(authorization).toMatch(/^Bearer ey/)

  await page.getByRole('button', { name: '0 clicks' }).click()
  const file = join(app.directory, 'src/app.jsx')
  writeFileSync(file, readFileSync(file, 'utf8').replace('Hello', 'Good morning'))
  await expect(page.getByRole('heading')).toHaveText('Good morning Alice Archer')
  // The page was not loaded anew: what it held is still there.
  await expect(page.getByRole('button', { name: '1 clicks' })).toBeVisible()
}

test('the app behind the gateway: one command starts both', async ({ page, app }) => {
  // The plugin leaves it to a gateway that is in front already.
  app.writeConfig(`import { coatcheck } from '${PLUGIN}'`, 'plugins: [react(), coatcheck()]')
  const port = ['--port', String(app.vitePort), '--strictPort']
  const vite = [process.execPath, VITE, '--configLoader', 'native', ...port]
  const child = await app.run([
    ...[MAIN, 'dev', '--spa', `http://localhost:${app.vitePort}`, '--api', app.api.url],
    ...['--', ...vite],
  ])
  await saysIn(child, 'your app is up; open')
  await signInCallAndEdit(page, app, `http://localhost:${app.gatewayPort}`)
  expect([...child.stdout, ...child.stderr].join('\n')).not.toContain('another process')
})

test('the app before the gateway: Vite sends it what is its own', async ({ page, app }) => {
  const gateway = `{ target: 'http://localhost:${app.gatewayPort}', ws: true }`
  app.writeConfig(
    '',
    `plugins: [react()], server: {
      port: ${app.vitePort}, strictPort: true, proxy: { '/bff': ${gateway}, '/api': ${gateway} }
    }`,
  )
  const url = `http://localhost:${app.vitePort}`
  const dev = await app.run([MAIN, 'dev', '--api', app.api.url], { COATCHECK_PUBLIC_URL: url })
  const vite = await app.run([VITE])
  await saysIn(dev, `open ${url}`)
  await saysIn(vite, 'ready in')
  await signInCallAndEdit(page, app, url)
})

test('coatcheck/vite: one line of vite.config', async ({ page, app }) => {
  app.writeConfig(
    `import { coatcheck } from '${PLUGIN}'`,
    `plugins: [react(), coatcheck({ api: '${app.api.url}' })], server: { port: ${app.vitePort} }`,
  )
  const vite = await app.run([VITE, '--configLoader', 'native'])
  const url = `http://localhost:${app.vitePort}`
  await saysIn(vite, `Coatcheck: open ${url}`)
  await saysIn(vite, 'audience +urn:coatcheck:dev'.replace(' +', '          '))
  await signInCallAndEdit(page, app, url)

  // An edit of vite.config starts Vite's server anew, which loads the page anew, and signs nobody out.
  const config = join(app.directory, 'vite.config.js')
  // In one step: Vite reads it the moment it changes.
  writeFileSync(`${config}.new`, `${readFileSync(config, 'utf8')}\n`)
  renameSync(`${config}.new`, config)
  await saysIn(vite, 'server restarted')
  await expect(page.getByRole('button', { name: '0 clicks' })).toBeVisible()
  await expect(page.getByRole('heading')).toHaveText('Good morning Alice Archer')
  expect([...vite.stdout, ...vite.stderr].join('\n')).not.toContain('coatcheck: ')
})

test('coatcheck/vite without a gateway says why, and calls nobody else', async ({ page, app }) => {
  const squatter = await startUpstreamApi({
    port: app.gatewayPort,
    answer: answerJson({ authenticated: true }),
  })
  app.writeConfig(
    `import { coatcheck } from '${PLUGIN}'`,
    `plugins: [react(), coatcheck()], server: { port: ${app.vitePort} }`,
  )
  const vite = await app.run([VITE, '--configLoader', 'native'])
  await saysIn(vite, 'ready in')
  const url = `http://localhost:${app.vitePort}`
  const words = `cannot listen on 127.0.0.1:${app.gatewayPort}: another process uses this port`
  await saysIn(vite, words)
  for (const path of ['/bff/session', '/api/items']) {
    const answer = await page.request.get(url + path)
    expect(answer.status()).toBe(502)
    expect((await answer.json()).detail).toContain(words)
    expect((await answer.json()).detail).toContain('COATCHECK_LISTEN')
  }
  await page.goto(`${url}/bff/login`)
  await expect(page.getByText('The gateway is not there.')).toBeVisible()
  expect(squatter.requests).toEqual([])
  await squatter.close()
})
