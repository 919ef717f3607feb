/** Child processes of tests: their output is kept, and none of them outlives the test process. */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { findExecutable } from './executable.ts'

export interface ChildExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Child {
  readonly pid: number
  /** Lines of standard output so far; grows while the process runs. */
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  readonly exited: Promise<ChildExit>
  hasExited(): boolean
  /** Sends the signal to this process alone; nothing happens when it is gone already. */
  signal(signal: NodeJS.Signals): void
  /** SIGKILL, also to a stopped process; resolves when it is gone. */
  kill(): Promise<void>
}

interface ChildOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
}

const running = new Set<ChildProcess>()
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

export const startChild = async (
  command: string,
  args: readonly string[],
  { env, cwd }: ChildOptions = {},
): Promise<Child> => {
  // A test runner that is itself killed never reaches its exit hooks; the kernel's parent-death
  // signal still ends the child. setpriv replaces itself, so the pid is the command's own.
  const setpriv = process.platform === 'linux' ? findExecutable('setpriv') : undefined
  const child = spawn(
    setpriv ?? command,
    setpriv === undefined ? args : ['--pdeathsig', 'KILL', command, ...args],
    { stdio: ['ignore', 'pipe', 'pipe'], ...(env && { env: { ...env } }), ...(cwd && { cwd }) },
  )
  const stdout: string[] = []
  const stderr: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => stdout.push(line))
  createInterface({ input: child.stderr }).on('line', (line) => stderr.push(line))
  running.add(child)
  const exited = new Promise<ChildExit>((resolve) => {
    // `close` comes after the last line of output, `exit` may come before it.
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve({ code, signal })
    })
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (cause) => {
      running.delete(child)
      reject(new Error(`could not start ${command}`, { cause }))
    })
  })
  const signal = (name: NodeJS.Signals) => void child.kill(name)
  return {
    pid: child.pid ?? 0,
    stdout,
    stderr,
    exited,
    hasExited: () => child.exitCode !== null || child.signalCode !== null,
    signal,
    async kill() {
      signal('SIGKILL')
      await exited
    },
  }
}
