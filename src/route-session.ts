/** The session on the way of a request or handshake: found by its cookie, its token made fresh and, where the upstream refuses it, newer. */

import type { RefreshMachine } from './credential/refresh.ts'
import { isInvalidToken, type RejectionWatch } from './credential/rejection-watch.ts'
import { GatewayError } from './errors.ts'
import type { Admission, ClientAddress } from './guard/admission.ts'
import type { SessionReader, SessionReading } from './guard/by-session.ts'
import type { RequestFacts } from './guard/fetch-metadata.ts'
import type { Route } from './routing/route-table.ts'
import type { CookieReading } from './session/session-cookie.ts'
import type { OpenSession } from './session/vault.ts'

export interface RouteSessionDependencies {
  readonly sessions: SessionReader
  readonly admission: Admission
  readonly machine: RefreshMachine
  readonly rejections: RejectionWatch
}

/** Asked about the upstream's answer before anything of it is passed on. */
export type IsUnwanted = (status: number, rawHeaders: readonly string[]) => boolean

/** Sends with this session's token, and asks once about the answer: nothing of an unwanted one is passed on. */
export type SendWith<Answer> = (session: OpenSession, isUnwanted: IsUnwanted) => Promise<Answer>

type FromClient = RequestFacts & { readonly client: ClientAddress }

/** What proxy.ts and handshake.ts do alike, in this order. Throw `store_unavailable` and `provider_unavailable`. */
export const createRouteSession = ({
  sessions,
  admission,
  machine,
  rejections,
}: RouteSessionDependencies) => {
  const read = async (request: FromClient, presented: CookieReading): Promise<SessionReading> => {
    const reading = await sessions.read(presented)
    if (reading.kind === 'absent' && reading.why === 'forged')
      admission.countFailure(request.client)
    return reading
  }

  const freshened = async (
    reading: SessionReading & { readonly kind: 'live' },
  ): Promise<SessionReading> => {
    const outcome = await machine.freshen(reading.open)
    if (outcome.kind === 'usable') return { ...reading, open: outcome.open }
    return outcome.reason === 'absent'
      ? { kind: 'absent', why: 'no_record' }
      : { kind: 'ended', reason: outcome.reason }
  }

  return {
    /** Syntax only. Bearer tokens and keys are not evaluated where the route does not accept them. */
    presentedCredential: (request: RequestFacts, route: Route): CookieReading =>
      route.accept.includes('session')
        ? sessions.presented(request.header('cookie'))
        : { kind: 'absent' },

    /** At once where the session is at hand, as is usual. */
    authenticate: (
      request: FromClient,
      presented: CookieReading,
    ): SessionReading | Promise<SessionReading> =>
      sessions.atHand(presented) ?? read(request, presented),

    /** At once where the token is fresh, as is usual. */
    withFreshToken: (
      route: Route,
      reading: SessionReading,
    ): SessionReading | Promise<SessionReading> =>
      reading.kind !== 'live' || route.credential === 'none' || machine.isFresh(reading.open)
        ? reading
        : freshened(reading),

    /** Once; and once more with a newer token where the upstream called the first one invalid, and `mayRepeat` agrees. */
    sendWithToken: async <Answer extends { readonly kind: string; readonly status?: number }>(
      route: Route,
      open: OpenSession,
      send: SendWith<Answer>,
      mayRepeat: () => boolean = () => true,
    ): Promise<Answer> => {
      let wasUnwanted = false
      const first = await send(open, (status, rawHeaders) => {
        wasUnwanted =
          isInvalidToken(status, rawHeaders) &&
          mayRepeat() &&
          (machine.hasRunOut(open) || rejections.mayReplay(route.id)) &&
          machine.mayForce(open)
        return wasUnwanted
      })
      if (!wasUnwanted) return first
      // Where nothing newer can be had the upstream is asked again, and its 401 passed on.
      const newer = await machine.force(open)
      let hasRunOut = false
      const second = await send(newer ?? open, (status, rawHeaders) => {
        hasRunOut =
          newer !== undefined && isInvalidToken(status, rawHeaders) && machine.hasRunOut(newer)
        return hasRunOut
      })
      if (hasRunOut) throw new GatewayError('provider_unavailable', { reason: 'token_ran_out' })
      // A client that left before the answer says nothing about the route.
      if (newer !== undefined && second.status !== undefined)
        rejections.replayed(route.id, second.status === 401)
      return second
    },
  }
}
