/** The Chromium that browser tests run on, and how it is started. */

import { spawnSync } from 'node:child_process'
import { findExecutable } from './executable.ts'

/** The system's Chromium or Chrome; undefined means Playwright's own, which `playwright install` brings. */
export const findChromium = (): string | undefined => {
  for (const name of ['chromium', 'google-chrome-stable', 'google-chrome']) {
    const executable = findExecutable(name)
    if (executable !== undefined && runs(executable)) return executable
  }
  return undefined
}

// Ubuntu's package is a stub that asks for a snap, and the snap cannot be driven from outside its confinement.
const runs = (executable: string): boolean => {
  const { stdout } = spawnSync(executable, ['--version'], { encoding: 'utf8', timeout: 20_000 })
  return /^(Chromium|Google Chrome) \d+/.test(stdout ?? '') && !stdout.includes('snap')
}

/** No traffic of its own, no first-run pages; the sandbox needs a user other than root. */
export const chromiumArgs = (): string[] => [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
]
