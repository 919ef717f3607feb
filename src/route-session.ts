/** The session on the way of a request or handshake: found by its cookie, its token made fresh. Both ways share it. */

import type { RefreshMachine } from './credential/refresh.ts'
import type { Admission, ClientAddress } from './guard/admission.ts'
import type { SessionReader, SessionReading } from './guard/by-session.ts'
import type { RequestFacts } from './guard/fetch-metadata.ts'
import type { Route } from './routing/route-table.ts'
import type { CookieReading } from './session/session-cookie.ts'

export interface RouteSessionDependencies {
  readonly sessions: SessionReader
  readonly admission: Admission
  readonly machine: RefreshMachine
}

type FromClient = RequestFacts & { readonly client: ClientAddress }

/** Its members are steps of proxy.ts and handshake.ts, in this order. Throw `store_unavailable` and `provider_unavailable`. */
export const createRouteSession = ({ sessions, admission, machine }: RouteSessionDependencies) => ({
  /** Syntax only. Bearer tokens and keys are not evaluated where the route does not accept them. */
  presentedCredential: (request: RequestFacts, route: Route): CookieReading =>
    route.accept.includes('session')
      ? sessions.presented(request.header('cookie'))
      : { kind: 'absent' },

  authenticate: async (request: FromClient, presented: CookieReading): Promise<SessionReading> => {
    const reading = await sessions.read(presented)
    if (reading.kind === 'absent' && reading.why === 'forged')
      admission.countFailure(request.client)
    return reading
  },

  withFreshToken: async (route: Route, reading: SessionReading): Promise<SessionReading> => {
    if (reading.kind !== 'live' || route.credential === 'none') return reading
    const freshened = await machine.freshen(reading.open)
    if (freshened.kind === 'usable') return { ...reading, open: freshened.open }
    return freshened.reason === 'absent'
      ? { kind: 'absent', why: 'no_record' }
      : { kind: 'ended', reason: freshened.reason }
  },
})
