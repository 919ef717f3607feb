/** Sealed cookie values: iron-session seals with a checked purpose, opened only when their shape is right. */

import { sealData, unsealData } from 'iron-session'
import type { Seconds } from '../time.ts'
import type { CurrentKeyRing, SealPurpose } from './key-ring.ts'

/** Fe26.2 * password id * salt * iv * ciphertext * expiry * salt * HMAC, then iron-session's inert version mark. */
const SEAL_SHAPE =
  /^Fe26\.2\*(\d{1,15})\*[0-9a-f]{64}\*[\w-]{22}\*[\w-]{1,2048}\*(\d{13,15})\*[0-9a-f]{64}\*[\w-]{43}(?:~2)?$/

export interface SealHeader {
  readonly ringId: number
  /** Milliseconds since the epoch; unauthenticated until the seal is opened. */
  readonly expiresAt: number
}

/** Null for anything that is not of a seal's shape: it costs no cryptography and no store access. */
export const readSealHeader = (seal: string): SealHeader | null => {
  const match = SEAL_SHAPE.exec(seal)
  return match === null ? null : { ringId: Number(match[1]), expiresAt: Number(match[2]) }
}

/** What follows `~` is unauthenticated: caches key by what stands before it. */
export const sealIdentity = (seal: string): string => {
  const end = seal.indexOf('~')
  return end === -1 ? seal : seal.slice(0, end)
}

export interface Opened<T> {
  readonly value: T
  readonly ringId: number
}

export type Unsealed<T> =
  | { readonly kind: 'opened'; readonly opened: Opened<T> }
  /** Not of a seal's shape, expired by its own mark, or of an unknown secret: no cryptography was spent on it. */
  | { readonly kind: 'foreign' }
  /** Of one of our secrets by its own claim, yet it does not verify: this is what admission counts. */
  | { readonly kind: 'forged' }

export interface Sealer {
  seal(purpose: SealPurpose, value: object, ttl: Seconds): Promise<string>
  /** `parse` checks the shape of what was sealed and answers undefined for anything else. */
  unseal<T>(
    purpose: SealPurpose,
    seal: string,
    ttl: Seconds,
    parse: (value: Record<string, unknown>) => T | undefined,
  ): Promise<Unsealed<T>>
}

export const createSealer = (ring: CurrentKeyRing): Sealer => ({
  // iron-session seals with the highest id it is given, so it is given the sealing secret alone.
  seal: (purpose, value, ttl) => {
    const { id, passwords } = ring.current.sealing
    return sealData(
      { ...value, purpose },
      { password: { [String(id)]: passwords[purpose] }, ttl: ttl as number },
    )
  },

  unseal: async (purpose, seal, ttl, parse) => {
    const header = readSealHeader(seal)
    if (header === null || ring.current.find(header.ringId) === undefined)
      return { kind: 'foreign' }
    let failure: string | undefined
    const value = await unsealData<Record<string, unknown>>(seal, {
      password: { ...ring.current.openingPasswords(purpose) },
      ttl: ttl as number,
      onUnsealError: (reason) => {
        failure = reason
      },
    })
    if (failure !== undefined)
      return failure === 'expired' ? { kind: 'foreign' } : { kind: 'forged' }
    const parsed = value.purpose === purpose ? parse(value) : undefined
    return parsed === undefined
      ? { kind: 'foreign' }
      : { kind: 'opened', opened: { value: parsed, ringId: header.ringId } }
  },
})
