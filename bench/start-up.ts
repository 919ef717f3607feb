/**
 * How soon the gateway listens: from the start of its process, built (as the package and the image run it) and unbuilt
 * (as it is developed). The provider cannot be reached, and Redis is not asked for: neither is waited for.
 *
 *   npm run bench -- start-up [--starts 20]
 *
 * Counted is the time until its line "coatcheck listens on …" is read, and the processor time until then, which another
 * program's load does not change.
 */

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { freePort } from '../test/support/free-port.ts'
import { sidecarEnvironment } from '../test/support/whole-gateway.ts'
import { printBudgets } from './support/budgets.ts'
import {
  medianOf,
  printMachine,
  printTable,
  progress,
  rounded,
  spreadOf,
} from './support/measure.ts'
import { processorMs } from './support/process-tree.ts'
import { keepFigures } from './support/results.ts'

const { values } = parseArgs({ options: { starts: { type: 'string', default: '20' } } })
const STARTS = Number(values.starts)
/** For comparison. */
const EMPTY = 'a Node process that does nothing'
const START_LIMIT_MS = 30_000
const REPOSITORY = fileURLToPath(new URL('..', import.meta.url))

interface Way {
  readonly name: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

interface Start {
  readonly wallMs: number
  readonly processorMs: number
}

const start = async ({ args, env }: Way): Promise<Start> => {
  const port = await freePort()
  // Nothing listens at the discard port.
  const nowhere = 'http://127.0.0.1:9'
  const beganMs = performance.now()
  const child = spawn(process.execPath, [...args, 'serve'], {
    cwd: REPOSITORY,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      PATH: process.env.PATH,
      ...sidecarEnvironment(port, { issuer: nowhere }, { url: nowhere }),
      COATCHECK_LOGGING_LEVEL: 'error',
      ...env,
    },
    timeout: START_LIMIT_MS,
    killSignal: 'SIGKILL',
  })
  try {
    for await (const chunk of child.stdout) {
      if (!String(chunk).includes('coatcheck listens')) continue
      const wallMs = performance.now() - beganMs
      return { wallMs, processorMs: processorMs(child.pid ?? 0) }
    }
    throw new Error(`${args.join(' ')} ended before it listened`)
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      // Ended as by a person, so that it keeps what it compiled.
      child.kill('SIGINT')
      await once(child, 'exit')
    }
  }
}

const build = (): void => {
  const { status } = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], {
    cwd: REPOSITORY,
    stdio: 'inherit',
    timeout: 120_000,
  })
  if (status !== 0) throw new Error('the build failed')
}

const main = async () => {
  printMachine()
  progress('building')
  build()
  const ways: readonly Way[] = [
    { name: 'built (dist)', args: ['dist/main.js'] },
    {
      name: 'built, nothing compiled before',
      args: ['dist/main.js'],
      env: { NODE_DISABLE_COMPILE_CACHE: '1' },
    },
    { name: 'unbuilt (src)', args: ['src/main.ts'] },
  ]
  const starts = new Map<string, Start[]>(
    [...ways.map(({ name }) => name), EMPTY].map((name) => [name, []]),
  )
  // The first of each fills the file cache of the system, and the gateway's of what it compiled.
  for (let turn = -1; turn < STARTS; turn += 1) {
    const empty = await emptyProcess()
    if (turn >= 0) starts.get(EMPTY)?.push(empty)
    for (const way of ways) {
      const one = await start(way)
      if (turn >= 0) starts.get(way.name)?.push(one)
    }
  }
  printTable(
    `From the start of the process until it listens, ${STARTS} starts each in turn`,
    ['what', 'p50 ms', 'least', 'most', 'CPU ms'],
    [...starts].map(([name, all]) => {
      const wall = all.map(({ wallMs }) => wallMs)
      const { p50, max } = spreadOf(wall)
      const cpu = medianOf(all.map((one) => one.processorMs))
      return [name, ...[p50, Math.min(...wall), max, cpu].map((ms) => rounded(ms, 0))]
    }),
  )
  printBudgets(
    ways.map(({ name }) => ({
      what: `listens, ${name}`,
      measured: medianOf((starts.get(name) ?? []).map(({ wallMs }) => wallMs)),
      must: 500,
      aim: 250,
      unit: 'ms',
    })),
  )
  keepFigures(Object.fromEntries(starts))
}

/** What a process of Node costs that does nothing. */
const emptyProcess = async (): Promise<Start> => {
  const beganMs = performance.now()
  const child = spawn(process.execPath, ['-e', 'console.log(1);setTimeout(()=>{},9999)'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout, 'data')
  const one = { wallMs: performance.now() - beganMs, processorMs: processorMs(child.pid ?? 0) }
  child.kill('SIGKILL')
  return one
}

await main()
