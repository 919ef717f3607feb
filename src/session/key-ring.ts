/** The key ring: one secret seals, all of them open. A secret's id comes from the secret, not its place. */

import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'

/** Each use has its own derived key, so that one sealed thing can never pass for another. */
export type SealPurpose = 'ticket' | 'transaction' | 'logout'
export type RecordPurpose = 'record' | 'metadata' | 'logout-hint'

export interface RingKey {
  /** 48 bits of an HKDF of the secret: the same on every replica, wherever the secret stands in the list. */
  readonly id: number
  readonly passwords: Readonly<Record<SealPurpose, string>>
  readonly salts: Readonly<Record<RecordPurpose, Uint8Array>>
  /** Opens what must be readable without the browser's key. */
  readonly metadataKey: KeyObject
}

export interface KeyRing {
  /** The first of the list, or for a while the one that was. */
  readonly sealing: RingKey
  /** In the order of the list. */
  readonly ids: readonly number[]
  find(id: number): RingKey | undefined
  /** Whether what this secret sealed should be sealed anew: all but the one that seals, and those listed before it. */
  isOutdated(id: number): boolean
  /** For one purpose: every secret's id and derived password, to open with. */
  openingPasswords(purpose: SealPurpose): Readonly<Record<string, string>>
}

/** The ring can change while the gateway runs; whoever holds this sees the newest. */
export interface CurrentKeyRing {
  readonly current: KeyRing
}

export const RING_ID_BYTES = 6

/** The same on every replica, and nothing to guess the secret from: each cookie shows it. */
export const ringIdOf = (secret: string): number =>
  derive(secret, 'id', RING_ID_BYTES).readUIntBE(0, RING_ID_BYTES)

const derive = (secret: string, label: string, bytes: number): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, '', `coatcheck ${label} v1`, bytes))

const ringKey = (secret: string): RingKey => {
  const password = (purpose: SealPurpose) =>
    derive(secret, `seal ${purpose}`, 32).toString('base64url')
  const salt = (purpose: RecordPurpose) => derive(secret, `salt ${purpose}`, 32)
  return {
    id: ringIdOf(secret),
    passwords: {
      ticket: password('ticket'),
      transaction: password('transaction'),
      logout: password('logout'),
    },
    salts: {
      record: salt('record'),
      metadata: salt('metadata'),
      'logout-hint': salt('logout-hint'),
    },
    metadataKey: createSecretKey(derive(secret, 'metadata', 32)),
  }
}

/** Seals with `sealing`, one of the secrets; with the first where nothing is said. */
export const createKeyRing = (secrets: readonly string[], sealing = secrets[0]): KeyRing => {
  const keys = secrets.map(ringKey)
  const place = sealing === undefined ? -1 : secrets.indexOf(sealing)
  const sealingKey = keys[place]
  if (sealingKey === undefined)
    throw new TypeError('a key ring needs a secret of its own to seal with')
  const currentIds = new Set(keys.slice(0, place + 1).map(({ id }) => id))
  const byId = new Map(keys.map((key) => [key.id, key]))
  const opening = (purpose: SealPurpose) =>
    Object.freeze(Object.fromEntries(keys.map((key) => [String(key.id), key.passwords[purpose]])))
  const passwords = {
    ticket: opening('ticket'),
    transaction: opening('transaction'),
    logout: opening('logout'),
  }
  return {
    sealing: sealingKey,
    ids: keys.map(({ id }) => id),
    find: (id) => byId.get(id),
    isOutdated: (id) => !currentIds.has(id),
    openingPasswords: (purpose) => passwords[purpose],
  }
}
