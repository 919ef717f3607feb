/** Counts tests from the JSON reports of vitest and Playwright. */

import { existsSync, readFileSync } from 'node:fs'

export interface Totals {
  readonly passed: number
  readonly failed: number
  /** Skipped, pending or never run; nothing here may be left out silently. */
  readonly skipped: number
}

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
}

interface PlaywrightReport {
  readonly stats: {
    readonly expected: number
    readonly unexpected: number
    readonly flaky: number
    readonly skipped: number
  }
}

/** Undefined when the run ended before it wrote its report. */
export const vitestTotals = (file: string): Totals | undefined => {
  const report = readReport<VitestReport>(file)
  return (
    report && {
      passed: report.numPassedTests,
      failed: report.numFailedTests,
      skipped: report.numPendingTests + report.numTodoTests,
    }
  )
}

export const playwrightTotals = (file: string): Totals | undefined => {
  const stats = readReport<PlaywrightReport>(file)?.stats
  return (
    stats && {
      passed: stats.expected,
      // Retries are off, so that nothing counts as flaky; if that changes, flaky is a failure.
      failed: stats.unexpected + stats.flaky,
      skipped: stats.skipped,
    }
  )
}

const readReport = <Report>(file: string): Report | undefined =>
  existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report) : undefined
