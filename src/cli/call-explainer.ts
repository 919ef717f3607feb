/** Explains the first failing calls of an app in development: each cause once, with the setting to change. */

import type {
  UpstreamDispatch,
  UpstreamFault,
  UpstreamObserver,
  UpstreamRequest,
} from '../upstream/forward.ts'
import { fieldOf } from '../upstream/header-names.ts'
import { shown } from './arguments.ts'

export interface ExplainerOptions {
  /** Origin of the server that has the app, if a server has it. */
  readonly app: string | undefined
  /** How the addresses of API and app are set: `--api (COATCHECK_UPSTREAM)`. */
  readonly apiSetting: string
  readonly appSetting: string
  /** Whether the routes that lead to this origin take their prefix away. */
  readonly stripsPrefix: (origin: string) => boolean
  /** Where the API finds the keys of the development provider; undefined with a provider of the developer's own. */
  readonly jwksUri: string | undefined
  /** A cause and what to do about it, line by line. */
  readonly say: (lines: readonly string[]) => void
}

type Towards = 'routes' | 'app'

export interface CallExplainer {
  /** Hears what comes back of every call, and changes nothing of it. */
  readonly watch: (dispatch: UpstreamDispatch, towards: Towards) => UpstreamDispatch
}

/** Calls can go to many origins in many ways; a terminal that says too much says nothing. */
const CAUSES_MAX = 30

export const createCallExplainer = (options: ExplainerOptions): CallExplainer => {
  const told = new Set<string>()
  /** Origins of APIs that have answered a call well: what is not found there is just not there. */
  const proven = new Set<string>()

  const tell = (explanation: Explanation | undefined, origin: string): void => {
    if (explanation === undefined) return
    const cause = `${explanation.cause} ${origin}`
    if (told.has(cause) || told.size >= CAUSES_MAX) return
    told.add(cause)
    options.say(explanation.lines.map(shownLine))
  }

  const heard = (request: UpstreamRequest, status: number, rawHeaders: readonly string[]): void => {
    const answer = { status, header: (name: string) => fieldOf(rawHeaders, name) }
    if (status === 404 && proven.has(request.origin)) return
    tell(explainAnswer(request, answer, options), request.origin)
    if (status < 400 && !isUnexpectedHtml(request, answer)) proven.add(request.origin)
  }

  return {
    watch: (dispatch, towards) => (request, observer) =>
      dispatch(
        request,
        watching(observer, {
          head: (status, rawHeaders) => {
            if (towards === 'routes') heard(request, status, rawHeaders)
          },
          fault: (fault) => tell(explainFault(request, fault, towards, options), request.origin),
        }),
      ),
  }
}

const watching = (
  observer: UpstreamObserver,
  also: {
    readonly head: UpstreamObserver['onHead']
    readonly fault: UpstreamObserver['onFault']
  },
): UpstreamObserver => ({
  onHead: (status, rawHeaders) => {
    also.head(status, rawHeaders)
    observer.onHead(status, rawHeaders)
  },
  onChunk: (chunk) => observer.onChunk(chunk),
  onEnd: () => observer.onEnd(),
  onFault: (fault) => {
    also.fault(fault)
    observer.onFault(fault)
  },
})

interface Explanation {
  readonly cause: string
  readonly lines: readonly string[]
}

interface Answer {
  readonly status: number
  readonly header: (name: string) => string | undefined
}

const callText = ({ method, path }: UpstreamRequest): string =>
  `${method} ${path.split('?', 1)[0] ?? ''}`

const NOBODY_THERE = new Set(['connection_refused', 'name_not_resolved', 'no_route_to_host'])

const explainFault = (
  request: UpstreamRequest,
  fault: UpstreamFault,
  towards: Towards,
  options: ExplainerOptions,
): Explanation | undefined => {
  const setting = towards === 'app' ? options.appSetting : options.apiSetting
  const what = towards === 'app' ? 'your app' : 'your API'
  if (fault.kind === 'timeout')
    return {
      cause: `timeout_${fault.reason}`,
      lines: [
        `${request.origin} did not answer ${callText(request)} in time (${fault.reason}).`,
        towards === 'app'
          ? `Does its development server still start? ${setting} names its address.`
          : 'Does it hang? upstreamTimeout.firstByte (COATCHECK_UPSTREAM_TIMEOUT_FIRST_BYTE) is how long it may take.',
      ],
    }
  if (fault.kind !== 'unreachable') return undefined
  if (NOBODY_THERE.has(fault.reason))
    return {
      cause: 'nobody_there',
      lines: [
        `Nothing listens at ${request.origin}, where ${what} should be (${callText(request)}, ${fault.reason}).`,
        `Start it there, or name the address where it is: ${setting}.`,
      ],
    }
  if (fault.reason.startsWith('tls_'))
    return {
      cause: 'tls',
      lines: [
        `The certificate of ${request.origin} is not accepted here (${fault.reason}).`,
        `Name an http address (${setting}), or the file of its authority: upstreamTls.ca (COATCHECK_UPSTREAM_TLS_CA).`,
      ],
    }
  return undefined
}

const explainAnswer = (
  request: UpstreamRequest,
  answer: Answer,
  options: ExplainerOptions,
): Explanation | undefined => {
  if (answer.status === 401) return explainUnauthorized(request, answer, options)
  if (answer.status === 403) return explainForbidden(request, answer)
  if (answer.status === 404) return explainNotFound(request, options)
  return isUnexpectedHtml(request, answer) ? explainHtml(request, options) : undefined
}

/** Frameworks answer errors in HTML too, so that only a good answer tells another server from the API. */
const isUnexpectedHtml = ({ headers }: UpstreamRequest, { status, header }: Answer): boolean =>
  status >= 200 &&
  status < 300 &&
  /^text\/html\b/i.test(header('content-type') ?? '') &&
  !/\btext\/html\b/i.test(fieldOf(headers, 'accept') ?? '')

