/** Child processes of the demo: none outlives it, however it ends, and none hears the terminal's Ctrl-C by itself. */

import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface OwnChild {
  readonly pid: number
  /** How it ended, in words: the number of its exit or the name of the signal. */
  readonly exited: Promise<string>
  hasExited(): boolean
  /** What it wrote last, to either stream. */
  lastLines(): readonly string[]
  /** Nothing happens when it is gone already. */
  signal(signal: NodeJS.Signals): void
}

interface OwnChildOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Its standard input, whole. */
  readonly input?: string
  readonly onLine: (line: string, stream: 'stdout' | 'stderr') => void
}

const LINES_MAX = 20

/**
 * Ends the child, or its whole process group, when this process ends without a word, as by a second Ctrl-C: then the
 * guard's input ends without one too. The word is `over`, when the child has ended.
 */
export const startGuard = ({ pid }: ChildProcess, scope: 'process' | 'group' = 'process') => {
  // `kill -9 -- -pid` means something else to dash.
  const script = 'read -r over || kill -s KILL -- "$0"'
  const target = scope === 'group' ? `-${pid}` : String(pid)
  const guard = spawn('/bin/sh', ['-c', script, target], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  // Without a shell only an orderly end ends the child.
  guard.on('error', () => undefined)
  guard.stdin.on('error', () => undefined)
  return guard
}

export const startOwnChild = (options: OwnChildOptions): OwnChild => {
  const { command, args, env, cwd, input = '', onLine } = options
  const child = spawn(command, [...args], {
    env: { ...env },
    cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
    // A process group of its own: the demo decides in which order its parts end.
    detached: true,
  })
  const guard = startGuard(child)
  const lines: string[] = []
  for (const stream of ['stdout', 'stderr'] as const)
    createInterface({ input: child[stream] }).on('line', (line) => {
      lines.push(line)
      if (lines.length > LINES_MAX) lines.shift()
      onLine(line, stream)
    })
  // A child that is gone before it has read its input is met again as its exit.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  let isOver = false
  const exited = new Promise<string>((resolve) => {
    const end = (how: string) => {
      isOver = true
      guard.stdin.end('over\n')
      resolve(how)
    }
    child.once('error', (cause) => end(`it could not be started: ${cause.message}`))
    child.once('close', (code, signal) => end(signal ?? `exit code ${code}`))
  })
  return {
    pid: child.pid ?? 0,
    exited,
    hasExited: () => isOver || child.exitCode !== null || child.signalCode !== null,
    lastLines: () => lines,
    signal: (signal) => void child.kill(signal),
  }
}
