/** `npm run bench` finds every benchmark by itself: each says what it measures, and the product knows none of them. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { filesSayWhatTheyAreFor } from './rules.ts'
import { REPOSITORY, repositoryFiles } from './source-tree.ts'

const bench = (...args: readonly string[]) =>
  spawnSync(process.execPath, ['bench/run.ts', ...args], {
    cwd: REPOSITORY,
    encoding: 'utf8',
    timeout: 15_000,
  })

const files = repositoryFiles('bench')
const names = files.flatMap((file) => /^bench\/([\w-]+)\.ts$/.exec(file)?.[1] ?? [])

it('lists every benchmark with what it measures', () => {
  const { stdout, status } = bench()
  expect(status).toBe(0)
  const listed = [...stdout.matchAll(/^ {2}([\w-]+) +(\S.*)$/gm)].map(([, name]) => name)
  expect(listed).toEqual(names.filter((name) => name !== 'run').toSorted())
  expect(listed).toContain('memory')
})

it('refuses a name that no benchmark has, and lists those that there are', () => {
  const { stdout, status } = bench('no-such')
  expect(status).toBe(64)
  expect(stdout).toContain('refresh-storm')
})

it('every file says what it is for', () => {
  const tree = new Map(
    files
      .filter((file) => file.endsWith('.ts'))
      .map((file) => [file, readFileSync(join(REPOSITORY, file), 'utf8')]),
  )
  expect(filesSayWhatTheyAreFor(tree)).toEqual([])
})
