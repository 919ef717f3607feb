/** What the demo's page breaks on purpose: tokens, the API's mood and the provider, each for one session or a short while. */

import { type Clock, milliseconds } from '../time.ts'
import type { VerifiedAccessToken } from './access-token.ts'
import type { DevelopmentProvider } from './provider.ts'
import type { TokenRequestRecord } from './token-endpoint.ts'

/** How an access token gets old before its time, which no JWT does by itself. */
export type Ageing =
  /** The gateway in this process asks `isExpired`. */
  | 'told'
  /** Gateways elsewhere are not told: tokens live for seconds there, and running out is waited for. */
  | 'waited_for'

const OUTAGE_MS = milliseconds(20_000)
/** Long enough that every call of a volley meets the same refresh. */
const SLOW_REFRESH_MS = milliseconds(1_000)
const EXPIRED_MAX = 1_000

type Breakable = Pick<
  DevelopmentProvider,
  'tokenRequests' | 'setFault' | 'revokeGrant' | 'endSession'
>
type Presented = Pick<VerifiedAccessToken, 'fingerprint' | 'claims'>

export class Breakage {
  readonly #provider: Breakable
  readonly #clock: Clock
  readonly #ageing: Ageing
  readonly #expired = new Set<string>()
  readonly #refusedOnce = new Set<string>()
  #revocations = 0
  /** Of the provider's fault that is set now, if one is. */
  #fault: AbortController | undefined

  constructor(provider: Breakable, ageing: Ageing, clock: Clock) {
    this.#provider = provider
    this.#ageing = ageing
    this.#clock = clock
  }

  /** Expires this access token now; how long to make no call until that is so. */
  expire({ fingerprint, claims }: Presented): number {
    if (this.#ageing === 'waited_for') return Math.max(0, claims.exp * 1000 - this.#clock.now())
    this.#expired.add(fingerprint)
    if (this.#expired.size > EXPIRED_MAX) dropFirst(this.#expired)
    return 0
  }

  get someExpired(): boolean {
    return this.#expired.size > 0
  }

  isExpired(fingerprint: string): boolean {
    return this.#expired.has(fingerprint)
  }

  /** The next probe with this token is refused, as if the API had lost the provider's keys for a moment. */
  refuseOnce({ fingerprint }: Presented): void {
    this.#refusedOnce.add(fingerprint)
    if (this.#refusedOnce.size > EXPIRED_MAX) dropFirst(this.#refusedOnce)
  }

  /** True once for each `refuseOnce`. */
  takeRefusal(fingerprint: string): boolean {
    return this.#refusedOnce.delete(fingerprint)
  }

  /** The next refreshes take a second each. */
  slowRefresh(): void {
    this.#setFault({ delayMs: SLOW_REFRESH_MS }, milliseconds(2 * SLOW_REFRESH_MS))
  }

  /** The token endpoint answers 500 for 20 seconds, or until `mend`; how long. */
  breakProvider(): number {
    this.#setFault({ status: 500, body: { error: 'server_error' } }, OUTAGE_MS)
    return OUTAGE_MS
  }

  mend(): void {
    this.#fault?.abort()
    this.#fault = undefined
    this.#provider.setFault('continue')
  }

  /** The grant that this token comes from; false where the provider does not know it any more. */
  revokeGrantOf(token: Presented): boolean {
    const grantId = this.#requestFor(token)?.grantId
    const isRevoked = grantId !== undefined && this.#provider.revokeGrant(grantId)
    if (isRevoked) this.#revocations += 1
    return isRevoked
  }

  /** True once for each grant that was revoked: the session which ends of it was not lost. */
  takeRevocation(): boolean {
    if (this.#revocations === 0) return false
    this.#revocations -= 1
    return true
  }

  /** The browser's session at the provider, with a logout token to each of its clients. */
  async endSessionOf(token: Presented): Promise<boolean> {
    const sessionUid = this.#requestFor(token)?.sessionUid
    return sessionUid !== undefined && (await this.#provider.endSession(sessionUid))
  }

  /** Good refreshes so far of the grant that this token comes from. */
  refreshesOf(token: Presented): number {
    const grantId = this.#requestFor(token)?.grantId
    return this.#provider
      .tokenRequests()
      .filter((request) => request.grantId === grantId && request.status === 200)
      .filter((request) => request.grantType === 'refresh_token').length
  }

  #requestFor({ fingerprint }: Presented): TokenRequestRecord | undefined {
    return this.#provider
      .tokenRequests()
      .findLast((request) => request.issuedAccessTokenFingerprint === fingerprint)
  }

  #setFault(fate: Parameters<DevelopmentProvider['setFault']>[0], lasts: number): void {
    this.mend()
    this.#fault = new AbortController()
    const { signal } = this.#fault
    this.#provider.setFault(fate)
    void this.#clock.sleep(milliseconds(lasts), signal).then(() => {
      if (!signal.aborted) this.mend()
    })
  }
}

const dropFirst = (set: Set<string>): void => {
  for (const key of set) {
    set.delete(key)
    return
  }
}
