/** Forms: how a setting is written, in YAML or in a variable, and what it then means. A rule never repeats the value. */

import { z } from 'zod'
import { type Milliseconds, milliseconds, type Seconds, seconds } from '../time.ts'

export interface Form<T> {
  /** Judges the YAML value; every issue's message is a rule that follows the setting's name. */
  readonly schema: z.ZodType<T>
  /** For the documentation. */
  readonly written: string
  /** The YAML value that a text stands for. What it cannot read it returns as it came, for the schema to refuse. */
  readonly fromText: (text: string) => unknown
  /** A list or a map, which may be written as one text in YAML too. */
  readonly composite?: true
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

const TEXT_RULE = 'must be text (in YAML, put quotes around it)'

const asIs = (text: string): unknown => text

const rejecting =
  <T>(rule: string, parse: (text: string) => T | undefined) =>
  (text: string, context: z.RefinementCtx): T => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: rule })
    return z.NEVER
  }

/** A text that `parse` turns into a value, or into undefined where the rule is broken. */
export const text = <T>(
  written: string,
  rule: string,
  parse: (text: string) => T | undefined,
): Form<T> => ({
  schema: z.string({ error: TEXT_RULE }).transform(rejecting(rule, parse)),
  written,
  fromText: asIs,
})

export const matching = (written: string, rule: string, pattern: RegExp): Form<string> => ({
  schema: z.string({ error: TEXT_RULE }).regex(pattern, { error: rule, abort: true }),
  written,
  fromText: asIs,
})

export const choice = <const T extends readonly [string, ...string[]]>(
  ...values: T
): Form<T[number]> => ({
  schema: z.enum(values, { error: `must be ${anyOf(values)}` }),
  written: values.map((value) => `\`${value}\``).join(' or '),
  fromText: asIs,
})

export const boolean: Form<boolean> = {
  schema: z.boolean({ error: 'must be true or false' }),
  written: '`true` or `false`',
  fromText: (text) => (text === 'true' ? true : text === 'false' ? false : text),
}

export const wholeNumber = (least: number, most: number): Form<number> => {
  const rule = `must be a whole number from ${least} to ${most}`
  return {
    schema: z.int({ error: rule }).min(least, { error: rule }).max(most, { error: rule }),
    written: `whole number, ${least} to ${most}`,
    fromText: (text) => (/^\d{1,15}$/.test(text) ? Number(text) : text),
  }
}

const DURATION = /^(\d{1,9})(ms|s|m|h|d)$/
const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
type DurationUnit = keyof typeof UNIT_MS

const durationMs = (text: string): number => {
  const [, count, unit] = DURATION.exec(text) ?? []
  return count === undefined ? Number.NaN : Number(count) * UNIT_MS[unit as DurationUnit]
}

const duration = <T>(least: string, most: string, brand: (valueMs: number) => T): Form<T> => {
  const rule = `must be a duration from ${least} to ${most}, written like 500ms, 45s, 30m or 8h`
  const parse = (text: string): T | undefined => {
    const valueMs = durationMs(text)
    return valueMs >= durationMs(least) && valueMs <= durationMs(most) ? brand(valueMs) : undefined
  }
  return {
    schema: z
      .string({ error: rule })
      .regex(DURATION, { error: rule, abort: true })
      .transform(rejecting(rule, parse)),
    written: `duration, ${least} to ${most}`,
    fromText: asIs,
  }
}

export const durationSeconds = (least: string, most: string): Form<Seconds> =>
  duration(least, most, (valueMs) => seconds(valueMs / 1000))

export const durationMilliseconds = (least: string, most: string): Form<Milliseconds> =>
  duration(least, most, milliseconds)

const SIZE = /^(\d{1,9})(B|KiB|MiB|GiB)$/
const UNIT_BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 } as const

const sizeBytes = (text: string): number => {
  const [, count, unit] = SIZE.exec(text) ?? []
  return Number(count) * UNIT_BYTES[unit as keyof typeof UNIT_BYTES]
}

export const size = (least: string, most: string): Form<number> => {
  const rule = `must be a size from ${least} to ${most}, written like 64KiB or 10MiB`
  const parse = (text: string): number | undefined => {
    const bytes = sizeBytes(text)
    return bytes >= sizeBytes(least) && bytes <= sizeBytes(most) ? bytes : undefined
  }
  return {
    schema: z
      .string({ error: rule })
      .regex(SIZE, { error: rule, abort: true })
      .transform(rejecting(rule, parse)),
    written: `size, ${least} to ${most}`,
    fromText: asIs,
  }
}

/** In a variable the items stand between commas; blanks around an item don't count. */
export const list = <T>(
  item: Form<T>,
  options: { separator?: RegExp; written?: string; itemsMin?: number; itemsMax?: number } = {},
): Form<readonly T[]> => {
  const { separator = /,/, itemsMin = 0, itemsMax = 100 } = options
  const count =
    itemsMin > 0
      ? `must have from ${itemsMin} to ${itemsMax} items`
      : `must have at most ${itemsMax} items`
  return {
    schema: z
      .array(item.schema, { error: 'must be a list' })
      .min(itemsMin, { error: count })
      .max(itemsMax, { error: count }),
    written: options.written ?? `list of: ${item.written}`,
    fromText: (text) =>
      text
        .split(separator)
        .map((part) => part.trim())
        .filter((part) => part !== ''),
    composite: true,
  }
}

/** Like `list`, for what must not be named twice. */
export const set = <T>(
  item: Form<T>,
  options: { separator?: RegExp; written?: string; itemsMin?: number; itemsMax?: number } = {},
): Form<readonly T[]> => {
  const form = list(item, options)
  return {
    ...form,
    schema: form.schema.refine((items) => new Set(items).size === items.length, {
      error: 'must not name anything twice',
    }),
  }
}

const anyOf = (values: readonly string[]): string =>
  values.length === 1
    ? `${values[0]}`
    : `${values.slice(0, -1).join(', ')} or ${values[values.length - 1]}`
