/** The token endpoint's success answer (RFC 6749 §5.1): made fit for the library, then made a token set. */

import type { TokenEndpointResponse } from 'openid-client'
import type { TokenSet } from '../../session/session.ts'
import type { EpochMs, Seconds } from '../../time.ts'
import { epochMs, seconds } from '../../time.ts'

const LIFETIME_MAX_SECONDS = 24 * 60 * 60
/** Assumed where `expires_in` says nothing usable: a refresh too early costs little, … */
const ASSUMED_LIFETIME_SECONDS = 300
/** … but without a refresh token the session would end that early. */
const ASSUMED_LIFETIME_WITHOUT_REFRESH_SECONDS = 3600
/** Longer is as good as unknown. */
const REFRESH_LIFETIME_MAX_SECONDS = 10 * 365 * 24 * 60 * 60

/** The answer could not be used as one. */
export class TokenAnswerRefused extends Error {
  readonly reason: string

  constructor(reason: string) {
    super(`token answer refused: ${reason}`)
    this.name = 'TokenAnswerRefused'
    this.reason = reason
  }
}

export interface TokenAnswer {
  readonly tokens: TokenSet
  /** What the answer says under `id_token`, not yet verified. */
  readonly idToken: string | undefined
  readonly lifetimeWasStated: boolean
}

export interface TokenAnswerContext {
  readonly sentAt: EpochMs
  /** Scope and tokens to keep where the answer names none: as requested, or as they were. */
  readonly scope: string | undefined
  readonly previous?: TokenSet
}

/**
 * The library gets to see the two members that it has to judge, and the whole answer as a third. It would refuse
 * `"refresh_token": null` or a negative `expires_in`, and with that lose a refresh token that has been rotated;
 * and it would half check the ID token, whose checks are in one place here (`id-token.ts`).
 */
export const withoutOptionalMembers = async (response: Response): Promise<Response> => {
  const text = await response.clone().text()
  const answer = parsedObject(text)
  if (answer === undefined) return response
  const { access_token, token_type } = answer
  return Response.json({ access_token, token_type, answer })
}

/** The library stops at a challenge, which a 401 must carry; the reason is in the body (RFC 6749 §5.2). */
export const withoutChallenge = (response: Response): Response => {
  response.headers.delete('www-authenticate')
  return response
}

/** Takes what the library made of `withoutOptionalMembers`. */
export const parseTokenAnswer = (
  granted: TokenEndpointResponse,
  { sentAt, scope, previous }: TokenAnswerContext,
): TokenAnswer => {
  const answer = granted.answer as Readonly<Record<string, unknown>>
  const tokenType = nonEmptyString(answer.token_type)
  if (tokenType?.toLowerCase() !== 'bearer') {
    throw new TokenAnswerRefused('token_type_unsupported')
  }
  const accessToken = answer.access_token
  // Opaque, but it has to survive in a header: printable ASCII without a space (RFC 6749 appendix A.12, RFC 9110 §11.4).
  if (typeof accessToken !== 'string' || !/^[\x21-\x7e]+$/.test(accessToken)) {
    throw new TokenAnswerRefused('access_token_malformed')
  }
  const renewed = nonEmptyString(answer.refresh_token)
  const refreshToken = renewed ?? previous?.refreshToken
  const stated = positiveNumber(answer.expires_in)
  const lifetime = Math.min(
    Math.max(1, Math.floor(stated ?? assumedLifetime(refreshToken))),
    LIFETIME_MAX_SECONDS,
  )
  const sentAtSecond = Math.floor(sentAt / 1000) * 1000
  const refreshLifetime =
    positiveNumber(answer.refresh_expires_in) ?? positiveNumber(answer.refresh_token_expires_in)
  return {
    tokens: {
      accessToken,
      accessTokenExpiresAt: epochMs(sentAtSecond + lifetime * 1000),
      accessTokenLifetime: seconds(lifetime),
      scope: typeof answer.scope === 'string' ? answer.scope : scope,
      refreshToken,
      refreshTokenExpiresAt:
        refreshLifetime !== undefined && refreshLifetime <= REFRESH_LIFETIME_MAX_SECONDS
          ? epochMs(sentAtSecond + Math.floor(refreshLifetime) * 1000)
          : renewed === undefined
            ? previous?.refreshTokenExpiresAt
            : undefined,
      idToken: previous?.idToken,
    },
    // Whatever is there has to be a token: a number or an object fails its verification.
    idToken: answer.id_token ? (nonEmptyString(answer.id_token) ?? 'no string') : undefined,
    lifetimeWasStated: stated !== undefined,
  }
}

const assumedLifetime = (refreshToken: string | undefined): Seconds =>
  seconds(
    refreshToken === undefined
      ? ASSUMED_LIFETIME_WITHOUT_REFRESH_SECONDS
      : ASSUMED_LIFETIME_SECONDS,
  )

/** Some providers write numbers as strings. */
const positiveNumber = (value: unknown): number | undefined => {
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value
  return typeof number === 'number' && number > 0 && Number.isFinite(number) ? number : undefined
}

const nonEmptyString = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined

const parsedObject = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    // The library reports it, with the status and the content type.
    return undefined
  }
}
