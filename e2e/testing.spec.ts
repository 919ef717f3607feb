/** coatcheck/testing as an application's own tests use it, against the demo and against everything it must refuse. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mergeTests } from '@playwright/test'
import { test as coatcheckTest, signInAs as signIn } from '../src/testing/fixture.ts'
import { test as demoTest, expect } from './fixtures.ts'

const test = mergeTests(demoTest, coatcheckTest).extend({
  baseURL: async ({ demo }, use) => use(demo.url),
})

const userOf = (page: import('@playwright/test').Page) =>
  page.evaluate(async () => {
    const answer = await fetch('/bff/session')
    return ((await answer.json()) as { user: { sub: string } | null }).user?.sub
  })

test('a user is signed in without a login page, and another one after them', async ({
  context,
  page,
  signInAs,
}) => {
  await signInAs('alice')
  expect(context.pages()).toHaveLength(1)
  await page.goto('/')
  expect(await userOf(page)).toBe('alice')
  expect(await page.evaluate(async () => (await fetch('/api/items')).status)).toBe(200)
  await signInAs('bob')
  await page.reload()
  expect(await userOf(page)).toBe('bob')
})

test('a user that the provider does not have is named, beside those it has', async ({
  signInAs,
}) => {
  await expect(signInAs('zed')).rejects.toThrow(/"zed" could not sign in: .*alice, bob/)
})

/** Answers every request with this JSON. */
const fake = async (answer: (origin: string) => object) => {
  const server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify(answer(origin)))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { origin, close: () => new Promise((resolve) => server.close(resolve)) }
}

test('any other provider is refused before anything is sent to it', async ({ context }) => {
  for (const [redirectTo, says] of [
    [() => 'https://login.example.com/authorize', /leads to https:\/\/login\.example\.com/],
    // On loopback, and no development provider of ours.
    [(origin: string) => `${origin}/authorize`, /development provider of `coatcheck dev`/],
  ] as const) {
    const gateway = await fake((origin) => ({ redirectTo: redirectTo(origin) }))
    await expect(signIn(context, 'alice', { baseURL: gateway.origin })).rejects.toThrow(says)
    await gateway.close()
  }
  expect(context.pages()).toHaveLength(0)
})

test('what is no gateway, or does not answer, is named with what to do', async ({ context }) => {
  const other = await fake(() => ({ hello: 'world' }))
  const baseURL = other.origin
  await expect(signIn(context, 'alice', { baseURL })).rejects.toThrow(/Is baseURL the gateway's/)
  await other.close()
  await expect(signIn(context, 'alice', { baseURL })).rejects.toThrow(/Start the gateway/)
})
