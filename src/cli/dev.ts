/** `coatcheck dev`: the gateway and a development identity provider in front of the developer's own app and API. */

import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../config/config.ts'
import { type AppCommand, startAppCommand } from './app-command.ts'
import {
  CONFIG_OPTIONS,
  configFileOf,
  parseArguments,
  shown,
  UsageError,
  type Values,
} from './arguments.ts'
import {
  BEHIND_DEV_VARIABLE,
  type Development,
  type DevelopmentOptions,
  DevelopmentUnavailable,
  planDevelopment,
  startDevelopment,
} from './development.ts'
import { DEV_HELP } from './help.ts'
import { type Command, EXIT, type Io } from './io.ts'
import { AddressUnavailable } from './servers.ts'

const OPTIONS = {
  ...CONFIG_OPTIONS,
  spa: { type: 'string' },
  api: { type: 'string' },
} as const

export const dev: Command = async (argv, io) => {
  const { own, command } = split(argv)
  const [forgotten = '-'] = own
  if (!forgotten.startsWith('-'))
    throw new UsageError(
      `put -- before the command: coatcheck dev -- ${shown(own.join(' '))}`,
      'dev',
    )
  const values = parseArguments('dev', own, OPTIONS)
  if (values.has('help')) {
    io.out(DEV_HELP)
    return EXIT.ok
  }
  if (command?.length === 0) throw new UsageError('a command is missing after --', 'dev')
  const stopped = Promise.race([io.stopSignal(), hangUp(io)])
  const options: DevelopmentOptions = {
    env: { ...io.env, ...flagsAsVariables(values) },
    cwd: io.cwd,
    ...configFileOf(values),
    apiSetting: '--api (COATCHECK_UPSTREAM)',
    appSetting: '--spa (COATCHECK_SPA)',
    say: ([first = '', ...rest]) => {
      io.err(`coatcheck: ${first}`)
      for (const line of rest) io.err(`  ${line}`)
    },
  }
  const plan = planDevelopment(options)
  const { config } = plan
  let development: Development | undefined
  try {
    development = await startDevelopment(plan, options)
    io.out(`Coatcheck dev: open ${config.publicUrl}`)
    for (const line of development.about) io.out(line)
    return await untilOver(io, config, stopped, command)
  } catch (thrown) {
    if (!(thrown instanceof AddressUnavailable || thrown instanceof DevelopmentUnavailable))
      throw thrown
    io.err(thrown.message)
    return EXIT.unavailable
  } finally {
    await development?.close()
  }
}

/** What stands after the first `--` is the command's own. */
const split = (argv: readonly string[]) => {
  const at = argv.indexOf('--')
  return at < 0
    ? { own: argv, command: undefined }
    : { own: argv.slice(0, at), command: argv.slice(at + 1) }
}

const flagsAsVariables = (values: Values): Readonly<Record<string, string>> => {
  const api = values.get('api')
  const spa = values.get('spa')
  return {
    ...(typeof api === 'string' ? { COATCHECK_UPSTREAM: api } : {}),
    ...(typeof spa === 'string' ? { COATCHECK_SPA: spa } : {}),
  }
}

/** The terminal was closed. */
const hangUp = (io: Io): Promise<'SIGHUP'> =>
  new Promise((resolve) => io.onReloadSignal(() => resolve('SIGHUP')))

const untilOver = async (
  io: Io,
  config: Config,
  stopped: Promise<NodeJS.Signals>,
  command: readonly string[] | undefined,
): Promise<number> => {
  if (command === undefined) {
    await stopped
    return EXIT.ok
  }
  const env = { ...io.env, [BEHIND_DEV_VARIABLE]: config.publicUrl }
  const app = startAppCommand(command, { env, cwd: io.cwd })
  const waiting = new AbortController()
  void sayWhenUp(io, config, app, waiting.signal)
  const first = await Promise.race([app.ended, stopped])
  waiting.abort()
  if (typeof first === 'string') {
    await app.stop(first)
    return EXIT.ok
  }
  io.err(`coatcheck: ${command[0]} ${first.words}`)
  // Its descendants may have stayed.
  await app.stop('SIGTERM')
  return first.status
}

const UP_WITHIN_MS = 120_000
const POLL_MS = 250

/** The app's own server prints its own address, which is the wrong one to open: the right one is told after it. */
const sayWhenUp = async (
  io: Io,
  { spa, publicUrl }: Config,
  app: AppCommand,
  signal: AbortSignal,
): Promise<void> => {
  if (spa?.kind !== 'upstream') return
  let isOver = false
  void app.ended.then(() => {
    isOver = true
  })
  const endsAt = performance.now() + UP_WITHIN_MS
  while (!isOver && !signal.aborted && performance.now() < endsAt) {
    if (await accepts(new URL(spa.origin))) {
      io.out(`coatcheck: your app is up; open ${publicUrl} (not ${spa.origin})`)
      return
    }
    await sleep(POLL_MS, undefined, { signal, ref: false }).catch(() => undefined)
  }
}

const accepts = ({ hostname, port, protocol }: URL): Promise<boolean> =>
  new Promise((resolve) => {
    const host = hostname.replace(/^\[(.*)\]$/, '$1')
    const socket = connect({ host, port: Number(port) || (protocol === 'https:' ? 443 : 80) })
    const end = (answers: boolean) => {
      socket.destroy()
      resolve(answers)
    }
    socket.setTimeout(POLL_MS, () => end(false))
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
