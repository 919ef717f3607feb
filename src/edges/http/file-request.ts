/** What a request says about the representation it wants: encoding, freshness, range. Pure, from header values. */

import type { Encoding } from './file-index.ts'

/** By size; what a client likes equally, it gets the smaller of. */
const PREFERENCE: readonly Encoding[] = ['br', 'gzip']

/** The encoding to send, of those at hand, by RFC 9110 §12.5.3; undefined sends the file as it is. */
export const negotiatedEncoding = (
  acceptEncoding: string | undefined,
  available: { has(encoding: Encoding): boolean },
): Encoding | undefined => {
  if (acceptEncoding === undefined) return undefined
  const weights = weightsOf(acceptEncoding)
  const weightOf = (coding: string) => weights.get(coding) ?? weights.get('*') ?? 0
  const candidates = PREFERENCE.filter((encoding) => available.has(encoding))
  const best = candidates.reduce<Encoding | undefined>(
    (leader, encoding) =>
      weightOf(encoding) > (leader === undefined ? 0 : weightOf(leader)) ? encoding : leader,
    undefined,
  )
  // Identity is worth 1 at most where it is named, and takes what is left where it is not.
  const identity = weights.get('identity') ?? 0
  return best !== undefined && weightOf(best) >= identity ? best : undefined
}

const weightsOf = (acceptEncoding: string): ReadonlyMap<string, number> => {
  const weights = new Map<string, number>()
  for (const part of acceptEncoding.toLowerCase().split(',')) {
    const match = /^\s*([a-z0-9*_-]+)\s*(?:;\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?$/.exec(part)
    if (match?.[1] !== undefined) weights.set(match[1].replace(/^x-/, ''), Number(match[2] ?? 1))
  }
  return weights
}

export interface Validators {
  /** A strong entity tag, in its quotes. */
  readonly entityTag: string
  readonly modifiedAtMs: number
}

type Fields = Readonly<Record<string, string | string[] | undefined>>

const field = (headers: Fields, name: string): string | undefined => {
  const value = headers[name]
  return typeof value === 'string' ? value : undefined
}

/** The client's copy is current: RFC 9110 §13.2.2, for GET and HEAD. A date counts only without entity tags. */
export const isNotModified = (headers: Fields, validators: Validators): boolean => {
  const ifNoneMatch = field(headers, 'if-none-match')
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() === '*') return true
    const tags = ifNoneMatch.match(/(?:W\/)?"[^"]*"/g) ?? []
    return tags.some((tag) => tag.replace(/^W\//, '') === validators.entityTag)
  }
  const since = Date.parse(field(headers, 'if-modified-since') ?? '')
  return wholeSeconds(validators.modifiedAtMs) <= since
}

export const httpDate = (instantMs: number): string => new Date(instantMs).toUTCString()

/** HTTP dates know no fractions. */
const wholeSeconds = (instantMs: number): number => Math.floor(instantMs / 1000) * 1000

export type ByteRange =
  /** First and last byte, both inclusive. */
  | { readonly kind: 'part'; readonly first: number; readonly last: number }
  | { readonly kind: 'unsatisfiable' }

/**
 * The one range asked for (RFC 9110 §14.2); undefined means the whole: no range, several, one that does not
 * parse, or an `If-Range` that speaks of another version.
 */
export const requestedRange = (
  headers: Fields,
  sizeBytes: number,
  validators: Validators,
): ByteRange | undefined => {
  const match = /^bytes=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*$/i.exec(field(headers, 'range') ?? '')
  if (match === null || !ifRangeHolds(field(headers, 'if-range'), validators)) return undefined
  const [, from = '', to = ''] = match
  if (from === '' && to === '') return undefined
  if (from === '') {
    const suffixBytes = Math.min(Number(to), sizeBytes)
    if (suffixBytes === 0) return { kind: 'unsatisfiable' }
    return { kind: 'part', first: sizeBytes - suffixBytes, last: sizeBytes - 1 }
  }
  const first = Number(from)
  const last = to === '' ? sizeBytes - 1 : Math.min(Number(to), sizeBytes - 1)
  if (to !== '' && Number(to) < first) return undefined
  return first < sizeBytes ? { kind: 'part', first, last } : { kind: 'unsatisfiable' }
}

/** RFC 9110 §13.1.5: entity tags compare strongly, a date must be exactly ours. */
const ifRangeHolds = (ifRange: string | undefined, validators: Validators): boolean =>
  ifRange === undefined ||
  ifRange === validators.entityTag ||
  ifRange === httpDate(validators.modifiedAtMs)