const explainHtml = (
  request: UpstreamRequest,
  { app, apiSetting }: ExplainerOptions,
): Explanation => ({
  cause: 'html',
  lines: [
    `${request.origin} answered ${callText(request)} with an HTML page.`,
    request.origin === app
      ? `It is the server of your app, not your API: name the API's address, ${apiSetting}.`
      : `That is most likely the development server of your app, not your API: name the API's address, ${apiSetting}.`,
  ],
})

const explainNotFound = (
  request: UpstreamRequest,
  { stripsPrefix, apiSetting }: ExplainerOptions,
): Explanation => ({
  cause: 'not_found',
  lines: [
    `${request.origin} has no ${request.path.split('?', 1)[0] ?? ''} (404 to ${request.method}), and has answered no call yet.`,
    stripsPrefix(request.origin)
      ? 'The prefix was taken away before. Does the API want it? Then leave upstreamStripPrefix (COATCHECK_UPSTREAM_STRIP_PREFIX) out.'
      : 'Does it want the path without its prefix, such as /items for /api/items? Then: COATCHECK_UPSTREAM_STRIP_PREFIX=true.',
    `Is it another server than your API? Then name the API's address: ${apiSetting}.`,
  ],
})

const explainForbidden = (request: UpstreamRequest, answer: Answer): Explanation | undefined => {
  const challenge = answer.header('www-authenticate') ?? ''
  if (!/error="?insufficient_scope"?/i.test(challenge)) return undefined
  const wanted = /\bscope="([^"]{1,200})"/i.exec(challenge)?.[1]
  return {
    cause: `scope ${wanted ?? ''}`,
    lines: [
      `The API at ${request.origin} answered 403 to ${callText(request)}: the access token lacks a scope${wanted === undefined ? '' : `, ${wanted}`}.`,
      'Add it to those that sign-ins ask for: scope (COATCHECK_SCOPE). Then sign out and in again.',
    ],
  }
}

const explainUnauthorized = (
  request: UpstreamRequest,
  answer: Answer,
  options: ExplainerOptions,
): Explanation | undefined => {
  const token = /^Bearer +(\S+)$/i.exec(fieldOf(request.headers, 'authorization') ?? '')?.[1]
  const challenge = answer.header('www-authenticate')
  const said = challenge === undefined ? [] : [`It says: ${challenge}`]
  const first = `The API at ${request.origin} answered 401 to ${callText(request)}`
  if (token === undefined)
    return {
      cause: 'unauthorized_without_token',
      lines: [
        `${first}; it was sent no access token.`,
        ...said,
        'Is nobody signed in? Otherwise the route sends none: look at accept and credential of its routes entry.',
      ],
    }
  const claims = claimsOf(token)
  if (claims === undefined)
    return {
      cause: 'unauthorized_opaque',
      lines: [
        `${first}, although it was sent an access token. The token is no JWT.`,
        ...said,
        'An API that reads JWTs needs the provider to make one for it: COATCHECK_RESOURCE or COATCHECK_AUDIENCE, as the provider wants it.',
      ],
    }
  // The gateway refreshes and tries again by itself.
  if (typeof claims.exp === 'number' && claims.exp * 1000 <= Date.now()) return undefined
  return {
    cause: 'unauthorized',
    lines: [
      `${first}, although it was sent an access token.`,
      ...said,
      `The token has: issuer ${listed(claims.iss)}, audience ${listed(claims.aud)}, scope ${listed(claims.scope)}.`,
      adviceOn(challenge ?? '', claims, options),
    ],
  }
}

type Claims = Readonly<Record<string, unknown>>

const adviceOn = (challenge: string, claims: Claims, { jwksUri }: ExplainerOptions): string => {
  const keys =
    jwksUri === undefined
      ? 'the keys of that issuer'
      : `${jwksUri} (from a container: the address under which it reaches this machine)`
  // `audience` may well be the realm's name: only what the API says of the error counts.
  const error = /error_description="([^"]*)"/i.exec(challenge)?.[1] ?? ''
  if (/\baud(?:ience)?s?\b/i.test(error))
    return `Tell the API the audience ${listed(claims.aud)}, or have tokens made for the one that it expects: COATCHECK_AUDIENCE.`
  if (/\biss(?:uer)?\b/i.test(error))
    return `Tell the API the issuer ${listed(claims.iss)}, exactly so spelled.`
  if (/signature|\bkeys?\b|\bkid\b|jwks/i.test(error))
    return `The API could not verify the signature: it must be able to fetch ${keys}. One that still has the keys of an earlier start needs a restart.`
  return `Tell the API this issuer and this audience (or have tokens made for the one that it expects: COATCHECK_AUDIENCE); it must be able to fetch ${keys}. If both are right and this has just been started anew: its keys are new, so restart the API, or wait half a minute.`
}

const listed = (claim: unknown): string => {
  if (claim === undefined) return 'none'
  return Array.isArray(claim) ? claim.map(String).join(' and ') : String(claim)
}

/** Of a JWT, unverified: they are only shown. */
const claimsOf = (token: string): Claims | undefined => {
  const [, payload, signature] = token.split('.')
  if (payload === undefined || signature === undefined) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString())
    return typeof claims === 'object' && claims !== null ? (claims as Claims) : undefined
  } catch {
    // Three parts that are no JSON: an opaque token with dots in it.
    return undefined
  }
}

const LINE_CHARACTERS_MAX = 400

/** Paths and headers come from elsewhere: nothing of them may steer the terminal. */
const shownLine = (line: string): string => shown(line, LINE_CHARACTERS_MAX)
