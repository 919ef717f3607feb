/** Reading: one pass over the schema, which takes each setting from its variable, the file or its default. */

import type { z } from 'zod'
import type { ConfigFile } from './config-file.ts'
import { nearest } from './nearest.ts'
import { NOT_SET, type Problem } from './problems.ts'
import type { Readable } from './rules.ts'
import { aboutSetting, ROUTES_MAX, type Settings, settingsSchema } from './schema.ts'
import { insideOf, SETTING_BY_PATH, type Shape, SPA_LOCATIONS } from './settings.ts'
import type { Variables, WrittenVariable } from './variables.ts'

export interface Reading {
  /** What has a problem of its own is undefined in it. */
  readonly settings: Readable<Settings>
  readonly problems: readonly Problem[]
  /** Whether something was written for a setting, valid or not. */
  isSet(path: string): boolean
  /** A problem with the setting's variable and source filled in. */
  problem(setting: string, rule: string): Problem
}

export const readSettings = (
  file: ConfigFile | undefined,
  { byPath: variables, unreadable }: Pick<Variables, 'byPath' | 'unreadable'>,
): Reading => {
  const problems: Problem[] = []
  const inFile = new Set<string>()

  const sourceOf = (path: string): string => {
    const written = variables.get(path)
    if (written !== undefined) return written.source
    if (inFile.has(path)) return `file ${file?.name}`
    const setting = SETTING_BY_PATH.get(path)
    if (setting !== undefined) return setting.default === undefined ? NOT_SET : 'default'
    return path === '' ? NOT_SET : sourceOf(parentOf(path))
  }

  const variableFor = (path: string): string | undefined =>
    variables.get(path)?.variable ??
    SETTING_BY_PATH.get(path)?.variable ??
    (path === '' ? undefined : variableFor(parentOf(path)))

  const problem = (setting: string, rule: string): Problem => {
    const variable = variableFor(setting)
    return {
      setting,
      ...(variable === undefined ? {} : { variable }),
      rule,
      source: sourceOf(setting),
    }
  }

  const refuse = (setting: string, rule: string): undefined => {
    problems.push(problem(setting, rule))
    return undefined
  }

  const readGroup = (shape: Shape, written: unknown, at: string): Record<string, unknown> => {
    const content = contentOf(shape, written, at)
    return Object.fromEntries(
      Object.entries(shape).map(([key, schema]) => [
        key,
        readValue(schema, content.get(key), joined(at, key)),
      ]),
    )
  }

  /** A group that is there but empty counts as absent, like a setting without a value. */
  const contentOf = (shape: Shape, written: unknown, at: string): ReadonlyMap<string, unknown> => {
    if (written === undefined || written === null) return new Map()
    inFile.add(at)
    if (typeof written !== 'object' || Array.isArray(written)) {
      refuse(at, 'must be a map of settings')
      return new Map()
    }
    const known = Object.keys(shape)
    for (const key of Object.keys(written).filter((name) => !known.includes(name))) {
      inFile.add(joined(at, key))
      refuse(
        joined(at, key),
        `is no setting; the nearest is ${joined(at, nearest(key, known) ?? '')}`,
      )
    }
    return new Map(Object.entries(written))
  }

  const readValue = (schema: z.ZodType, written: unknown, at: string): unknown => {
    if (aboutSetting(schema) !== undefined) return readSetting(schema, written, at)
    const inside = insideOf(schema)
    if (inside === undefined) throw new TypeError(`${at} is neither a setting nor a group`)
    return inside.kind === 'group'
      ? readGroup(inside.shape, written, at)
      : readRoutes(inside.shape, written, at)
  }

  const readRoutes = (shape: Shape, written: unknown, at: string): unknown => {
    if (written === undefined || written === null) return []
    inFile.add(at)
    return Array.isArray(written) && written.length <= ROUTES_MAX
      ? written.map((item, index) => readGroup(shape, item ?? {}, `${at}[${index}]`))
      : refuse(at, `must be a list of at most ${ROUTES_MAX} routes`)
  }

  const readSetting = (schema: z.ZodType, content: unknown, at: string): unknown => {
    if (content !== undefined && content !== null) inFile.add(at)
    const written = writtenValue(schema, content, variables.get(at))
    const result = schema.safeParse(written)
    if (result.success) return result.data
    if (unreadable.has(at)) return undefined
    if (written === undefined) return refuse(at, 'is required')
    for (const issue of result.error.issues) refuse(at + placeIn(issue.path), issue.message)
    return undefined
  }

  const settings = readGroup(settingsSchema.shape as Shape, fileContent(file, variables), '')
  return {
    settings: settings as Readable<Settings>,
    problems,
    isSet: (path) => variables.has(path) || unreadable.has(path) || inFile.has(path),
    problem,
  }
}

/** A variable goes before the file. In YAML, too, lists and maps may be written as one text. */
export const writtenValue = (
  schema: z.ZodType,
  content: unknown,
  variable: Pick<WrittenVariable, 'text'> | undefined,
): unknown => {
  const form = aboutSetting(schema)?.form
  if (variable !== undefined) return form?.fromText(variable.text)
  if (typeof content === 'string' && form?.composite) return form.fromText(content)
  return content ?? undefined
}

/** Where the app is, is one decision: a variable that makes it overrides whichever of the two the file has. */
const fileContent = (
  file: ConfigFile | undefined,
  variables: ReadonlyMap<string, WrittenVariable>,
): unknown => {
  const content = file?.content
  if (typeof content !== 'object' || content === null || !('spa' in content)) return content
  const { spa } = content
  if (typeof spa !== 'object' || spa === null || Array.isArray(spa)) return content
  if (!SPA_LOCATIONS.some((path) => variables.has(path))) return content
  const { directory, upstream, ...rest } = spa as Record<string, unknown>
  return { ...content, spa: rest }
}

const joined = (at: string, key: string): string => (at === '' ? key : `${at}.${key}`)

const parentOf = (path: string): string => path.replace(/(^|\.)[^.[\]]*$|\[\d+\]$/, '')

const placeIn = (path: readonly PropertyKey[]): string =>
  path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('')
