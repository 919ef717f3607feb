/** Rules between settings, and warnings. */

import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import {
  ADMIN_TOKEN,
  emptyDirectory,
  load,
  loadYaml,
  MINIMAL,
  OTHER_SECRET,
  problemsOf,
  RING_SECRET,
} from './minimal.ts'

type Env = Readonly<Record<string, string | undefined>>

const BROKEN: readonly (readonly [string, Env, string, string])[] = [
  [
    'idle longer than absolute',
    { COATCHECK_SESSION_IDLE: '2h', COATCHECK_SESSION_ABSOLUTE: '1h' },
    '',
    'session.idle',
  ],
  [
    'something to clear beside none',
    { COATCHECK_LOGOUT_CLEAR_SITE_DATA: 'none,cache' },
    '',
    'logout.clearSiteData',
  ],
  [
    'a drain delay beyond its deadline',
    { COATCHECK_DRAIN_DELAY: '10s', COATCHECK_DRAIN_DEADLINE: '10s' },
    '',
    'drain.delay',
  ],
  [
    'operations on the public address',
    { COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:3000' },
    '',
    'operations.listen',
  ],
  [
    'operations on the public port of every address',
    { COATCHECK_LISTEN: '0.0.0.0:9090' },
    '',
    'operations.listen',
  ],
  ['an admin token in the ring', { COATCHECK_ADMIN_TOKEN: RING_SECRET }, '', 'admin.token'],
  [
    'an admin token that is the client secret',
    { COATCHECK_ADMIN_TOKEN: ADMIN_TOKEN, COATCHECK_CLIENT_SECRET: ADMIN_TOKEN },
    '',
    'admin.token',
  ],
  [
    'an admin token without a listener',
    { COATCHECK_ADMIN_TOKEN: ADMIN_TOKEN, COATCHECK_OPERATIONS_LISTEN: 'off' },
    '',
    'admin.token',
  ],
  ['the client secret in the ring', { COATCHECK_CLIENT_SECRET: RING_SECRET }, '', 'secret'],
  ['an app in two places', {}, 'spa: { directory: /, upstream: "http://x" }', 'spa.directory'],
  ['a policy without files', { COATCHECK_SPA_CSP: 'strict' }, '', 'spa.csp'],
  [
    'a policy for another server',
    { COATCHECK_SPA: 'http://x', COATCHECK_SPA_CSP: 'strict' },
    '',
    'spa.csp',
  ],
  [
    'plain cookies beyond loopback',
    { COATCHECK_PLAIN_COOKIES: 'true', COATCHECK_PUBLIC_URL: 'https://app.example.com' },
    '',
    'plainCookies',
  ],
  [
    'plain cookies over TLS',
    { COATCHECK_PLAIN_COOKIES: 'true', COATCHECK_PUBLIC_URL: 'https://localhost:3000' },
    '',
    'plainCookies',
  ],
  [
    'plain cookies for a cross-site post, which only Secure ones survive',
    {
      COATCHECK_PLAIN_COOKIES: 'true',
      COATCHECK_PUBLIC_URL: 'http://localhost:3000',
      COATCHECK_PROVIDER_RESPONSE_MODE: 'form_post',
    },
    '',
    'plainCookies',
  ],
  ['neither upstream nor routes', { COATCHECK_UPSTREAM: undefined }, 'routes: []', 'upstream'],
  [
    'an upstream that is the public URL',
    { COATCHECK_UPSTREAM: 'https://app.example.com/x' },
    '',
    'upstream',
  ],
  [
    'an upstream that is the address it listens on',
    { COATCHECK_UPSTREAM: 'http://127.0.0.1:3000/x' },
    '',
    'upstream',
  ],
  [
    'an upstream that is the address it listens on, by name',
    { COATCHECK_UPSTREAM: 'http://localhost:3000' },
    '',
    'upstream',
  ],
  [
    'an upstream on this machine when it listens on every address',
    { COATCHECK_LISTEN: '[::]:80', COATCHECK_UPSTREAM: 'http://127.0.0.2' },
    '',
    'upstream',
  ],
  [
    'an upstream that is the IPv6 address it listens on',
    { COATCHECK_LISTEN: '[2001:db8::1]:3000', COATCHECK_UPSTREAM: 'http://[2001:db8::1]:3000' },
    '',
    'upstream',
  ],
  [
    'an upstream that is the operations listener',
    { COATCHECK_UPSTREAM: 'http://localhost:9090' },
    '',
    'upstream',
  ],
  ['an app from the public URL', { COATCHECK_SPA: 'https://app.example.com' }, '', 'spa.upstream'],
  [
    'an app from the address it listens on',
    { COATCHECK_SPA: 'http://localhost:3000' },
    '',
    'spa.upstream',
  ],
  [
    'a route to the address it listens on',
    {},
    'routes: [{ path: /x, upstream: "http://127.0.0.1:3000" }]',
    'routes[0].upstream',
  ],
  ['an API path that is the prefix', { COATCHECK_API_PATHS: '/bff' }, '', 'apiPaths'],
  [
    'an API path under the prefix',
    { COATCHECK_API_PATHS: '/api,/auth/x', COATCHECK_PREFIX: '/auth' },
    '',
    'apiPaths',
  ],
  [
    'a route under the prefix',
    {},
    'routes: [{ path: /bff/session, upstream: "http://x" }]',
    'routes[0].path',
  ],
  [
    'a route to the public URL',
    {},
    'routes: [{ path: /x, upstream: "https://app.example.com" }]',
    'routes[0].upstream',
  ],
  [
    'a path twice',
    { COATCHECK_API_PATHS: '/x' },
    'routes: [{ path: /x, upstream: "http://x" }]',
    'routes[0].path',
  ],
  [
    'a path and method twice',
    {},
    'routes: [{ path: /x, methods: [GET, POST], upstream: "http://x" }, { path: /x, methods: [POST], upstream: "http://x" }]',
    'routes[1].path',
  ],
  [
    'a user token without session',
    {},
    'routes: [{ path: /x, upstream: "http://x", accept: [anonymous], credential: user }]',
    'routes[0].credential',
  ],
  [
    'documents without session',
    {},
    'routes: [{ path: /x, upstream: "http://x", accept: [anonymous], documents: true }]',
    'routes[0].documents',
  ],
  [
    'an app below a route for everything',
    { COATCHECK_SPA: '/' },
    'routes: [{ path: /, upstream: "http://x" }]',
    'routes[0].path',
  ],
  [
    'bearer, which is not there yet',
    {},
    'routes: [{ path: /x, upstream: "http://x", accept: [session, bearer] }]',
    'routes[0].accept[1]',
  ],
  [
    'apiKey, which is not there yet',
    {},
    'routes: [{ path: /x, upstream: "http://x", accept: [apiKey] }]',
    'routes[0].accept[0]',
  ],
  [
    'no credential at all',
    {},
    'routes: [{ path: /x, upstream: "http://x", accept: [] }]',
    'routes[0].accept',
  ],
  [
    'CONNECT',
    {},
    'routes: [{ path: /x, upstream: "http://x", methods: [CONNECT] }]',
    'routes[0].methods[0]',
  ],
  [
    'TRACE',
    {},
    'routes: [{ path: /x, upstream: "http://x", methods: [TRACE] }]',
    'routes[0].methods[0]',
  ],
  [
    'a method in small letters',
    {},
    'routes: [{ path: /x, upstream: "http://x", methods: [get] }]',
    'routes[0].methods[0]',
  ],
  [
    'the session cookie for an upstream',
    {},
    'routes: [{ path: /x, upstream: "http://x", cookies: [__Host-Http-coatcheck] }]',
    'routes[0].cookies[0]',
  ],
  [
    'the session cookie, spelled otherwise',
    {},
    'routes: [{ path: /x, upstream: "http://x", cookies: [__host-http-COATCHECK-3000] }]',
    'routes[0].cookies[0]',
  ],
  [
    'the session cookie set by an upstream',
    {},
    'routes: [{ path: /x, upstream: "http://x", setCookies: [__Host-Http-coatcheck-login-1] }]',
    'routes[0].setCookies[0]',
  ],
  ['a route without path', {}, 'routes: [{ upstream: "http://x" }]', 'routes[0].path'],
  [
    'a route that is nothing',
    { COATCHECK_UPSTREAM: undefined },
    'routes: [{ path: /x }]',
    'routes[0].upstream',
  ],
]

test.each(BROKEN)('refuses %s', (_, env, yaml, setting) => {
  const settings = problemsOf(() => loadYaml(yaml, env)).map((problem) => problem.setting)
  expect(settings).toEqual([setting])
})

const ALLOWED: readonly (readonly [string, Env, string])[] = [
  [
    'idle as long as absolute',
    { COATCHECK_SESSION_IDLE: '1h', COATCHECK_SESSION_ABSOLUTE: '1h' },
    '',
  ],
  [
    'both listeners on ports of the system’s choice',
    { COATCHECK_LISTEN: '127.0.0.1:0', COATCHECK_OPERATIONS_LISTEN: '127.0.0.1:0' },
    '',
  ],
  ['one port on two addresses', { COATCHECK_OPERATIONS_LISTEN: '127.0.0.2:3000' }, ''],
  ['an upstream on its port of another address', { COATCHECK_UPSTREAM: 'http://[::1]:3000' }, ''],
  ['an upstream on another port', { COATCHECK_UPSTREAM: 'http://localhost:3001' }, ''],
  [
    'an upstream on another machine’s port',
    { COATCHECK_LISTEN: '0.0.0.0:3000', COATCHECK_UPSTREAM: 'http://api:3000' },
    '',
  ],
  ['a path that only begins like the prefix', { COATCHECK_API_PATHS: '/bffx' }, ''],
  ['a path above the prefix', { COATCHECK_API_PATHS: '/auth', COATCHECK_PREFIX: '/auth/bff' }, ''],
  [
    'one path, its methods divided',
    {},
    'routes: [{ path: /x, methods: [GET], upstream: "http://x" }, { path: /x, methods: [POST], upstream: "http://y" }]',
  ],
  [
    'a path with one method, and with all others',
    {},
    'routes: [{ path: /x, methods: [GET], upstream: "http://x" }, { path: /x, upstream: "http://x" }]',
  ],
  ['a path inside another', {}, 'routes: [{ path: /api/x, upstream: "http://x" }]'],
  ['a route for everything', {}, 'routes: [{ path: /, upstream: "http://x" }]'],
]

test.each(ALLOWED)('allows %s', (_, env, yaml) => {
  expect(loadYaml(yaml, env).routes.length).toBeGreaterThan(0)
})

test('shortens the default of idle to a short absolute lifetime', () => {
  expect(load({ COATCHECK_SESSION_ABSOLUTE: '10s' }).session.idle).toBe(10)
})

test('does not call a setting missing that has a problem of its own', () => {
  const problems = problemsOf(() =>
    load({ COATCHECK_UPSTREAM: 'nonsense', COATCHECK_SECRET: 'short' }),
  )
  expect(problems.map(({ setting }) => setting)).toEqual(['upstream', 'secret[0]'])
})

describe('warnings', () => {
  const warningsOf = (env: Env, yaml = ''): readonly string[] =>
    loadConfig({
      env: { ...MINIMAL, COATCHECK_REDIS_URL: 'redis://localhost', ...env },
      cwd: emptyDirectory({ 'coatcheck.yaml': yaml }),
    }).warnings

  test.each<readonly [string, Env, string, RegExp]>([
    ['memory', { COATCHECK_REDIS_URL: undefined }, '', /restart signs everyone out/],
    ['SameSite=Lax', { COATCHECK_SESSION_SAME_SITE: 'lax' }, '', /sameSite is lax/],
    [
      'clearing cookies',
      { COATCHECK_LOGOUT_CLEAR_SITE_DATA: 'cookies,storage' },
      '',
      /every host under the same registrable domain/,
    ],
    ['a scope without offline_access', { COATCHECK_SCOPE: 'openid' }, '', /offline_access/],
    [
      'an unprotected way to the provider',
      { COATCHECK_ISSUER: 'http://localhost:8080', COATCHECK_PROVIDER_CONNECT_TO: 'keycloak:8080' },
      '',
      /unencrypted/,
    ],
    ['trust in every peer', { COATCHECK_TRUSTED_PROXIES: '0.0.0.0/0' }, '', /trusts every address/],
    [
      'an invented secret',
      { COATCHECK_SECRET: 'my-development-secret-for-testing' },
      '',
      /looks invented/,
    ],
    [
      'a repeated secret',
      { COATCHECK_SECRET: 'q7w3z9k1q7w3z9k1q7w3z9k1q7w3z9k1' },
      '',
      /looks invented/,
    ],
    [
      'one token for two upstreams',
      {},
      'routes: [{ path: /x, upstream: "http://x" }]',
      /more than one upstream/,
    ],
    ['an app without index', { COATCHECK_SPA: '.' }, '', /no index.html/],
  ])('%s', (_, env, yaml, warning) => {
    expect(warningsOf(env, yaml)).toEqual([expect.stringMatching(warning)])
  })

  test.each<readonly [string, Env, string]>([
    ['a scope with offline_access', { COATCHECK_SCOPE: 'openid offline_access' }, ''],
    [
      'offline access by parameter',
      { COATCHECK_SCOPE: 'openid', COATCHECK_AUTHORIZATION_PARAMS: 'access_type=offline' },
      '',
    ],
    [
      'a second upstream without token',
      {},
      'routes: [{ path: /x, upstream: "http://x", credential: none }]',
    ],
    ['a generated ring', { COATCHECK_SECRET: `${RING_SECRET},${OTHER_SECRET}` }, ''],
    [
      'a provider that is reached on this machine',
      { COATCHECK_ISSUER: 'http://localhost:8080', COATCHECK_PROVIDER_CONNECT_TO: '127.0.0.1:9' },
      '',
    ],
  ])('none about %s', (_, env, yaml) => {
    expect(warningsOf(env, yaml)).toEqual([])
  })

  test('never repeat a value', () => {
    const secret = 'password-of-mine-which-is-long-enough'
    expect(warningsOf({ COATCHECK_SECRET: secret }).join()).not.toContain(secret)
  })
})
