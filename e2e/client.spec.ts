/** `coatcheck/client` in a page behind the gateway: many tabs, the ways in and out, and calls that are refused. */

import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type Page } from '@playwright/test'
import { bundle } from '../test/support/bundle.ts'
import { chromiumArgs, findChromium } from '../test/support/chromium.ts'
import { answerJson } from '../test/support/upstream-api.ts'
import { startWholeGateway, type WholeGateway } from '../test/support/whole-gateway.ts'
import { expect, fillSignInPage, test } from './fixtures.ts'
import { answerHtml } from './site.ts'

const APP = `<!doctype html><title>app</title><p id="who">loading</p>
<script type="module" src="/app.js"></script>`

/** Says who is signed in, and keeps every state that it has shown. */
const APP_SCRIPT = `import { createClient } from '/client.js'
const client = createClient()
const shown = []
client.subscribe((state) => {
  shown.push(state)
  document.querySelector('#who').textContent = [state.status, state.user?.name, state.reason].join(' ')
})
Object.assign(window, { client, createClient, shown })`

let code: string
let gateway: WholeGateway
let directory: string
let operations: Server
let metrics: string
test.beforeAll(async () => {
  code = await bundle('src/client/client.ts')
  directory = await mkdtemp(join(tmpdir(), 'coatcheck-app-'))
  await writeFile(join(directory, 'index.html'), APP)
  await writeFile(join(directory, 'app.js'), APP_SCRIPT)
  await writeFile(join(directory, 'client.js'), code)
  gateway = await startWholeGateway({ env: { COATCHECK_SPA: directory } })
  operations = createServer(gateway.gateway.operations).listen(0, '127.0.0.1')
  await once(operations, 'listening')
  metrics = `http://127.0.0.1:${(operations.address() as AddressInfo).port}/metrics`
})
test.afterAll(async () => {
  operations.close()
  await gateway.close()
  await rm(directory, { recursive: true })
})
test.beforeEach(() => {
  gateway.api.answerWith(answerJson({ ok: true }))
  gateway.api.forgetRequests()
})

const signIn = async (page: Page, path = '/'): Promise<void> => {
  await page.goto(`${gateway.url}/bff/login?returnTo=${encodeURIComponent(path)}`)
  await fillSignInPage(page, 'alice')
  await expectShown(page, 'signed-in Alice')
}

const expectShown = (page: Page, text: string) =>
  expect(page.locator('#who')).toContainText(text, { timeout: 5_000 })

/** How many event streams the gateway has open. */
const streams = async (): Promise<number> => {
  const response = await fetch(metrics)
  return Number(/^coatcheck_event_streams (\d+)$/m.exec(await response.text())?.[1])
}

test('eight tabs over HTTP/1.1 all load and call the API, and have one event stream together', async ({
  context,
  page,
}) => {
  await signIn(page)
  const others = await Promise.all(Array.from({ length: 7 }, () => context.newPage()))
  const tabs = [page, ...others]
  await Promise.all(others.map((tab) => tab.goto(gateway.url)))
  for (const tab of tabs) {
    await expectShown(tab, 'signed-in Alice')
    expect(await tab.evaluate(`client.fetch('/api/items').then((r) => r.json())`)).toEqual({
      ok: true,
    })
  }
  await expect.poll(streams).toBe(1)

  await page.close()
  await expect.poll(streams).toBe(1)
  // Nobody's client does this: only the event stream can tell.
  await others[0]!.evaluate(`fetch('/bff/logout', { method: 'POST' })`)
  for (const tab of others) await expectShown(tab, 'signed-out  logout')
  // The session endpoint cannot say why, and what is known stays.
  await others[0]!.evaluate('client.session()')
  await expectShown(others[0]!, 'signed-out  logout')
  await expect.poll(streams).toBe(0)
})

test('signing out in one tab shows in the others, and so does signing in again', async ({
  context,
  page,
}) => {
  await signIn(page)
  const other = await context.newPage()
  await other.goto(gateway.url)
  await expectShown(other, 'signed-in Alice')
  await other.evaluate(`void client.logout({ returnTo: '/bye' })`)
  await expectShown(page, 'signed-out  logout')
  await other.waitForURL(`${gateway.url}/bye`)
  await expectShown(other, 'signed-out')

  await signIn(other)
  await expectShown(page, 'signed-in Alice')
  // Each of the two has a lock of its own since the sign-out cleared this site's data.
  await expect.poll(streams).toBe(1)
})

test('another account in one tab is the account of the others', async ({ context, page }) => {
  await signIn(page)
  const other = await context.newPage()
  await other.goto(`${gateway.url}/bff/login?prompt=login&returnTo=/`)
  await fillSignInPage(other, 'bob')
  await expectShown(other, 'signed-in Bob')
  await expectShown(page, 'signed-in Bob')
  expect(await page.evaluate('shown.map((state) => state.status)')).not.toContain('signed-out')
})

