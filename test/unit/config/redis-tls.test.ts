/** TLS towards Redis: files in PEM, judged at start, followed while running. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import { watchSecrets } from '../../../src/config/watched.ts'
import { createAuthority } from '../../support/certificates.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { emptyDirectory, load, loadYaml, MINIMAL, problemsOf } from './minimal.ts'

const authority = createAuthority()
const one = authority.issue('gateway')
const other = authority.issue('gateway')

const FILES = {
  'ca.pem': authority.cert + one.cert,
  'one.pem': one.cert,
  'one.key': one.key,
  'other.key': other.key,
  'text.pem': 'nothing',
  'broken.pem': one.cert.replace(/\n.{8}/, '\nAAAAAAAA'),
  'empty.pem': '',
}

const loadFiles = (changes: Readonly<Record<string, string>>) =>
  load(
    { COATCHECK_REDIS_URL: 'rediss://redis.example.com', ...changes },
    { cwd: emptyDirectory(FILES) },
  ).redis.tls

test('files are named relative to the working directory in variables', () => {
  const tls = loadFiles({
    COATCHECK_REDIS_TLS_CA: 'ca.pem',
    COATCHECK_REDIS_TLS_CERT: 'one.pem',
    COATCHECK_REDIS_TLS_KEY: './one.key',
    COATCHECK_REDIS_TLS_SERVER_NAME: 'redis.internal',
  })
  expect(tls.ca?.current).toBe(FILES['ca.pem'])
  expect(tls.cert?.current).toBe(one.cert)
  expect(tls.key?.current).toBe(one.key)
  expect(tls.serverName).toBe('redis.internal')
})

test('files are named relative to the file that names them', () => {
  const directory = emptyDirectory({
    ...FILES,
    'gateway.yaml': 'redis:\n  url: rediss://redis\n  tls: { ca: ca.pem }\n',
  })
  const { config } = loadConfig({
    env: MINIMAL,
    cwd: emptyDirectory(),
    configFile: join(directory, 'gateway.yaml'),
  })
  expect(config.redis.tls.ca?.current).toBe(FILES['ca.pem'])
})

test('nothing is set by default', () => {
  expect(load({}).redis.tls).toEqual({
    ca: undefined,
    cert: undefined,
    key: undefined,
    serverName: undefined,
  })
})

test.each([
  ['CA', 'absent.pem', /^must be a file that can be read \(ENOENT\)$/],
  ['CA', '.', /^must be a regular file$/],
  ['CA', 'text.pem', /^must be a file with certificates in PEM$/],
  ['CA', 'empty.pem', /^must be a file with certificates in PEM$/],
  ['CA', 'broken.pem', /^must be a file with certificates in PEM$/],
  ['CA', 'one.key', /^must be a file with certificates in PEM$/],
  ['CA', authority.cert, /^must be the path of a file in PEM, not what is in it$/],
  ['SERVER_NAME', 'redis.example.com:6379', /^must be a host name/],
  ['SERVER_NAME', '*.example.com', /^must be a host name/],
])('redis.tls: %s refuses %j', (name, value, rule) => {
  const problems = problemsOf(() => loadFiles({ [`COATCHECK_REDIS_TLS_${name}`]: value }))
  expect(problems).toEqual([
    expect.objectContaining({
      variable: `COATCHECK_REDIS_TLS_${name}`,
      rule: expect.stringMatching(rule),
      source: 'environment',
    }),
  ])
})

test.each([
  ['one.pem', /^must be a file with a private key in PEM that no passphrase protects$/],
  ['text.pem', /^must be a file with a private key in PEM that no passphrase protects$/],
  ['other.key', /^must be the key of redis\.tls\.cert$/],
])('redis.tls.key refuses %j beside a certificate', (file, rule) => {
  const problems = problemsOf(() =>
    loadFiles({ COATCHECK_REDIS_TLS_CERT: 'one.pem', COATCHECK_REDIS_TLS_KEY: file }),
  )
  expect(problems).toEqual([
    expect.objectContaining({ setting: 'redis.tls.key', rule: expect.stringMatching(rule) }),
  ])
})

test.each([
  ['cert', 'one.pem', 'redis.tls.key'],
  ['key', 'one.key', 'redis.tls.cert'],
])('redis.tls.%s alone misses its other half', (name, file, missing) => {
  const problems = problemsOf(() =>
    loadFiles({ [`COATCHECK_REDIS_TLS_${name.toUpperCase()}`]: file }),
  )
  expect(problems.map(({ setting }) => setting)).toEqual([missing])
})

test.each([[undefined], ['redis://redis'], ['redis+cluster://one,two']])(
  'redis.tls says that it has no effect with the URL %j',
  (url) => {
    const act = () =>
      load({ COATCHECK_REDIS_URL: url, COATCHECK_REDIS_TLS_SERVER_NAME: 'redis.example.com' })
    expect(problemsOf(act)).toEqual([
      expect.objectContaining({
        setting: 'redis.tls.serverName',
        rule: 'needs a redis.url that begins with rediss',
      }),
    ])
  },
)

test('a URL with a problem of its own causes no second one', () => {
  const act = () => loadYaml('redis: { url: nowhere, tls: { serverName: redis } }')
  expect(problemsOf(act).map(({ setting }) => setting)).toEqual(['redis.url'])
})

test('a renewed certificate and key are followed; what cannot be used changes nothing and is said once', async () => {
  const directory = emptyDirectory(FILES)
  const loaded = loadConfig({
    env: {
      ...MINIMAL,
      COATCHECK_REDIS_URL: 'rediss://redis',
      COATCHECK_REDIS_TLS_CERT: join(directory, 'one.pem'),
      COATCHECK_REDIS_TLS_KEY: join(directory, 'one.key'),
    },
    cwd: emptyDirectory(),
  })
  const clock = createFakeClock()
  const warnings: string[] = []
  const watching = watchSecrets(loaded, { clock, warn: (warning) => warnings.push(warning) })
  onTestFinished(() => watching.stop())
  const { cert, key } = loaded.config.redis.tls

  writeFileSync(join(directory, 'one.pem'), other.cert)
  writeFileSync(join(directory, 'one.key'), other.key)
  await clock.advance(10_000)
  expect([cert?.current, key?.current]).toEqual([other.cert, other.key])

  writeFileSync(join(directory, 'one.key'), '-----BEGIN')
  await clock.advance(10_000)
  await clock.advance(10_000)
  expect(key?.current).toBe(other.key)
  expect(warnings).toEqual([
    'The file that redis.tls.key names must be a file with a private key in PEM that no passphrase protects; the value that was read before stays in use.',
  ])
})
