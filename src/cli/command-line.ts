/** The command line: picks the command, gives it the process, and turns what it throws into words and a number. */

import { readFileSync } from 'node:fs'
import { nearest } from '../config/nearest.ts'
import { ConfigError } from '../config/problems.ts'
import { shown, UsageError, unknownOption } from './arguments.ts'
import { COMMAND_NAMES, type CommandName, MAIN_HELP } from './help.ts'
import { type Command, EXIT, type Io } from './io.ts'

/** Each command is loaded when it is asked for: `serve` must not pay for the others, and never loads its provider. */
const COMMANDS: Readonly<Record<CommandName, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serve,
  check: async () => (await import('./check.ts')).check,
  sessions: async () => (await import('./sessions.ts')).sessions,
  dev: async () => (await import('./dev.ts')).dev,
  init: async () => (await import('./init.ts')).init,
  demo: async () => (await import('./demo.ts')).demo,
}

const run = async (argv: readonly string[], io: Io): Promise<number> => {
  const [first, ...rest] = argv
  if (first === '--help' || first === '-h') {
    io.out(MAIN_HELP)
    return EXIT.ok
  }
  if (first === '--version' || first === '-V') {
    io.out(version())
    return EXIT.ok
  }
  const command = await COMMANDS[commandNamed(first)]()
  return command(rest, io)
}

const commandNamed = (name: string | undefined): CommandName => {
  if (name === undefined) throw new UsageError(`a command is missing: ${COMMAND_NAMES.join(', ')}`)
  const known = COMMAND_NAMES.find((command) => command === name)
  if (known !== undefined) return known
  throw new UsageError(
    name.startsWith('-')
      ? unknownOption(name, ['help', 'version'])
      : `unknown command "${shown(name)}"; the nearest is ${nearest(name, COMMAND_NAMES)}`,
  )
}

const version = (): string => {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { readonly version: unknown }).version)
}

const exitCodeFor = (thrown: unknown, io: Io): number => {
  if (thrown instanceof ConfigError) {
    io.err(thrown.message)
    return EXIT.config
  }
  if (thrown instanceof UsageError) {
    const command = thrown.command === undefined ? '' : ` ${thrown.command}`
    io.err(`coatcheck: ${thrown.message}\nTry: coatcheck${command} --help`)
    return EXIT.usage
  }
  io.err(`coatcheck: internal fault\n${withoutMessage(thrown)}`)
  return EXIT.software
}

/** Messages of other people's errors may quote what they choked on; where it happened is safe to show. */
const withoutMessage = (thrown: unknown): string => {
  if (!(thrown instanceof Error)) return typeof thrown
  const code = 'code' in thrown ? ` ${String(thrown.code)}` : ''
  const frames = (thrown.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line))
  return [`${thrown.name}${code}`, ...frames].join('\n')
}

const processIo: Io = {
  env: process.env,
  cwd: process.cwd(),
  out: (line) => void process.stdout.write(`${line}\n`),
  err: (line) => void process.stderr.write(`${line}\n`),
  stopSignal: () =>
    new Promise((resolve) => {
      const signals = ['SIGTERM', 'SIGINT'] as const
      for (const signal of signals)
        process.once(signal, () => {
          for (const again of signals) process.once(again, () => process.exit(1))
          resolve(signal)
        })
    }),
  onReloadSignal: (listener) => void process.on('SIGHUP', listener),
}

const EXIT_GRACE_MS = 1000

export const runCommandLine = async (): Promise<void> => {
  // A reader that leaves early, such as `head`, is no fault.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  process.exitCode = await run(process.argv.slice(2), processIo).catch((thrown: unknown) =>
    exitCodeFor(thrown, processIo),
  )
  // Everything is closed by now. Should something hold the process open all the same, it does not get to keep it.
  setTimeout(() => process.exit(), EXIT_GRACE_MS).unref()
}