test('what the event stream says of the session reaches every tab', async ({ context, page }) => {
  await context.route('**/bff/events', (route) =>
    route.fulfill({
      contentType: 'text/event-stream',
      body: `retry: 600000
event: claims
data: {"user":{"sub":"alice","name":"Alice Baker"}}

event: expiring
data: {"reason":"idle","expiresIn":60}

`,
    }),
  )
  const other = await context.newPage()
  await other.goto(gateway.url)
  await expectShown(other, 'signed-out')
  await signIn(page)
  for (const tab of [page, other]) {
    await expectShown(tab, 'signed-in Alice Baker')
    await expect.poll(() => tab.evaluate('client.state.expiring')).toBe('idle')
    const seconds = await tab.evaluate('(client.state.idleExpiresAt - Date.now()) / 1000')
    expect(seconds).toBeGreaterThan(30)
    expect(seconds).toBeLessThanOrEqual(60)
  }
})

test('signing in comes back to path, query and fragment', async ({ page }) => {
  const place = `${gateway.url}/orders?page=2&q=a%26b#total`
  await page.goto(place)
  await expectShown(page, 'signed-out')
  await page.evaluate('client.login()')
  await fillSignInPage(page, 'alice')
  await page.waitForURL(place)
  await expectShown(page, 'signed-in Alice')
})

test('a call that finds no session signs in once for all, and comes back', async ({ page }) => {
  const place = `${gateway.url}/orders?page=2#total`
  await page.goto(place)
  await expectShown(page, 'signed-out')
  const logins: string[] = []
  page.on('request', (request) => {
    if (request.url().includes('/bff/login')) logins.push(request.url())
  })
  await page.evaluate(`for (let i = 0; i < 5; i++) void client.fetch('/api/items')`)
  await fillSignInPage(page, 'alice')
  await page.waitForURL(place)
  expect(logins).toHaveLength(1)

  // A sign-in that did not help is not begun again.
  await page.route('**/api/items', (route) =>
    route.fulfill({ status: 401, contentType: 'application/problem+json', body: REQUIRED }),
  )
  expect(await page.evaluate(`client.fetch('/api/items').catch((e) => e.code)`)).toBe(
    'session_required',
  )
  expect(logins).toHaveLength(1)
})

const REQUIRED = JSON.stringify({
  type: 'urn:coatcheck:problem:session_required',
  title: 'Sign in to continue',
  status: 401,
  code: 'session_required',
  detail: '',
  retryable: false,
})

test('an API’s own 401 starts no sign-in', async ({ page }) => {
  await signIn(page)
  gateway.api.answerWith(answerJson({ error: 'not yours' }, 401))
  expect(await page.evaluate(`client.fetch('/api/items').then((r) => r.json())`)).toEqual({
    error: 'not yours',
  })
  await expectShown(page, 'signed-in Alice')
})

test('a call that may pass is made once more', async ({ page }) => {
  await signIn(page)
  let tries = 0
  await page.route('**/api/items', (route) => {
    tries += 1
    return tries > 1 ? route.continue() : route.fulfill(UNAVAILABLE)
  })
  const sent = await page.evaluate(
    `client.fetch('/api/items', { method: 'POST', body: 'an order' }).then((r) => r.status)`,
  )
  expect(sent).toBe(200)
  expect(tries).toBe(2)
  expect(gateway.api.requests.map(({ body }) => body.toString())).toEqual(['an order'])
})

const UNAVAILABLE = {
  status: 503,
  contentType: 'application/problem+json',
  headers: { 'retry-after': '0' },
  body: JSON.stringify({
    type: 'urn:coatcheck:problem:store_unavailable',
    title: 'The session store is not available',
    status: 503,
    code: 'store_unavailable',
    detail: '',
    retryable: true,
  }),
}

test('a gateway that is down signs nobody out, and is asked again', async ({ page }) => {
  await signIn(page)
  await page.route('**/bff/session', (route) => route.fulfill(UNAVAILABLE))
  await page.reload()
  await expectShown(page, 'unavailable')
  await page.unroute('**/bff/session')
  await expectShown(page, 'signed-in Alice')
  expect(await page.evaluate('shown.map((state) => state.status)')).not.toContain('signed-out')
})

test('calls of another origin are none of the client’s', async ({ page, foreign }) => {
  foreign.serve('/open', async (request, response) => {
    response.writeHead(401, {
      'access-control-allow-origin': '*',
      'content-type': 'application/problem+json',
    })
    response.end(REQUIRED.replaceAll('session_required', `csrf-${request.header('x-csrf')}`))
  })
  await signIn(page)
  const answer = await page.evaluate(`client.fetch('${foreign.url}/open').then((r) => r.text())`)
  expect(answer).toContain('csrf-undefined')
})

