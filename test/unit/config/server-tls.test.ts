/** TLS towards browsers: certificate and key judged together at start, followed together while running. */

import { generateKeyPairSync } from 'node:crypto'
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { type LoadedConfig, loadConfig } from '../../../src/config/load.ts'
import { watchSecrets } from '../../../src/config/watched.ts'
import { selfSigned, weak } from '../../support/certificates.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { emptyDirectory, load, MINIMAL, problemsOf } from './minimal.ts'

const one = selfSigned('app.example.com')
const other = selfSigned('app.example.com')
const elsewhere = selfSigned('other.example.com', '192.0.2.1')

const FILES = {
  'one.pem': one.cert,
  'one.key': one.key,
  'other.pem': other.cert,
  'other.key': other.key,
  'elsewhere.pem': elsewhere.cert,
  'elsewhere.key': elsewhere.key,
  'text.pem': 'nothing',
  'locked.key': generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' },
  }).privateKey,
}

type Changes = Readonly<Record<string, string | undefined>>

const loadFiles = (changes: Changes, directory = emptyDirectory(FILES)): LoadedConfig =>
  loadConfig({
    env: {
      ...MINIMAL,
      COATCHECK_TLS_CERT: 'one.pem',
      COATCHECK_TLS_KEY: 'one.key',
      ...changes,
    },
    cwd: directory,
  })

const certificateWarnings = ({ warnings }: LoadedConfig) =>
  warnings.filter((warning) => warning.includes('tls.'))

test('without a certificate plain HTTP is spoken', () => {
  expect(load({}).tls).toEqual({
    identity: undefined,
    minVersion: 'TLSv1.2',
    plainListen: undefined,
  })
})

test('a certificate and its key are one identity', () => {
  const loaded = loadFiles({
    COATCHECK_TLS_MIN_VERSION: 'TLSv1.3',
    COATCHECK_TLS_PLAIN_LISTEN: '0.0.0.0:80',
  })
  expect(loaded.config.tls.identity?.current).toEqual(one)
  expect(loaded.config.tls.minVersion).toBe('TLSv1.3')
  expect(loaded.config.tls.plainListen).toEqual({ host: '0.0.0.0', port: 80 })
  expect(certificateWarnings(loaded)).toEqual([])
})

const KEY_RULE = 'must be a file with a private key in PEM that no passphrase protects'

test.each<[Changes, string, string]>([
  [{ COATCHECK_TLS_CERT: 'text.pem' }, 'tls.cert', 'must be a file with certificates in PEM'],
  [{ COATCHECK_TLS_CERT: 'no.pem' }, 'tls.cert', 'must be a file that can be read (ENOENT)'],
  [{ COATCHECK_TLS_KEY: 'one.pem' }, 'tls.key', KEY_RULE],
  [{ COATCHECK_TLS_KEY: 'locked.key' }, 'tls.key', KEY_RULE],
  [{ COATCHECK_TLS_KEY: 'other.key' }, 'tls.key', 'must be the key of tls.cert'],
  [
    { COATCHECK_TLS_KEY: undefined },
    'tls.key',
    'must be set too: a certificate and its key go together',
  ],
  [
    { COATCHECK_TLS_CERT: undefined },
    'tls.cert',
    'must be set too: a certificate and its key go together',
  ],
  [{ COATCHECK_TLS_MIN_VERSION: 'TLSv1.1' }, 'tls.minVersion', 'must be TLSv1.2 or TLSv1.3'],
  [
    { COATCHECK_PUBLIC_URL: 'http://localhost:3000' },
    'tls.cert',
    'needs a publicUrl that begins with https',
  ],
  [
    { COATCHECK_TLS_PLAIN_LISTEN: '0.0.0.0:3000' },
    'tls.plainListen',
    'must not be the address of listen or operations.listen',
  ],
  [
    { COATCHECK_TLS_PLAIN_LISTEN: '127.0.0.1:9090' },
    'tls.plainListen',
    'must not be the address of listen or operations.listen',
  ],
  [
    {
      COATCHECK_TLS_PLAIN_LISTEN: '127.0.0.1:8080',
      COATCHECK_UPSTREAM: 'http://127.0.0.1:8080',
    },
    'upstream',
    'must not be the address of tls.plainListen: the gateway would call itself',
  ],
])('%j is a problem of %s', (changes, setting, rule) => {
  const problems = problemsOf(() => loadFiles(changes))
  expect(problems).toEqual([expect.objectContaining({ setting, rule })])
})

