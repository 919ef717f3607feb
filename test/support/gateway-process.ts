/** The gateway as a process of its own, started the way an operator starts it. */

import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type Child, type ChildExit, startChild } from './child.ts'
import { freePort } from './free-port.ts'
import { waitFor } from './wait.ts'

export interface GatewayProcess {
  /** The public URL: `http://localhost:<port>` unless the environment says otherwise. */
  readonly url: string
  readonly port: number
  /** Leads nowhere where the environment has `off`. */
  readonly operationsUrl: string
  readonly pid: number
  readonly stdout: readonly string[]
  readonly stderr: readonly string[]
  readonly exited: Promise<ChildExit>
  /** Sends the signal and resolves when the process is gone; by default SIGKILL. */
  kill(signal?: NodeJS.Signals): Promise<ChildExit>
  /** Only sends the signal, e.g. SIGSTOP. */
  signal(signal: NodeJS.Signals): void
}

interface GatewayProcessOptions {
  readonly listenTimeoutMs?: number
  /** A port chosen before, e.g. because the provider had to know the redirect URI. */
  readonly port?: number
  /** Arguments of the command line; by default `serve`. */
  readonly args?: readonly string[]
}

const repository = fileURLToPath(new URL('../..', import.meta.url))

/** `env` is all that the gateway sees of COATCHECK_*; nothing is inherited from the test's own environment. */
export const startGatewayProcess = async (
  env: Readonly<Record<string, string>>,
  { listenTimeoutMs = 45_000, port: chosenPort, args = ['serve'] }: GatewayProcessOptions = {},
): Promise<GatewayProcess> => {
  const port = chosenPort ?? (await freePort())
  const operationsListen = env.COATCHECK_OPERATIONS_LISTEN ?? `127.0.0.1:${await freePort()}`
  const url = env.COATCHECK_PUBLIC_URL ?? `http://localhost:${port}`
  // The version that npm pinned runs the tests, so it runs the gateway too.
  const child = await startChild(process.execPath, ['src/main.ts', ...args], {
    cwd: repository,
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      COATCHECK_PUBLIC_URL: url,
      COATCHECK_LISTEN: `127.0.0.1:${port}`,
      COATCHECK_OPERATIONS_LISTEN: operationsListen,
      ...env,
    },
  })
  await untilListening(child, port, listenTimeoutMs)
  return {
    url,
    port,
    operationsUrl: `http://${operationsListen}`,
    pid: child.pid,
    stdout: child.stdout,
    stderr: child.stderr,
    exited: child.exited,
    kill(signal = 'SIGKILL') {
      child.signal(signal)
      return child.exited
    },
    signal: child.signal,
  }
}

const untilListening = async (child: Child, port: number, timeoutMs: number): Promise<void> => {
  try {
    const outcome = await waitFor(
      `the gateway listens on port ${port}`,
      async () => (child.hasExited() ? 'exited' : (await accepts(port)) && 'listening'),
      { timeoutMs, intervalMs: 50 },
    )
    if (outcome === 'exited') throw new Error('the gateway ended before it listened')
  } catch (cause) {
    await child.kill()
    const output = [...child.stdout, ...child.stderr].join('\n')
    throw new Error(`the gateway did not start:\n${output}`, { cause })
  }
}

const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
