/** `/bff/events` as a browser's own EventSource reads it: what it hears, and when it comes back by itself. */

import type { Page } from '@playwright/test'
import { expect, fillSignInPage, test } from './fixtures.ts'

/** Opens one on the page and keeps what it hears in a global of that name, where a reload would lose it. */
const listen = (page: Page, name = 'heard'): Promise<void> =>
  page.evaluate(async (property) => {
    const { OwnEventSource } = globalThis as unknown as { OwnEventSource: typeof EventSource }
    const source = new OwnEventSource('/bff/events')
    const heard: string[] = []
    Object.assign(globalThis, { [property]: { source, heard } })
    for (const event of ['session', 'expiring', 'claims', 'ended', 'superseded'])
      source.addEventListener(event, (message) => {
        const { data } = message as MessageEvent
        const { reason } = JSON.parse(String(data)) as { reason?: string }
        heard.push(reason === undefined ? event : `${event} ${reason}`)
      })
    await new Promise((resolve, reject) => {
      source.addEventListener('session', resolve, { once: true })
      source.addEventListener('error', reject, { once: true })
    })
  }, name)

const heard = (page: Page, name = 'heard'): Promise<{ heard: string[]; readyState: number }> =>
  page.evaluate((property) => {
    const { source, heard: events } = (globalThis as unknown as Record<string, Listening>)[
      property
    ]!
    return { heard: events, readyState: source.readyState }
  }, name)

interface Listening {
  readonly source: { readonly readyState: number }
  readonly heard: string[]
}

const OPEN = 1
const CLOSED = 2

// A session has two streams at most, and the app's own would take them: here it gets one that stays silent.
test.beforeEach(async ({ context }) => {
  await context.addInitScript(() => {
    class Silent extends EventTarget {
      readonly readyState = 0
      close() {}
    }
    Object.assign(globalThis, { OwnEventSource: EventSource, EventSource: Silent })
  })
})

test('signing out in one window is heard in the other, which then gives up', async ({
  context,
  demo,
  page,
  signIn,
}) => {
  await signIn(page)
  await listen(page)
  const other = await context.newPage()
  await other.goto(`${demo.url}/`)
  await other.evaluate(() => fetch('/bff/logout', { method: 'POST' }))
  await expect
    .poll(() => heard(page))
    .toEqual({
      heard: ['session', 'ended logout'],
      readyState: CLOSED,
    })
})

test('signing in anew in one window: the stream of the other ends, comes back and goes on', async ({
  context,
  demo,
  page,
  signIn,
}) => {
  await signIn(page)
  await listen(page)
  const other = await context.newPage()
  await other.goto(`${demo.url}/bff/login?returnTo=/&prompt=login`)
  await fillSignInPage(other, 'alice')
  await other.waitForURL(`${demo.url}/`)
  await expect
    .poll(() => heard(page))
    .toEqual({
      heard: ['session', 'ended replaced_at_login', 'session'],
      readyState: OPEN,
    })
})

test('a third stream supersedes the first, which does not come back', async ({ page, signIn }) => {
  await signIn(page)
  for (const name of ['first', 'second', 'third']) await listen(page, name)
  await expect
    .poll(() => heard(page, 'first'))
    .toEqual({
      heard: ['session', 'superseded'],
      readyState: CLOSED,
    })
  for (const name of ['second', 'third'])
    expect(await heard(page, name)).toEqual({ heard: ['session'], readyState: OPEN })
})

test('a page of another origin hears nothing, with the user’s cookies or without', async ({
  demo,
  page,
  sibling,
  signIn,
}) => {
  await signIn(page)
  sibling.serve('/', '<p>a sibling</p>')
  await page.goto(sibling.url)
  const outcome = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const { OwnEventSource } = globalThis as unknown as { OwnEventSource: typeof EventSource }
        const source = new OwnEventSource(url, { withCredentials: true })
        source.addEventListener('session', () => resolve('heard'))
        source.addEventListener('error', () => resolve(source.readyState))
      }),
    `${demo.url}/bff/events`,
  )
  expect(outcome).toBe(CLOSED)
})
