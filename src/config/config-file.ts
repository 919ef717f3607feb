/** The configuration file: found, read and parsed to plain values. */

import { createRequire } from 'node:module'
import { dirname, resolve } from 'node:path'
import type Yaml from 'yaml'
import { readTextFile } from './files.ts'
import type { Problem } from './problems.ts'

/** The parser is seventy modules, which a gateway that has no file does without. */
const require = createRequire(import.meta.url)

export interface ConfigFile {
  /** As the operator named it. */
  readonly name: string
  readonly directory: string
  readonly content: unknown
  readonly problems: readonly Problem[]
}

const DEFAULT_NAME = 'coatcheck.yaml'
const FILE_BYTES_MAX = 1024 * 1024

/** A file that was asked for must be there; `coatcheck.yaml` in the working directory may be. */
export const readConfigFile = (named: string | undefined, cwd: string): ConfigFile | undefined =>
  readYamlFile(named, DEFAULT_NAME, cwd)

/** One that is named must be there; the one of the usual name may be. */
export const readYamlFile = (
  named: string | undefined,
  usualName: string,
  cwd: string,
): ConfigFile | undefined => {
  const name = named ?? usualName
  const path = resolve(cwd, name)
  const file = { name, directory: dirname(path) }
  const source = `file ${name}`
  const read = readTextFile(path, FILE_BYTES_MAX)
  if (read.kind === 'text') return { ...file, ...parseYaml(read.text, source) }
  if (read.absent && named === undefined) return undefined
  return { ...file, content: undefined, problems: [{ setting: '', rule: read.rule, source }] }
}

/** The parser's own messages quote the file, which may hold secrets: only their place and kind go out. */
const parseYaml = (
  text: string,
  source: string,
): { readonly content: unknown; readonly problems: readonly Problem[] } => {
  const { parseDocument } = require('yaml') as typeof Yaml
  const document = parseDocument(text, { resolveKnownTags: false, logLevel: 'error' })
  const problems = [...document.errors, ...document.warnings].map((error): Problem => {
    const place = error.linePos?.[0]
    const where = place === undefined ? '' : ` in line ${place.line}, column ${place.col}`
    return {
      setting: '',
      rule: `${YAML_RULES[error.code] ?? 'must be valid YAML'}${where}`,
      source,
    }
  })
  if (problems.length > 0) return { content: undefined, problems }
  try {
    return { content: document.toJS({ maxAliasCount: 0 }), problems }
  } catch {
    // The only throw left is an alias, which could grow a small file beyond bounds.
    return {
      content: undefined,
      problems: [{ setting: '', rule: 'must not use YAML aliases', source }],
    }
  }
}

const YAML_RULES: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'must not contain a key twice:',
  MULTIPLE_DOCS: 'must be one YAML document: a second begins',
  TAG_RESOLVE_FAILED: 'must not use YAML tags:',
  TAB_AS_INDENT: 'must indent with blanks: there is a tab',
}
