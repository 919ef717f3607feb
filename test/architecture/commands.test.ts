/**
 * Commands of the documents: each block of ```sh has directly above it who runs it, or why nobody does.
 *
 *   <!-- run by test/cli/check.test.ts, test/cli/serve.test.ts -->     these know its commands and options
 *   <!-- not run: needs a cluster -->
 *
 * Blocks of variables alone need neither: their values are read as the gateway would.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { SETTINGS } from '../../src/config/settings.ts'
import { REPOSITORY } from './source-tree.ts'

const text = (path: string) => readFileSync(join(REPOSITORY, path), 'utf8')
const folder = (name: string) =>
  existsSync(join(REPOSITORY, name))
    ? readdirSync(join(REPOSITORY, name)).map((file) => `${name}/${file}`)
    : []
const pages = ['README.md', 'CONTRIBUTING.md', 'examples/README.md', ...folder('docs')].filter(
  (page) => page.endsWith('.md'),
)
/** Of the reader's own app. */
const SCRIPTS_OF_APPS = ['dev']
const scripts: Readonly<Record<string, string>> = JSON.parse(text('package.json')).scripts

interface Block {
  readonly mark: string
  readonly lines: readonly string[]
}

const FENCES = /^(?:<!-- ([^\n]*) -->\n)?```(?:sh|bash|shell|console)\b[^\n]*\n(.*?)^```$/gms

/** Without comments, and with continued lines joined. */
const blocksOf = (markdown: string): readonly Block[] =>
  [...markdown.matchAll(FENCES)].map(([, mark = '', code = '']) => ({
    mark,
    lines: code
      .replaceAll('\\\n', ' ')
      .split('\n')
      .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
      .filter((line) => line !== ''),
  }))

const ASSIGNMENT = /^(?:export )?([A-Z_]+)=(\S+)$/
const isVariable = (line: string) => ASSIGNMENT.test(line)

/** What somebody who runs this must know of it: its script, its subcommand and its options. */
const wordsOf = (line: string): readonly string[] =>
  line.split(/ && | \| /).flatMap((command) => {
    const [ours = ''] = command.split(/ -- (?!-|check|serve)/)
    const script = /^npm run ([\w:]+)/.exec(ours)?.[1]
    const subcommand = /\bcoatcheck (?:-- )?([a-z]+)/.exec(ours)?.[1]
    const named = subcommand ?? script ?? /^npm test$/.exec(ours)?.[0]
    return [...(named === undefined ? [] : [named]), ...(ours.match(/--[a-z][a-z-]*/g) ?? [])]
  })

/** What is wrong with a block; nothing where it is variables, is run, or says why it is not. */
const faultsOf = ({ mark, lines }: Block): readonly string[] => {
  const commands = lines.filter((line) => !isVariable(line))
  if (commands.length === 0 || /^not run: \w{3,}/.test(mark)) return []
  const files = /^run by (.+)$/.exec(mark)?.[1]?.split(', ')
  if (files === undefined) return [`nobody runs: ${commands.join('; ')}`]
  const missing = files.filter((file) => !existsSync(join(REPOSITORY, file)))
  if (missing.length > 0) return missing.map((file) => `there is no ${file}`)
  const known = files.map(text).join('\n')
  return commands
    .flatMap(wordsOf)
    .filter((word) => !known.includes(word))
    .map((word) => `${files.join(', ')} knows no ${word}`)
}

describe.each(pages)('%s', (page) => {
  const blocks = blocksOf(text(page))

  it('says of every command who runs it, or why nobody does', () => {
    expect(blocks.flatMap(faultsOf)).toEqual([])
  })

  it('gives variables values that the gateway accepts', () => {
    const settings = new Map(SETTINGS.map((setting) => [setting.variable, setting]))
    const given = blocks.flatMap(({ lines }) => lines.map((line) => ASSIGNMENT.exec(line) ?? []))
    const refused = given.filter(([, name = '', value = '']) => {
      const setting = settings.get(name)
      return (
        setting !== undefined && !setting.schema.safeParse(setting.form.fromText(value)).success
      )
    })
    expect(refused.map(([line]) => line)).toEqual([])
  })

  it('names scripts that package.json has', () => {
    const named = [...text(page).matchAll(/\bnpm run ([a-z:]+)/g)].map(([, name = '']) => name)
    expect(named.filter((name) => !(name in scripts || SCRIPTS_OF_APPS.includes(name)))).toEqual([])
  })
})

it('finds a command that nobody runs, in a file that is gone, or that its test does not know', () => {
  const block = (mark: string, line: string) => blocksOf(`${mark}\n\`\`\`sh\n${line}\n\`\`\`\n`)
  const faults = (mark: string, line: string) => block(mark, line).flatMap(faultsOf)
  expect(faults('', 'coatcheck check')).toEqual(['nobody runs: coatcheck check'])
  expect(faults('<!-- not run: -->', 'a')).toEqual(['nobody runs: a'])
  expect(faults('<!-- run by test/no.ts -->', 'coatcheck check')).toEqual([
    'there is no test/no.ts',
  ])
  expect(faults('<!-- run by test/cli/check.test.ts -->', 'npx coatcheck check --nosuch')).toEqual([
    'test/cli/check.test.ts knows no --nosuch',
  ])
  expect(faults('', 'A_B=1 # c\nexport C=2')).toEqual([])
  expect(block('', 'a \\\n  b')[0]?.lines).toEqual(['a    b'])
})
