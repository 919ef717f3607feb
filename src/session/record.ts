/**
 * The sealed record: tokens and claims under the browser's key and the ring, so that neither a dump of the store
 * nor the gateway's secret opens a token, nor both without the cookie (RFC 9700 §4.9.3).
 */

import {
  type CipherGCMTypes,
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import type { EpochMs } from '../time.ts'
import { type CurrentKeyRing, type RecordPurpose, RING_ID_BYTES } from './key-ring.ts'
import { packObject, packSession, unpackObject, unpackSession } from './packing.ts'
import type { Session, SessionDigest } from './session.ts'
import type { StoredRecord } from './session-store.ts'

/** First byte of every sealed part. A release reads this version and the one before it. */
const FORMAT_VERSION = 1
const CIPHER: CipherGCMTypes = 'aes-256-gcm'
const IV_BYTES = 12
const TAG_BYTES = 16
const HEADER_BYTES = 1 + RING_ID_BYTES

/** What the operator and "my devices" read without a cookie. */
export interface SessionMetadata {
  readonly issuer: string
  readonly subject: string
  readonly providerSessionId: string | undefined
  readonly createdAt: EpochMs
  readonly signInStartedAt: EpochMs
  /** `User-Agent` at sign-in, shortened; undefined when there was none. */
  readonly device: string | undefined
  readonly address: string
}

export interface OpenedRecord {
  readonly session: Session
  /** Id of the secret that sealed it: an older one is sealed anew. */
  readonly ringId: number
}

export interface RecordSealer {
  seal(
    digest: SessionDigest,
    key: Buffer,
    session: Session,
    metadata: SessionMetadata,
  ): StoredRecord
  /** The same session again: a later generation, or under a newer secret. Its metadata goes along. */
  sealNext(digest: SessionDigest, key: Buffer, session: Session, former: StoredRecord): StoredRecord
  /** Undefined when the key or the ring does not open it, or the format is not known. */
  open(digest: SessionDigest, key: Buffer, record: StoredRecord): OpenedRecord | undefined
  openMetadata(digest: SessionDigest, record: StoredRecord): SessionMetadata | undefined
  /** Id of the secret under which the tokens are sealed; undefined for an unknown format. */
  ringIdOf(record: StoredRecord): number | undefined
  /** Any small text under key and ring, bound to a name: the ID token that waits for the end-session redirect. */
  sealText(purpose: 'logout-hint', name: string, key: Buffer, text: string): Uint8Array
  openText(
    purpose: 'logout-hint',
    name: string,
    key: Buffer,
    sealed: Uint8Array,
  ): string | undefined
}

/** Asked of every request: a Buffer around the bytes would cost more than the rest. */
const readHeader = (sealed: Uint8Array): number | undefined => {
  if (sealed.length < HEADER_BYTES + IV_BYTES + TAG_BYTES || sealed[0] !== FORMAT_VERSION)
    return undefined
  let ringId = 0
  for (let at = 1; at < HEADER_BYTES; at += 1) ringId = ringId * 256 + (sealed[at] as number)
  return ringId
}

export const createRecordSealer = (ring: CurrentKeyRing): RecordSealer => {
  const bound = (purpose: RecordPurpose, name: string) =>
    Buffer.from(`coatcheck ${purpose} v${FORMAT_VERSION} ${name}`)

  const encrypt = (aad: Buffer, ringId: number, key: KeyObject, plain: Uint8Array): Buffer => {
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv(CIPHER, key, iv).setAAD(aad)
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt8(FORMAT_VERSION, 0)
    header.writeUIntBE(ringId, 1, RING_ID_BYTES)
    return Buffer.concat([header, iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
  }

  const decrypt = (
    aad: Buffer,
    sealed: Uint8Array,
    keyOf: (ringId: number) => KeyObject | undefined,
  ): { plain: Buffer; ringId: number } | undefined => {
    const ringId = readHeader(sealed)
    const key = ringId === undefined ? undefined : keyOf(ringId)
    if (ringId === undefined || key === undefined) return undefined
    const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength)
    const body = bytes.subarray(HEADER_BYTES + IV_BYTES, -TAG_BYTES)
    const decipher = createDecipheriv(
      CIPHER,
      key,
      bytes.subarray(HEADER_BYTES, HEADER_BYTES + IV_BYTES),
    )
      .setAAD(aad)
      .setAuthTag(bytes.subarray(-TAG_BYTES))
    try {
      return { plain: Buffer.concat([decipher.update(body), decipher.final()]), ringId }
    } catch {
      // A wrong key and a changed byte look alike here, and both mean the same: this is not that record.
      return undefined
    }
  }

  const browserKey = (purpose: RecordPurpose, key: Buffer, ringId: number) => {
    const secret = ring.current.find(ringId)
    return secret === undefined
      ? undefined
      : createSecretKey(
          Buffer.from(
            hkdfSync('sha256', key, secret.salts[purpose], `coatcheck ${purpose} v1`, 32),
          ),
        )
  }

  const encryptForBrowser = (
    purpose: RecordPurpose,
    name: string,
    key: Buffer,
    plain: Uint8Array,
  ) => {
    const { id } = ring.current.sealing
    const derived = browserKey(purpose, key, id)
    if (derived === undefined) throw new TypeError('the sealing secret is always in the ring')
    return encrypt(bound(purpose, name), id, derived, plain)
  }

  const sealSession = (digest: SessionDigest, key: Buffer, session: Session) =>
    encryptForBrowser('record', digest, key, packSession(session))

  const sealMetadata = (digest: SessionDigest, plain: Uint8Array) => {
    const { id, metadataKey } = ring.current.sealing
    return encrypt(bound('metadata', digest), id, metadataKey, plain)
  }

  const decryptMetadata = (digest: SessionDigest, sealed: Uint8Array) =>
    decrypt(bound('metadata', digest), sealed, (ringId) => ring.current.find(ringId)?.metadataKey)

  const metadataUnderCurrentSecret = (digest: SessionDigest, sealed: Uint8Array): Uint8Array => {
    const ringId = readHeader(sealed)
    if (ringId !== undefined && !ring.current.isOutdated(ringId)) return sealed
    const opened = decryptMetadata(digest, sealed)
    return opened === undefined ? sealed : sealMetadata(digest, opened.plain)
  }

  return {
    seal: (digest, key, session, metadata) => ({
      generation: session.generation,
      absoluteExpiresAt: session.absoluteExpiresAt,
      sealed: sealSession(digest, key, session),
      metadata: sealMetadata(digest, packObject(metadata)),
    }),

    sealNext: (digest, key, session, former) => ({
      generation: session.generation,
      absoluteExpiresAt: session.absoluteExpiresAt,
      sealed: sealSession(digest, key, session),
      metadata: metadataUnderCurrentSecret(digest, former.metadata),
    }),

    open: (digest, key, record) => {
      const opened = decrypt(bound('record', digest), record.sealed, (ringId) =>
        browserKey('record', key, ringId),
      )
      if (opened === undefined) return undefined
      const session = unpackSession(opened.plain)
      if (session === undefined) return undefined
      // The store's header is outside the seal: a record whose generation it misreports is not taken.
      return session.generation === record.generation
        ? { session, ringId: opened.ringId }
        : undefined
    },

    openMetadata: (digest, record) => {
      const opened = decryptMetadata(digest, record.metadata)
      return opened === undefined ? undefined : unpackObject<SessionMetadata>(opened.plain)
    },

    ringIdOf: (record) => readHeader(record.sealed),

    sealText: (purpose, name, key, text) =>
      encryptForBrowser(purpose, name, key, Buffer.from(text)),
    openText: (purpose, name, key, sealed) =>
      decrypt(bound(purpose, name), sealed, (ringId) =>
        browserKey(purpose, key, ringId),
      )?.plain.toString(),
  }
}
