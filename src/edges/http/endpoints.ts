/** The gateway's own endpoints: parse → flow → reply. Each states who may call it and how. */

import type { HttpBindings } from '@hono/node-server'
import { type Context, Hono } from 'hono'
import { asGatewayError, GatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import type { Admission } from '../../guard/admission.ts'
import {
  isCarriedBy,
  type SessionReader,
  type SessionReading,
  sessionRefusal,
} from '../../guard/by-session.ts'
import { isDocumentNavigation, isFromOtherOrigin } from '../../guard/fetch-metadata.ts'
import type { SameOriginGuard } from '../../guard/same-origin.ts'
import type { Callback, CallbackOutcome } from '../../login/callback.ts'
import {
  DEFAULT_RETURN_TO,
  loginUrl,
  type ReturnToRules,
  returnToFromReferer,
  safeReturnTo,
} from '../../login/return-to.ts'
import { type LoginParameters, type LoginStarter, parseLoginParameters } from '../../login/start.ts'
import type { BackchannelLogout } from '../../logout/backchannel-logout.ts'
import type { Device, Devices } from '../../logout/devices.ts'
import type { FrontchannelLogout } from '../../logout/frontchannel-logout.ts'
import type { Logout } from '../../logout/logout.ts'
import { idleExpiresIn, sessionDeadline, wholeSecondsUntil } from '../../session/session.ts'
import { type CookieForms, clearCookie, type SameSite } from '../../session/session-cookie.ts'
import { parseDeviceHandle } from '../../session/session-index.ts'
import { userOf } from '../../session/session-news.ts'
import type { Ticket, TicketSealer } from '../../session/ticket.ts'
import type { TicketRenewal } from '../../session/ticket-renewal.ts'
import type { Clock, Seconds } from '../../time.ts'
import type { Exchange } from './exchange.ts'
import { frontchannelPage, sameSitePage } from './pages.ts'
import { rfc3339, singleValues } from './parameters.ts'
import { type ProblemContext, problemReply } from './problem.ts'
import { asResponse, type Envelope, json, type Reply, reply, seeOther } from './reply.ts'

export interface EndpointDependencies {
  readonly admission: Admission
  /** What pages of other sites make a visitor's browser send counts here, and holds nothing else of the visitor's off. */
  readonly pageAdmission: Admission
  readonly guard: SameOriginGuard
  readonly sessions: SessionReader
  readonly tickets: TicketSealer
  readonly renewal: TicketRenewal
  readonly starter: LoginStarter
  readonly callback: Callback
  readonly logout: Logout
  readonly backchannelLogout: BackchannelLogout
  readonly frontchannelLogout: FrontchannelLogout
  readonly devices: Devices
  readonly cookies: CookieForms
  readonly clock: Clock
  readonly emit: Emit
  readonly exchangeOf: (context: Context<{ Bindings: HttpBindings }>) => Exchange
  readonly problemContext: (exchange: Exchange) => ProblemContext
  readonly outside: Envelope
  readonly report: (error: GatewayError, exchange: Exchange) => void
  /** Whether a page load of that path is sent to sign in. */
  readonly demandsSession: (returnTo: string) => boolean
  readonly settings: {
    readonly prefix: string
    readonly returnTo: ReturnToRules
    readonly responseMode: 'query' | 'form_post'
    readonly loginErrors: 'page' | 'redirect'
    readonly idle: Seconds
    readonly sessionSameSite: SameSite
    /** Undefined: it is not sent. */
    readonly clearSiteData: string | undefined
    readonly issuer: string
  }
}

type Endpoint = (exchange: Exchange, request: Request) => Promise<Reply>

const BODY_BYTES_MAX = 16 * 1024
/** As long as a head may take: what comes here fits a few packets, and a client that stalls must not stay. */
const BODY_MS = 10_000
const DEVICE_LENGTH_MAX = 200

export const createEndpoints = (dependencies: EndpointDependencies) => {
  const { admission, guard, sessions, tickets, renewal, starter, callback, logout } = dependencies
  const { pageAdmission, backchannelLogout, frontchannelLogout, devices } = dependencies
  const { cookies, clock, emit, problemContext, outside, report, settings } = dependencies
  const { prefix } = settings

  const header = (exchange: Exchange, name: string) => exchange.header(name)

  const admissionOf = (exchange: Exchange): Admission =>
    isFromOtherOrigin(exchange) && !isDocumentNavigation(exchange) ? pageAdmission : admission
  const admit = (exchange: Exchange) => admissionOf(exchange).admit(exchange.client)
  const countFailure = (exchange: Exchange) => admissionOf(exchange).countFailure(exchange.client)

  const guarded = (exchange: Exchange) => {
    guard(exchange, 'http')
    admit(exchange)
  }

  const countForgery = (exchange: Exchange) => () => countFailure(exchange)

  const navigationOnly = (exchange: Exchange) => {
    if (!isDocumentNavigation(exchange)) throw new GatewayError('navigation_required')
  }

  const sessionCookie = (exchange: Exchange) => sessions.presented(header(exchange, 'cookie'))

  const readSession = async (exchange: Exchange): Promise<SessionReading> => {
    const reading = await sessions.read(sessionCookie(exchange))
    if (reading.kind === 'absent' && reading.why === 'forged') countFailure(exchange)
    return reading
  }

  /** The ticket alone, without asking the store: what the transaction remembers of a session. */
  const presentTicket = async (exchange: Exchange): Promise<Ticket | undefined> => {
    const cookie = sessionCookie(exchange)
    const opened = cookie.kind === 'value' ? await tickets.open(cookie.value) : undefined
    if (opened?.kind === 'forged') countFailure(exchange)
    return opened?.kind === 'opened' && isCarriedBy(opened.ticket, cookie)
      ? opened.ticket
      : undefined
  }

  const strictCookiesWithheld = (exchange: Exchange) =>
    exchange.method === 'GET' &&
    isFromOtherOrigin(exchange) &&
    isDocumentNavigation(exchange) &&
    sessionCookie(exchange).kind === 'absent'

  const ownUrl = ({ target }: Exchange) => `${target.rawPath}${target.query}`

  const pageOf = (exchange: Exchange) =>
    returnToFromReferer(header(exchange, 'referer'), settings.returnTo)

  /** Where the caller wants to go; unsaid, back to the page it is on. */
  const landing = (exchange: Exchange, wanted: string | undefined): string =>
    (wanted === undefined ? pageOf(exchange) : safeReturnTo(wanted, settings.returnTo)) ??
    DEFAULT_RETURN_TO

  const startLogin = async (exchange: Exchange, given: (name: string) => string | undefined) => {
    const parameters = parseLoginParameters((name: keyof LoginParameters) => given(name))
    const started = await starter.start({
      client: exchange.client,
      returnTo: landing(exchange, given('returnTo')),
      parameters,
      cookieHeader: header(exchange, 'cookie'),
      former: await presentTicket(exchange),
    })
    emit({ type: 'login_started', requestId: exchange.requestId })
    return started
  }

  const sessionState: Endpoint = async (exchange) => {
    guarded(exchange)
    const reading = await readSession(exchange)
    if (reading.kind !== 'live') return json(200, signedOut(exchange))
    return json(
      200,
      signedIn(exchange, reading),
      await renewal.renewed(reading.open, reading.ringId),
    )
  }

  const endpoints: Record<string, Partial<Record<string, Endpoint>>> = {
    '/login': {
      GET: async (exchange) => {
        navigationOnly(exchange)
        admit(exchange)
        if (strictCookiesWithheld(exchange)) return sameSitePage(ownUrl(exchange))
        const query = singleValues(new URLSearchParams(exchange.target.query))
        const started = await startLogin(exchange, query)
        return seeOther(started.location, started.setCookies)
      },

      POST: async (exchange, request) => {
        guarded(exchange)
        const body = await jsonBody(request)
        const started = await startLogin(exchange, (name) => textMember(body, name))
        return json(200, { redirectTo: started.location }, started.setCookies)
      },
    },

    '/callback': {
      [settings.responseMode === 'query' ? 'GET' : 'POST']: async (exchange, request) => {
        admit(exchange)
        const parameters =
          settings.responseMode === 'query'
            ? new URLSearchParams(exchange.target.query)
            : new URLSearchParams(await textBody(request))
        const outcome = await callback({
          parameters,
          cookieHeader: header(exchange, 'cookie'),
          current: async () => (await readSession(exchange)).kind === 'live',
          strictCookiesWithheld: strictCookiesWithheld(exchange),
          isFromElsewhere: !['same-origin', undefined].includes(header(exchange, 'sec-fetch-site')),
          isNavigation: isDocumentNavigation(exchange),
          countForgery: countForgery(exchange),
          requestId: exchange.requestId,
          device: header(exchange, 'user-agent')?.slice(0, DEVICE_LENGTH_MAX),
          client: exchange.client,
        })
        switch (outcome.kind) {
          case 'redirect':
            return seeOther(outcome.location, outcome.setCookies)
          case 'same_site_page':
            return sameSitePage(ownUrl(exchange), outcome.setCookies)
          case 'not_signed_in':
            return notSignedIn(exchange, outcome)
          case 'failed':
            return failedLogin(exchange, outcome)
        }
      },
    },

    '/session': { GET: sessionState, HEAD: sessionState },

    '/logout': {
      POST: async (exchange, request) => {
        guarded(exchange)
        const returnTo = await requestedLanding(exchange, request)
        const redirect = await endSession(exchange, returnTo)
        return forgettingSite(
          isDocumentNavigation(exchange)
            ? seeOther(redirect.location, redirect.setCookies)
            : json(200, { redirectTo: redirect.location }, redirect.setCookies),
        )
      },

      GET: async (exchange) => {
        guarded(exchange)
        navigationOnly(exchange)
        const query = singleValues(new URLSearchParams(exchange.target.query))
        const returnTo = landing(exchange, query('returnTo'))
        const ticket = await presentTicket(exchange)
        if (ticket !== undefined && !logout.linkTokenMatches(ticket, query('token') ?? ''))
          throw new GatewayError('csrf_rejected', { reason: 'logout_token_mismatch' })
        const redirect = await endSession(exchange, returnTo)
        return forgettingSite(seeOther(redirect.location, redirect.setCookies))
      },
    },

    '/logout/continue': {
      GET: async (exchange) => {
        guarded(exchange)
        navigationOnly(exchange)
        const redirect = await logout.continue(header(exchange, 'cookie'), countForgery(exchange))
        return seeOther(redirect.location, redirect.setCookies)
      },
    },

    '/logged-out': {
      GET: async (exchange) => {
        admit(exchange)
        const query = singleValues(new URLSearchParams(exchange.target.query))
        const redirect = await logout.loggedOut(
          header(exchange, 'cookie'),
          query('state'),
          countForgery(exchange),
        )
        const answer = seeOther(redirect.location, redirect.setCookies)
        // Any site can send the browser here; only its own sign-out makes it forget.
        return redirect.isOurs ? forgettingSite(answer) : answer
      },
    },

    '/backchannel-logout': {
      POST: async (exchange, request) => {
        admit(exchange)
        try {
          await backchannelLogout(await logoutTokenIn(request), exchange.requestId)
        } catch (thrown) {
          // What does not verify costs CPU, and whoever sends much of it is not the provider.
          if (thrown instanceof GatewayError && thrown.code === 'logout_token_invalid')
            countFailure(exchange)
          throw thrown
        }
        return reply(200, [])
      },

      // OIDC Back-Channel Logout §2.8: 400 for whatever is no valid request.
      GET: async () => {
        throw new GatewayError('logout_token_invalid', { reason: 'not_posted' })
      },
    },

    '/frontchannel-logout': {
      GET: async (exchange) => {
        admit(exchange)
        // Whether or not the browser says that it is a frame: any page can have one.
        pageAdmission.admit(exchange.client)
        const query = singleValues(new URLSearchParams(exchange.target.query))
        const ended = await frontchannelLogout({
          iss: query('iss'),
          sid: query('sid'),
          current: () => readSession(exchange),
          requestId: exchange.requestId,
        })
        if (ended === 0) pageAdmission.countFailure(exchange.client)
        const isOver =
          sessionCookie(exchange).kind !== 'absent' &&
          (await readSession(exchange)).kind === 'ended'
        return frontchannelPage(settings.issuer, isOver ? [clearSession(exchange)] : [])
      },
    },

    '/sessions': {
      GET: async (exchange) => {
        const { open, ringId } = await liveSession(exchange)
        const sessions = (await devices.list(open)).map(deviceAsJson)
        return json(200, { sessions }, await renewal.renewed(open, ringId))
      },

      DELETE: async (exchange) => {
        const { open } = await liveSession(exchange)
        return json(200, { ended: await devices.endOthers(open) })
      },
    },

    '/sessions/:handle': {
      DELETE: async (exchange) => {
        // Before the session is read: no store is asked for what no handle looks like.
        guard(exchange, 'http')
        const handle = parseDeviceHandle(exchange.target.path.slice(`${prefix}/sessions/`.length))
        if (handle === undefined)
          throw new GatewayError('request_invalid', { reason: 'handle_malformed' })
        const { open } = await liveSession(exchange)
        const outcome = await devices.end(open, handle)
        if (outcome === 'unknown') throw new GatewayError('session_not_found')
        return outcome === 'ended_current'
          ? forgettingSite(json(200, { ended: 1 }, [clearSession(exchange)]))
          : json(200, { ended: 1 })
      },
    },
  }

  const forgettingSite = (answer: Reply): Reply =>
    settings.clearSiteData === undefined
      ? answer
      : { ...answer, headers: [...answer.headers, ['clear-site-data', settings.clearSiteData]] }

  const clearSession = (exchange: Exchange) =>
    clearCookie(cookies.of(header(exchange, 'cookie')).session, settings.sessionSameSite)

  /** Throws what a request hears that has no live session. */
  const liveSession = async (exchange: Exchange) => {
    guarded(exchange)
    const reading = await readSession(exchange)
    if (reading.kind !== 'live') throw sessionRefusal(reading)
    return reading
  }

  const signedOut = (exchange: Exchange) => ({
    authenticated: false,
    user: null,
    session: null,
    links: { login: loginUrl(prefix, pageOf(exchange)) },
  })

  const signedIn = (exchange: Exchange, { open }: SessionReading & { kind: 'live' }) => {
    const now = clock.now()
    const { session, ticket, lastActivityAt } = open
    return {
      authenticated: true,
      user: userOf(session),
      session: {
        createdAt: rfc3339(session.createdAt),
        expiresIn: wholeSecondsUntil(sessionDeadline(session, now), now),
        idleExpiresIn: idleExpiresIn(session, lastActivityAt, settings.idle, now),
      },
      links: {
        login: loginUrl(prefix, pageOf(exchange)),
        logout: `${prefix}/logout?token=${logout.linkToken(ticket)}`,
        events: `${prefix}/events`,
        sessions: `${prefix}/sessions`,
      },
    }
  }

  /** Ends what there is; a browser whose session is over already is signed out all the same. */
  const endSession = async (exchange: Exchange, returnTo: string) => {
    const reading = await readSession(exchange).catch(async (thrown: unknown) => {
      const ticket = await presentTicket(exchange)
      if (ticket !== undefined) await logout.endUnread(ticket)
      throw thrown
    })
    if (reading.kind === 'live') return logout.end(reading.open, returnTo)
    // A cookie of another secret is none of ours to clear: during a rotation it may be good on the next replica.
    const isOurs =
      reading.kind === 'ended' || reading.why === 'no_record' || reading.why === 'other_process'
    return {
      location: returnTo,
      setCookies: isOurs ? [clearSession(exchange)] : [],
    }
  }

  const requestedLanding = async (exchange: Exchange, request: Request): Promise<string> => {
    const query = singleValues(new URLSearchParams(exchange.target.query))
    const type = contentType(request)
    const wanted =
      type === 'application/json'
        ? textMember(await jsonBody(request), 'returnTo')
        : type === 'application/x-www-form-urlencoded'
          ? singleValues(new URLSearchParams(await textBody(request)))('returnTo')
          : query('returnTo')
    return landing(exchange, wanted)
  }

  /** Whoever asked with `prompt=none` hears what is needed, in the query; that is an answer, not a failure. */
  const notSignedIn = (
    exchange: Exchange,
    outcome: CallbackOutcome & { readonly kind: 'not_signed_in' },
  ): Reply => {
    const { needs, returnTo, setCookies } = outcome
    const reason = `provider_${needs}`
    if (dependencies.demandsSession(returnTo))
      return failedLogin(exchange, {
        ...outcome,
        error: new GatewayError('login_failed', { reason }),
      })
    emit({ type: 'login_failed', requestId: exchange.requestId, reason })
    return seeOther(withError(returnTo, needs), setCookies)
  }

  const failedLogin = (
    exchange: Exchange,
    failed: { error: GatewayError; returnTo: string | undefined; setCookies: readonly string[] },
  ): Reply => {
    const { error, returnTo, setCookies } = failed
    report(error, exchange)
    if (error.code === 'login_failed') {
      // Codes and states that lead nowhere cost the provider a call or us a seal.
      countFailure(exchange)
      emit({
        type: 'login_failed',
        requestId: exchange.requestId,
        reason: error.reason ?? 'unknown',
      })
      // A page that itself demands a session would start the same sign-in again, without end.
      if (
        settings.loginErrors === 'redirect' &&
        returnTo !== undefined &&
        !dependencies.demandsSession(returnTo)
      )
        return seeOther(withError(returnTo, error.code), setCookies)
    }
    const context = problemContext(exchange)
    return problemReply(error, {
      ...context,
      login: loginUrl(prefix, returnTo),
      setCookies,
    })
  }

  const app = new Hono<{ Bindings: HttpBindings }>()

  for (const [path, methods] of Object.entries(endpoints))
    app.all(`${prefix}${path}`, async (context) => {
      const exchange = dependencies.exchangeOf(context)
      const endpoint = methods[exchange.method]
      try {
        if (endpoint === undefined)
          throw new GatewayError('method_not_allowed', { allow: Object.keys(methods) })
        return asResponse(await endpoint(exchange, context.req.raw), outside(exchange.requestId))
      } catch (thrown) {
        return failed(exchange, thrown)
      }
    })

  app.all('*', (context) =>
    failed(dependencies.exchangeOf(context), new GatewayError('route_not_found')),
  )

  const failed = (exchange: Exchange, thrown: unknown): Response => {
    const error = asGatewayError(thrown)
    report(error, exchange)
    return asResponse(problemReply(error, problemContext(exchange)), outside(exchange.requestId))
  }

  return app
}

const deviceAsJson = ({ handle, device, address, createdAt, lastSeenAt, current }: Device) => ({
  handle,
  device: device ?? null,
  ip: address,
  createdAt: rfc3339(createdAt),
  lastSeenAt: rfc3339(lastSeenAt),
  current,
})

/** OIDC Back-Channel Logout §2.5: a form field, there exactly once; other fields are none of ours. */
const logoutTokenIn = async (request: Request): Promise<string> => {
  const body = await textBody(request)
  if (contentType(request) !== 'application/x-www-form-urlencoded')
    throw new GatewayError('logout_token_invalid', { reason: 'content_type' })
  const [logoutToken, ...more] = new URLSearchParams(body).getAll('logout_token')
  if (logoutToken === undefined || logoutToken === '' || more.length > 0)
    throw new GatewayError('logout_token_invalid', { reason: 'logout_token_not_once' })
  return logoutToken
}

const contentType = (request: Request) =>
  (request.headers.get('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase()

const textBody = async (request: Request): Promise<string> => {
  const reader = request.body?.getReader()
  if (reader === undefined) return ''
  let isOverdue = false
  const limit = setTimeout(() => {
    isOverdue = true
    // Ends the read that waits; a stream that has ended by itself needs no ending.
    reader.cancel().catch(() => undefined)
  }, BODY_MS)
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (isOverdue) throw new GatewayError('request_invalid', { reason: 'body_stalled' })
      if (done) return Buffer.concat(chunks).toString('utf8')
      bytes += value.byteLength
      if (bytes > BODY_BYTES_MAX) {
        await reader.cancel()
        throw new GatewayError('body_too_large')
      }
      chunks.push(value)
    }
  } catch (thrown) {
    if (thrown instanceof GatewayError) throw thrown
    // The client left, or sent what is no HTTP: its doing, not a fault of ours.
    throw new GatewayError('request_invalid', { reason: 'body_broken_off', cause: thrown })
  } finally {
    clearTimeout(limit)
  }
}

/** An empty body counts as `{}`; anything but a JSON object is refused. */
const jsonBody = async (request: Request): Promise<Readonly<Record<string, unknown>>> => {
  const text = await textBody(request)
  if (text.trim() === '') return {}
  if (contentType(request) !== 'application/json')
    throw new GatewayError('request_invalid', { reason: 'content_type' })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new GatewayError('request_invalid', { reason: 'json_malformed', cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new GatewayError('request_invalid', { reason: 'json_not_an_object' })
  return value as Record<string, unknown>
}

const textMember = (body: Readonly<Record<string, unknown>>, name: string): string | undefined => {
  const value = Object.hasOwn(body, name) ? body[name] : undefined
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && Number.isFinite(value)) return String(value)
  if (typeof value !== 'string')
    throw new GatewayError('request_invalid', { reason: 'member_not_text', parameter: name })
  return value
}

/** The query of a page that wants to hear of a failed sign-in. */
const withError = (returnTo: string, code: string): string => {
  const url = new URL(returnTo, 'http://localhost')
  url.searchParams.set('error', code)
  return `${url.pathname}${url.search}${url.hash}`
}
