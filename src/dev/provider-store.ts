/** The development provider's memory: forgets by time alone, and lets one refresh spend a token exactly once. */

import type { Adapter, AdapterPayload } from 'oidc-provider'

interface Entry {
  readonly payload: AdapterPayload
  /** When it was first spent, in milliseconds since the epoch. */
  firstSpentAt?: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface ProviderStoreEvents {
  /** A grant is gone before its time: revoked, reused or signed out. */
  readonly grantRevoked: (grantId: string) => void
  /** The error for a token that two parallel requests both found unspent. */
  readonly refuseReuse: () => Error
}

/** Kinds that die with their grant (RFC 7009 §2.1). */
const GRANTED = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken', 'DeviceCode'])

/** How many writes pass between two searches for what has expired: the work stays proportional. */
const WRITES_PER_SWEEP = 1_000

/** oidc-provider's own memory adapter is an LRU of 1,000 entries and silently drops refresh tokens beyond. */
export class ProviderStore {
  readonly #entries = new Map<string, Entry>()
  readonly #keysByGrant = new Map<string, Set<string>>()
  readonly #sessionIdByUid = new Map<string, string>()
  readonly #events: ProviderStoreEvents
  readonly #reuseToleratedMs: number
  #writesUntilSweep = WRITES_PER_SWEEP

  constructor(events: ProviderStoreEvents, reuseToleratedSeconds = 0) {
    this.#events = events
    this.#reuseToleratedMs = reuseToleratedSeconds * 1000
  }

  adapter = (model: string): Adapter => ({
    upsert: async (id, payload, expiresInSeconds) =>
      this.#write(model, id, payload, expiresInSeconds),
    find: async (id) => this.#read(model, id),
    findByUid: async (uid) => {
      const id = this.#sessionIdByUid.get(uid)
      return id === undefined ? undefined : this.#read(model, id)
    },
    // The device grant is off, so that nothing is ever stored under a user code.
    findByUserCode: async () => undefined,
    consume: async (id) => this.#consume(model, id),
    destroy: async (id) => {
      const isGrant = model === 'Grant' && this.#entries.has(`Grant:${id}`)
      this.#remove(`${model}:${id}`)
      if (isGrant) this.#events.grantRevoked(id)
    },
    revokeByGrantId: async (grantId) => this.#revokeTokensOf(grantId),
  })

  /** Ends one grant and every token that was issued from it; false where it is gone already. */
  revokeGrant(grantId: string): boolean {
    const isThere = this.#entries.has(`Grant:${grantId}`)
    this.#revokeGrant(grantId)
    return isThere
  }

  /** Ends every grant of one user, as an administrator would; the number of grants that ended. */
  revokeGrantsOf(subject: string): number {
    let count = 0
    for (const [key, { payload }] of this.#entries) {
      if (!key.startsWith('Grant:') || payload.accountId !== subject) continue
      this.#revokeGrant(key.slice('Grant:'.length))
      count += 1
    }
    return count
  }

  /** Entries in memory, expired ones that no sweep has met yet included. */
  get size(): number {
    return this.#entries.size
  }

  #write(model: string, id: string, payload: AdapterPayload, expiresInSeconds?: number): void {
    const key = `${model}:${id}`
    this.#remove(key)
    // A copy, so that a request which changes its session object cannot change what others read.
    this.#entries.set(key, {
      payload: structuredClone(payload),
      expiresAt:
        expiresInSeconds === undefined
          ? Number.POSITIVE_INFINITY
          : Date.now() + expiresInSeconds * 1000,
    })
    if (model === 'Session' && payload.uid !== undefined) this.#sessionIdByUid.set(payload.uid, id)
    if (GRANTED.has(model) && payload.grantId !== undefined) {
      const keys = this.#keysByGrant.get(payload.grantId) ?? new Set()
      this.#keysByGrant.set(payload.grantId, keys.add(key))
    }
    this.#writesUntilSweep -= 1
    if (this.#writesUntilSweep <= 0) this.#sweep()
  }

  #read(model: string, id: string): AdapterPayload | undefined {
    const key = `${model}:${id}`
    const entry = this.#entries.get(key)
    if (entry === undefined) return undefined
    if (entry.expiresAt <= Date.now()) {
      this.#remove(key)
      return undefined
    }
    const payload = structuredClone(entry.payload)
    // What may be spent again looks unspent to oidc-provider, which asks nobody before it refuses.
    if (model === 'RefreshToken' && this.#mayBeReused(entry)) delete payload.consumed
    return payload
  }

  #mayBeReused({ firstSpentAt }: Entry): boolean {
    return firstSpentAt !== undefined && Date.now() < firstSpentAt + this.#reuseToleratedMs
  }

  #consume(model: string, id: string): void {
    const entry = this.#entries.get(`${model}:${id}`)
    if (entry === undefined) return
    const { payload } = entry
    // oidc-provider looks first and consumes later; between the two another request may have spent the
    // token. Reuse ends the whole grant (RFC 9700 §4.14.2).
    if (payload.consumed !== undefined && !(model === 'RefreshToken' && this.#mayBeReused(entry))) {
      if (payload.grantId !== undefined) this.#revokeGrant(payload.grantId)
      throw this.#events.refuseReuse()
    }
    entry.firstSpentAt ??= Date.now()
    payload.consumed = Math.floor(entry.firstSpentAt / 1000)
  }

  #remove(key: string): void {
    const payload = this.#entries.get(key)?.payload
    if (payload === undefined) return
    this.#entries.delete(key)
    if (payload.uid !== undefined && key === `Session:${this.#sessionIdByUid.get(payload.uid)}`) {
      this.#sessionIdByUid.delete(payload.uid)
    }
    if (payload.grantId === undefined) return
    const keys = this.#keysByGrant.get(payload.grantId)
    keys?.delete(key)
    if (keys?.size === 0) this.#keysByGrant.delete(payload.grantId)
  }

  #revokeTokensOf(grantId: string): void {
    for (const key of [...(this.#keysByGrant.get(grantId) ?? [])]) this.#remove(key)
  }

  #revokeGrant(grantId: string): void {
    this.#revokeTokensOf(grantId)
    if (!this.#entries.has(`Grant:${grantId}`)) return
    this.#remove(`Grant:${grantId}`)
    this.#events.grantRevoked(grantId)
  }

  #sweep(): void {
    const now = Date.now()
    for (const [key, { expiresAt }] of this.#entries) if (expiresAt <= now) this.#remove(key)
    this.#writesUntilSweep = Math.max(WRITES_PER_SWEEP, this.#entries.size)
  }
}
