/** `npm test`: everything, in one order, up to the first failure. Its last line says how many tests passed. */

import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { runStep, type StepCommand } from './test-step.ts'
import { prepareSystem } from './test-system.ts'
import { playwrightTotals, type Totals, vitestTotals } from './test-totals.ts'

const VITEST_REPORT = 'test-results/vitest.json'
const PLAYWRIGHT_REPORT = 'test-results/playwright.json'

interface Step {
  readonly name: string
  readonly what: string
  readonly run: StepCommand
  readonly totals?: () => Totals | undefined
}

const node = (timeoutSeconds: number, ...args: readonly string[]): StepCommand => ({
  command: process.execPath,
  args,
  timeoutSeconds,
})
const bin = (name: string) => `node_modules/.bin/${name}`

const vitest = (folders: readonly string[]): StepCommand =>
  node(
    ...([1500, bin('vitest'), 'run', '--allowOnly=false'] as const),
    ...['--reporter=default', '--reporter=json', `--outputFile.json=${VITEST_REPORT}`],
    ...folders.map((folder) => `test/${folder}/`),
  )

const stepsFor = (folders: readonly string[]): readonly Step[] => [
  {
    name: 'docs',
    what: 'the generated documents are current',
    run: node(60, 'scripts/write-docs.ts', '--check'),
  },
  { name: 'types', what: 'TypeScript', run: node(120, bin('tsc'), '--noEmit') },
  {
    name: 'client-types',
    what: 'TypeScript of the browser client, which has no Node',
    run: node(120, bin('tsc'), '--noEmit', '-p', 'tsconfig.client.json'),
  },
  {
    name: 'client-uses',
    what: 'TypeScript of what uses it',
    run: node(120, bin('tsc'), '--noEmit', '-p', 'test/client'),
  },
  {
    name: 'spa-types',
    what: 'TypeScript of the demo SPA',
    run: node(120, bin('tsc'), '--noEmit', '-p', 'demo-spa'),
  },
  {
    name: 'example-types',
    what: 'TypeScript of the examples',
    run: node(120, bin('tsc'), '-p', 'examples'),
  },
  { name: 'lint', what: 'format and lint', run: node(60, bin('biome'), 'ci', '.') },
  { name: 'spa', what: 'build of the demo SPA', run: node(120, 'scripts/build-demo-spa.ts') },
  {
    name: 'vitest',
    what: 'architecture, unit, contract, edge, flow, hostile and property tests',
    run: vitest(folders),
    totals: () => vitestTotals(VITEST_REPORT),
  },
  {
    name: 'e2e',
    what: 'browser tests on Chromium',
    run: {
      ...node(900, bin('playwright'), 'test', '--reporter=list,json'),
      env: { PLAYWRIGHT_JSON_OUTPUT_FILE: PLAYWRIGHT_REPORT },
    },
    totals: () => playwrightTotals(PLAYWRIGHT_REPORT),
  },
]

const HELP = `npm test [-- --only NAME[,NAME…]]

Runs, up to the first failure:
${stepsFor([])
  .map(({ name, what }) => `  ${name.padEnd(14)}${what}`)
  .join('\n')}

--only   these steps alone; the name of a folder in test/ (unit, flow, hostile …) is a part of vitest
--help   this text

It needs a Redis server and Chromium, and as root on Debian or Ubuntu installs what is missing.`

const main = async (): Promise<number> => {
  const options = parseOptions()
  if (typeof options !== 'string' && options.help) {
    console.log(HELP)
    return 0
  }
  const chosen = typeof options === 'string' ? options : chooseSteps(options.only)
  if (typeof chosen === 'string') {
    console.error(`${chosen}\n\n${HELP}`)
    return 64
  }
  const impossible = wrongNode() ?? (await prepareSystem())
  if (impossible !== undefined) {
    console.error(impossible)
    return 1
  }
  return (await runAll(chosen)) ? 0 : 1
}

const parseOptions = (): { help: boolean; only: readonly string[] } | string => {
  try {
    const { values } = parseArgs({
      options: { only: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    })
    return { help: values.help ?? false, only: values.only?.split(',') ?? [] }
  } catch (error) {
    return (error as Error).message
  }
}

/** The steps to run, or what is wrong with the names. */
const chooseSteps = (names: readonly string[]): readonly Step[] | string => {
  const known = stepsFor([]).map(({ name }) => name)
  const folders = readdirSync('test', { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
  const unknown = names.filter((name) => !known.includes(name) && !folders.includes(name))
  if (unknown.length > 0) return `no step or test folder is called ${unknown.join(', ')}`
  const chosenFolders = names.filter((name) => folders.includes(name))
  return stepsFor(chosenFolders).filter(
    ({ name }) =>
      names.length === 0 || names.includes(name) || (name === 'vitest' && chosenFolders.length > 0),
  )
}

/** Tests prove something only about the runtime that is shipped. */
const wrongNode = (): string | undefined => {
  const pinned = JSON.parse(readFileSync('package.json', 'utf8')).devDependencies.node as string
  if (process.versions.node === pinned) return undefined
  return `the tests run on Node ${pinned}, and this is ${process.versions.node}: run "npm ci" without --ignore-scripts, then "npm test"`
}

const runAll = async (steps: readonly Step[]): Promise<boolean> => {
  rmSync('test-results', { recursive: true, force: true })
  mkdirSync('test-results')
  let passed = 0
  let failed = 0
  for (const [index, step] of steps.entries()) {
    console.log(`\n── ${index + 1}/${steps.length} ${step.name}: ${step.what}`)
    const { failure, seconds } = await runStep(step.run)
    const totals = step.totals?.()
    passed += totals?.passed ?? 0
    const problem = failure ?? problemOf(step, totals)
    console.log(`── ${step.name} ${problem ?? 'passed'} after ${seconds.toFixed(1)} s`)
    if (problem === undefined) continue
    // A step that fails without a failed test (a type error, a file that does not load) is one failure.
    failed += totals?.failed || 1
    break
  }
  console.log(`\n${passed} passed, ${failed} failed`)
  return failed === 0
}

const problemOf = (step: Step, totals: Totals | undefined): string | undefined => {
  if (step.totals === undefined) return undefined
  if (totals === undefined) return 'left no report'
  if (totals.skipped > 0) return `left out ${totals.skipped} tests, and none may be skipped`
  return totals.passed + totals.failed === 0 ? 'ran no test' : undefined
}

process.exitCode = await main()
