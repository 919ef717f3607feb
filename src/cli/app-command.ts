/** The command that `coatcheck dev` starts beside itself: on the same terminal, with all its descendants, and never outliving it. */

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGuard } from './own-child.ts'

export interface AppCommandEnd {
  /** As a shell would tell it: 128 and the number of the signal that ended it, 127 where there is no such command. */
  readonly status: number
  readonly words: string
}

export interface AppCommand {
  readonly ended: Promise<AppCommandEnd>
  /** Passes the signal on to the command and its descendants; SIGKILL to those that are left after 5 s. */
  stop(signal: NodeJS.Signals): Promise<void>
}

const GRACE_MS = 5_000
const KILL_MS = 1_000
const POLL_MS = 50

export const startAppCommand = (
  [command = '', ...args]: readonly string[],
  { env, cwd }: { readonly env: NodeJS.ProcessEnv; readonly cwd: string },
): AppCommand => {
  // A process group of its own: `npm run` passes few signals on, so that all of the group get them, from here.
  const child = spawn(command, args, { env, cwd, stdio: 'inherit', detached: true })
  const guard = child.pid === undefined ? undefined : startGuard(child, 'group')
  const ended = new Promise<AppCommandEnd>((resolve) => {
    child.once('error', (cause) =>
      resolve({ status: 127, words: `could not be started: ${cause.message}` }),
    )
    child.once('exit', (code, signal) => resolve(endOf(code, signal)))
  })

  /** False when nobody is left in the group. */
  const signalGroup = (signal: NodeJS.Signals | 0): boolean => {
    if (child.pid === undefined) return false
    try {
      return process.kill(-child.pid, signal)
    } catch {
      // ESRCH: all of them are gone.
      return false
    }
  }

  const groupIsGone = async (withinMs: number): Promise<boolean> => {
    const endsAt = performance.now() + withinMs
    while (signalGroup(0)) {
      if (performance.now() > endsAt) return false
      await sleep(POLL_MS)
    }
    return true
  }

  return {
    ended,
    stop: async (signal) => {
      signalGroup(signal)
      if (!(await groupIsGone(GRACE_MS)) && signalGroup('SIGKILL')) await groupIsGone(KILL_MS)
      guard?.stdin.end('over\n')
    },
  }
}

const endOf = (code: number | null, signal: NodeJS.Signals | null): AppCommandEnd =>
  signal === null
    ? { status: code ?? 0, words: `ended with exit code ${code}` }
    : { status: 128 + constants.signals[signal], words: `was ended by ${signal}` }
