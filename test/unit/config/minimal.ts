/** The smallest valid environment, and what loading makes of changes to it. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { type LoadOptions, loadConfig } from '../../../src/config/load.ts'
import { ConfigError, type Problem } from '../../../src/config/problems.ts'

export const ADMIN_TOKEN = 'qT7.x~3+Vb/9Lr_2-Kd8Zw1Ny6Hc4Sf0'
export const RING_SECRET = 'Wn8vPq2ZbT5xRk7LmC4dHs9Yg3JfAe6U'
export const OTHER_SECRET = 'qX7mB2kZ9vN4cT8wR5yL3pD6gH1jF0sA'

export const MINIMAL = {
  COATCHECK_PUBLIC_URL: 'https://app.example.com',
  COATCHECK_ISSUER: 'https://login.example.com',
  COATCHECK_CLIENT_ID: 'shop',
  COATCHECK_CLIENT_SECRET: 'c1ient-5ecret',
  COATCHECK_UPSTREAM: 'http://127.0.0.1:8080',
  COATCHECK_SECRET: RING_SECRET,
} as const

/** A directory without a `coatcheck.yaml`, removed with the test. */
export const emptyDirectory = (files: Readonly<Record<string, string>> = {}): string => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-config-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
  return directory
}

type Changes = Readonly<Record<string, string | undefined>>

export const load = (changes: Changes, options: Partial<LoadOptions> = {}): Config =>
  loadConfig({ env: { ...MINIMAL, ...changes }, cwd: emptyDirectory(), ...options }).config

/** Loads the file beside the smallest environment, some of whose variables may be taken away. */
export const loadYaml = (yaml: string, changes: Changes = {}): Config =>
  load(changes, { cwd: emptyDirectory({ 'coatcheck.yaml': yaml }) })

/** Problems of a load that must fail. */
export const problemsOf = (act: () => unknown): readonly Problem[] => {
  try {
    act()
  } catch (thrown) {
    if (thrown instanceof ConfigError) return thrown.problems
    throw thrown
  }
  throw new Error('the configuration was accepted')
}
