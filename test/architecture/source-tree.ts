/** Source files as text, read the way the architecture tests need them: imports, and code without its words. */

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url))

/** Path relative to the tree's root, with forward slashes → text. */
export type SourceTree = ReadonlyMap<string, string>

/** Files of the repository that git has or would take, relative to its root: nothing ignored, nothing deleted. */
export const repositoryFiles = (...under: readonly string[]): string[] =>
  execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard', ...under], {
    cwd: REPOSITORY,
    encoding: 'utf8',
    maxBuffer: 16 * 1024 * 1024,
  })
    .split('\0')
    .filter((file) => file !== '' && existsSync(join(REPOSITORY, file)))

export const sourceTree = (): SourceTree =>
  new Map(
    repositoryFiles('src').map((file) => [
      posix.relative('src', file),
      readFileSync(join(REPOSITORY, file), 'utf8'),
    ]),
  )

export interface Import {
  /** As written: a package, a `node:` module or a relative path. */
  readonly specifier: string
  /** Relative to the tree's root; undefined for packages and `node:` modules. */
  readonly file: string | undefined
  /** `type` imports vanish before the code runs. */
  readonly kind: 'type' | 'value' | 'dynamic'
  /** Names inside the braces, aliases left out. */
  readonly names: readonly string[]
}

export const importsOf = (file: string, text: string): readonly Import[] => {
  const resolve = (specifier: string) =>
    specifier.startsWith('.') ? posix.normalize(posix.join(dirname(file), specifier)) : undefined
  const fixed = [
    ...text.matchAll(/^(?:import|export)\s+(type\s)?([^'"`;]*?\bfrom\s*)?'([^'\n]+)'/gm),
  ].map(
    ([, type, clause, specifier = '']): Import => ({
      specifier,
      file: resolve(specifier),
      kind: type === undefined ? 'value' : 'type',
      names: namesIn(clause ?? ''),
    }),
  )
  const dynamic = [...text.matchAll(/\bimport\(\s*'([^'\n]+)'/g)].map(
    ([, specifier = '']): Import => ({
      specifier,
      file: resolve(specifier),
      kind: 'dynamic',
      names: [],
    }),
  )
  return [...fixed, ...dynamic]
}

const namesIn = (clause: string): string[] =>
  [...(/\{([^}]*)\}/.exec(clause)?.[1] ?? '').matchAll(/(?:^|,)\s*(type\s+)?(\w+)/g)]
    .filter(([, type]) => type === undefined)
    .map(([, , name = '']) => name)

/** `hono/html` → `hono`, `@scope/name/part` → `@scope/name`. */
export const packageOf = (specifier: string): string =>
  specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')

/**
 * The code with comments, texts of strings and regular expressions blanked out, so that a search finds what is
 * done and not what is talked about. What stands in `${…}` is code and stays.
 */
export const codeOf = (text: string): string => {
  let code = ''
  let at = 0
  // One entry per open template: the depth of braces inside its current `${`.
  const templates: number[] = []

  const skipPast = (pattern: RegExp): void => {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    const end = match ? match.index + match[0].length : text.length
    code += text.slice(at, end).replace(/[^\n]/g, ' ')
    at = end
  }
  const templateText = (): void => {
    skipPast(/(?:[^\\`$]|\\.|\$(?!\{))*(?:\$\{|`)/sy)
    if (text[at - 1] === '{') templates.push(0)
  }

  while (at < text.length) {
    const rest = text.slice(at, at + 2)
    const character = rest[0] ?? ''
    if (rest === '//') skipPast(/[^\n]*/y)
    else if (rest === '/*') skipPast(/.*?\*\//sy)
    else if (character === "'" || character === '"') skipPast(/(['"])(?:[^\\\n]|\\.)*?\1/y)
    else if (character === '/' && /(?:^|[=(,:[!&|?{};>]|\breturn)\s*$/.test(code.slice(-20))) {
      skipPast(/\/(?:[^\\/[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/\w*/y)
    } else if (character === '`') {
      code += ' '
      at += 1
      templateText()
    } else {
      const depth = templates.at(-1)
      if (depth !== undefined && character === '{') templates[templates.length - 1] = depth + 1
      if (depth !== undefined && character === '}') {
        if (depth === 0) {
          templates.pop()
          code += ' '
          at += 1
          templateText()
          continue
        }
        templates[templates.length - 1] = depth - 1
      }
      code += character
      at += 1
    }
  }
  return code
}
