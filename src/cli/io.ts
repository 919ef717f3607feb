/** What a command may touch of the process, and the numbers that it ends with. */

/** sysexits.h, as far as they fit. */
export const EXIT = { ok: 0, usage: 64, unavailable: 69, software: 70, config: 78 } as const

export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** Results: one line to standard output. */
  out(line: string): void
  /** Problems and warnings: one line to standard error. */
  err(line: string): void
  /** The first SIGTERM or SIGINT from now on. A second one ends the process at once. */
  stopSignal(): Promise<'SIGTERM' | 'SIGINT'>
  /** Calls the listener at each SIGHUP from now on, which then no longer ends the process. */
  onReloadSignal(listener: () => void): void
}

/** Resolves with the exit code. Throws UsageError and ConfigError; `command-line.ts` turns them into words. */
export type Command = (argv: readonly string[], io: Io) => Promise<number>
