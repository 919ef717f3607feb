/**
 * A reader of format 1 that shares nothing with the product, and never changes: it stands for a release that reads
 * format 1, and tells whether what the code writes today is still that format.
 */

import { createDecipheriv, createHash, createHmac, hkdfSync, pbkdf2Sync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { inflateRawSync } from 'node:zlib'

type Purpose = 'ticket' | 'transaction' | 'logout'

export const FAMILIAR = readFileSync(new URL('./fixtures/format-1-familiar.txt', import.meta.url))

const derived = (secret: string, label: string, bytes: number) =>
  Buffer.from(hkdfSync('sha256', secret, '', `coatcheck ${label} v1`, bytes))

const ringId = (secret: string) => derived(secret, 'id', 6).readUIntBE(0, 6)

const failed = (what: string): never => {
  throw new Error(`this is not format 1: ${what}`)
}

/** An iron seal: AES-256-CBC, then HMAC-SHA256 over everything before it, keys by one round of PBKDF2. */
export const openSeal = (secret: string, purpose: Purpose, seal: string): unknown => {
  const [prefix, id, salt = '', iv = '', encrypted = '', expiry, macSalt = '', mac] = seal
    .replace(/~2$/, '')
    .split('*')
  if (prefix !== 'Fe26.2' || id !== String(ringId(secret)) || !/^\d+$/.test(expiry ?? ''))
    failed('seal')
  const password = derived(secret, `seal ${purpose}`, 32).toString('base64url')
  const keyFrom = (of: string) => pbkdf2Sync(password, of, 1, 32, 'sha1')
  const covered = [prefix, id, salt, iv, encrypted, expiry].join('*')
  if (createHmac('sha256', keyFrom(macSalt)).update(covered).digest('base64url') !== mac)
    failed('seal’s mac')
  const decipher = createDecipheriv('aes-256-cbc', keyFrom(salt), Buffer.from(iv, 'base64url'))
  const plain = Buffer.concat([
    decipher.update(Buffer.from(encrypted, 'base64url')),
    decipher.final(),
  ])
  const value = JSON.parse(plain.toString()) as { readonly purpose: unknown }
  const { purpose: sealedFor, ...rest } = value
  return sealedFor === purpose ? rest : failed('purpose')
}

interface OpenedValue {
  readonly header: string
  readonly session: unknown
  readonly metadata: unknown
}

/** A record as Redis has it. */
export const openRecord = (
  secret: string,
  ticket: { readonly id: string; readonly key: string },
  value: Buffer,
): OpenedValue => {
  const end = value.indexOf(10)
  const header = value.toString('latin1', 0, end)
  const [, generation, , metadataBytes] = /^1r (\d+) (\d+) (\d+)$/.exec(header) ?? failed('header')
  const digest = createHash('sha256')
    .update(Buffer.from(ticket.id, 'base64url'))
    .digest('base64url')
  const split = end + 1 + Number(metadataBytes)
  const session = unpackedSession(
    decrypted(
      secret,
      value.subarray(split),
      `record v1 ${digest}`,
      browserKey(secret, ticket.key, 'record'),
    ),
  )
  if (session.generation !== Number(generation)) failed('generation')
  return {
    header,
    session,
    metadata: JSON.parse(
      inflated(
        decrypted(
          secret,
          value.subarray(end + 1, split),
          `metadata v1 ${digest}`,
          derived(secret, 'metadata', 32),
        ),
      ).toString(),
    ),
  }
}

/** The ID token that waits for a sign-out’s redirect. */
export const openHint = (
  secret: string,
  waiting: { readonly id: string; readonly key: string },
  sealed: Buffer,
): string => {
  const name = createHash('sha256').update(Buffer.from(waiting.id, 'base64url')).digest('base64url')
  const key = browserKey(secret, waiting.key, 'logout-hint')
  return decrypted(secret, sealed, `logout-hint v1 ${name}`, key).toString()
}

const browserKey = (secret: string, key: string, purpose: string) =>
  Buffer.from(
    hkdfSync(
      'sha256',
      Buffer.from(key, 'base64url'),
      derived(secret, `salt ${purpose}`, 32),
      `coatcheck ${purpose} v1`,
      32,
    ),
  )

/** Version, ring id, 12 bytes of IV, AES-256-GCM, 16 bytes of tag. */
const decrypted = (secret: string, sealed: Buffer, name: string, key: Buffer): Buffer => {
  if (sealed[0] !== 1 || sealed.readUIntBE(1, 6) !== ringId(secret)) failed('sealed part')
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(7, 19))
    .setAAD(Buffer.from(`coatcheck ${name}`))
    .setAuthTag(sealed.subarray(-16))
  return Buffer.concat([decipher.update(sealed.subarray(19, -16)), decipher.final()])
}

const inflated = (deflated: Buffer) => inflateRawSync(deflated, { dictionary: FAMILIAR })

interface PlainSession {
  readonly generation: number
  readonly tokens: Record<string, unknown>
}

const unpackedSession = (packed: Buffer): PlainSession => {
  const bytesStart = 4 + packed.readUInt32BE()
  const text = inflated(packed.subarray(4, bytesStart))
  const lineEnd = text.indexOf(10) + 1
  const session = JSON.parse(text.toString('utf8', 0, lineEnd)) as PlainSession
  const texts = reading(text, lineEnd)
  const bytes = reading(packed, bytesStart)
  for (const name of ['accessToken', 'idToken', 'refreshToken']) {
    const token = session.tokens[name]
    if (typeof token === 'string') continue
    const [inText, inBytes] = token as readonly [readonly number[], readonly number[]]
    session.tokens[name] = [...inText.map(texts.next), ...inBytes.map(bytes.next)].join('.')
  }
  if (texts.left() > 0 || bytes.left() > 0) failed('rest')
  return session
}

const reading = (source: Buffer, start: number) => {
  let rest = source.subarray(start)
  return {
    next: (length: number): string => {
      const part = rest.subarray(0, length)
      rest = rest.subarray(length)
      return part.toString('base64url')
    },
    left: () => rest.length,
  }
}