test('an RSA key that is too weak for TLS is a problem at start, not at the first handshake', () => {
  const { cert, key } = weak('app.example.com')
  const directory = emptyDirectory({ 'weak.pem': cert, 'weak.key': key })
  const act = () =>
    loadFiles({ COATCHECK_TLS_CERT: 'weak.pem', COATCHECK_TLS_KEY: 'weak.key' }, directory)
  expect(problemsOf(act)).toEqual([
    expect.objectContaining({
      setting: 'tls.cert',
      rule: 'must be a certificate, with its chain, that is strong enough for TLS',
    }),
  ])
})

test('a certificate for another host is worth a warning: TLS can be spoken with it', () => {
  const warned = [
    'The certificate of tls.cert does not name the host of publicUrl: browsers refuse it.',
  ]
  const files = { COATCHECK_TLS_CERT: 'elsewhere.pem', COATCHECK_TLS_KEY: 'elsewhere.key' }
  expect(certificateWarnings(loadFiles(files))).toEqual(warned)
  const at = (publicUrl: string) =>
    certificateWarnings(loadFiles({ ...files, COATCHECK_PUBLIC_URL: publicUrl }))
  expect(at('https://192.0.2.1')).toEqual([])
  expect(at('https://192.0.2.2')).toEqual(warned)
  expect(at('https://[2001:db8::1]')).toEqual(warned)
})

const following = (directory: string, changes: Changes) => {
  const loaded = loadFiles(changes, directory)
  const clock = createFakeClock()
  const warnings: string[] = []
  const watching = watchSecrets(loaded, { clock, warn: (warning) => warnings.push(warning) })
  onTestFinished(() => watching.stop())
  const { identity } = loaded.config.tls
  if (identity === undefined) throw new Error('there is a certificate')
  const seen: unknown[] = []
  identity.subscribe((renewed) => seen.push(renewed))
  return { identity, seen, warnings, nextCheck: () => clock.advance(10_000) }
}

test('files written one after the other are taken when both are there; what is unusable is said once', async () => {
  const directory = emptyDirectory(FILES)
  const { identity, seen, warnings, nextCheck } = following(directory, {})

  writeFileSync(join(directory, 'one.pem'), other.cert)
  await nextCheck()
  await nextCheck()
  expect(identity.current).toEqual(one)
  expect(warnings).toEqual([
    'The file that tls.key names must be the key of tls.cert; the value that was read before stays in use.',
  ])

  writeFileSync(join(directory, 'one.key'), other.key)
  await nextCheck()
  expect(identity.current).toEqual(other)
  expect(seen).toEqual([other])

  writeFileSync(join(directory, 'one.pem'), '')
  await nextCheck()
  await nextCheck()
  rmSync(join(directory, 'one.pem'))
  await nextCheck()
  expect(identity.current).toEqual(other)
  expect(warnings.slice(1)).toEqual([
    'The file that tls.cert names must be a file with certificates in PEM; the value that was read before stays in use.',
    'The file that tls.cert names must be a file that can be read (ENOENT); the value that was read before stays in use.',
  ])
})

test('a mounted secret whose directory is swapped is followed', async () => {
  const [before, after] = [
    emptyDirectory({ 'tls.crt': one.cert, 'tls.key': one.key }),
    emptyDirectory({ 'tls.crt': other.cert, 'tls.key': other.key }),
  ]
  const mount = emptyDirectory()
  symlinkSync(before, join(mount, '..data'))
  const { identity, warnings, nextCheck } = following(mount, {
    COATCHECK_TLS_CERT: '..data/tls.crt',
    COATCHECK_TLS_KEY: '..data/tls.key',
  })
  rmSync(join(mount, '..data'))
  symlinkSync(after, join(mount, '..data'))
  await nextCheck()
  expect(identity.current).toEqual(other)
  expect(warnings).toEqual([])
})
