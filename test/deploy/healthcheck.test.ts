/** The container's health check, run as its process against a server that answers, refuses, hangs or is absent. */

import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, it } from 'vitest'
import { startChild } from '../support/child.ts'
import { freePort } from '../support/free-port.ts'
import { within } from '../support/wait.ts'
import { repositoryUrl } from './compose-file.ts'

const script = fileURLToPath(new URL('deploy/healthcheck.mjs', repositoryUrl))
const closers: (() => void)[] = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

const serve = async (listener: RequestListener): Promise<number> => {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closers.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

const check = async (args: readonly string[], env: Record<string, string> = {}) => {
  const child = await startChild(process.execPath, [script, ...args], { env })
  const { code } = await within(10_000, 'the health check ends', child.exited)
  return { code, stderr: child.stderr.join('\n') }
}

const answering =
  (status: number): RequestListener =>
  (request, response) =>
    response.writeHead(request.url === '/livez' ? status : 404).end()

it('asks /livez on the operations port, by loopback when that listens everywhere', async () => {
  const port = await serve(answering(200))
  const listen = { COATCHECK_OPERATIONS_LISTEN: `0.0.0.0:${port}` }
  expect(await check([], listen)).toEqual({ code: 0, stderr: '' })
})

it('fails on another status, and says which', async () => {
  const port = await serve(answering(503))
  const { code, stderr } = await check([], { COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${port}` })
  expect(code).toBe(1)
  expect(stderr).toContain('answered 503 instead of 200')
})

it('fails when nobody listens', async () => {
  const { code, stderr } = await check([`http://127.0.0.1:${await freePort()}/livez`])
  expect(code).toBe(1)
  expect(stderr).toContain('ECONNREFUSED')
})

it('fails within its own limit when nothing is answered', async () => {
  const port = await serve(() => {})
  const { code, stderr } = await check([`http://127.0.0.1:${port}/livez`])
  expect(code).toBe(1)
  expect(stderr).toContain('TimeoutError')
})

it('takes the status that a service gives when it is well', async () => {
  const port = await serve(answering(401))
  expect(await check([`http://127.0.0.1:${port}/livez`, '401'])).toMatchObject({ code: 0 })
})

it('has nothing to ask when the operations listener is off', async () => {
  expect(await check([], { COATCHECK_OPERATIONS_LISTEN: 'off' })).toEqual({ code: 0, stderr: '' })
})
