/** The rules of the house as functions from a source tree to the breaches in it. */

import { basename } from 'node:path'
import { codeOf, type Import, importsOf, packageOf, type SourceTree } from './source-tree.ts'

export type Rule = (tree: SourceTree) => readonly string[]

/**
 * main → gateway → edges/* → flows → guard, credential, upstream → session, oidc, routing → foundation.
 * A room may import itself and what is listed; whatever is not listed is a wall.
 */
const BASE = ['foundation'] as const
const RECORDS = [...BASE, 'session', 'oidc', 'routing'] as const
const STEPS = [...RECORDS, 'guard', 'credential', 'upstream'] as const
const FLOWS = [...STEPS, 'proxy', 'handshake', 'login', 'logout'] as const
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  foundation: [],
  config: BASE,
  session: BASE,
  routing: BASE,
  // The provider's answers become the session's token set.
  oidc: [...BASE, 'session'],
  guard: RECORDS,
  credential: RECORDS,
  upstream: RECORDS,
  'route-session': STEPS,
  proxy: [...STEPS, 'route-session'],
  handshake: [...STEPS, 'route-session'],
  login: STEPS,
  logout: STEPS,
  'edges/http': FLOWS,
  'edges/memory': FLOWS,
  'edges/openid-client': FLOWS,
  'edges/redis': FLOWS,
  'edges/telemetry': FLOWS,
  'edges/upstream': FLOWS,
  gateway: [
    ...FLOWS,
    'config',
    ...['http', 'memory', 'openid-client', 'redis', 'telemetry', 'upstream'].map(edge),
  ],
  // The command line listens and logs around the gateway; every other edge is the gateway's to name.
  cli: [...FLOWS, 'config', 'gateway', 'edges/http', 'edges/telemetry', 'dev'],
  main: [...BASE, 'config', 'cli'],
  embedding: ['config', 'gateway', 'edges/http'],
  'vite-plugin': ['config', 'cli'],
  dev: BASE,
  client: [],
  testing: [],
}

function edge(name: string): string {
  return `edges/${name}`
}

const OWNERS: Readonly<Record<string, readonly string[]>> = {
  hono: ['edges/http', 'dev'],
  '@hono/node-server': ['edges/http', 'dev'],
  'openid-client': ['edges/openid-client'],
  jose: ['edges/openid-client', 'dev'],
  undici: ['edges/upstream', 'edges/openid-client'],
  ioredis: ['edges/redis'],
  'iron-session': ['session/seal.ts'],
  zod: ['config'],
  yaml: ['config'],
  pino: ['edges/telemetry'],
  'prom-client': ['edges/telemetry'],
  'oidc-provider': ['dev'],
  'ipaddr.js': ['routing', 'config'],
  vite: ['vite-plugin'],
  react: ['client/react.ts'],
  '@playwright/test': ['testing'],
  'lru-cache': ['session', 'credential', 'guard'],
}

/** Built-in modules that reach outside the process, or tell its time: by type they may be named anywhere. */
const OUTSIDE =
  /^node:(?:http2?|https|net|tls|dgram|dns|fs|child_process|worker_threads|cluster|timers|os|process|readline)(?:\/|$)/
const REACHES_OUTSIDE = ['cli', 'main', 'dev', 'config']

const roomOf = (file: string): string => {
  const [first = '', second = ''] = file.split('/')
  if (['errors.ts', 'events.ts', 'time.ts'].includes(file)) return 'foundation'
  if (first === 'edges') return `edges/${second}`
  return first.replace(/\.ts$/, '')
}

export const importsStayInsideTheWalls: Rule = (tree) =>
  breachesOfImports(tree, (file, { file: target, specifier }) => {
    if (target === undefined) return undefined
    if (!tree.has(target)) return `imports ${specifier}, which does not exist`
    const room = roomOf(file)
    const other = roomOf(target)
    const allowed = MAY_IMPORT[room]
    if (allowed === undefined) return `is in a room that the house does not have: ${room}`
    if (room === other || allowed.includes(other)) return undefined
    return `(${room}) may not import ${target} (${other})`
  })

export const packagesHaveOneOwner: Rule = (tree) =>
  breachesOfImports(tree, (file, imported) => {
    const { specifier } = imported
    if (imported.file !== undefined) return undefined
    if (specifier.startsWith('node:')) return outsideBreach(file, imported)
    const owners = OWNERS[packageOf(specifier)]
    if (owners === undefined) return `imports ${specifier}, which has no owner`
    if (!owners.some((owner) => owner === file || owner === roomOf(file))) {
      return `imports ${specifier}, which belongs to ${owners.join(' and ')}`
    }
    // `coatcheck serve` must not load the development provider, and the image does not have it.
    if (specifier === 'oidc-provider' && imported.kind === 'value') {
      return 'imports oidc-provider before it is asked to'
    }
    return undefined
  })

const outsideBreach = (file: string, { specifier, kind, names }: Import): string | undefined => {
  const room = roomOf(file)
  if (room === 'client') return `imports ${specifier}, which browsers do not have`
  if (kind === 'type' || !OUTSIDE.test(specifier)) return undefined
  if (room.startsWith('edges/') || REACHES_OUTSIDE.includes(room)) return undefined
  // Telling an address from a name is arithmetic.
  if (specifier === 'node:net' && names.length > 0 && names.every((name) => /^isIP/.test(name))) {
    return undefined
  }
  return `imports ${specifier}: only edges reach outside`
}

