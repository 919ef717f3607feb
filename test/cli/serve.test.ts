/** `coatcheck serve` as an operator runs it: one line, signals, and starts that cannot be. */

import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { waitFor } from '../support/wait.ts'
import { emptyDirectory, OTHER_SECRET, RING_SECRET } from '../unit/config/minimal.ts'
import { runCoatcheck, SMALLEST, startCoatcheck, type Variables } from './run-coatcheck.ts'

const LISTENS = /^coatcheck listens on 127\.0\.0\.1:\d+ for http:\/\/localhost:\d+$/

const serve = async (env: Variables = {}) => {
  const [port, operationsPort] = [await freePort(), await freePort()]
  const child = await startCoatcheck(['serve'], {
    ...SMALLEST,
    COATCHECK_PUBLIC_URL: `http://localhost:${port}`,
    COATCHECK_LISTEN: `127.0.0.1:${port}`,
    COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${operationsPort}`,
    COATCHECK_DRAIN_DELAY: '300ms',
    ...env,
  })
  await waitFor(
    'the line that says so',
    async () => child.stdout.some((line) => LISTENS.test(line)),
    { timeoutMs: 15_000 },
  )
  const status = (url: string): Promise<number | undefined> =>
    fetch(url).then(
      (response) => response.status,
      () => undefined,
    )
  return {
    child,
    ready: () => status(`http://127.0.0.1:${operationsPort}/readyz`),
    page: () => status(`http://127.0.0.1:${port}/`),
    call: (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${port}${path}`, init),
  }
}

test('starts with provider and Redis down, says so in one line, and ends with 0 after SIGTERM', async () => {
  const { child, ready, page } = await serve({ COATCHECK_REDIS_URL: 'redis://127.0.0.1:3' })
  expect(await ready()).toBe(200)
  child.signal('SIGTERM')
  await waitFor('readiness fails', async () => (await ready()) === 503, {
    timeoutMs: 2000,
    intervalMs: 20,
  })
  // The load balancer has not noticed yet: requests are still taken.
  expect(await page()).not.toBeUndefined()
  expect(await child.exited).toEqual({ code: 0, signal: null })
  expect(child.stdout.filter((line) => LISTENS.test(line))).toHaveLength(1)
  expect(child.stderr).toEqual([])
})

test('its listener has the configured limits: what they allow passes, though the usual ones would not', async () => {
  const { child, call } = await serve({
    COATCHECK_LIMITS_URL_BYTES: '1KiB',
    COATCHECK_LIMITS_HEADER_BYTES: '48KiB',
  })
  const filler = (bytes: number) => ({ headers: { 'x-filler': 'x'.repeat(bytes) } })
  expect((await call('/api/x', filler(45_000))).status).toBe(401)
  expect((await call('/api/x', filler(49_500))).status).toBe(431)
  expect((await call(`/api/${'x'.repeat(1_100)}`)).status).toBe(414)
  child.signal('SIGINT')
  expect(await child.exited).toEqual({ code: 0, signal: null })
})

test('a call that hangs is cut in time for the rest: the process has ended when the deadline is over', async () => {
  const api = createServer()
  const called = new Promise<void>((resolve) => api.on('connection', () => resolve()))
  const port = await freePort()
  await new Promise<void>((resolve) => api.listen(port, '127.0.0.1', resolve))
  onTestFinished(() => void api.close())
  const { child, call } = await serve({
    COATCHECK_CONFIG: join(
      emptyDirectory({
        'routes.yaml': JSON.stringify({
          routes: [{ path: '/hang', upstream: `http://127.0.0.1:${port}`, accept: ['anonymous'] }],
        }),
      }),
      'routes.yaml',
    ),
    COATCHECK_UPSTREAM: undefined,
    COATCHECK_DRAIN_DELAY: '0s',
    COATCHECK_DRAIN_DEADLINE: '5s',
  })
  const answer = call('/hang').catch(() => 'cut')
  await called
  const signalledAt = performance.now()
  child.signal('SIGTERM')
  expect(await child.exited).toEqual({ code: 0, signal: null })
  expect(performance.now() - signalledAt).toBeLessThan(5_000)
  expect(await answer).toBe('cut')
  expect(child.stdout.slice(-2)).toEqual([
    'coatcheck stops on SIGTERM, within 5s',
    'coatcheck has stopped; 1 connection was cut, for its time was over (drain.deadline)',
  ])
})

test('ends with 0 after SIGINT, without the delay that load balancers need', async () => {
  const { child } = await serve({ COATCHECK_DRAIN_DELAY: '50s', COATCHECK_DRAIN_DEADLINE: '1m' })
  child.signal('SIGINT')
  expect(await child.exited).toEqual({ code: 0, signal: null })
  expect(child.stdout.slice(-2)).toEqual([
    'coatcheck stops on SIGINT, within 60s',
    'coatcheck has stopped',
  ])
})

test('SIGHUP reads secret files again at once; without any, it ends the process', async () => {
  const directory = emptyDirectory({ ring: RING_SECRET })
  const reading = await serve({
    COATCHECK_SECRET: undefined,
    COATCHECK_SECRET_FILE: join(directory, 'ring'),
  })
  const rings = () => reading.child.stdout.filter((line) => line.includes('key_ring_changed'))
  expect(rings()).toHaveLength(1)
  writeFileSync(join(directory, 'ring'), `${RING_SECRET}\n${OTHER_SECRET}`)
  reading.child.signal('SIGHUP')
  await waitFor('the other secret is read', () => rings().length === 2, { timeoutMs: 5_000 })
  reading.child.signal('SIGTERM')
  expect(await reading.child.exited).toEqual({ code: 0, signal: null })

  const { child } = await serve()
  child.signal('SIGHUP')
  expect(await child.exited).toEqual({ code: null, signal: 'SIGHUP' })
})

test('ends at once when a second signal comes', async () => {
  const { child, ready } = await serve({
    COATCHECK_DRAIN_DELAY: '50s',
    COATCHECK_DRAIN_DEADLINE: '1m',
  })
  child.signal('SIGTERM')
  await waitFor('the first signal is being served', async () => (await ready()) === 503)
  child.signal('SIGTERM')
  expect((await child.exited).code).toBe(1)
})

test('names the setting whose address is taken, and ends with 69', async () => {
  const holder = createServer()
  const port = await freePort()
  await new Promise<void>((resolve) => holder.listen(port, '127.0.0.1', resolve))
  onTestFinished(() => void holder.close())
  const { code, stderr } = await runCoatcheck(['serve'], {
    ...SMALLEST,
    COATCHECK_LISTEN: `127.0.0.1:${port}`,
    COATCHECK_OPERATIONS_LISTEN: 'off',
  })
  expect(code).toBe(69)
  expect(stderr).toMatch(
    /^coatcheck: cannot listen on 127\.0\.0\.1:\d+: .* \(EADDRINUSE\): change listen \(COATCHECK_LISTEN\)/,
  )
})

test('does not start with a wrong configuration, and ends with 78', async () => {
  const { code, stdout, stderr } = await runCoatcheck(['serve'], {
    ...SMALLEST,
    COATCHECK_SECRET: 'short',
  })
  expect({ code, stdout }).toEqual({ code: 78, stdout: '' })
  expect(stderr).toContain('secret[0] (COATCHECK_SECRET) must have at least 32 characters')
})
