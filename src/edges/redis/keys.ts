/** Names of the keys. Keys of one session share its hash tag, so one script may touch them all in a Cluster. */

import { createHash } from 'node:crypto'
import type { SessionDigest } from '../../session/session.ts'

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
  claim(name: string): string
  value(name: string): string
}

export const createKeyNames = (namespace: string): KeyNames => {
  const prefix = `cc:${namespace}:`
  const record = (digest: SessionDigest) => `${prefix}s:{${digest}}`
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
    claim: (name) => `${prefix}c:${name}`,
    value: (name) => `${prefix}o:${name}`,
  }
}
