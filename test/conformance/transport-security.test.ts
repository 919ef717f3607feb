/** RFC 6797: whatever comes over https pins the browser to https, refusals and the API's answers included. */

import { mkdtempSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const spa = mkdtempSync(join(tmpdir(), 'coatcheck-spa-'))
writeFileSync(join(spa, 'index.html'), '<!doctype html><title>App</title>')

const NAVIGATION = {
  'sec-fetch-mode': 'navigate',
  'sec-fetch-dest': 'document',
  'sec-fetch-site': 'none',
}
const FROM_ELSEWHERE = { ...NAVIGATION, 'sec-fetch-site': 'cross-site' }

const ANSWERS: readonly (readonly [string, string, Record<string, string>, number])[] = [
  ['the application', '/', NAVIGATION, 200],
  ['the way back after signing out', '/bff/logged-out', NAVIGATION, 303],
  ['the page for Strict cookies', '/bff/login', FROM_ELSEWHERE, 200],
  ['the same before a document route', '/reports', FROM_ELSEWHERE, 200],
  ['the way to sign in', '/reports', NAVIGATION, 303],
  ['an error page', '/bff/callback?code=x&state=y', NAVIGATION, 400],
  ['no such endpoint', '/bff/none', NAVIGATION, 404],
  ['JSON', '/bff/session', { 'x-csrf': '1' }, 200],
  ['a problem', '/api/items', { 'x-csrf': '1' }, 401],
  ['the front-channel frame', '/bff/frontchannel-logout', {}, 200],
  ['an answer of the API', '/open', {}, 200],
  ['a path that two parsers would read differently', '/a%2fb', {}, 400],
]

const start = (publicUrl: string | undefined): Promise<WholeGateway> =>
  startWholeGateway({
    env: {
      COATCHECK_SPA: spa,
      ...(publicUrl === undefined ? {} : { COATCHECK_PUBLIC_URL: publicUrl }),
    },
    file: ({ api }) => ({
      routes: [
        { path: '/reports', upstream: api, documents: true },
        { path: '/open', upstream: api, accept: ['anonymous'] },
      ],
    }),
  })

/** As a proxy that ends TLS asks: by plain HTTP, with the public host. */
const ask = (
  { port, url }: WholeGateway,
  publicUrl: string | undefined,
  path: string,
  headers: Record<string, string>,
): Promise<readonly [number | undefined, readonly string[]]> =>
  new Promise((resolve, reject) => {
    const { host } = new URL(publicUrl ?? url)
    const options = { host: '127.0.0.1', port, path, headers: { host, ...headers } }
    request(options, (response) => {
      response.resume()
      resolve([response.statusCode, response.headersDistinct['strict-transport-security'] ?? []])
    })
      .once('error', reject)
      .end()
  })

describe.each([
  ['§7.1 an https public URL', 'https://app.example.com', ['max-age=31536000; includeSubDomains']],
  ['§7.2 a public URL on loopback', undefined, []],
])('%s', (_, publicUrl, expected) => {
  let gateway: WholeGateway
  beforeAll(async () => {
    gateway = await start(publicUrl)
  })
  afterAll(() => gateway.close())

  test.each(ANSWERS)('%s (%s)', async (_name, path, headers, status) => {
    expect(await ask(gateway, publicUrl, path, headers)).toEqual([status, expected])
  })
})
