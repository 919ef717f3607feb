/** Counts the different access tokens that the demo API has seen of each subject: refreshing made visible. */

import type { VerifiedAccessToken } from './access-token.ts'

interface Sightings {
  count: number
  /** The tokens that can still come again: they fall out once they have expired. */
  readonly expiresAtByFingerprint: Map<string, number>
}

const SUBJECTS_MAX = 1_000
const LIVE_TOKENS_MAX = 1_000

export class TokenSightings {
  readonly #bySubject = new Map<string, Sightings>()

  note({ claims, fingerprint }: VerifiedAccessToken): void {
    const sightings = this.#bySubject.get(claims.sub) ?? {
      count: 0,
      expiresAtByFingerprint: new Map(),
    }
    // Moved to the end, so that the first subject is the one that was away the longest.
    this.#bySubject.delete(claims.sub)
    this.#bySubject.set(claims.sub, sightings)
    if (this.#bySubject.size > SUBJECTS_MAX) dropFirst(this.#bySubject)

    const known = sightings.expiresAtByFingerprint
    if (known.has(fingerprint)) return
    sightings.count += 1
    known.set(fingerprint, claims.exp)
    const now = Date.now() / 1000
    for (const [old, expiresAt] of known) if (expiresAt < now) known.delete(old)
    if (known.size > LIVE_TOKENS_MAX) dropFirst(known)
  }

  countOf({ claims }: VerifiedAccessToken): number {
    return this.#bySubject.get(claims.sub)?.count ?? 0
  }
}

const dropFirst = (map: Map<string, unknown>): void => {
  for (const key of map.keys()) {
    map.delete(key)
    return
  }
}
