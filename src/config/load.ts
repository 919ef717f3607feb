/** Loading: file, environment and secret files become one frozen Config, or all their problems at once. */

import { join, resolve } from 'node:path'
import { systemClock } from '../time.ts'
import { type Config, configFrom, type WatchedPems, type WatchedSettings } from './config.ts'
import { type ConfigFile, readConfigFile } from './config-file.ts'
import { isReadable } from './files.ts'
import { belongTogether, type PemKind, readPemFile } from './pem-files.ts'
import { ConfigError, NOT_SET } from './problems.ts'
import { type Reading, readSettings, writtenValue } from './reading.ts'
import { type BrokenRule, brokenRules, type Readable, warningsFor } from './rules.ts'
import type { Settings } from './schema.ts'
import {
  followServerIdentity,
  identityWarnings,
  readServerIdentity,
  type ServerIdentity,
} from './server-identity.ts'
import { CONFIG_FILE_VARIABLE, SETTING_BY_PATH } from './settings.ts'
import {
  type Environment,
  readSettingFile,
  readVariables,
  type Variables,
  type WrittenVariable,
} from './variables.ts'
import {
  constant,
  type FollowedFile,
  followed,
  noticed,
  type Reread,
  type Watched,
} from './watched.ts'

export interface LoadOptions {
  readonly env: Environment
  /** Where relative paths begin, and where `coatcheck.yaml` is looked for. */
  readonly cwd: string
  /** Goes before `COATCHECK_CONFIG`. */
  readonly configFile?: string
  /**
   * `demo` and `dev` make their own ring; `demo` takes no `coatcheck.yaml` that happens to lie in the working directory
   * either.
   */
  readonly profile?: 'serve' | 'demo' | 'dev'
  /** Variables that count where neither the environment nor the file has the setting, worked out from what those say. */
  readonly defaults?: (written: Reading) => Environment
}

export interface LoadedConfig {
  readonly config: Config
  readonly warnings: readonly string[]
  /** The configuration file that was read. */
  readonly file: string | undefined
  readonly followedFiles: readonly FollowedFile[]
}

/** Throws ConfigError. */
export const loadConfig = (options: LoadOptions): LoadedConfig => {
  const { env, cwd, profile = 'serve' } = options
  const named = options.configFile ?? (env[CONFIG_FILE_VARIABLE] || undefined)
  const file = named === undefined && profile === 'demo' ? undefined : readConfigFile(named, cwd)
  const variables = withDefaults(file, readVariables(env), options.defaults)
  const reading = withoutAppInFront(readSettings(file, variables), profile)
  const baseOf: BaseOf = (path) => (variables.byPath.has(path) ? cwd : (file?.directory ?? cwd))
  const spa = locateSpa(reading, baseOf('spa.directory'))
  const redisPems = readPems('redis.tls', reading.settings.redis?.tls, baseOf)
  const upstreamPems = readPems('upstreamTls', reading.settings.upstreamTls, baseOf)
  const tls = readTls(reading, baseOf)
  const broken = [
    ...brokenRules(reading.settings, reading.isSet),
    ...(profile === 'serve' && !reading.isSet('secret') ? RING_REQUIRED : []),
    ...spa.broken,
    ...redisPems.broken,
    ...upstreamPems.broken,
    ...tls.broken,
  ]
  // Whatever is missing may well stand in the file that could not be read.
  const fileProblems = file?.problems ?? []
  const problems = [
    ...fileProblems,
    ...variables.problems,
    ...[
      ...reading.problems,
      ...broken.map(({ setting, rule }) => reading.problem(setting, rule)),
    ].filter(({ source }) => fileProblems.length === 0 || source !== NOT_SET),
  ]
  if (problems.length > 0) throw new ConfigError(problems)

  // What could not be read is undefined and a problem; there was none, so everything is there.
  const settings = withPlaces(reading.settings as Settings, baseOf)
  const pems = { redis: redisPems.files, upstream: upstreamPems.files }
  const { watched, followedFiles } = follow(settings, variables.byPath, pems, tls.found)
  return Object.freeze({
    config: configFrom(settings, watched, spa.directory),
    warnings: Object.freeze([...warningsFor(settings), ...spa.warnings, ...tls.warnings]),
    file: file?.name,
    followedFiles,
  })
}

/** What a command needs that asks a running gateway's admin API. */
export interface AdminAccess {
  /** The one to send; undefined where there is none. */
  readonly token: string | undefined
  readonly listen: Settings['operations']['listen']
}

