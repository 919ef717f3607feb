/** An API behind mutual TLS of a private authority: calls and WebSockets, files that are renewed, and the log's words. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import type { Browser } from '../support/browser.ts'
import { type Certificate, createAuthority } from '../support/certificates.ts'
import { sessionCookie } from '../support/cookies.ts'
import { waitFor } from '../support/wait.ts'
import { openPageSocket, refusedPageSocket } from '../support/web-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const authority = createAuthority()
const directory = mkdtempSync(join(tmpdir(), 'coatcheck-upstream-tls-'))
/** Serial numbers of the gateway's certificate, per request and handshake. */
const shown: unknown[] = []
const server = createServer(
  { ...authority.issue('api.internal'), ca: authority.cert, requestCert: true },
  (request, response) => {
    shown.push((request.socket as TLSSocket).getPeerCertificate().serialNumber)
    response.setHeader('connection', 'close')
    response.end('{}')
  },
)
const webSockets = new WebSocketServer({ server })
webSockets.on('connection', (webSocket, request) => {
  shown.push((request.socket as TLSSocket).getPeerCertificate().serialNumber)
  webSocket.on('message', (message) => webSocket.send(String(message)))
})

let gateway: WholeGateway
let browser: Browser

const writePems = ({ cert, key }: Certificate, ca = authority.cert) => {
  writeFileSync(join(directory, 'ca.pem'), ca)
  writeFileSync(join(directory, 'cert.pem'), cert)
  writeFileSync(join(directory, 'cert.key'), key)
}

beforeAll(async () => {
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  writePems(authority.issue('gateway'))
  gateway = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      COATCHECK_UPSTREAM_TLS_CA: join(directory, 'ca.pem'),
      COATCHECK_UPSTREAM_TLS_CERT: join(directory, 'cert.pem'),
      COATCHECK_UPSTREAM_TLS_KEY: join(directory, 'cert.key'),
      COATCHECK_UPSTREAM_TLS_SERVER_NAME: 'api.internal',
    },
  })
  browser = await gateway.signedIn()
})
afterAll(async () => {
  await gateway.close()
  for (const client of webSockets.clients) client.terminate()
  server.closeAllConnections()
  server.close()
  rmSync(directory, { recursive: true })
})

const asPage = () => {
  const { name, value } = sessionCookie(browser) ?? expect.unreachable()
  return { port: gateway.port, origin: gateway.url, cookie: `${name}=${value}` }
}

const echoed = async () => {
  const page = await openPageSocket(asPage())
  page.socket.send('hello')
  await waitFor('the echo', () => page.messages.length === 1)
  page.socket.close()
  await page.closed
  return page.messages
}

test('calls and WebSockets show the certificate, the new one once its files are replaced', async () => {
  expect((await browser.fetch('/api/items')).status).toBe(200)
  expect(await echoed()).toEqual(['hello'])
  const [first] = shown
  expect(first).toMatch(/^[0-9A-F]+$/)
  expect(shown.splice(0)).toEqual([first, first])

  writePems(authority.issue('gateway'))
  gateway.reread()
  expect((await browser.fetch('/api/items')).status).toBe(200)
  expect(await echoed()).toEqual(['hello'])
  const [second] = shown
  expect(second).not.toBe(first)
  expect(shown.splice(0)).toEqual([second, second])
})

test('an upstream that nobody vouches for is out of reach, and the log says why', async () => {
  writePems(authority.issue('gateway'), createAuthority('other').cert)
  gateway.reread()
  const before = gateway.log.length
  const answer = await browser.fetch('/api/items')
  expect([answer.status, answer.json()]).toEqual([
    502,
    expect.objectContaining({ code: 'upstream_unreachable' }),
  ])
  expect(await refusedPageSocket(asPage())).toMatchObject({
    status: 502,
    code: 'upstream_unreachable',
  })
  const reasons = gateway.log.slice(before).map(({ reason }) => reason)
  expect(reasons.filter((reason) => reason !== undefined)).toEqual([
    'tls_untrusted',
    'tls_untrusted',
  ])
  expect(shown).toEqual([])
})

test('files that do not belong together change nothing, and are told once', async () => {
  writePems(authority.issue('gateway'))
  gateway.reread()
  expect((await browser.fetch('/api/items')).status).toBe(200)
  writePems({ cert: authority.issue('gateway').cert, key: authority.issue('gateway').key })
  gateway.reread()
  for (const _ of [1, 2]) expect((await browser.fetch('/api/items')).status).toBe(200)
  const told = gateway.log.filter(({ notice }) => notice === 'upstream_tls_unusable')
  expect(told).toHaveLength(1)
})
