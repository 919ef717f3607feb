/** The command line as a child process, seeing only the environment that a test gives it. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { type Child, startChild } from '../support/child.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

export type Variables = Readonly<Record<string, string | undefined>>

export const SMALLEST = {
  COATCHECK_PUBLIC_URL: 'https://app.example.com',
  COATCHECK_ISSUER: 'http://127.0.0.1:1',
  COATCHECK_CLIENT_ID: 'shop',
  COATCHECK_CLIENT_SECRET: 'c1ient-5ecret',
  COATCHECK_UPSTREAM: 'http://127.0.0.1:2',
  COATCHECK_SECRET: 'Wn8vPq2ZbT5xRk7LmC4dHs9Yg3JfAe6U',
} as const

/** For a process that several tests share: who starts it ends it. */
export const launchCoatcheck = (
  args: readonly string[],
  env: Variables,
  cwd: string,
): Promise<Child> =>
  startChild(process.execPath, [main, ...args], { cwd, env: { PATH: process.env.PATH, ...env } })

/** In a directory without `coatcheck.yaml`, where no setting of the machine can get in. */
export const startCoatcheck = async (
  args: readonly string[],
  env: Variables = {},
  cwd = mkdtempSync(join(tmpdir(), 'coatcheck-cli-')),
): Promise<Child> => {
  const child = await launchCoatcheck(args, env, cwd)
  onTestFinished(async () => {
    await child.kill()
    rmSync(cwd, { recursive: true, force: true })
  })
  return child
}

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export const runCoatcheck = async (
  args: readonly string[],
  env: Variables = {},
  cwd?: string,
): Promise<Finished> => {
  const child = await startCoatcheck(args, env, cwd)
  const { code } = await child.exited
  return { code, stdout: child.stdout.join('\n'), stderr: child.stderr.join('\n') }
}
