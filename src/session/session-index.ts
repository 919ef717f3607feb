/**
 * Indices: names under which sessions are found without their cookie. They are derived without the ring, because
 * the ring may change while the sessions live.
 */

import { createHash } from 'node:crypto'
import type { SessionDigest } from './session.ts'

declare const brand: unique symbol

/** base64url SHA-256: what a store sees of an issuer with a subject, or with one of its own session ids. */
export type SessionIndex = string & { readonly [brand]: 'SessionIndex' }

/** Whose session it is. */
export interface SessionIdentity {
  readonly issuer: string
  readonly subject: string
  readonly providerSessionId: string | undefined
}

/** As JSON, so that no two lists of parts run together. */
const indexOf = (...parts: readonly string[]): SessionIndex =>
  createHash('sha256').update(JSON.stringify(parts)).digest('base64url') as SessionIndex

export const subjectIndex = (issuer: string, subject: string): SessionIndex =>
  indexOf('sub', issuer, subject)

/** Shown in logs, beside the session's own label: the same for all sessions of a user. */
export const userLabel = (issuer: string, subject: string): string =>
  subjectIndex(issuer, subject).slice(0, 12)

/** Keyed by issuer: the `sid` of one provider never means a session of another. */
export const providerSessionIndex = (issuer: string, providerSessionId: string): SessionIndex =>
  indexOf('sid', issuer, providerSessionId)

/** Has no entries, only a mark: what ends everybody ends those who are just signing in, too. */
export const EVERYONE: SessionIndex = indexOf('everyone')

/** Where the session has its entries. */
export const indicesOf = (of: SessionIdentity): readonly SessionIndex[] => [
  subjectIndex(of.issuer, of.subject),
  ...(of.providerSessionId === undefined
    ? []
    : [providerSessionIndex(of.issuer, of.providerSessionId)]),
]

declare const handleBrand: unique symbol

/** What the user's own page calls a session: names it for ending it, and tells nothing of id, key or store. */
export type DeviceHandle = string & { readonly [handleBrand]: 'DeviceHandle' }

const HANDLE_SHAPE = /^[\w-]{22}$/

/** 128 bits: handles are only ever compared among the sessions of one user. */
export const deviceHandle = (digest: SessionDigest): DeviceHandle =>
  createHash('sha256')
    .update(`coatcheck device ${digest}`)
    .digest('base64url')
    .slice(0, 22) as DeviceHandle

/** Undefined for what no handle looks like: the shape is right before any store is asked. */
export const parseDeviceHandle = (text: string): DeviceHandle | undefined =>
  HANDLE_SHAPE.test(text) ? (text as DeviceHandle) : undefined
