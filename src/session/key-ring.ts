/** The key ring: the first secret seals, all of them open. A secret's id comes from the secret, not its place. */

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
  readonly first: RingKey
  find(id: number): RingKey | undefined
  /** For one purpose: every secret's id and derived password, to open with. */
  openingPasswords(purpose: SealPurpose): Readonly<Record<string, string>>
}

/** The ring can change while the gateway runs; whoever holds this sees the newest. */
export interface CurrentKeyRing {
  readonly current: KeyRing
}

export const RING_ID_BYTES = 6

const derive = (secret: string, label: string, bytes: number): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, '', `coatcheck ${label} v1`, bytes))

const ringKey = (secret: string): RingKey => {
  const password = (purpose: SealPurpose) =>
    derive(secret, `seal ${purpose}`, 32).toString('base64url')
  const salt = (purpose: RecordPurpose) => derive(secret, `salt ${purpose}`, 32)
  return {
    id: derive(secret, 'id', RING_ID_BYTES).readUIntBE(0, RING_ID_BYTES),
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

export const createKeyRing = (secrets: readonly string[]): KeyRing => {
  const keys = secrets.map(ringKey)
  const [first] = keys
  if (first === undefined) throw new TypeError('a key ring needs at least one secret')
  const byId = new Map(keys.map((key) => [key.id, key]))
  const opening = (purpose: SealPurpose) =>
    Object.freeze(Object.fromEntries(keys.map((key) => [String(key.id), key.passwords[purpose]])))
  const passwords = {
    ticket: opening('ticket'),
    transaction: opening('transaction'),
    logout: opening('logout'),
  }
  return {
    first,
    find: (id) => byId.get(id),
    openingPasswords: (purpose) => passwords[purpose],
  }
}
