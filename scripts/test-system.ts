/** What the tests need from the system: a Redis server and a Chromium; found, installed or named. */

import { existsSync, readFileSync } from 'node:fs'
import { chromium } from '@playwright/test'
import { findChromium } from '../test/support/chromium.ts'
import { findExecutable } from '../test/support/executable.ts'
import { runStep } from './test-step.ts'

interface Requirement {
  readonly name: string
  find(): string | undefined
  /** Commands that bring it, in order. */
  readonly install: readonly (readonly string[])[]
}

const UPDATE = ['apt-get', 'update']
const apt = (name: string) => [
  UPDATE,
  ['apt-get', 'install', '-y', '--no-install-recommends', name],
]
const INSTALL_TIMEOUT_SECONDS = 300

export const REDIS: Requirement = {
  name: 'a Redis server',
  find: () => findExecutable('redis-server', 'valkey-server'),
  install: apt('redis-server'),
}

const CHROMIUM: Requirement = {
  name: 'Chromium',
  find: () => {
    const own = chromium.executablePath()
    return findChromium() ?? (existsSync(own) ? own : undefined)
  },
  // Ubuntu's Chromium is a snap, which Playwright cannot drive.
  install: isUbuntu()
    ? [['npx', 'playwright', 'install', '--with-deps', 'chromium']]
    : apt('chromium'),
}

/** Makes sure that all of them are there; otherwise the reason and the exact commands, for every missing part. */
export const prepareSystem = async (
  requirements: readonly Requirement[] = [REDIS, CHROMIUM],
): Promise<string | undefined> => {
  const missing = requirements.filter(({ name, find }) => {
    const found = find()
    if (found !== undefined) console.log(`found ${name}: ${found}`)
    return found === undefined
  })
  if (missing.length === 0) return undefined
  const names = missing.map(({ name }) => name).join(' and ')
  const commands = [
    ...new Set(missing.flatMap(({ install }) => install.map((line) => line.join(' ')))),
  ]
  const advice = `${names} cannot be found in PATH. Run:\n${commands.map((line) => `  ${line}`).join('\n')}`
  if (process.getuid?.() !== 0 || findExecutable('apt-get') === undefined) {
    return `${advice}\n(as root; npm test does it by itself when it runs as root on Debian or Ubuntu)`
  }

  console.log(`installing ${names}`)
  for (const line of commands) {
    const failure = await installLine(line.split(' '))
    if (failure !== undefined) return `"${line}" ${failure}\n${advice}`
  }
  const still = missing.filter(({ find }) => find() === undefined)
  if (still.length > 0)
    return `installed, but ${still.map(({ name }) => name).join(' and ')} cannot be found`
  return undefined
}

const installLine = async ([command = '', ...args]: readonly string[]) => {
  console.log(`$ ${[command, ...args].join(' ')}`)
  const { failure } = await runStep({
    command,
    args,
    // The package's own service must stay down: the tests start servers of their own.
    env: { DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1', SYSTEMD_OFFLINE: '1' },
    timeoutSeconds: INSTALL_TIMEOUT_SECONDS,
  })
  return failure
}

function isUbuntu(): boolean {
  const release = '/etc/os-release'
  return existsSync(release) && /^ID=ubuntu$/m.test(readFileSync(release, 'utf8'))
}
