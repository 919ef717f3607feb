/**
 * The walls of the house (design.md §8). Every rule is first shown to find its breach in a small planted tree,
 * then to find none in ours.
 */

import { describe, expect, it } from 'vitest'
import * as rules from './rules.ts'
import { codeOf, type SourceTree, sourceTree } from './source-tree.ts'

const purpose = '/** What it is for. */\n'

/** A tree without a breach; `files` are added, or put in place of its own. */
const planted = (files: Readonly<Record<string, string>> = {}): SourceTree =>
  new Map(
    Object.entries({
      'main.ts': "await import('./cli/serve.ts')",
      'cli/serve.ts':
        "import { createGateway } from '../gateway.ts'\nprocess.exit(createGateway())",
      'cli/demo.ts': "import { startProvider } from '../dev/provider.ts'",
      'gateway.ts':
        "import { app } from './edges/http/app.ts'\nimport { store } from './edges/redis/store.ts'",
      'edges/http/app.ts':
        "import { Hono } from 'hono'\nimport { login } from '../../login/start.ts'",
      'edges/redis/store.ts':
        "import type { Store } from '../../session/store.ts'\nsetTimeout(retry, Math.random())",
      'login/start.ts': "import { seal } from '../session/seal.ts'",
      'session/seal.ts': "import { sealData } from 'iron-session'",
      'session/store.ts': "import type { EpochMs } from '../time.ts'",
      'time.ts': 'export const now = () => Date.now()',
      'dev/provider.ts': "const { Provider } = await import('oidc-provider')",
      ...files,
    }).map(([file, text]) => [file, purpose + text]),
  )

interface Proof {
  readonly breach: string
  readonly files: Readonly<Record<string, string>>
  readonly found: string
}