test('misuse says what is wrong', async ({ page }) => {
  await page.goto(gateway.url)
  const thrown = (expression: string) =>
    page.evaluate(
      `(() => { try { ${expression} } catch (e) { return e.code + ': ' + e.detail } })()`,
    )
  expect(await thrown('createClient()')).toMatch(/^misuse: .*called twice/)
  expect(await thrown(`client.login({ returnTo: '//evil.example' })`)).toMatch(/^return_to_invalid/)
  expect(await thrown(`client.login({ returnTo: 'https://evil.example' })`)).toMatch(
    /^return_to_invalid/,
  )
  expect(await page.evaluate(`client.logout({ returnTo: '/\\\\evil' }).catch((e) => e.code)`)).toBe(
    'return_to_invalid',
  )
  const fromWorker = await page.evaluate(`new Promise((resolve) => {
    const script = "import('" + location.origin + "/client.js')" +
      ".then(({ createClient }) => createClient()).catch((e) => postMessage(e.code))"
    new Worker(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })), { type: 'module' })
      .onmessage = ({ data }) => resolve(data)
  })`)
  expect(fromWorker).toBe('misuse')
  expect(await thrown('client.close(); createClient().close()')).toBeUndefined()
})

test('a page that comes back from the cache learns what has happened meanwhile', async () => {
  const executablePath = findChromium()
  const browser = await chromium.launch({
    args: chromiumArgs(),
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    ...(executablePath && { executablePath }),
  })
  try {
    const page = await browser.newPage()
    await signIn(page)
    await page.evaluate('window.isKept = true')
    await page.goto(`${gateway.url}/away`)
    await expectShown(page, 'signed-in Alice')
    await page.evaluate('client.close()')
    // Outside the page, whose own sign-out would empty the cache (Clear-Site-Data).
    await page.request.post(`${gateway.url}/bff/logout`, { headers: { 'x-csrf': '1' } })
    await page.goBack({ waitUntil: 'commit' })
    expect(await page.evaluate('window.isKept')).toBe(true)
    await expectShown(page, 'signed-out')
    await expect.poll(streams).toBe(0)
  } finally {
    await browser.close()
  }
})

test('another gateway is used by naming its endpoints', async ({ page, sibling }) => {
  let user: unknown = [
    { type: 'sub', value: 'bob' },
    { type: 'name', value: 'Bob' },
    { type: 'bff:logout_url', value: '/signout?sid=1' },
  ]
  sibling.serve('/', APP)
  sibling.serve('/signin', answerHtml('<p>the other gateway’s sign-in'))
  sibling.serve('/signout', answerHtml('<p>the other gateway’s sign-out'))
  sibling.serve('/user', (request, response) =>
    request.header('x-csrf') === '1' && user !== undefined
      ? answerJson(user)(request, response)
      : answerJson({}, 401)(request, response),
  )
  const script = (text: string) => (_: unknown, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/javascript' }).end(text)
  }
  sibling.serve('/client.js', script(code))
  sibling.serve(
    '/app.js',
    script(
      APP_SCRIPT.replace(
        'createClient()',
        `createClient({ endpoints: {
          session: '/user', login: '/signin?returnUrl={returnTo}',
          logout: (user) => user['bff:logout_url'] + '&returnUrl={returnTo}', events: false } })`,
      ),
    ),
  )
  sibling.serve('/api', answerJson({}, 401))
  await page.clock.install()
  await page.goto(sibling.url)
  await expectShown(page, 'signed-in Bob')
  await page.evaluate(`client.logout({ returnTo: '/bye?a=1' })`)
  await page.waitForURL(`${sibling.url}/signout?sid=1&returnUrl=%2Fbye%3Fa%3D1`)

  await page.goto(`${sibling.url}/?page=2#total`)
  await expectShown(page, 'signed-in Bob')
  const bob = user
  user = undefined
  // Nothing tells: the page asks every 30 seconds, more or less.
  await page.clock.fastForward(38_000)
  await expectShown(page, 'signed-out')
  user = bob
  await page.evaluate('client.session()')
  await expectShown(page, 'signed-in Bob')
  user = undefined
  // That gateway has no problem documents: its 401 is passed on, and the page learns whose it was.
  expect(await page.evaluate(`client.fetch('/api').then((r) => r.status)`)).toBe(401)
  await expectShown(page, 'signed-out')
  await page.evaluate('client.login()')
  await page.waitForURL(`${sibling.url}/signin?returnUrl=%2F%3Fpage%3D2%23total`)
  expect(sibling.requests.filter(({ url }) => url.includes('events'))).toEqual([])
})
