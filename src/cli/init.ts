/** `coatcheck init`: writes a commented coatcheck.yaml and a compose snippet for the app at hand, and overwrites nothing. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { origin, upstream } from '../config/addresses.ts'
import type { Form } from '../config/forms.ts'
import { HELP_OPTION, parseArguments, UsageError, type Values } from './arguments.ts'
import { INIT_HELP } from './help.ts'
import { composeFile, configurationFile, type Surroundings } from './init-files.ts'
import { type Command, EXIT, type Io } from './io.ts'

const OPTIONS = { ...HELP_OPTION, spa: { type: 'string' }, api: { type: 'string' } } as const

export const init: Command = async (argv, io) => {
  const values = parseArguments('init', argv, OPTIONS)
  if (values.has('help')) {
    io.out(INIT_HELP)
    return EXIT.ok
  }
  const app = appIn(io.cwd)
  const surroundings: Surroundings = {
    app: addressIn(values, 'spa', origin) ?? `http://localhost:${app.port}`,
    api: addressIn(values, 'api', upstream) ?? 'http://localhost:4000',
    build: app.build,
  }
  const files = [
    ['coatcheck.yaml', configurationFile(surroundings)],
    ['compose.coatcheck.yaml', composeFile(surroundings)],
  ] as const
  for (const [name, text] of files) if (!write(io, name, text)) return EXIT.unavailable
  io.out(`Next: npx coatcheck dev -- ${app.command}`)
  io.out(
    'Calls of your app to /api/… then carry an access token; GET /bff/session says who is signed in.',
  )
  if (app.port === 3000 && !values.has('spa'))
    io.out(
      `Port 3000 is the gateway's: let your app take another (${app.command} with PORT=3001), and name it: coatcheck dev --spa http://localhost:3001.`,
    )
  if (!existsSync(join(io.cwd, 'node_modules/coatcheck')))
    io.out('Editors find the schema of coatcheck.yaml after: npm install --save-dev coatcheck')
  return EXIT.ok
}

interface App {
  readonly port: number
  /** Directory of the built files; undefined where a server of its own has the app. */
  readonly build: string | undefined
  /** Starts its development server. */
  readonly command: string
}

/** Ports of development servers and directories of builds, as the tools have them by default. */
const TOOLS: readonly (readonly [dependency: string, port: number, build: string | undefined])[] = [
  ['next', 3000, undefined],
  ['nuxt', 3000, undefined],
  ['astro', 4321, './dist'],
  ['@angular/core', 4200, './dist'],
  ['react-scripts', 3000, './build'],
  ['vite', 5173, './dist'],
]

const appIn = (directory: string): App => {
  const { dependencies, scripts } = packageIn(directory)
  const [, port, build] = TOOLS.find(([name]) => dependencies.has(name)) ?? ['', 5173, './dist']
  return { port, build, command: scripts.has('dev') ? 'npm run dev' : 'npm start' }
}

/** Names only. A package.json that is not there, or no JSON, has none: the defaults then do. */
const packageIn = (directory: string) => {
  const names = (group: unknown): string[] =>
    typeof group === 'object' && group !== null ? Object.keys(group) : []
  try {
    const text = readFileSync(join(directory, 'package.json'), 'utf8')
    const content = JSON.parse(text) as Readonly<Record<string, unknown>> | null
    return {
      dependencies: new Set([...names(content?.dependencies), ...names(content?.devDependencies)]),
      scripts: new Set(names(content?.scripts)),
    }
  } catch {
    return { dependencies: new Set<string>(), scripts: new Set(['dev']) }
  }
}

const addressIn = (values: Values, name: 'spa' | 'api', form: Form<string>): string | undefined => {
  const written = values.get(name)
  if (typeof written !== 'string') return undefined
  const result = form.schema.safeParse(written)
  if (result.success) return result.data
  throw new UsageError(`--${name} ${result.error.issues[0]?.message ?? 'must be a URL'}`, 'init')
}

const write = (io: Io, name: string, text: string): boolean => {
  try {
    writeFileSync(join(io.cwd, name), text, { flag: 'wx' })
    io.out(`${name} is written.`)
    return true
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : 'unknown error'
    if (code === 'EEXIST') {
      io.out(`${name} is there already and stays as it is.`)
      return true
    }
    io.err(`coatcheck: ${name} cannot be written here (${code})`)
    return false
  }
}
