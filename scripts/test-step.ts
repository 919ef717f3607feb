/** Runs one command of the test run: bounded in time, and ended together with all that it started. */

import { spawn } from 'node:child_process'

export interface StepCommand {
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutSeconds: number
}

export interface StepResult {
  /** Undefined when the command did what it should. */
  readonly failure: string | undefined
  readonly seconds: number
}

export const runStep = async (step: StepCommand): Promise<StepResult> => {
  const startedAt = performance.now()
  const child = spawn(step.command, step.args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...step.env },
    // A process group of its own, so that the limit ends the command's children as well.
    detached: true,
  })
  const endGroup = () => {
    if (child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // The whole group has ended already.
    }
  }
  const interrupted = () => {
    endGroup()
    process.exit(130)
  }
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted)

  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    endGroup()
  }, step.timeoutSeconds * 1000)
  try {
    const failure = await new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => resolve(`could not start ${step.command}: ${error.message}`))
      child.once('exit', (code, signal) => {
        if (timedOut) resolve(`took longer than ${step.timeoutSeconds} s`)
        else resolve(code === 0 ? undefined : `ended with ${signal ?? `exit code ${code}`}`)
      })
    })
    return { failure, seconds: (performance.now() - startedAt) / 1000 }
  } finally {
    clearTimeout(timer)
    endGroup()
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
  }
}
