/** `coatcheck check`: problems with 78, otherwise what the operator has to know, whether the provider answers or not. */

import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { startDevelopmentProvider } from '../../src/dev/provider.ts'
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
