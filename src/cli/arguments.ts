/** Arguments of a command: known options only, each once, each with the value it needs. */

import { type ParseArgsConfig, parseArgs } from 'node:util'
import { nearest } from '../config/nearest.ts'

export class UsageError extends Error {
  /** Whose `--help` to point at; undefined for the command line as a whole. */
  readonly command: string | undefined

  constructor(message: string, command?: string) {
    super(message)
    this.name = 'UsageError'
    this.command = command
  }
}

export interface Option {
  readonly type: 'string' | 'boolean'
  readonly short?: string
}

export type Values = ReadonlyMap<string, string | true>

export const HELP_OPTION = { help: { type: 'boolean', short: 'h' } } as const

export const CONFIG_OPTIONS = { ...HELP_OPTION, config: { type: 'string', short: 'c' } } as const

/** Throws UsageError. */
export const parseArguments = (
  command: string,
  argv: readonly string[],
  options: Readonly<Record<string, Option>>,
): Values => {
  const { tokens } = parseArgs({
    args: [...argv],
    options: options as NonNullable<ParseArgsConfig['options']>,
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  const values = new Map<string, string | true>()
  const refuse = (message: string): never => {
    throw new UsageError(message, command)
  }
  for (const token of tokens) {
    if (token.kind === 'positional') refuse(`${command} takes no argument "${shown(token.value)}"`)
    if (token.kind !== 'option') continue
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined
    if (option === undefined) refuse(unknownOption(token.rawName, Object.keys(options)))
    if (values.has(token.name)) refuse(`--${token.name} is there twice`)
    if (option?.type === 'boolean' && token.value !== undefined)
      refuse(`--${token.name} takes no value`)
    // `--config --help` is a forgotten value far more often than a file of that name.
    const isForgotten = token.inlineValue === false && token.value.startsWith('-')
    if (option?.type === 'string' && (!token.value || isForgotten))
      refuse(`--${token.name} needs a value`)
    values.set(token.name, token.value ?? true)
  }
  return values
}

export const unknownOption = (rawName: string, known: readonly string[]): string =>
  `unknown option ${shown(rawName)}; the nearest is --${nearest(rawName.replace(/^-+/, ''), known)}`

/** What was typed, without what could steer a terminal. */
export const shown = (typed: string, charactersMax = 100): string =>
  typed.replace(/[\p{Cc}\p{Cf}]/gu, '?').slice(0, charactersMax)

/** For `loadConfig`. */
export const configFileOf = (values: Values): { readonly configFile?: string } => {
  const file = values.get('config')
  return typeof file === 'string' ? { configFile: file } : {}
}
