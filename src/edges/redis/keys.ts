/** Names of the keys. Keys of one session share its hash tag, so one script may touch them all in a Cluster. */

import { createHash } from 'node:crypto'
import type { SessionDigest } from '../../session/session.ts'
import type { SessionIndex } from '../../session/session-index.ts'

/**
 * Eight characters that two deployments on one Redis do not share, unless they are one: same issuer, same client.
 */
export const storeNamespace = (issuer: string, clientId: string): string =>
  createHash('sha256').update(issuer).update('\0').update(clientId).digest('base64url').slice(0, 8)

/** Of one session. Only the record lies under the prefix that trackers watch: the others change far more often. */
export interface SessionKeys {
  readonly record: string
  readonly idle: string
  readonly lease: string
  readonly attempt: string
  readonly window: string
  readonly outcome: string
  readonly written: string
}

export interface KeyNames {
  session(digest: SessionDigest): SessionKeys
  /** The two that every proxied request reads. */
  record(digest: SessionDigest): string
  idle(digest: SessionDigest): string
  /** An index and its mark share a tag of their own. */
  index(index: SessionIndex): string
  mark(index: SessionIndex): string
  /** What trackers watch: every key that begins so, a probe's among them, which nobody reads. */
  readonly watched: string
  probe(name: string): string
  /** Pattern of every record and tombstone, and the way back from such a key; undefined for any other. */
  readonly everyRecord: string
  digestOf(recordKey: string): SessionDigest | undefined
  claim(name: string): string
  value(name: string): string
}

const SLOTS = 16_384
const HASH_TAG = /\{([^}]+)\}/

/** The slot of a Cluster in which a key lies: CRC-16 (XMODEM) of its hash tag, as every key here has one. */
export const slotOf = (key: string): number => {
  let crc = 0
  for (const byte of Buffer.from(HASH_TAG.exec(key)?.[1] ?? key, 'latin1')) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  }
  return (crc & 0xffff) % SLOTS
}

const RECORD_TAG = /:s:\{([\w-]{43})\}$/

export const createKeyNames = (namespace: string): KeyNames => {
  const prefix = `cc:${namespace}:`
  const watched = `${prefix}s:`
  const record = (digest: SessionDigest) => `${watched}{${digest}}`
  const side = (digest: SessionDigest, letter: string) => `${prefix}x:{${digest}}:${letter}`
  const idle = (digest: SessionDigest) => side(digest, 'i')
  return {
    session: (digest) => ({
      record: record(digest),
      idle: idle(digest),
      lease: side(digest, 'l'),
      attempt: side(digest, 'a'),
      window: side(digest, 'w'),
      outcome: side(digest, 'o'),
      written: side(digest, 'd'),
    }),
    record,
    idle,
    index: (index) => `${prefix}i:{${index}}`,
    mark: (index) => `${prefix}i:{${index}}:b`,
    watched,
    probe: (name) => `${watched}probe-${name}`,
    everyRecord: `${watched}*`,
    digestOf: (key) => {
      const [, digest] = RECORD_TAG.exec(key) ?? []
      return digest === undefined ? undefined : (digest as SessionDigest)
    },
    claim: (name) => `${prefix}c:${name}`,
    value: (name) => `${prefix}o:${name}`,
  }
}
