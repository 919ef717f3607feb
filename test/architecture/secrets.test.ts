/** What must not be in the repository: this machine's paths, the address of a package registry, private keys. */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { REPOSITORY, repositoryFiles } from './source-tree.ts'

// Put together here, so that this file does not name it.
const PUBLIC_REGISTRY = ['registry', 'npmjs', 'org'].join('.')

interface Forbidden {
  readonly what: string
  readonly pattern: RegExp
}

const literally = (text: string) => new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))

/** The registry that this machine installs from, and the public one: neither is the repository's business. */
const registryHosts = (): string[] => {
  const configured = execFileSync('npm', ['config', 'get', 'registry'], {
    cwd: REPOSITORY,
    encoding: 'utf8',
    timeout: 15_000,
  }).trim()
  return [...new Set([PUBLIC_REGISTRY, new URL(configured).host])]
}

const FORBIDDEN: readonly Forbidden[] = [
  { what: 'the path of this checkout', pattern: literally(REPOSITORY.replace(/\/$/, '')) },
  { what: 'a home directory', pattern: /(?<![\w.])\/(?:home|Users)\/\w|(?<![\w.])\/root\/\w/ },
  ...(homedir().length > 6
    ? [{ what: 'the home of this user', pattern: literally(homedir()) }]
    : []),
  ...registryHosts().map((host) => ({ what: 'a registry host', pattern: literally(host) })),
  { what: 'a private key', pattern: /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/ },
]

const found = (file: string, text: string): string[] =>
  FORBIDDEN.filter(({ pattern }) => pattern.test(text)).map(({ what }) => `${file}: ${what}`)

it('no file names this machine, a registry or a private key', () => {
  const files = repositoryFiles()
  expect(files.length).toBeGreaterThan(50)
  expect(
    files.flatMap((file) => found(file, readFileSync(join(REPOSITORY, file), 'latin1'))),
  ).toEqual([])
})

it('finds them where they are', () => {
  const secrets = [
    `${REPOSITORY}src`,
    ['', 'home', 'somebody'].join('/'),
    `https://${PUBLIC_REGISTRY}/`,
    `-----BEGIN ${'PRIVATE KEY-----'}`,
  ]
  expect(secrets.map((secret) => found('a', secret).length)).toEqual([1, 1, 1, 1])
  expect(found('a', 'https://example.com/home/page and /usr/bin/redis-server')).toEqual([])
})

it.each(['package-lock.json', 'bench/peers/package-lock.json'])(
  '%s has integrity, and no download addresses',
  (file) => {
    const lock: { packages: Record<string, { resolved?: string; integrity?: string }> } =
      JSON.parse(readFileSync(join(REPOSITORY, file), 'utf8'))
    const installed = Object.entries(lock.packages).filter(([path]) => path !== '')
    expect(installed.length).toBeGreaterThan(50)
    expect(installed.filter(([, { resolved }]) => resolved !== undefined)).toEqual([])
    expect(installed.filter(([, { integrity }]) => integrity === undefined)).toEqual([])
  },
)
