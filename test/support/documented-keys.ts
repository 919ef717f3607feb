/** The table of keys in docs/session-data.md, and what a Redis really has, held against it. */

import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import { tableRows } from '../architecture/markdown.ts'

interface DocumentedKey {
  /** As the page writes it. */
  readonly name: string
  readonly pattern: RegExp
  readonly type: string
  /** Of a string, or of each entry of a sorted set. */
  readonly bytesMax: number
  readonly lifeMsMax: number
}

const UNITS: Readonly<Record<string, number>> = { s: 1_000, min: 60_000, h: 3_600_000 }
const PLACEHOLDERS: Readonly<Record<string, string>> = {
  digest: '[\\w-]{43}',
  index: '[\\w-]{43}',
  name: '[\\w-]{43}',
}

/** `absoluteMs`: the lifetime from whose end the page counts. */
export const documentedKeys = (namespace: string, absoluteMs: number): readonly DocumentedKey[] => {
  const page = readFileSync(new URL('../../docs/session-data.md', import.meta.url), 'utf8')
  return tableRows(page, 'key').map(([name = '', type = '', , expires = '', bytes = '']) => {
    const [, count, unit = ''] = /(\d+) (s|min|h)\b/.exec(expires) ?? []
    const fromDeadline = expires.includes('absolute deadline') ? absoluteMs : 0
    return {
      name,
      type: type === 'sorted set' ? 'zset' : type,
      pattern: new RegExp(
        `^${name
          .replace('<ns>', namespace)
          .replace(/[{}]/g, '\\$&')
          .replace(/<(\w+)>/g, (_, placeholder) => PLACEHOLDERS[placeholder] ?? '')}$`,
      ),
      bytesMax: Number(bytes),
      lifeMsMax: Number(count) * (UNITS[unit] ?? Number.NaN) + fromDeadline,
    }
  })
}

/** What the page does not say, or says otherwise, key by key; and the rows that there is a key for. */
export const compareWithPage = async (
  client: Redis,
  rows: readonly DocumentedKey[],
): Promise<{ readonly differences: readonly string[]; readonly seen: readonly string[] }> => {
  const differences: string[] = []
  const seen = new Set<string>()
  for await (const keys of client.scanStream() as AsyncIterable<string[]>)
    for (const key of keys) {
      const matching = rows.filter(({ pattern }) => pattern.test(key))
      const [row] = matching
      if (row === undefined || matching.length > 1) {
        differences.push(`${key} is named by ${matching.length} rows`)
        continue
      }
      const [type, life] = [await client.type(key), await client.pttl(key)]
      // Gone since it was found.
      if (type === 'none' || life === -2) continue
      seen.add(row.name)
      if (type !== row.type) differences.push(`${key} is a ${type}`)
      if (!(life > 0 && life <= row.lifeMsMax)) differences.push(`${key} lives for ${life} ms`)
      const sizes =
        type === 'zset'
          ? (await client.zrange(key, '0', '-1')).map(({ length }) => length)
          : [await client.strlen(key)]
      const bytes = Math.max(...sizes)
      if (!(bytes <= row.bytesMax)) differences.push(`${key} has ${bytes} bytes`)
    }
  return { differences, seen: [...seen] }
}
