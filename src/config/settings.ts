/** The settings as a flat list, and the variables that are derived from their paths. */

import { z } from 'zod'
import { type About, aboutSetting, settingsSchema } from './schema.ts'

export interface Setting extends About {
  /** `session.idle`, or `routes[].path` inside the list of routes. */
  readonly path: string
  /** Undefined inside the list of routes. */
  readonly variable: string | undefined
  readonly schema: z.ZodType
}

/** `session.sameSite` → `COATCHECK_SESSION_SAME_SITE`. */
export const variableOf = (path: string): string =>
  `COATCHECK_${path
    .replaceAll('.', '_')
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toUpperCase()}`

/** Names the configuration file; no setting, because a file cannot name itself. */
export const CONFIG_FILE_VARIABLE = 'COATCHECK_CONFIG'

/** Stands for `spa.directory` or `spa.upstream`, whichever its text looks like. */
export const SPA_VARIABLE = 'COATCHECK_SPA'
export const SPA_LOCATIONS: readonly string[] = ['spa.directory', 'spa.upstream']

export type Shape = Readonly<Record<string, z.ZodType>>

/** What lies inside a group or a list of groups; undefined for a setting. */
export const insideOf = (
  schema: z.core.$ZodType,
): { readonly kind: 'group' | 'list'; readonly shape: Shape } | undefined => {
  if (schema instanceof z.ZodPrefault) return insideOf(schema.def.innerType)
  if (schema instanceof z.ZodObject) return { kind: 'group', shape: schema.shape as Shape }
  if (schema instanceof z.ZodArray && schema.element instanceof z.ZodObject)
    return { kind: 'list', shape: schema.element.shape as Shape }
  return undefined
}

const flatten = (shape: Shape, prefix: string): readonly Setting[] =>
  Object.entries(shape).flatMap(([key, schema]): readonly Setting[] => {
    const path = `${prefix}${key}`
    const facts = aboutSetting(schema)
    if (facts !== undefined)
      return [
        { ...facts, path, schema, variable: path.includes('[]') ? undefined : variableOf(path) },
      ]
    const inside = insideOf(schema)
    if (inside === undefined) throw new TypeError(`${path} is neither a setting nor a group`)
    return flatten(inside.shape, inside.kind === 'list' ? `${path}[].` : `${path}.`)
  })

export const SETTINGS: readonly Setting[] = flatten(settingsSchema.shape as Shape, '')

export const SETTING_BY_PATH: ReadonlyMap<string, Setting> = new Map(
  SETTINGS.map((setting) => [setting.path, setting]),
)

/** JSON Schema of the configuration file, for editors. Judges forms, not the rules between settings. */
export const jsonSchema = (): Readonly<Record<string, unknown>> => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'Coatcheck configuration file',
  ...z.toJSONSchema(settingsSchema, {
    io: 'input',
    override: ({ zodSchema, jsonSchema, path }) => {
      const facts = aboutSetting(zodSchema)
      if (facts?.form.composite) allowText(jsonSchema)
      // A variable may give what the file leaves out, except inside a route.
      if (!path.includes('items')) delete jsonSchema.required
      if (insideOf(zodSchema)?.kind === 'group') delete jsonSchema.default
    },
  }),
})

/** Lists and maps may be written as one text. */
const allowText = (schema: z.core.JSONSchema.BaseSchema): void => {
  const { description, default: byDefault, ...written } = schema
  for (const key of Object.keys(schema)) delete schema[key]
  Object.assign(schema, {
    description,
    ...(byDefault === undefined ? {} : { default: byDefault }),
    anyOf: [written, { type: 'string' }],
  })
}
