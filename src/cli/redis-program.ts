/** The Redis or Valkey server of this machine: where it is, or the exact command that installs it. */

import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const NAMES = ['redis-server', 'valkey-server']

/** Full path of the first that is an executable file in this PATH. */
export const findRedis = (path: string | undefined): string | undefined =>
  NAMES.flatMap((name) =>
    (path ?? '')
      .split(delimiter)
      .filter((directory) => directory !== '')
      .map((directory) => join(directory, name)),
  ).find(isExecutable)

const isExecutable = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    // Absent, a broken link or not ours to run: all mean "look further".
    return false
  }
}

export interface System {
  readonly platform: string
  /** Text of /etc/os-release, where there is one. */
  readonly osRelease: string
  readonly isRoot: boolean
}

const thisSystem = (): System => ({
  platform: process.platform,
  osRelease: osRelease(),
  isRoot: process.getuid?.() === 0,
})

const osRelease = (): string => {
  try {
    return readFileSync('/etc/os-release', 'utf8')
  } catch {
    // Only Linux has it; elsewhere the platform says enough.
    return ''
  }
}

/** By `ID`, then by the names of `ID_LIKE` in their order (os-release(5)). */
const INSTALLS: Readonly<Record<string, readonly string[]>> = {
  debian: ['apt-get update', 'apt-get install -y redis-server'],
  ubuntu: ['apt-get update', 'apt-get install -y redis-server'],
  fedora: ['dnf install -y valkey'],
  arch: ['pacman -S --noconfirm valkey'],
  alpine: ['apk add valkey'],
}

/** One line for a shell; undefined on a system that is not known here. */
export const redisInstallCommand = ({
  platform,
  osRelease,
  isRoot,
}: System): string | undefined => {
  if (platform === 'darwin') return 'brew install redis'
  const commands = [...wordsOf('ID', osRelease), ...wordsOf('ID_LIKE', osRelease)]
    .map((name) => (Object.hasOwn(INSTALLS, name) ? INSTALLS[name] : undefined))
    .find((known) => known !== undefined)
  return commands?.map((command) => (isRoot ? command : `sudo ${command}`)).join(' && ')
}

export const redisMissing = (): string => {
  const install = redisInstallCommand(thisSystem())
  return [
    'The demo with replicas needs a Redis: neither redis-server nor valkey-server is in PATH.',
    install === undefined ? 'Install one of them.' : `Install it:\n  ${install}`,
  ].join('\n')
}

const wordsOf = (name: string, osRelease: string): string[] => {
  const value = new RegExp(`^${name}=["']?([^"'\n]*)`, 'm').exec(osRelease)?.[1] ?? ''
  return value.split(' ').filter((word) => word !== '')
}
