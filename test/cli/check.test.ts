/** `coatcheck check`: problems with 78, otherwise what the operator has to know, whether the provider answers or not. */

import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { startDevelopmentProvider } from '../../src/dev/provider.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { freePort } from '../support/free-port.ts'
import { startRedis } from '../support/redis.ts'
import { runCoatcheck, SMALLEST } from './run-coatcheck.ts'

test('lists every problem at once and ends with 78, without a value and without looking for the provider', async () => {
  const { code, stdout, stderr } = await runCoatcheck(['check'], {
    ...SMALLEST,
    COATCHECK_PUBLIC_URL: 'http://cAnArY.example',
    COATCHECK_CLIENT_SECRET: 'cAnArY\n',
    COATCHECK_CSRF: 'cAnArY',
    COATCHECK_SESION_IDLE: 'cAnArY',
    COATCHECK_SECRET_FILE: '/cAnArY',
  })
  expect({ code, stdout }).toEqual({ code: 78, stdout: '' })
  expect(stderr.split('\n').map((line) => line.replace(/ (must|is) .*/, ''))).toEqual([
    'The configuration has 5 problems:',
    '  - COATCHECK_SESION_IDLE',
    '  - secret (COATCHECK_SECRET)',
    '  - publicUrl (COATCHECK_PUBLIC_URL)',
    '  - clientSecret (COATCHECK_CLIENT_SECRET)',
    '  - csrf (COATCHECK_CSRF)',
  ])
  expect(stderr).not.toContain('cAnArY')
})

test('prints what to register, and that the provider is silent, with 0', async () => {
  const { code, stdout, stderr } = await runCoatcheck(['check'], {
    ...SMALLEST,
    COATCHECK_PREFIX: '/auth',
  })
  expect(code).toBe(0)
  expect(stdout).toContain('The configuration is valid (environment only).')
  expect(stdout).toMatch(/redirect URI +https:\/\/app\.example\.com\/auth\/callback$/m)
  expect(stdout).toMatch(
    /post-logout redirect URI +https:\/\/app\.example\.com\/auth\/logged-out$/m,
  )
  expect(stdout).toMatch(
    /back-channel logout URI +https:\/\/app\.example\.com\/auth\/backchannel-logout$/m,
  )
  expect(stdout).toMatch(
    /front-channel logout URI +https:\/\/app\.example\.com\/auth\/frontchannel-logout$/m,
  )
  expect(stdout).toContain('The provider http://127.0.0.1:1 gave no usable metadata')
  expect(stderr).toMatch(/^warning: Sessions live in the memory of this process/)
  expect(stdout + stderr).not.toMatch(/c1ient-5ecret|Wn8vPq2Z/)
})

test('prints what the provider supports and which scopes will be sent', async () => {
  const provider = await startDevelopmentProvider({})
  onTestFinished(() => provider.close())
  const { code, stdout } = await runCoatcheck(['check'], {
    ...SMALLEST,
    COATCHECK_ISSUER: provider.issuer,
  })
  expect(code).toBe(0)
  expect(stdout).toContain('The provider answers:')
  expect(stdout).toMatch(new RegExp(`issuer +${provider.issuer}$`, 'm'))
  expect(stdout).toMatch(/PKCE with S256 +supported$/m)
  expect(stdout).toMatch(/end session +supported$/m)
  expect(stdout).toMatch(/revocation +supported$/m)
  expect(stdout).toMatch(/scopes that will be sent +openid profile email offline_access$/m)
})

test('reads the file that --config names', async () => {
  const cwd = mkdtempSync(join(tmpdir(), 'coatcheck-cli-'))
  const yaml = ['publicUrl: https://shop.example.com', 'session: { sameSite: lax }'].join('\n')
  writeFileSync(join(cwd, 'shop.yaml'), yaml)
  const env = { ...SMALLEST, COATCHECK_PUBLIC_URL: undefined }
  const { code, stdout, stderr } = await runCoatcheck(['check', '--config', 'shop.yaml'], env, cwd)
  expect(code).toBe(0)
  expect(stdout).toContain('(shop.yaml and environment)')
  expect(stdout).toContain('https://shop.example.com/bff/callback')
  expect(stderr).toContain('warning: session.sameSite is lax')
})

