/** A browser's own WebSocket: what it sends with a handshake, what its page hears, and who cannot open one. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import { startWebSocketApi, type WebSocketApi } from '../test/support/web-sockets.ts'
import { startWholeGateway, type WholeGateway } from '../test/support/whole-gateway.ts'
import { expect, fillSignInPage, test } from './fixtures.ts'

let api: WebSocketApi
let gateway: WholeGateway
let directory: string
test.beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'coatcheck-app-'))
  await writeFile(join(directory, 'index.html'), '<!doctype html><title>app</title><p>the app')
  api = await startWebSocketApi()
  gateway = await startWholeGateway({
    env: { COATCHECK_UPSTREAM: api.url, COATCHECK_SPA: directory },
  })
})
test.afterAll(async () => {
  await gateway.close()
  await api.close()
  await rm(directory, { recursive: true })
})

const signIn = async (page: Page): Promise<void> => {
  await page.goto(`${gateway.url}/bff/login?returnTo=/`)
  await fillSignInPage(page, 'alice')
  await expect(page.getByText('the app')).toBeVisible()
}

/** Opens one on the page, says something once it is open, and tells how it went until it was closed. */
const converse = (page: Page, url: string): Promise<string[]> =>
  page.evaluate(async (address) => {
    const socket = new WebSocket(address)
    const heard: string[] = []
    socket.addEventListener('open', () => socket.send('hello'))
    socket.addEventListener('message', ({ data }) => {
      heard.push(String(data))
      void fetch('/bff/logout', { method: 'POST' })
    })
    const { code, reason, wasClean } = await new Promise<CloseEvent>((resolve) =>
      socket.addEventListener('close', resolve),
    )
    return [...heard, `${code} ${reason}`, wasClean ? 'clean' : 'broken']
  }, url)

test('a page talks to the API, and hears 4401 when its user signs out', async ({ page }) => {
  await signIn(page)
  expect(await converse(page, '/api/live')).toEqual(['hello', '4401 logout', 'clean'])
  const { headers } = api.handshakes.at(-1) ?? {}
  expect(headers?.authorization).toMatch(/^Bearer ey/)
  expect(headers?.origin).toBe(gateway.url)
  expect(headers?.cookie).toBeUndefined()
})

test('a sibling on another port, whose handshake carries the cookie, is refused', async ({
  page,
  sibling,
}) => {
  await signIn(page)
  const before = api.handshakes.length
  sibling.serve('/attack', 'attack')
  await page.goto(`${sibling.url}/attack`)
  const url = `${gateway.url.replace('http', 'ws')}/api/live`
  expect(await converse(page, url)).toEqual(['1006 ', 'broken'])
  expect(api.handshakes.length).toBe(before)
  const refused = gateway.log.findLast(({ event }) => event === 'request_refused')
  expect(refused).toMatchObject({ code: 'csrf_rejected' })
})
