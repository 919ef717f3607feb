/** A ticket or record under an outdated secret is sealed anew when it is used: same id, same key, current secret. */

import type { Emit } from '../events.ts'
import type { Seconds } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import { type CookieForms, type SameSite, setCookie } from './session-cookie.ts'
import { sessionLabel, type TicketSealer } from './ticket.ts'
import type { OpenSession, Vault } from './vault.ts'

export interface TicketRenewal {
  /**
   * `Set-Cookie` lines for the answer; undefined unless the cookie was sealed under an outdated secret, or is a plain
   * one, whose browser is asked each time whether it keeps prefixed ones after all.
   */
  renewed(open: OpenSession, ringId: number): Promise<readonly string[]> | undefined
}

export const createTicketRenewal = (
  ring: CurrentKeyRing,
  tickets: TicketSealer,
  vault: Vault,
  emit: Emit,
  cookie: {
    readonly forms: CookieForms
    readonly sameSite: SameSite
    readonly maxAge: Seconds | undefined
  },
): TicketRenewal => {
  const renewTicket = async ({ ticket }: OpenSession): Promise<readonly string[]> => {
    const names = cookie.forms.all.find(({ form }) => form === ticket.form)
    if (names === undefined) return []
    const seal = await tickets.seal(ticket)
    emit({ type: 'seal_renewed', session: sessionLabel(ticket.digest), of: 'ticket' })
    return [setCookie(names.session, seal, cookie.sameSite, cookie.maxAge)]
  }
  const withProbe = async (renewing: Promise<readonly string[]> | undefined) => [
    cookie.forms.probe,
    ...((await renewing) ?? []),
  ]
  return {
    renewed: (open, ringId) => {
      if (vault.isOutdated(open))
        vault.reseal(open).catch(() => {
          // Not retried: the next request under the outdated secret tries again, and nothing waits for it.
        })
      const renewing = ring.current.isOutdated(ringId) ? renewTicket(open) : undefined
      return open.ticket.form === 'plain' ? withProbe(renewing) : renewing
    },
  }
}
