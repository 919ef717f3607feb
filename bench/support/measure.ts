/** What benchmarks measure with and print: memory of processes, percentiles, tables, progress. */

import { readFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'
import { keep } from './results.ts'

export const residentBytes = (pid: number): number => {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
}

export interface Spread {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export const spreadOf = (values: readonly number[]): Spread => {
  const sorted = Float64Array.from(values).sort()
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

export const medianOf = (values: readonly number[]): number => spreadOf(values).p50

export const rounded = (value: number, digits = 1): string =>
  Number.isFinite(value) ? value.toFixed(digits) : '–'

const startedMs = performance.now()

/** Where the benchmark is, and for how long it has been running. */
export const progress = (what: string): void =>
  console.log(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(5)} s  ${what}`)

/** Calls back now and then while the promise runs, so that a long step is seen to move. */
export const watched = async <T>(report: () => string, running: Promise<T>): Promise<T> => {
  const timer = setInterval(() => progress(report()), 10_000)
  try {
    return await running
  } finally {
    clearInterval(timer)
  }
}

/** Also kept for bench/results, as it stands here. */
export const printTable = (
  title: string,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): void => {
  keep({ title, head, rows })
  const widths = head.map((_, column) =>
    Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)),
  )
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
  console.log(
    `\n${title}\n  ${line(head)}\n  ${widths.map((width) => '─'.repeat(width)).join('  ')}`,
  )
  for (const row of rows) console.log(`  ${line(row)}`)
}

/** A figure means nothing without the machine it came from, and what else ran there. */
export const printMachine = (): void =>
  console.log(
    `${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown processor'}, ${Math.round(totalmem() / 2 ** 30)} GiB, load before ${rounded(loadavg()[0] ?? Number.NaN)}`,
  )

/** Runs so many at once until all numbers below `count` have had their turn. */
export const inParallel = async (
  count: number,
  width: number,
  run: (index: number) => Promise<void>,
): Promise<void> => {
  let next = 0
  const lane = async () => {
    while (next < count) {
      const index = next
      next += 1
      await run(index)
    }
  }
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane))
}
