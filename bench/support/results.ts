/** What a benchmark found, machine-readable: one part of bench/results/latest.json (of `--quick`: quick.json) for each benchmark. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface Table {
  readonly title: string
  readonly head: readonly string[]
  readonly rows: readonly (readonly string[])[]
}

export interface Budget {
  readonly what: string
  readonly measured: number
  readonly must: number
  readonly aim: number | undefined
  readonly unit: string
  /** Whether more is better, as for "so many times less than a peer". */
  readonly atLeast?: boolean
}

export interface Part {
  /** Where and when it was measured: parts may come from different runs. */
  readonly at: string
  readonly commit: string
  readonly node: string
  readonly machine: string
  readonly options: readonly string[]
  readonly tables: readonly Table[]
  readonly budgets: readonly (Budget & { readonly verdict: Verdict })[]
  /** Figures as numbers, in a form of the benchmark's own. */
  readonly figures?: unknown
}

export type Verdict = 'aim' | 'must' | 'missed'

export const RESULTS = fileURLToPath(new URL('../results/', import.meta.url))
/** A look takes no result's place: `bench/run.ts` says which of the two this is. */
const FILE = `${RESULTS}${process.env.BENCH_QUICK === undefined ? 'latest' : 'quick'}.json`

const tables: Table[] = []
const budgets: (Budget & { readonly verdict: Verdict })[] = []
let figures: unknown

export const keep = (table: Table): void => void tables.push(table)

export const keepFigures = (found: unknown): void => {
  figures = found
}

export const verdictOn = ({ measured, must, aim, atLeast = false }: Budget): Verdict => {
  const within = (limit: number) => (atLeast ? measured >= limit : measured <= limit)
  if (aim !== undefined && within(aim)) return 'aim'
  return within(must) ? 'must' : 'missed'
}

/** Kept as well; printed by `printBudgets`. */
export const keepBudgets = (measured: readonly Budget[]): void =>
  void budgets.push(...measured.map((budget) => ({ ...budget, verdict: verdictOn(budget) })))

const commit = (): string => {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
    return git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+')
  } catch {
    // Without git, or outside a repository.
    return 'unknown'
  }
}

const readResults = (): Record<string, Part> => {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, Part>
  } catch {
    // None yet.
    return {}
  }
}

/** When a benchmark ends well, its part takes the place of what it found before. */
process.once('exit', (code) => {
  if (code !== 0 || tables.length === 0) return
  const part: Part = {
    at: new Date().toISOString(),
    commit: commit(),
    node: process.versions.node,
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    options: process.argv.slice(2),
    tables,
    budgets,
    ...(figures === undefined ? {} : { figures }),
  }
  const name = basename(process.argv[1] ?? '', '.ts')
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(FILE, `${JSON.stringify({ ...readResults(), [name]: part }, null, 1)}\n`)
})