const PROOFS: Readonly<Record<keyof typeof rules, readonly Proof[]>> = {
  importsStayInsideTheWalls: [
    {
      breach: 'a room that imports an edge, even by type',
      files: { 'login/start.ts': "import type {\n  App,\n} from '../edges/http/app.ts'" },
      found: 'login/start.ts (login) may not import edges/http/app.ts (edges/http)',
    },
    {
      breach: 'two edges that meet',
      files: { 'edges/http/app.ts': "import { store } from '../redis/store.ts'" },
      found: 'edges/http/app.ts (edges/http) may not import edges/redis/store.ts (edges/redis)',
    },
    {
      breach: 'an import to the left',
      files: { 'session/store.ts': "export { login } from '../login/start.ts'" },
      found: 'session/store.ts (session) may not import login/start.ts (login)',
    },
    {
      breach: 'a room that reads the configuration',
      files: { 'login/start.ts': "import { load } from '../config/load.ts'", 'config/load.ts': '' },
      found: 'login/start.ts (login) may not import config/load.ts (config)',
    },
    {
      breach: 'the gateway that imports the development provider',
      files: { 'gateway.ts': "await import('./dev/provider.ts')" },
      found: 'gateway.ts (gateway) may not import dev/provider.ts (dev)',
    },
    {
      breach: 'a file that does not exist',
      files: { 'login/start.ts': "import { seal } from '../session/sael.ts'" },
      found: 'login/start.ts imports ../session/sael.ts, which does not exist',
    },
    {
      breach: 'a room that nobody planned',
      files: { 'shared/text.ts': "import { now } from '../time.ts'" },
      found: 'shared/text.ts is in a room that the house does not have: shared',
    },
  ],
  packagesHaveOneOwner: [
    {
      breach: 'a package outside its room',
      files: { 'login/start.ts': "import { html } from 'hono/html'" },
      found: 'login/start.ts imports hono/html, which belongs to edges/http and dev',
    },
    {
      breach: 'a second file that seals',
      files: { 'session/store.ts': "import { sealData } from 'iron-session'" },
      found: 'session/store.ts imports iron-session, which belongs to session/seal.ts',
    },
    {
      breach: 'a package without an owner',
      files: { 'edges/http/app.ts': "import express from 'express'" },
      found: 'edges/http/app.ts imports express, which has no owner',
    },
    {
      breach: 'a room that opens sockets',
      files: { 'login/start.ts': "import { isIP, connect } from 'node:net'" },
      found: 'login/start.ts imports node:net: only edges reach outside',
    },
    {
      breach: 'a room that sleeps by itself',
      files: { 'login/start.ts': "import { setTimeout } from 'node:timers/promises'" },
      found: 'login/start.ts imports node:timers/promises: only edges reach outside',
    },
    {
      breach: 'a browser client that needs Node',
      files: { 'client/session.ts': "import { createHash } from 'node:crypto'" },
      found: 'client/session.ts imports node:crypto, which browsers do not have',
    },
    {
      breach: 'a development provider that is loaded at once',
      files: { 'dev/provider.ts': "import Provider from 'oidc-provider'" },
      found: 'dev/provider.ts imports oidc-provider before it is asked to',
    },
  ],
  noCycles: [
    {
      breach: 'a circle',
      files: {
        'session/seal.ts': "import { b } from './store.ts'",
        'session/store.ts': "import { a } from './seal.ts'",
      },
      found: 'cycle: session/seal.ts → session/store.ts → session/seal.ts',
    },
  ],
  noDeadFiles: [
    {
      breach: 'a forgotten file',
      files: { 'login/old-start.ts': "import { seal } from '../session/seal.ts'" },
      found: 'login/old-start.ts: nothing imports it',
    },
  ],
  serveLoadsNothingOfDevelopment: [
    {
      breach: 'the development provider behind a dynamic import',
      files: { 'cli/serve.ts': "import { demo } from './demo.ts'" },
      found: 'dev/provider.ts: loaded by coatcheck serve',
    },
  ],
  filesAreNamedAfterTheirThing: [
    { breach: 'a barrel', files: { 'login/index.ts': '' }, found: 'login/index.ts: no barrels' },
    {
      breach: 'a dumping ground',
      files: { 'login/url-utils.ts': '' },
      found: 'login/url-utils.ts: "utils" says nothing',
    },
    {
      breach: 'a dumping folder',
      files: { 'common/url.ts': '' },
      found: 'common/url.ts: "common" says nothing',
    },
    {
      breach: 'another spelling',
      files: { 'login/returnTo.ts': '' },
      found: 'login/returnTo.ts: file names are kebab-case .ts',
    },
  ],
  filesSayWhatTheyAreFor: [],
  codeKeepsTheRules: [
    {
      breach: 'any',
      files: { 'login/start.ts': 'const open = (value: any) => value' },
      found: 'login/start.ts:2: any',
    },
    {
      breach: 'any as an argument',
      files: { 'login/start.ts': 'const open = new Map<string, Promise<any>>()' },
      found: 'login/start.ts:2: any',
    },
    {
      breach: 'a default export',
      files: { 'login/start.ts': 'const a = 1\nexport default a' },
      found: 'login/start.ts:3: default export',
    },
    {
      breach: 'a barrel in disguise',
      files: { 'login/start.ts': "export * from '../session/seal.ts'" },
      found: 'login/start.ts:2: export *',
    },
    {
      breach: 'the environment read outside the command line',
      files: { 'edges/http/app.ts': `const port = \`\${process.env.PORT}\`` },
      found: 'edges/http/app.ts:2: process',
    },
    {
      breach: 'a clock of its own',
      files: { 'session/seal.ts': '// Date.now() is right here\nconst at = Date.now()' },
      found: 'session/seal.ts:3: time that is not passed in',
    },
    {
      breach: 'a timer of its own',
      files: { 'gateway.ts': 'setInterval(sweep, 1000)' },
      found: 'gateway.ts:2: time that is not passed in',
    },
    {
      breach: 'chance of its own',
      files: { 'login/start.ts': 'const jitter = Math.random()' },
      found: 'login/start.ts:2: chance that is not passed in',
    },
  ],
  nothingIsLeftOver: [
    {
      breach: 'a note to oneself',
      files: { 'login/start.ts': `// ${'TO'}${'DO'}: later` },
      found: 'login/start.ts: left-over mark',
    },
  ],
}

const ours = sourceTree()

describe.each(Object.entries(rules))('%s', (name, rule) => {
  it('finds nothing in a clean tree', () => {
    expect(rule(planted())).toEqual([])
  })

  for (const { breach, files, found } of PROOFS[name as keyof typeof rules]) {
    it(`finds ${breach}`, () => {
      expect(rule(planted(files))).toEqual([found])
    })
  }

  it('finds nothing in src', () => {
    expect(ours.size).toBeGreaterThan(40)
    expect(rule(ours)).toEqual([])
  })
})

it('finds a file that does not say what it is for', () => {
  const tree = new Map([['login/start.ts', "import { seal } from '../session/seal.ts'\n"]])
  expect(rules.filesSayWhatTheyAreFor(tree)).toEqual([
    'login/start.ts: the first line does not say what it is for',
  ])
})

it('reads code without comments, strings and regular expressions, but with what templates compute', () => {
  const computed = (code: string) => ['$', '{', code, '}'].join('')
  const inner = `\`process.env ${computed('kept')} \``
  const text = [
    "const a = 'process.env' // process.env",
    `const b = \`process.env ${computed(`inner(${inner}, { c: 1 })`)} process.env\``,
    'const d = /[/"process.env]/.test(e) / f /* process.env\nprocess.env */ + last',
  ].join('\n')
  const code = codeOf(text)
  expect(code).not.toContain('process')
  expect(code.replace(/\s+/g, ' ')).toBe(
    'const a = const b = inner( kept , { c: 1 }) const d = .test(e) / f + last',
  )
})
