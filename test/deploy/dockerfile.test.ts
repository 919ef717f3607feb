/** deploy/Dockerfile and .dockerignore, checked by reading: no container engine is needed. */

import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { repositoryUrl } from './compose-file.ts'
import { effectiveInstructions, execForm, lastArgument, readDockerfile } from './dockerfile.ts'

const stages = readDockerfile()
const packageJson = JSON.parse(readFileSync(new URL('package.json', repositoryUrl), 'utf8'))
const inContext = (path: string) => existsSync(new URL(path, repositoryUrl))

/** Sources of COPY instructions that come from the repository, not from an earlier stage. */
const sources = stages
  .flatMap(({ instructions }) => instructions)
  .filter(({ name, argument }) => name === 'COPY' && !argument.startsWith('--from='))
  .flatMap(({ argument }) => argument.split(' ').slice(0, -1))

/** Docker's patterns, unlike a shell's, let `*` match names that begin with a dot. */
const ignoreRules = readFileSync(new URL('.dockerignore', repositoryUrl), 'utf8')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => ({
    ignored: !line.startsWith('!'),
    pattern: new RegExp(
      `^${line.replace(/^!/, '').replaceAll('.', '\\.').replaceAll('*', '[^/]*')}(/|$)`,
    ),
  }))

/** The last pattern that matches the path or a folder above it decides. */
const isIgnored = (path: string): boolean =>
  ignoreRules.findLast(({ pattern }) => pattern.test(path))?.ignored ?? false

describe('the build', () => {
  it('copies files that exist and that .dockerignore lets through', () => {
    expect(sources.length).toBeGreaterThan(6)
    for (const source of sources) {
      expect(inContext(source), source).toBe(true)
      expect(isIgnored(source), source).toBe(false)
    }
  })

  it.each(['.git', 'node_modules', '.env', 'demo-spa/dist', 'test/deploy', 'deploy/keycloak'])(
    'never sees %s',
    (path) => expect(isIgnored(path)).toBe(true),
  )

  it('takes files from earlier stages only', () => {
    const earlier: string[] = []
    for (const { name, instructions } of stages) {
      for (const { argument } of instructions) {
        const [, from] = /^--from=(\S+)/.exec(argument) ?? []
        if (from !== undefined) expect(earlier).toContain(from)
      }
      earlier.push(name)
    }
  })

  it('uses the Node version that the tests run on', () => {
    const images = stages.map(({ base }) => base).filter((base) => base.startsWith('node:'))
    expect(images).toEqual(images.map(() => `node:${packageJson.devDependencies.node}-slim`))
    expect(images).toHaveLength(2)
  })

  it('installs what the lock file says and leaves oidc-provider and development tools behind', () => {
    const build = effectiveInstructions(stages, 'build').filter(({ name }) => name === 'RUN')
    expect(build.map(({ argument }) => argument)).toEqual([
      expect.stringMatching(/^npm ci --ignore-scripts/),
      'npm run build',
      expect.stringMatching(/^npm uninstall --omit=dev .* oidc-provider$/),
    ])
  })
})

describe.each(['gateway', 'demo-api'])('the %s image', (target) => {
  const instructions = effectiveInstructions(stages, target)

  it('runs as a user that is not root, given by number', () => {
    expect(lastArgument(instructions, 'USER')).toMatch(/^[1-9]\d*:[1-9]\d*$/)
  })

  it('starts Node itself as process 1, without a shell that would keep SIGTERM', () => {
    expect(execForm(lastArgument(instructions, 'ENTRYPOINT'))[0]).toBe('node')
  })

  it('checks its health with a file that it has', () => {
    const [, command] = / CMD (\[.+)$/.exec(lastArgument(instructions, 'HEALTHCHECK') ?? '') ?? []
    expect(execForm(command)).toEqual(expect.arrayContaining(['node', 'deploy/healthcheck.mjs']))
  })

  it('keeps no secret', () => {
    for (const { name, argument } of instructions) {
      if (name === 'ENV' || name === 'ARG') expect(argument).not.toMatch(/secret|password|token/i)
    }
  })
})

it('the gateway image listens on all its addresses, on the documented ports', () => {
  const instructions = effectiveInstructions(stages, 'gateway')
  expect(lastArgument(instructions, 'ENV')).toBe(
    'COATCHECK_LISTEN=0.0.0.0:3000 COATCHECK_OPERATIONS_LISTEN=0.0.0.0:9090',
  )
  expect(lastArgument(instructions, 'EXPOSE')).toBe('3000 9090')
  expect(execForm(lastArgument(instructions, 'ENTRYPOINT'))).toEqual(['node', 'dist/main.js'])
  expect(execForm(lastArgument(instructions, 'CMD'))).toEqual(['serve'])
})

it('the last stage is the gateway, so that a build without a target makes it', () => {
  expect(stages.at(-1)?.name).toBe('gateway')
})