const ADMIN_ACCESS = ['admin.token', 'operations.listen']

/** Reads no other settings than these: whoever asks needs no client secret. Throws ConfigError. */
export const loadAdminAccess = ({ env, cwd, configFile }: LoadOptions): AdminAccess => {
  const file = readConfigFile(configFile ?? (env[CONFIG_FILE_VARIABLE] || undefined), cwd)
  const variables = readVariables(env)
  const { settings, problems } = readSettings(file, variables)
  const relevant = [
    ...(file?.problems ?? []),
    ...variables.problems,
    ...problems.filter(({ setting }) => ADMIN_ACCESS.includes(setting)),
  ]
  if (relevant.length > 0) throw new ConfigError(relevant)
  const { admin, operations } = settings as Settings
  return { token: admin.token?.[0], listen: operations.listen }
}

const withDefaults = (
  file: ConfigFile | undefined,
  variables: Variables,
  defaults: LoadOptions['defaults'],
): Variables => {
  if (defaults === undefined) return variables
  const written = readSettings(file, variables)
  const missing = [...readVariables(defaults(written)).byPath].filter(
    ([path]) => !written.isSet(path),
  )
  const byPath = new Map(missing.map(([path, one]) => [path, { ...one, source: 'default' }]))
  return { ...variables, byPath: new Map([...byPath, ...variables.byPath]) }
}

/** In development the app's own server may stand before the gateway. It then has the public URL, and is not behind it too. */
const withoutAppInFront = (reading: Reading, profile: LoadOptions['profile']): Reading => {
  const { spa, publicUrl } = reading.settings
  if (profile !== 'dev' || spa?.upstream === undefined || spa.upstream !== publicUrl) return reading
  return {
    ...reading,
    settings: { ...reading.settings, spa: { ...spa, upstream: undefined } },
  }
}

const RING_REQUIRED: readonly BrokenRule[] = [
  { setting: 'secret', rule: 'is required; make one with: openssl rand -base64 48' },
]

interface SpaLocation {
  readonly directory: string | undefined
  readonly broken: readonly BrokenRule[]
  readonly warnings: readonly string[]
}

const locateSpa = (reading: Reading, base: string): SpaLocation => {
  const written = reading.settings.spa?.directory
  if (written === undefined) return { directory: undefined, broken: [], warnings: [] }
  const directory = resolve(base, written)
  if (!isReadable(directory, 'directory'))
    return {
      directory: undefined,
      broken: [{ setting: 'spa.directory', rule: 'must be a directory that can be read' }],
      warnings: [],
    }
  return {
    directory,
    broken: [],
    warnings: isReadable(join(directory, 'index.html'), 'file')
      ? []
      : ['spa.directory has no index.html: build the app, or correct the path.'],
  }
}

/** Where the relative path in a setting begins: at whatever says so. */
type BaseOf = (path: string) => string

const withPlaces = (settings: Settings, baseOf: BaseOf): Settings => {
  const { users } = settings.dev
  if (users === undefined) return settings
  return { ...settings, dev: { ...settings.dev, users: resolve(baseOf('dev.users'), users) } }
}

interface LoadedPem {
  /** Of the setting. */
  readonly path: string
  readonly file: string
  readonly kind: PemKind
  readonly text: string
}

interface LoadedPems {
  readonly files: Readonly<Partial<Record<keyof WatchedPems, LoadedPem>>>
  readonly broken: readonly BrokenRule[]
}

type PemSettings = Pick<Settings['upstreamTls'], keyof WatchedPems>

const PEM_KINDS: Readonly<Record<keyof WatchedPems, PemKind>> = {
  ca: 'certificates',
  cert: 'certificates',
  key: 'key',
}

const readPems = (
  group: string,
  settings: Readable<PemSettings> | undefined,
  baseOf: BaseOf,
): LoadedPems => {
  const files: Partial<Record<keyof WatchedPems, LoadedPem>> = {}
  const broken: BrokenRule[] = []
  for (const name of ['ca', 'cert', 'key'] as const) {
    const written = settings?.[name]
    if (written === undefined) continue
    const path = `${group}.${name}`
    const file = resolve(baseOf(path), written)
    const read = readPemFile(file, PEM_KINDS[name])
    if (read.kind === 'pem') files[name] = { path, file, kind: PEM_KINDS[name], text: read.text }
    else broken.push({ setting: path, rule: read.rule })
  }
  const { cert, key } = files
  if (cert !== undefined && key !== undefined && !belongTogether(cert.text, key.text))
    broken.push({ setting: `${group}.key`, rule: `must be the key of ${group}.cert` })
  return { files, broken }
}