test.each<[string, (issuer: string) => string]>([
  ['another host', (issuer) => issuer.replace('127.0.0.1', 'localhost')],
  ['a final slash', (issuer) => `${issuer}/`],
])(
  'Discovery §4.3 says that the provider names another issuer, which one, and ends with 78 (%s)',
  async (_, lie) => {
    const fake = await FakeProvider.start()
    onTestFinished(() => fake.close())
    const named = lie(fake.issuer)
    fake.metadata.issuer = named
    const { code, stdout, stderr } = await runCoatcheck(['check'], {
      ...SMALLEST,
      COATCHECK_ISSUER: fake.issuer,
    })
    expect(code).toBe(78)
    expect(stdout).not.toContain('is valid')
    expect(stdout).toContain('https://app.example.com/bff/callback')
    expect(stderr).toMatch(
      /issuer \(COATCHECK_ISSUER\) must be spelled exactly .* \[answer of the provider\]$/m,
    )
    expect(stderr).toContain(`the metadata names the issuer ${named} [`)
  },
)

test.each([
  ['nothing', { status: 404, body: '' }, 'status_404'],
  ['a page', { body: '<!doctype html>' }, 'answer_malformed'],
  ['metadata without endpoints', { body: { issuer: 'ISSUER' } }, 'authorization_endpoint_missing'],
])('says that the issuer leads to %s, with 78', async (_, reply, reason) => {
  const fake = await FakeProvider.start()
  onTestFinished(() => fake.close())
  const body = typeof reply.body === 'string' ? reply.body : { issuer: fake.issuer }
  fake.script('discovery', { ...reply, body })
  const env = { ...SMALLEST, COATCHECK_ISSUER: fake.issuer }
  const { code, stderr } = await runCoatcheck(['check'], env)
  expect(code).toBe(78)
  expect(stderr).toContain(`issuer (COATCHECK_ISSUER) must lead to usable metadata`)
  expect(stderr).toContain(`discovery_${reason}`)
})

test('a provider that is down is no problem of the configuration', async () => {
  const fake = await FakeProvider.start()
  onTestFinished(() => fake.close())
  fake.script('discovery', { status: 503 })
  const env = { ...SMALLEST, COATCHECK_ISSUER: fake.issuer }
  const { code, stdout } = await runCoatcheck(['check'], env)
  expect(code).toBe(0)
  expect(stdout).toContain('is valid')
  expect(stdout).toContain('gave no usable metadata (discovery_status_503)')
})

test('asks Redis, and warns of an eviction policy that loses sessions', async () => {
  const redis = await startRedis({ args: ['--maxmemory-policy', 'allkeys-lru'] })
  onTestFinished(() => redis.close())
  const { code, stdout, stderr } = await runCoatcheck(['check'], {
    ...SMALLEST,
    COATCHECK_REDIS_URL: redis.url,
  })
  expect(code).toBe(0)
  expect(stdout).toContain('Redis answers.')
  expect(stderr).toBe('warning: Set maxmemory-policy noeviction in Redis; it is allkeys-lru.')
})

test('says that Redis refuses the password, with 78 and without the password', async () => {
  const redis = await startRedis({ args: ['--requirepass', 'the-right-one'] })
  onTestFinished(() => redis.close())
  const { code, stdout, stderr } = await runCoatcheck(['check'], {
    ...SMALLEST,
    COATCHECK_REDIS_URL: redis.url.replace('//', '//:the-wr0ng-one@'),
  })
  expect(code).toBe(78)
  expect(stdout).not.toContain('is valid')
  expect(stderr).toMatch(
    /redis\.url \(COATCHECK_REDIS_URL\) must .*\(authentication_refused\).* \[answer of Redis\]$/m,
  )
  expect(stdout + stderr).not.toContain('the-wr0ng-one')
})

test('a Redis that is down, or silent, is reported in time, with 0', async () => {
  const silent = await startRedis()
  onTestFinished(() => silent.close())
  silent.pause()
  const [down, mute] = await Promise.all(
    [`redis://127.0.0.1:${await freePort()}`, silent.url].map((url) =>
      runCoatcheck(['check'], { ...SMALLEST, COATCHECK_REDIS_URL: url }),
    ),
  )
  expect(down).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('Redis does not answer (connection_refused). Nothing listens'),
  })
  expect(mute).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('Redis does not answer (timeout). '),
  })
})
