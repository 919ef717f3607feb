/** Claims: which ones the session keeps, and who may sign in. */

import type { Claims } from '../session/session.ts'

/** What `/session` shows without configuration, names as the provider sends them. */
export const DEFAULT_CLAIMS = [
  'sub',
  'name',
  'given_name',
  'family_name',
  'preferred_username',
  'email',
  'email_verified',
  'picture',
  'locale',
] as const

/** Reads `a.b.c`; a claim whose own name holds dots (a URL) is found under its whole name first. */
export const claimAt = (claims: Claims, path: string): unknown => {
  if (Object.hasOwn(claims, path)) return claims[path]
  let value: unknown = claims
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}

/** Kept flat, under the path they were asked for by. */
export const allowedClaims = (claims: Claims, paths: readonly string[]): Claims =>
  Object.fromEntries(
    paths
      .map((path) => [path, claimAt(claims, path)] as const)
      .filter(([, value]) => value !== undefined),
  )

export const missingClaims = (claims: Claims, paths: readonly string[]): readonly string[] =>
  paths.filter((path) => claimAt(claims, path) === undefined)

export type SignInRequirements = Readonly<Record<string, readonly string[]>>

/** Claims that the requirements look at: they are fetched like the listed ones, and not kept. */
export const requiredClaims = (requirements: SignInRequirements): readonly string[] =>
  Object.keys(requirements).flatMap((name) =>
    name === 'email_domain' ? ['email', 'email_verified'] : [name],
  )

/** Every requirement must hold; one of its values is enough. `email_domain` counts verified addresses only. */
export const maySignIn = (claims: Claims, requirements: SignInRequirements): boolean =>
  Object.entries(requirements).every(([name, accepted]) =>
    name === 'email_domain'
      ? claimAt(claims, 'email_verified') === true &&
        accepted.some((domain) => domain.toLowerCase() === emailDomain(claimAt(claims, 'email')))
      : valuesOf(claimAt(claims, name)).some((value) => accepted.includes(value)),
  )

const emailDomain = (email: unknown): string | undefined => {
  if (typeof email !== 'string') return undefined
  const at = email.lastIndexOf('@')
  return at > 0 ? email.slice(at + 1).toLowerCase() : undefined
}

const valuesOf = (claim: unknown): readonly string[] =>
  (Array.isArray(claim) ? claim : [claim]).filter((value) => value !== undefined).map(String)
