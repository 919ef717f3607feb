/** Variables: the environment reduced to what belongs to settings, with `_FILE` variables already read. */

import { readTextFile } from './files.ts'
import { nearest } from './nearest.ts'
import type { Problem } from './problems.ts'
import { CONFIG_FILE_VARIABLE, SETTINGS, SPA_VARIABLE } from './settings.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** What the environment says about one setting. */
export interface WrittenVariable {
  readonly variable: string
  readonly text: string
  readonly source: string
  /** Where the text was read, for `_FILE` variables. */
  readonly file: string | undefined
}

export interface Variables {
  /** By path of the setting. */
  readonly byPath: ReadonlyMap<string, WrittenVariable>
  /** Paths of settings whose file could not be read: that is their problem, not that they are missing. */
  readonly unreadable: ReadonlySet<string>
  readonly problems: readonly Problem[]
}

const PREFIX = 'COATCHECK_'
const SECRET_FILE_BYTES_MAX = 64 * 1024

/**
 * Kubernetes gives every pod such variables for each service of its namespace, ours included (a service named
 * `coatcheck` or `coatcheck-redis`). No setting is ever so named.
 */
export const isServiceLink = (name: string): boolean =>
  /_(SERVICE_HOST|SERVICE_PORT.*|PORT|PORT_\d+_.+)$/s.test(name)

const pathOf = new Map<string, string>(
  SETTINGS.flatMap(({ variable, path }) => (variable === undefined ? [] : [[variable, path]])),
)

/** Every variable that means something, without the `_FILE` forms. */
export const KNOWN_VARIABLES: readonly string[] = [
  ...pathOf.keys(),
  SPA_VARIABLE,
  CONFIG_FILE_VARIABLE,
]

const readable = KNOWN_VARIABLES.filter((name) => name !== CONFIG_FILE_VARIABLE)
const allNames = [...KNOWN_VARIABLES, ...readable.map((name) => `${name}_FILE`)]
const known: ReadonlySet<string> = new Set(allNames)

export const readVariables = (env: Environment): Variables => {
  const problems: Problem[] = unknownVariables(env)
  const byPath = new Map<string, WrittenVariable>()
  const unreadable = new Set<string>()
  for (const variable of readable) {
    const written = readVariable(env, variable, problems)
    if (written === undefined) continue
    if (written === 'unreadable') {
      unreadable.add(pathOf.get(variable) ?? 'spa.directory')
      continue
    }
    const path = pathOf.get(variable) ?? spaPath(written.text)
    const earlier = byPath.get(path)
    if (earlier !== undefined)
      problems.push({
        setting: path,
        variable,
        rule: `must be set by one variable only, and ${earlier.variable} sets it too`,
        source: 'environment',
      })
    byPath.set(path, written)
  }
  return { byPath, unreadable, problems }
}

const unknownVariables = (env: Environment): Problem[] =>
  Object.keys(env)
    .filter((name) => name.startsWith(PREFIX) && !known.has(name) && !isServiceLink(name))
    .sort()
    .map((name) => ({
      setting: '',
      variable: name,
      rule: `is no variable of Coatcheck; the nearest is ${nearest(name, allNames)}`,
      source: 'environment',
    }))

/** An empty variable counts as absent: that is what Compose files make of one that is not set. */
const textOf = (env: Environment, name: string): string | undefined => env[name] || undefined

const readVariable = (
  env: Environment,
  variable: string,
  problems: Problem[],
): WrittenVariable | 'unreadable' | undefined => {
  const text = textOf(env, variable)
  const fileVariable = `${variable}_FILE`
  const file = textOf(env, fileVariable)
  const setting = pathOf.get(variable) ?? 'spa'
  if (file === undefined)
    return text === undefined ? undefined : { variable, text, source: 'environment', file }
  if (text !== undefined) {
    problems.push({
      setting,
      variable,
      rule: `must not be set together with ${fileVariable}`,
      source: 'environment',
    })
    return { variable, text, source: 'environment', file: undefined }
  }
  const read = readSettingFile(file)
  const source = `file that ${fileVariable} names`
  if (read.kind === 'text') return { variable: fileVariable, text: read.text, source, file }
  problems.push({ setting, variable: fileVariable, rule: read.rule, source })
  return 'unreadable'
}

/** Editors and `echo` end a file with a newline that belongs to no secret: one is removed. */
export const readSettingFile = (
  file: string,
):
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'unreadable'; readonly rule: string } => {
  const read = readTextFile(file, SECRET_FILE_BYTES_MAX)
  if (read.kind === 'unreadable') return read
  const text = read.text.replace(/\r?\n$/, '')
  return text === ''
    ? { kind: 'unreadable', rule: 'must be a file that is not empty' }
    : { kind: 'text', text }
}

const spaPath = (text: string): string =>
  /^https?:\/\//i.test(text) ? 'spa.upstream' : 'spa.directory'
