/**
 * Attack: a client sends the fields by which proxies, clouds and frameworks tell an API who is calling, in every
 * spelling that a CGI-like server makes the same variable of, and the API believes them.
 * The upstream folds names as such a server does: case, and every separator to `_`.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rawExchange } from '../edges/upstream/raw-sockets.ts'
import type { SmallGateway } from '../edges/upstream/small-gateway.ts'
import {
  ACCESS_TOKEN,
  OWN_COOKIE,
  routeTo,
  startSmallGateway,
} from '../edges/upstream/small-gateway.ts'
import type { UpstreamApi } from '../support/upstream-api.ts'
import { startUpstreamApi } from '../support/upstream-api.ts'

let api: UpstreamApi
let gateway: SmallGateway

beforeAll(async () => {
  api = await startUpstreamApi()
  gateway = await startSmallGateway([
    routeTo(api.url),
    routeTo(api.url, { path: '/cookies', cookies: ['theme', `${OWN_COOKIE}-x`] }),
  ])
})
afterAll(async () => {
  await gateway.close()
  await api.close()
})

/** The variables that a CGI-like API sees, name by name. */
const variablesFor = async (headers: string, path = '/api'): Promise<Map<string, string[]>> => {
  api.forgetRequests()
  await rawExchange(
    gateway.port,
    `GET ${path} HTTP/1.1\r\nHost: app.example.com\r\nConnection: close\r\n${headers}\r\n\r\n`,
  )
  const { rawHeaders } = await api.request(0)
  const variables = new Map<string, string[]>()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toUpperCase().replace(/[^A-Z0-9]/g, '_')
    variables.set(name, [...(variables.get(name) ?? []), rawHeaders[i + 1] ?? ''])
  }
  return variables
}

describe('RFC 9700 §4.13 a field that asserts an identity', () => {
  it.each([
    'Remote-User',
    'X-Remote-User',
    'X-User',
    'X-User-Id',
    'X-User-Roles',
    'X-Auth-Request-User',
    'X-Auth-Request-Email',
    'X-Auth-Token',
    'X-Forwarded-User',
    'X-Envoy-Retry-On',
    'X-Envoy-Original-Path',
    'L5d-Client-Id',
    'X-JWT-Payload',
    'X-Forwarded-Email',
    'X-Forwarded-Groups',
    'X-Forwarded-Access-Token',
    'X-Forwarded-Client-Cert',
    'X-Forwarded-Prefix',
    'X-Forwarded-Port',
    'X-Webauth-User',
    'X-Email',
    'X-Groups',
    'Client-Cert',
    'X-Client-Cert',
    'X-SSL-Client-S-DN',
    'SSL-Client-Verify',
    'X-Real-IP',
    'True-Client-IP',
    'CF-Connecting-IP',
    'X-Client-IP',
    'X-Original-URL',
    'X-Rewrite-URL',
    'X-Original-Host',
    'X-HTTP-Method-Override',
    'X-API-Key',
    'DPoP',
    'Proxy',
    'X-Amzn-Oidc-Data',
    'X-MS-Client-Principal',
    'X-Goog-Authenticated-User-Email',
  ])('%s reaches the API in no spelling', async (name) => {
    const spellings = [
      name,
      name.toUpperCase(),
      name.toLowerCase(),
      name.replaceAll('-', '_'),
      name.replaceAll('-', '.'),
      name.replaceAll('-', '__'),
      `_${name}`,
    ]
    const variables = await variablesFor(
      spellings.map((spelling) => `${spelling}: mallory`).join('\r\n'),
    )
    expect([...variables.values()].flat()).not.toContain('mallory')
  })

  it('the twin that asserts nothing does', async () => {
    const variables = await variablesFor('X-Tenant: blue\r\nX_Legacy: 1\r\nX-CSRF-Token: t')
    expect(variables.get('X_TENANT')).toEqual(['blue'])
    expect(variables.get('X_LEGACY')).toEqual(['1'])
    expect(variables.get('X_CSRF_TOKEN')).toEqual(['t'])
  })
})

describe('what the gateway says itself', () => {
  it.each(['-', '_', '.'])('has one value, also against spellings with %s', async (separator) => {
    const spelled = (name: string) => name.replaceAll('-', separator)
    const variables = await variablesFor(
      [
        `Authorization: Bearer mallory`,
        `AUTHORIZATION: Basic bWFsbG9yeQ==`,
        `Forwarded: for=6.6.6.6;host=evil.example;proto=http`,
        `${spelled('X-Forwarded-For')}: 6.6.6.6`,
        `${spelled('x-forwarded-host')}: evil.example`,
        `${spelled('X-Forwarded-Proto')}: http`,
        `${spelled('X-Request-Id')}: forged`,
      ].join('\r\n'),
    )
    expect(variables.get('AUTHORIZATION')).toEqual([`Bearer ${ACCESS_TOKEN}`])
    expect(variables.get('FORWARDED')).toEqual(['for=192.0.2.7;host="app.example.com";proto=https'])
    expect(variables.get('X_FORWARDED_FOR')).toEqual(['192.0.2.7'])
    expect(variables.get('X_FORWARDED_HOST')).toEqual(['app.example.com'])
    expect(variables.get('X_FORWARDED_PROTO')).toEqual(['https'])
    expect(variables.get('X_REQUEST_ID')).toEqual(['request-1'])
    expect(variables.get('HOST')).toEqual([new URL(api.url).host])
  })
})

describe('RFC 10017 §6.1.1 the gateway’s cookies', () => {
  it.each([
    `Cookie: ${OWN_COOKIE}=ticket`,
    `Cookie: theme=dark; ${OWN_COOKIE}=ticket`,
    `Cookie: theme=dark\r\nCookie: ${OWN_COOKIE}=ticket`,
    `cookie: ${OWN_COOKIE}-login-0=ticket;${OWN_COOKIE}-x=ticket`,
    `COOKIE: theme="; ${OWN_COOKIE}=ticket; "`,
    `Cookie: =${OWN_COOKIE}=ticket`,
    `Cookie: ${OWN_COOKIE}\t=ticket`,
    `Cookie_: x\r\nCOOKIE: ${OWN_COOKIE.toLowerCase()}-x=ticket`,
  ])('%j never reaches an API, and elsewhere only listed cookies do', async (lines) => {
    expect((await variablesFor(lines)).get('COOKIE')).toBeUndefined()
    const listed = [...(await variablesFor(lines, '/cookies')).values()].flat().join('\n')
    expect(listed).not.toContain('ticket')
  })

  it('a listed cookie of the application does', async () => {
    const variables = await variablesFor(`Cookie: ${OWN_COOKIE}=ticket; theme=dark`, '/cookies')
    expect(variables.get('COOKIE')).toEqual(['theme=dark'])
  })
})
