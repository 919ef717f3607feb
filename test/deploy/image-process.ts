/** Starts what an image's ENTRYPOINT and CMD name, and waits until its own HEALTHCHECK passes. */

import { type Child, startChild } from '../support/child.ts'
import { waitFor, within } from '../support/wait.ts'
import { effectiveInstructions, execForm, lastArgument, readDockerfile } from './dockerfile.ts'
import type { ImageLayout } from './image-layout.ts'

const START_TIMEOUT_MS = 20_000
const HEALTH_TIMEOUT_MS = 5_000

interface ImageProcessOptions {
  readonly target: 'gateway' | 'demo-api'
  readonly environment: Readonly<Record<string, string>>
  /** Ports of the health check's URL that are others outside a container, e.g. `{ 4000: 31007 }`. */
  readonly ports?: Readonly<Record<number, number>>
}

export const startImageProcess = async (
  { directory }: ImageLayout,
  { target, environment, ports = {} }: ImageProcessOptions,
): Promise<Child> => {
  const instructions = effectiveInstructions(readDockerfile(), target)
  const startCommand = [
    ...execForm(lastArgument(instructions, 'ENTRYPOINT')),
    ...execForm(lastArgument(instructions, 'CMD')),
  ]
  const [, health] = / CMD (\[.+)$/.exec(lastArgument(instructions, 'HEALTHCHECK') ?? '') ?? []
  const healthCommand = execForm(health).map((word) =>
    word.replace(/:(\d+)\//, (match, port) =>
      ports[port] === undefined ? match : `:${ports[port]}/`,
    ),
  )
  const run = ([, ...args]: readonly string[]) =>
    startChild(process.execPath, args, { cwd: directory, env: environment })

  const child = await run(startCommand)
  const isHealthy = async () => {
    if (child.hasExited()) return 'exited' as const
    const check = await run(healthCommand)
    const { code } = await within(HEALTH_TIMEOUT_MS, 'the health check ends', check.exited)
    return code === 0 && ('healthy' as const)
  }
  try {
    await waitFor(`${target} passes its health check`, isHealthy, { timeoutMs: START_TIMEOUT_MS })
    if (child.hasExited()) throw new Error(`${target} ended instead of listening`)
  } catch (cause) {
    await child.kill()
    const output = [...child.stdout, ...child.stderr].slice(-20).join('\n')
    throw new Error(`${target} did not start:\n${output}`, { cause })
  }
  return child
}