interface LoadedTls {
  readonly found:
    | { readonly files: { cert: string; key: string }; readonly identity: ServerIdentity }
    | undefined
  readonly broken: readonly BrokenRule[]
  readonly warnings: readonly string[]
}

const readTls = ({ settings }: Reading, baseOf: BaseOf): LoadedTls => {
  const { cert, key } = settings.tls ?? {}
  if (cert === undefined || key === undefined) return { found: undefined, broken: [], warnings: [] }
  const files = { cert: resolve(baseOf('tls.cert'), cert), key: resolve(baseOf('tls.key'), key) }
  const { broken, identity } = readServerIdentity(files)
  if (identity === undefined) return { found: undefined, broken, warnings: [] }
  const warnings =
    settings.publicUrl === undefined
      ? []
      : identityWarnings(identity, new URL(settings.publicUrl).hostname, systemClock.now())
  return { found: { files, identity }, broken, warnings }
}

/** The secrets follow their files; for other settings from files a change is only noticed. */
const follow = (
  settings: Settings,
  variables: ReadonlyMap<string, WrittenVariable>,
  pems: Readonly<Record<'redis' | 'upstream', LoadedPems['files']>>,
  tls: LoadedTls['found'],
): { readonly watched: WatchedSettings; readonly followedFiles: readonly FollowedFile[] } => {
  const followedFiles: FollowedFile[] = []

  const watch = <T>(path: string, value: T): Watched<T> => {
    const written = variables.get(path)
    if (written?.file === undefined) return constant(value)
    const { file, variable, text } = written
    const made = followed(variable, { text, value }, () => reread<T>(path, file))
    followedFiles.push(made.file)
    return made.watched
  }

  const watchPem = (pem: LoadedPem | undefined): Watched<string> | undefined => {
    if (pem === undefined) return undefined
    const { path, file, kind, text } = pem
    const made = followed(path, { text, value: text }, () => {
      const read = readPemFile(file, kind)
      return read.kind === 'pem' ? { kind: 'value', text: read.text, value: read.text } : read
    })
    followedFiles.push(made.file)
    return made.watched
  }

  const watchIdentity = (): Watched<ServerIdentity> | undefined => {
    if (tls === undefined) return undefined
    const made = followServerIdentity(tls.files, tls.identity)
    followedFiles.push(made.file)
    return made.watched
  }

  const watchPems = ({ ca, cert, key }: LoadedPems['files']): WatchedPems => ({
    ca: watchPem(ca),
    cert: watchPem(cert),
    key: watchPem(key),
  })

  const watched: WatchedSettings = {
    clientSecret: watch('clientSecret', settings.clientSecret),
    secret: settings.secret === undefined ? undefined : watch('secret', settings.secret),
    tlsIdentity: watchIdentity(),
    redisUrl: settings.redis.url === undefined ? undefined : watch('redis.url', settings.redis.url),
    redisTls: watchPems(pems.redis),
    upstreamTls: watchPems(pems.upstream),
    adminToken:
      settings.admin.token === undefined ? undefined : watch('admin.token', settings.admin.token),
  }
  for (const [path, { file, variable, text }] of variables)
    if (file !== undefined && !FOLLOWED_PATHS.has(path))
      followedFiles.push(noticed(variable, text, () => textOf(file)))
  return { watched, followedFiles }
}

const FOLLOWED_PATHS: ReadonlySet<string> = new Set([
  'clientSecret',
  'secret',
  'redis.url',
  'admin.token',
])

const textOf = (file: string): string | undefined => {
  const read = readSettingFile(file)
  return read.kind === 'text' ? read.text : undefined
}

const reread = <T>(path: string, file: string): Reread<T> => {
  const read = readSettingFile(file)
  if (read.kind === 'unreadable') return { kind: 'unusable', text: undefined, rule: read.rule }
  const { text } = read
  const schema = SETTING_BY_PATH.get(path)?.schema
  if (schema === undefined) throw new TypeError(`${path} is no setting`)
  const result = schema.safeParse(writtenValue(schema, undefined, { text }))
  return result.success
    ? { kind: 'value', text, value: result.data as T }
    : { kind: 'unusable', text, rule: result.error.issues[0]?.message ?? 'must be valid' }
}
