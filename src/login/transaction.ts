/** A sign-in under way: sealed in a small cookie of its own, named by a slot, claimed once. */

import { randomBytes } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Sealer } from '../session/seal.ts'
import { readSealHeader } from '../session/seal.ts'
import {
  type CookieNames,
  isLoginSlot,
  LOGIN_SLOTS,
  type LoginSlot,
  readCookie,
} from '../session/session-cookie.ts'
import { type EpochMs, epochMs, type Seconds, seconds } from '../time.ts'
import { shorterReturnTo } from './return-to.ts'

export const TRANSACTION_SECONDS: Seconds = seconds(600)
export const TRANSACTION_BYTES_MAX = 1536

/** What was asked of the provider and must show in its answer. */
export interface Asked {
  /** Space-separated, as sent. */
  readonly acrValues: string | undefined
  readonly maxAgeSeconds: number | undefined
  /** `prompt=consent` was sent. */
  readonly consent: boolean
  /** `prompt=none` was sent: whoever asked wants to hear that the user must be asked, and no page. */
  readonly silent: boolean
  /** `prompt=login` was sent; absent in transactions of earlier builds. */
  readonly reauthentication?: boolean
}

export interface Transaction {
  /** The whole `state` parameter. */
  readonly state: string
  readonly codeVerifier: string
  readonly nonce: string
  readonly returnTo: string
  readonly issuer: string
  readonly asked: Asked
  readonly signInStartedAt: EpochMs
  /** Id and key of a session that existed at the start: the callback ends and revokes that one. */
  readonly former: { readonly id: string; readonly key: string } | undefined
}

/** `<slot><mark><256 random bits>`: which cookie to open, and whether this sign-in was restarted already. */
export interface State {
  readonly slot: LoginSlot
  readonly restarted: boolean
}

const STATE_SHAPE = /^([0-3])([nr])[\w-]{43}$/

export const newState = ({ slot, restarted }: State): string =>
  `${slot}${restarted ? 'r' : 'n'}${randomBytes(32).toString('base64url')}`

export const parseState = (state: string): State | undefined => {
  const match = STATE_SHAPE.exec(state)
  const slot = match?.[1]
  return slot !== undefined && isLoginSlot(slot)
    ? { slot, restarted: match?.[2] === 'r' }
    : undefined
}

/** A free slot, or the one whose cookie expires first. */
export const chooseSlot = (cookieHeader: string | undefined, names: CookieNames): LoginSlot => {
  let oldest: LoginSlot = '0'
  let oldestExpiry = Number.POSITIVE_INFINITY
  for (const slot of LOGIN_SLOTS) {
    const reading = readCookie(cookieHeader, names.login(slot))
    const header = reading.kind === 'value' ? readSealHeader(reading.value) : null
    if (header === null) return slot
    if (header.expiresAt < oldestExpiry) {
      oldest = slot
      oldestExpiry = header.expiresAt
    }
  }
  return oldest
}

/** Seals within the size limit: `returnTo` is shortened before anything else is given up. */
export const sealTransaction = async (
  sealer: Sealer,
  transaction: Transaction,
): Promise<string> => {
  const seal = await sealer.seal('transaction', transaction, TRANSACTION_SECONDS)
  if (seal.length <= TRANSACTION_BYTES_MAX) return seal
  const returnTo = shorterReturnTo(transaction.returnTo)
  if (returnTo === transaction.returnTo)
    throw new GatewayError('request_invalid', { reason: 'transaction_too_large' })
  return sealTransaction(sealer, { ...transaction, returnTo })
}

export type OpenedTransaction =
  | { readonly kind: 'opened'; readonly transaction: Transaction }
  | { readonly kind: 'none' }
  /** A seal that claims to be ours and is not: admission counts it. */
  | { readonly kind: 'forged' }

export const openTransaction = async (
  sealer: Sealer,
  cookieHeader: string | undefined,
  cookieName: string,
): Promise<OpenedTransaction> => {
  const reading = readCookie(cookieHeader, cookieName)
  if (reading.kind !== 'value' || reading.value.length > TRANSACTION_BYTES_MAX)
    return { kind: 'none' }
  const unsealed = await sealer.unseal('transaction', reading.value, TRANSACTION_SECONDS, parse)
  if (unsealed.kind === 'opened') return { kind: 'opened', transaction: unsealed.opened.value }
  return { kind: unsealed.kind === 'forged' ? 'forged' : 'none' }
}

/** The seal is ours, so its content is; the check is that it is a transaction of this format. */
const parse = (value: Record<string, unknown>): Transaction | undefined =>
  typeof value.state === 'string' &&
  typeof value.codeVerifier === 'string' &&
  typeof value.nonce === 'string' &&
  typeof value.returnTo === 'string' &&
  typeof value.issuer === 'string' &&
  typeof value.signInStartedAt === 'number' &&
  typeof value.asked === 'object'
    ? ({
        ...(value as unknown as Transaction),
        signInStartedAt: epochMs(value.signInStartedAt),
      } satisfies Transaction)
    : undefined
