/** TLS towards upstreams: the same files as towards Redis, and rules of its own about where they make sense. */

import { expect, test } from 'vitest'
import { createAuthority } from '../../support/certificates.ts'
import { emptyDirectory, load, loadYaml, problemsOf } from './minimal.ts'

const authority = createAuthority()
const one = authority.issue('gateway')
const FILES = {
  'ca.pem': authority.cert,
  'one.pem': one.cert,
  'one.key': one.key,
  'other.key': authority.issue('gateway').key,
}

const loadFiles = (changes: Readonly<Record<string, string>>) =>
  load({ COATCHECK_UPSTREAM: 'https://api.internal', ...changes }, { cwd: emptyDirectory(FILES) })
    .upstreamTls

test('files and name are read', () => {
  const tls = loadFiles({
    COATCHECK_UPSTREAM_TLS_CA: 'ca.pem',
    COATCHECK_UPSTREAM_TLS_CERT: 'one.pem',
    COATCHECK_UPSTREAM_TLS_KEY: 'one.key',
    COATCHECK_UPSTREAM_TLS_SERVER_NAME: 'api.example.com',
  })
  expect(tls.ca?.current).toBe(authority.cert)
  expect(tls.cert?.current).toBe(one.cert)
  expect(tls.key?.current).toBe(one.key)
  expect(tls.serverName).toBe('api.example.com')
})

test('nothing is set by default', () => {
  expect(load({}).upstreamTls).toEqual({})
})

test.each([
  [{ CA: 'absent.pem' }, 'upstreamTls.ca', /can be read \(ENOENT\)$/],
  [{ CA: 'one.key' }, 'upstreamTls.ca', /^must be a file with certificates in PEM$/],
  [{ CERT: 'one.pem' }, 'upstreamTls.key', /^must be set too: a certificate and its key/],
  [{ KEY: 'one.key' }, 'upstreamTls.cert', /^must be set too: a certificate and its key/],
  [
    { CERT: 'one.pem', KEY: 'other.key' },
    'upstreamTls.key',
    /^must be the key of upstreamTls.cert$/,
  ],
  [{ SERVER_NAME: 'api:443' }, 'upstreamTls.serverName', /^must be a host name/],
])('%j is refused', (settings, setting, rule) => {
  const variables = Object.fromEntries(
    Object.entries(settings).map(([name, value]) => [`COATCHECK_UPSTREAM_TLS_${name}`, value]),
  )
  expect(problemsOf(() => loadFiles(variables))).toEqual([
    expect.objectContaining({ setting, rule: expect.stringMatching(rule) }),
  ])
})

test('without an https upstream it would have no effect, and that is said', () => {
  const act = () => loadYaml('upstreamTls: { serverName: api.example.com }')
  expect(problemsOf(act)).toEqual([
    expect.objectContaining({
      setting: 'upstreamTls.serverName',
      rule: 'needs an upstream that begins with https',
    }),
  ])
})

test('one name cannot be that of two upstreams', () => {
  const act = () =>
    loadYaml(`
upstreamTls: { serverName: api.example.com }
routes:
  - { path: /one, upstream: https://one.internal }
  - { path: /one-too, upstream: https://one.internal/v2 }
  - { path: /two, upstream: https://two.internal }
`)
  expect(problemsOf(act)).toEqual([
    expect.objectContaining({
      setting: 'upstreamTls.serverName',
      rule: 'must not be set where https upstreams are several',
    }),
  ])
})
