/** A ticket or record under an outdated secret is sealed anew when it is used: same id, same key, current secret. */

import type { Emit } from '../events.ts'
import type { Seconds } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import { type SameSite, setCookie } from './session-cookie.ts'
import { sessionLabel, type TicketSealer } from './ticket.ts'
import type { OpenSession, Vault } from './vault.ts'

export interface TicketRenewal {
  /** `Set-Cookie` lines for the answer: none, unless the cookie was sealed under an outdated secret. */
  renewed(open: OpenSession, ringId: number): Promise<readonly string[]>
}

/** What nearly every request gets. */
const NOTHING: Promise<readonly string[]> = Promise.resolve([])

export const createTicketRenewal = (
  ring: CurrentKeyRing,
  tickets: TicketSealer,
  vault: Vault,
  emit: Emit,
  cookie: {
    readonly name: string
    readonly sameSite: SameSite
    readonly maxAge: Seconds | undefined
  },
): TicketRenewal => {
  const renewTicket = async ({ ticket }: OpenSession): Promise<readonly string[]> => {
    const seal = await tickets.seal(ticket)
    emit({ type: 'seal_renewed', session: sessionLabel(ticket.digest), of: 'ticket' })
    return [setCookie(cookie.name, seal, cookie.sameSite, cookie.maxAge)]
  }
  return {
    renewed: (open, ringId) => {
      if (vault.isOutdated(open))
        vault.reseal(open).catch(() => {
          // Not retried: the next request under the outdated secret tries again, and nothing waits for it.
        })
      return ring.current.isOutdated(ringId) ? renewTicket(open) : NOTHING
    },
  }
}
