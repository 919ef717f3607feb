/** `npm run bench` finds every benchmark by itself: each says what it measures, and the product knows none of them. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { figuresTable, withFigures } from '../../bench/support/readme.ts'
import { requestsPlot } from '../../bench/support/requests-plot.ts'
import { verdictOn } from '../../bench/support/results.ts'
import { filesSayWhatTheyAreFor } from './rules.ts'
import { REPOSITORY, repositoryFiles } from './source-tree.ts'

const bench = (...args: readonly string[]) =>
  spawnSync(process.execPath, ['bench/run.ts', ...args], {
    cwd: REPOSITORY,
    encoding: 'utf8',
    timeout: 15_000,
  })

it('draws a plot in which every target has its figures, and names cannot break out of the text', () => {
  const latencyMs = { p50: 1, p90: 2, p99: 30 }
  const figures = [
    { target: 'upstream alone', microsPerRequest: Number.NaN, ratio: [0, 0, 0], latencyMs },
    { target: 'bare <b>', microsPerRequest: 100, ratio: [1, 1, 1], latencyMs },
    { target: 'coatcheck', microsPerRequest: 117, ratio: [1.1, 1.17, 1.2], latencyMs },
  ] as const
  const svg = requestsPlot([{ scenario: 'GET', figures }], 'by nobody')
  expect(svg).toContain('>coatcheck</text>')
  expect(svg).toContain('>117 µs</text>')
  expect(svg).toContain('>1.17 ×</text>')
  expect(svg).toContain('bare &#60;b&#62;')
  expect(svg).not.toMatch(/NaN|<b>/)
})

it('writes the figures between the marks of the README, and leaves the rest alone', () => {
  const latencyMs = { p50: 1, p90: 2, p99: 30 }
  const figures = [
    { target: 'coatcheck', microsPerRequest: 117, ratio: [1.1, 1.17, 1.2], latencyMs },
  ] as const
  const table = figuresTable([{ scenario: 'GET', figures }], 'by nobody')
  expect(table).toContain('| coatcheck | 117 µs, 1.17 × |')
  const readme = readFileSync(join(REPOSITORY, 'README.md'), 'utf8')
  const written = withFigures(readme, table)
  expect(withFigures(written, table)).toBe(written)
  expect(written).toContain('## Read on')
  expect(() => withFigures('no marks', table)).toThrow('no place')
})

it.each([
  [{ measured: 0.9, must: 1.25, aim: 1 }, 'aim'],
  [{ measured: 1.1, must: 1.25, aim: 1 }, 'must'],
  [{ measured: 1.3, must: 1.25, aim: 1 }, 'missed'],
  [{ measured: 3.5, must: 3, aim: 4, atLeast: true }, 'must'],
  [{ measured: Number.NaN, must: 3, aim: 4 }, 'missed'],
])('judges %j as %s', (budget, verdict) => {
  expect(verdictOn({ what: '', unit: '', ...budget })).toBe(verdict)
})

const files = repositoryFiles('bench')
const names = files.flatMap((file) => /^bench\/([\w-]+)\.ts$/.exec(file)?.[1] ?? [])

it('lists every benchmark with what it measures', () => {
  const { stdout, status } = bench('--list')
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

it('refuses options that belong to no benchmark', () => {
  const { stderr, status } = bench('--rounds', '3')
  expect(status).toBe(64)
  expect(stderr).toContain('name it')
})

it('every file says what it is for', () => {
  const tree = new Map(
    files
      .filter((file) => file.endsWith('.ts'))
      .map((file) => [file, readFileSync(join(REPOSITORY, file), 'utf8')]),
  )
  expect(filesSayWhatTheyAreFor(tree)).toEqual([])
})
