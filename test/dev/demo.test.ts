/** `coatcheck demo` as a visitor runs it: one command, a sign-in, fresh tokens, Ctrl-C. */

import { execFile } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { type Child, startChild } from '../support/child.ts'
import { signIn } from '../support/sign-in.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

// Somebody else's servers on the preferred ports; where one is taken already, that serves as well.
const squatters: Server[] = []
let child: Child

const squat = (port: number, host: string) =>
  new Promise<void>((resolve) => {
    const server = createServer((_req, res) => res.end('not the demo'))
    server.once('error', () => resolve())
    server.listen(port, host, () => {
      squatters.push(server)
      resolve()
    })
  })

beforeAll(async () => {
  await run(process.execPath, ['scripts/build-demo-spa.ts'], { cwd: repository, timeout: 30_000 })
  // On ::1 only: the gateway could listen on 127.0.0.1:3000, but a browser would not find it there.
  await Promise.all([squat(3000, '::1'), squat(4000, '127.0.0.1')])
  child = await startChild(process.execPath, ['src/main.ts', 'demo'], {
    cwd: repository,
    env: { PATH: process.env.PATH, COATCHECK_REDIS_URL: 'redis://nowhere.invalid' },
  })
}, 60_000)

afterAll(async () => {
  await child?.kill()
  for (const server of squatters) server.close()
})

const lineWith = (words: string) =>
  expect.poll(() => child.stdout.find((line) => line.includes(words)), { timeout: 20_000 })

test('the demo names the ports that are taken, prints its addresses and ends with Ctrl-C', async () => {
  await lineWith('operations  ').toBeDefined()
  const output = child.stdout.join('\n')
  expect(output).toContain('Port 3000 is taken: the gateway uses')
  expect(output).toContain('Port 4000 is taken: the API uses')
  const url = /open (http:\/\/localhost:\d+) /.exec(output)?.[1] ?? ''
  const operations = /operations +(http:\S+)/.exec(output)?.[1] ?? ''

  const browser = createBrowser()
  const page = await signIn(browser, url, { login: 'bob' })
  expect(page.status).toBe(200)
  expect(page.header('content-security-policy')).toContain("default-src 'self'")
  expect(page.text).not.toMatch(/<script(?![^>]*\bsrc=)|<style|\sstyle=/)
  for (const [, path = ''] of page.text.matchAll(/(?:src|href)="(\/[^"]+)"/g)) {
    expect((await browser.fetch(path)).status, path).toBe(200)
  }

  expect((await browser.fetch('/bff/session')).json()).toMatchObject({
    authenticated: true,
    user: { sub: 'bob', name: 'Bob Baker', email: 'bob@example.com' },
  })
  // Together more than a listener without the gateway's limits would take.
  const large = { headers: { 'x-filler': 'x'.repeat(29_000) } }
  expect((await browser.fetch(`/bff/session?${'x'.repeat(6_000)}`, large)).status).toBe(200)
  const who = (await browser.fetch('/api/whoami')).json() as {
    readonly scope: string
    readonly headers: readonly (readonly [string, string])[]
  }
  expect(who).toMatchObject({ subject: 'bob', scope: 'items:read items:write', tokensSeen: 1 })
  expect(who.headers.map(([name]) => name)).not.toContain('cookie')
  expect((await fetch(operations)).status).toBe(200)

  const from = performance.now()
  child.signal('SIGINT')
  expect(await child.exited).toEqual({ code: 0, signal: null })
  expect(performance.now() - from).toBeLessThan(5_000)
  await expect(fetch(operations)).rejects.toThrow()
}, 60_000)

test('the demo explains itself', async () => {
  const { stdout } = await run(process.execPath, ['src/main.ts', 'demo', '--help'], {
    cwd: repository,
  })
  expect(stdout).toContain('Usage: coatcheck demo')
})