/** Type-only imports vanish before anything runs, so that they close no circle. */
export const noCycles: Rule = (tree) => {
  const breaches = new Set<string>()
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file)
    if (start >= 0) {
      breaches.add(`cycle: ${[...path.slice(start), file].join(' → ')}`)
      return
    }
    if (done.has(file)) return
    for (const target of loadedBy(tree, file)) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of tree.keys()) visit(file, [])
  return [...breaches]
}

export const noDeadFiles: Rule = (tree) => {
  const roots = [...tree.keys()].filter((file) =>
    ['main', 'embedding', 'vite-plugin', 'cli', 'dev', 'client', 'testing'].includes(roomOf(file)),
  )
  const alive = reachedFrom(tree, roots, (file) => importedFiles(tree, file))
  return [...tree.keys()]
    .filter((file) => !alive.has(file))
    .map((file) => `${file}: nothing imports it`)
}

export const serveLoadsNothingOfDevelopment: Rule = (tree) => {
  const loaded = reachedFrom(tree, ['cli/serve.ts'], (file) => loadedBy(tree, file))
  return [...loaded]
    .filter((file) => roomOf(file) === 'dev')
    .map((file) => `${file}: loaded by coatcheck serve`)
}

const BANNED_WORDS =
  /^(?:utils?|helpers?|common|misc|managers?|data|info|handlers?|handle|process|do)$/

export const filesAreNamedAfterTheirThing: Rule = (tree) =>
  [...tree.keys()].flatMap((file) => {
    const name = basename(file).replace(/\.ts$/, '')
    if (name === 'index') return [`${file}: no barrels`]
    if (!/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(name)) return [`${file}: file names are kebab-case .ts`]
    const banned = [...file.split('/').slice(0, -1), ...name.split('-')].find((word) =>
      BANNED_WORDS.test(word),
    )
    return banned === undefined ? [] : [`${file}: "${banned}" says nothing`]
  })

export const filesSayWhatTheyAreFor: Rule = (tree) =>
  [...tree].flatMap(([file, text]) =>
    /^(?:#![^\n]*\n)?\/\*\*/.test(text)
      ? []
      : [`${file}: the first line does not say what it is for`],
  )

interface CodeRule {
  readonly pattern: RegExp
  readonly says: string
  readonly appliesTo: (file: string) => boolean
}

const everywhere = (): boolean => true
/** Rooms get time and chance as arguments; edges and roots are where these come from. */
const inRooms = (file: string): boolean => {
  const room = roomOf(file)
  return (
    file !== 'time.ts' &&
    !room.startsWith('edges/') &&
    !['cli', 'main', 'dev', 'client'].includes(room)
  )
}
/** The gateway hands `Math.random` to the rooms; for time it has a Clock like everybody. */
const inRoomsBelowTheGateway = (file: string): boolean => inRooms(file) && file !== 'gateway.ts'

const CODE_RULES: readonly CodeRule[] = [
  {
    pattern: /(?:[:<|&(]|\bas|\bextends)\s*any\b(?!\s*[(:])|\bany(?:\[\]|>)/,
    says: 'any',
    appliesTo: everywhere,
  },
  {
    pattern: /^export\s+(?:default\b|\{[^}]*\bas\s+default\b)/m,
    says: 'default export',
    appliesTo: everywhere,
  },
  { pattern: /^export\s+\*/m, says: 'export *', appliesTo: everywhere },
  {
    pattern: /\bprocess\b\s*[.[?]/,
    says: 'process',
    appliesTo: (file) => !['cli', 'main'].includes(roomOf(file)),
  },
  {
    pattern:
      /\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.now\b|\bset(?:Timeout|Interval|Immediate)\b/,
    says: 'time that is not passed in',
    appliesTo: inRooms,
  },
  {
    pattern: /\bMath\.random\b/,
    says: 'chance that is not passed in',
    appliesTo: inRoomsBelowTheGateway,
  },
]

export const codeKeepsTheRules: Rule = (tree) =>
  [...tree].flatMap(([file, text]) => {
    const code = codeOf(text)
    return CODE_RULES.filter(({ pattern, appliesTo }) => appliesTo(file) && pattern.test(code)).map(
      ({ pattern, says }) => {
        const line = code.slice(0, code.search(pattern)).split('\n').length
        return `${file}:${line}: ${says}`
      },
    )
  })

export const nothingIsLeftOver: Rule = (tree) =>
  [...tree].flatMap(([file, text]) =>
    /\b(?:TODO|FIXME|XXX)\b/.test(text) ? [`${file}: left-over mark`] : [],
  )

const breachesOfImports = (
  tree: SourceTree,
  breach: (file: string, imported: Import) => string | undefined,
): string[] =>
  [...tree].flatMap(([file, text]) =>
    importsOf(file, text).flatMap((imported) => {
      const found = breach(file, imported)
      return found === undefined ? [] : [`${file} ${found}`]
    }),
  )

const importedFiles = (tree: SourceTree, file: string): string[] =>
  importsOf(file, tree.get(file) ?? '').flatMap(({ file: target }) =>
    target !== undefined && tree.has(target) ? [target] : [],
  )

const loadedBy = (tree: SourceTree, file: string): string[] =>
  importsOf(file, tree.get(file) ?? '').flatMap(({ file: target, kind }) =>
    kind !== 'type' && target !== undefined && tree.has(target) ? [target] : [],
  )

const reachedFrom = (
  tree: SourceTree,
  roots: readonly string[],
  next: (file: string) => readonly string[],
): ReadonlySet<string> => {
  const reached = new Set<string>()
  const waiting = roots.filter((file) => tree.has(file))
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (reached.has(file)) continue
    reached.add(file)
    waiting.push(...next(file))
  }
  return reached
}
