/** A ticket or record under an older secret is sealed anew when it is used: same id, same key, newest secret. */

import type { Seconds } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import { type SameSite, setCookie } from './session-cookie.ts'
import type { TicketSealer } from './ticket.ts'
import type { OpenSession, Vault } from './vault.ts'

export interface TicketRenewal {
  /** `Set-Cookie` lines for the answer: none, unless the cookie was sealed under an older secret. */
  renewed(open: OpenSession, ringId: number): Promise<readonly string[]>
}

export const createTicketRenewal = (
  ring: CurrentKeyRing,
  tickets: TicketSealer,
  vault: Vault,
  cookie: {
    readonly name: string
    readonly sameSite: SameSite
    readonly maxAge: Seconds | undefined
  },
): TicketRenewal => ({
  renewed: async (open, ringId) => {
    vault.reseal(open).catch(() => {
      // Not retried: the next request under the older secret tries again, and nothing waits for it.
    })
    return ringId === ring.current.first.id
      ? []
      : [setCookie(cookie.name, await tickets.seal(open.ticket), cookie.sameSite, cookie.maxAge)]
  },
})
