/**
 * A record or tombstone as one Redis string: a line of ASCII that scripts can read, then the sealed parts.
 *
 *   1r <generation> <absoluteExpiresAt> <bytes of metadata>\n<metadata><sealed>
 *   1e <generation> <absoluteExpiresAt> <endedAt> <reason>\n
 */

import { END_REASONS, type EndReason } from '../../events.ts'
import {
  RECORD_GRACE_MS,
  type StoredRecord,
  TOMBSTONE_LIFE_MS,
} from '../../session/session-store.ts'
import { type EpochMs, epochMs } from '../../time.ts'

/** First character. A release reads this version and the one before it. */
const FORMAT_VERSION = 1
const HEADER = new RegExp(`^${FORMAT_VERSION}(?:r (\\d+) (\\d+) (\\d+)|e \\d+ \\d+ (\\d+) (\\w+))$`)
/** Longer than any header: the numbers have 16 digits at most, and no reason is half as long. */
const HEADER_BYTES_MAX = 96
const NEWLINE = 10

export type StoredForm =
  | { readonly kind: 'live'; readonly record: StoredRecord }
  | { readonly kind: 'ended'; readonly reason: EndReason; readonly endedAt: EpochMs }

export const writeRecord = (record: StoredRecord): Buffer => {
  const { generation, absoluteExpiresAt, metadata, sealed } = record
  const header = `${FORMAT_VERSION}r ${generation} ${absoluteExpiresAt} ${metadata.byteLength}\n`
  // Memory of its own, for the journal keeps it: of the pool it would hold twice as much (measured).
  const value = Buffer.allocUnsafeSlow(header.length + metadata.byteLength + sealed.byteLength)
  value.write(header, 'latin1')
  value.set(metadata, header.length)
  value.set(sealed, header.length + metadata.byteLength)
  return value
}

/** Undefined for what this release does not know; that is no missing record. */
export const readStored = (value: Buffer): StoredForm | undefined => {
  const end = value.subarray(0, HEADER_BYTES_MAX).indexOf(NEWLINE)
  const header = HEADER.exec(value.toString('latin1', 0, Math.max(0, end)))
  if (header === null) return undefined
  const [, generation, absoluteExpiresAt, metadataBytes, endedAt, reason] = header
  if (endedAt !== undefined)
    return { kind: 'ended', reason: knownReason(reason), endedAt: epochMs(Number(endedAt)) }
  // Copies: the reply is a window onto a network buffer of up to 64 KiB, which a kept record would keep whole.
  const metadataStart = end + 1
  const sealedStart = metadataStart + Number(metadataBytes)
  if (sealedStart > value.length) return undefined
  return {
    kind: 'live',
    record: {
      generation: Number(generation),
      absoluteExpiresAt: epochMs(Number(absoluteExpiresAt)),
      metadata: new Uint8Array(value.subarray(metadataStart, sealedStart)),
      sealed: new Uint8Array(value.subarray(sealedStart)),
    },
  }
}

/** During a rolling deploy a newer release may end sessions for reasons that this one has no name for. */
export const knownReason = (reason: string | undefined): EndReason =>
  END_REASONS.find((known) => known === reason) ?? 'logout'

/**
 * Lua, in front of every script: `read(key)` gives `absent`, `ended`, `unreadable`, or `live` with generation and
 * deadline as text, from the first bytes alone; `expiry(deadline)` is when everything of the session is forgotten.
 */
export const READ_STORED_LUA = `
local function read(key)
  local head = redis.call('GETRANGE', key, 0, 63)
  if head == '' then return 'absent' end
  local kind, generation, deadline = string.match(head, '^${FORMAT_VERSION}([re]) (%d+) (%d+) ')
  if kind == 'r' then return 'live', generation, deadline end
  if kind == 'e' then return 'ended' end
  return 'unreadable'
end
local function expiry(deadline)
  return string.format('%.0f', tonumber(deadline) + ${RECORD_GRACE_MS})
end
`

/** Lua, for scripts that end sessions: a tombstone takes the place of the first key, and the others go. */
export const BURY_LUA = `
local function bury(keys, generation, deadline, endedAt, reason)
  local tombstone = '${FORMAT_VERSION}e ' .. generation .. ' ' .. deadline .. ' ' .. endedAt .. ' ' .. reason .. '\\n'
  local expiresAt = math.min(tonumber(endedAt) + ${TOMBSTONE_LIFE_MS}, tonumber(expiry(deadline)))
  redis.call('SET', keys[1], tombstone, 'PXAT', string.format('%.0f', expiresAt))
  redis.call('DEL', unpack(keys, 2))
end
`
