/**
 * The callback, in wire order: transaction → validate the response against it → claim it → exchange the code →
 * a new session → back to where the user was. Nothing is spent before the response is known to be ours.
 */

import { createHash } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Emit, GatewayEvent } from '../events.ts'
import type { ClientAddress } from '../guard/admission.ts'
import type { Provider, SignIn } from '../oidc/provider.ts'
import type { Revoke } from '../oidc/revocation.ts'
import type { Sealer } from '../session/seal.ts'
import type { Claims, Session } from '../session/session.ts'
import {
  type CookieForms,
  clearCookie,
  type LoginSlot,
  type SameSite,
  setCookie,
} from '../session/session-cookie.ts'
import { userLabel } from '../session/session-index.ts'
import type { OneTimeStore } from '../session/session-store.ts'
import { sessionLabel, type Ticket, type TicketSealer, ticketFrom } from '../session/ticket.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import type { Seconds } from '../time.ts'
import {
  type AuthorizationParameters,
  belongsTo,
  issuerVerdict,
  parseAuthorizationResponse,
  validated,
} from './authorization-response.ts'
import {
  allowedClaims,
  maySignIn,
  missingClaims,
  requiredClaims,
  type SignInRequirements,
} from './claims.ts'
import { DEFAULT_RETURN_TO } from './return-to.ts'
import type { SessionLimit } from './session-limit.ts'
import {
  asksOffline,
  type ConsentMemory,
  type LoginStarter,
  requestedScope,
  transactionSameSite,
} from './start.ts'
import { openTransaction, TRANSACTION_SECONDS, type Transaction } from './transaction.ts'

export interface CallbackRequest {
  /** From the query, or from the form body with `form_post`. */
  readonly parameters: URLSearchParams
  readonly cookieHeader: string | undefined
  /** The live session of this browser, if its cookie came along. */
  readonly current: () => Promise<boolean>
  /** Strict cookies were not sent because the request comes from the provider's site. */
  readonly strictCookiesWithheld: boolean
  /** Neither a page of ours nor a browser that says nothing caused it. */
  readonly isFromElsewhere: boolean
  /** Only a page load may start a sign-in. */
  readonly isNavigation: boolean
  /** A transaction cookie that claims to be ours does not verify. */
  readonly countForgery: () => void
  readonly requestId: string
  readonly device: string | undefined
  readonly client: ClientAddress
}

/** What a provider answers to `prompt=none` instead of asking (OIDC Core §3.1.2.6). */
const SILENT_REFUSALS = [
  'login_required',
  'interaction_required',
  'consent_required',
  'account_selection_required',
] as const
export type SilentRefusal = (typeof SILENT_REFUSALS)[number]

export type CallbackOutcome =
  | { readonly kind: 'redirect'; readonly location: string; readonly setCookies: readonly string[] }
  /** Ask again from our own page, so that the Strict cookie comes along. */
  | { readonly kind: 'same_site_page'; readonly setCookies: readonly string[] }
  /** Asked with `prompt=none`, the provider would have to ask the user. A session that was there goes on. */
  | {
      readonly kind: 'not_signed_in'
      readonly needs: SilentRefusal
      readonly returnTo: string
      readonly setCookies: readonly string[]
    }
  | {
      readonly kind: 'failed'
      readonly error: GatewayError
      /** Known only from an opened transaction. */
      readonly returnTo: string | undefined
      readonly setCookies: readonly string[]
    }

export interface CallbackDependencies {
  readonly provider: Provider
  readonly sealer: Sealer
  readonly tickets: TicketSealer
  readonly vault: Vault
  readonly limit: SessionLimit
  readonly once: OneTimeStore
  readonly starter: LoginStarter
  readonly cookies: CookieForms
  readonly emit: Emit
  readonly revoke: Revoke
  readonly consent: ConsentMemory
  readonly notice: (notice: string, detail: string) => void
  readonly settings: {
    readonly redirectUri: string
    readonly responseMode: 'query' | 'form_post'
    /** As configured; undefined: chosen by what the provider supports. */
    readonly scope: string | undefined
    readonly claims: readonly string[]
    readonly requirements: SignInRequirements
    readonly sessionSameSite: SameSite
    /** Lifetime of a persistent session cookie; undefined: it ends with the browser. */
    readonly cookieMaxAge: Seconds | undefined
  }
}

export type Callback = (request: CallbackRequest) => Promise<CallbackOutcome>

export const createCallback = (dependencies: CallbackDependencies): Callback => {
  const {
    provider,
    sealer,
    tickets,
    vault,
    limit,
    once,
    starter,
    cookies,
    emit,
    revoke,
    consent,
    notice,
    settings,
  } = dependencies
  const sameSite = transactionSameSite(settings.responseMode)

  const forgetSlot = (slot: LoginSlot) =>
    cookies.all.map((names) => clearCookie(names.login(slot), sameSite))

  const failure = (
    reason: string,
    cause: unknown,
    transaction: Transaction | undefined,
    setCookies: readonly string[],
  ): CallbackOutcome => ({
    kind: 'failed',
    error: new GatewayError('login_failed', { reason, cause }),
    returnTo: transaction?.returnTo,
    setCookies,
  })

  return async (request) => {
    const parsed = parseAuthorizationResponse(request.parameters)
    if (parsed.kind === 'malformed') return failure(parsed.reason, undefined, undefined, [])
    const { parameters } = parsed
    const names = cookies.of(request.cookieHeader)
    // A plain transaction may have been planted, by whoever wants the victim signed in as somebody else. The next
    // request shows whether this browser keeps prefixed cookies; if it does, it has not begun this sign-in.
    if (names.form === 'plain' && request.isFromElsewhere && request.isNavigation)
      return { kind: 'same_site_page', setCookies: [cookies.probe] }
    const cookieName = names.login(parameters.stateParts.slot)
    const opened = await openTransaction(sealer, request.cookieHeader, cookieName)
    if (opened.kind === 'forged') request.countForgery()
    const transaction =
      opened.kind === 'opened' && belongsTo(parameters, opened.transaction)
        ? opened.transaction
        : undefined
    const forget = forgetSlot(parameters.stateParts.slot)

    if (transaction === undefined)
      return parameters.error === undefined
        ? heal(request, parameters, undefined, 'transaction_missing')
        : failure('error_without_transaction', undefined, undefined, [])

    const facts = await provider.facts()
    const scope = requestedScope(settings.scope, facts)
    const issuer = issuerVerdict(parameters.iss, transaction, facts)
    if (issuer !== 'ok') return failure(issuer, undefined, transaction, forget)
    const needs = SILENT_REFUSALS.find((refusal) => refusal === parameters.error)
    if (needs !== undefined && transaction.asked.silent)
      return {
        kind: 'not_signed_in',
        needs,
        returnTo: transaction.returnTo,
        setCookies: forget,
      }
    // The provider's own words stay out of pages and logs; its code is reduced to a stable word.
    if (parameters.code === undefined)
      return failure(`provider_${knownError(parameters.error)}`, undefined, transaction, forget)

    // Claimed before the code is spent: a second callback with this state must find nothing, and an attacker's
    // code must never reach the token endpoint (RFC 9700 §4.7.1).
    const claim = createHash('sha256').update(transaction.state).digest('base64url')
    if (!(await once.claim(claim, TRANSACTION_SECONDS)))
      return heal(request, parameters, transaction, 'transaction_used')

    const exchanged = await provider.exchangeCode({
      response: validated({ ...parameters, code: parameters.code }),
      redirectUri: settings.redirectUri,
      codeVerifier: transaction.codeVerifier,
      nonce: transaction.nonce,
      maxAgeSeconds: transaction.asked.maxAgeSeconds,
      scope,
    })
    if (exchanged.kind === 'refused')
      return failure(exchanged.reason, exchanged.cause, transaction, forget)
    if (exchanged.kind === 'unavailable')
      return {
        kind: 'failed',
        error: new GatewayError('provider_unavailable', {
          reason: exchanged.reason,
          cause: exchanged.cause,
        }),
        returnTo: transaction.returnTo,
        setCookies: forget,
      }
    const { signIn } = exchanged

    if (!acrWasMet(transaction, signIn)) {
      discard(transaction, signIn)
      return failure('acr_not_met', undefined, transaction, forget)
    }
    if (!wasAnew(transaction, signIn)) {
      discard(transaction, signIn)
      return failure('auth_time_past', undefined, transaction, forget)
    }
    const again = await askForConsentOnce(request, transaction, signIn, scope)
    if (again !== undefined)
      return {
        kind: 'redirect',
        location: again.location,
        setCookies: [...forget, ...again.setCookies],
      }

    const claims = await gatherClaims(signIn)
    if (!maySignIn(claims, settings.requirements)) {
      discard(transaction, signIn)
      return refusal('requirements', request, transaction, forget)
    }

    const open = await begin(
      transaction,
      signIn,
      {
        issuer: transaction.issuer,
        subject: signIn.subject,
        providerSessionId: text(signIn.idTokenClaims.sid),
        claims: allowedClaims(claims, settings.claims),
        acr: text(signIn.idTokenClaims.acr),
        amr: texts(signIn.idTokenClaims.amr),
        authTime: number(signIn.idTokenClaims.auth_time),
        signInStartedAt: transaction.signInStartedAt,
        tokens: signIn.tokens,
      },
      { device: request.device, address: request.client.address },
    )
    try {
      if ((await vault.endOvertaken(open)) !== undefined)
        return failure('ended_meanwhile', undefined, transaction, forget)
      // Before the former session ends: who is refused keeps what they had.
      if ((await limit(open, formerTicket(transaction)?.digest)) === 'refused') {
        discard(transaction, signIn)
        return refusal('session_limit', request, transaction, forget)
      }
      await endFormer(transaction, signIn)
    } catch (thrown) {
      // Nobody holds the new ticket yet: the browser keeps the session it had, and can sign in again.
      await vault.end(open, 'replaced_at_login').catch(() => false)
      throw thrown
    }
    emit({
      type: 'login_succeeded',
      requestId: request.requestId,
      session: sessionLabel(open.ticket.digest),
      user: userLabel(open.session.issuer, open.session.subject),
    })
    return {
      kind: 'redirect',
      location: transaction.returnTo,
      setCookies: [
        ...forget,
        setCookie(
          names.session,
          await tickets.seal({ ...open.ticket, form: names.form }),
          settings.sessionSameSite,
          settings.cookieMaxAge,
        ),
      ],
    }
  }

  function refusal(
    reason: (GatewayEvent & { type: 'sign_in_refused' })['reason'],
    request: CallbackRequest,
    transaction: Transaction,
    setCookies: readonly string[],
  ): CallbackOutcome {
    emit({ type: 'sign_in_refused', requestId: request.requestId, reason })
    return {
      kind: 'failed',
      error: new GatewayError('sign_in_refused', { reason }),
      returnTo: transaction.returnTo,
      setCookies,
    }
  }

  /**
   * A code answer whose transaction is gone or used: a finished tab, the back button, a cookie that expired. Who
   * is signed in already goes where they wanted; else the sign-in restarts once, marked so that it can't loop.
   */
  async function heal(
    request: CallbackRequest,
    parameters: AuthorizationParameters,
    used: Transaction | undefined,
    reason: string,
  ): Promise<CallbackOutcome> {
    const returnTo = used?.returnTo ?? DEFAULT_RETURN_TO
    const forget = used === undefined ? [] : forgetSlot(parameters.stateParts.slot)
    if (!request.isNavigation) return failure(reason, undefined, used, forget)
    if (request.strictCookiesWithheld) return { kind: 'same_site_page', setCookies: [] }
    if (await request.current()) return { kind: 'redirect', location: returnTo, setCookies: forget }
    if (parameters.stateParts.restarted)
      return failure('cookies_not_returned', undefined, used, forget)
    const started = await starter.start({
      client: request.client,
      returnTo,
      parameters: {},
      cookieHeader: request.cookieHeader,
      former: undefined,
      restarted: true,
    })
    emit({ type: 'login_restarted', requestId: request.requestId, reason })
    return {
      kind: 'redirect',
      location: started.location,
      setCookies: [...forget, ...started.setCookies],
    }
  }

  /** A store that fails now leaves tokens that nobody holds. */
  async function begin(
    transaction: Transaction,
    signIn: SignIn,
    ...session: Parameters<Vault['begin']>
  ): Promise<OpenSession> {
    try {
      return await vault.begin(...session)
    } catch (thrown) {
      discard(transaction, signIn)
      throw thrown
    }
  }

  /** OIDC Core §11: some providers issue a refresh token for `offline_access` only after consent was asked. */
  async function askForConsentOnce(
    request: CallbackRequest,
    transaction: Transaction,
    signIn: SignIn,
    scope: string,
  ): Promise<{ location: string; setCookies: readonly string[] } | undefined> {
    // Who asked for no page gets none.
    if (!asksOffline(scope) || transaction.asked.silent) return undefined
    const hasRefreshToken = signIn.tokens.refreshToken !== undefined
    if (transaction.asked.consent) {
      if (hasRefreshToken) consent.verdict = 'helps'
      else if (consent.verdict === 'unknown') {
        consent.verdict = 'useless'
        notice('no_refresh_token', 'the provider issues none even with prompt=consent')
      }
      return undefined
    }
    if (hasRefreshToken || consent.verdict === 'useless') return undefined
    emit({ type: 'login_restarted', requestId: request.requestId, reason: 'no_refresh_token' })
    return starter.start({
      client: request.client,
      returnTo: transaction.returnTo,
      parameters: {
        ...(transaction.asked.acrValues === undefined
          ? {}
          : { acr_values: transaction.asked.acrValues }),
        ...(transaction.asked.maxAgeSeconds === undefined
          ? {}
          : { max_age: String(transaction.asked.maxAgeSeconds) }),
      },
      cookieHeader: request.cookieHeader,
      former: formerTicket(transaction),
      consent: true,
    })
  }

  /** Listed claims that the ID token lacks come from UserInfo, once; a failure never fails the sign-in. */
  async function gatherClaims(signIn: SignIn): Promise<Claims> {
    const wanted = [...settings.claims, ...requiredClaims(settings.requirements)]
    const fromIdToken = signIn.idTokenClaims
    if (missingClaims(fromIdToken, wanted).length === 0) return fromIdToken
    const answer = await provider.userInfo(signIn.tokens.accessToken, signIn.subject)
    if (answer.kind === 'claims') return { ...answer.claims, ...fromIdToken }
    if (answer.reason !== 'unsupported') notice('userinfo_unusable', answer.reason)
    return fromIdToken
  }

  function formerTicket(transaction: Transaction): Ticket | undefined {
    const { former } = transaction
    return former === undefined ? undefined : ticketFrom(former.id, former.key)
  }

  /**
   * The session that existed at the start is replaced, its ticket dead at once. Its refresh token is revoked only
   * where that is known to be another grant.
   */
  async function endFormer(transaction: Transaction, signIn: SignIn): Promise<void> {
    const former = formerTicket(transaction)
    if (former === undefined) return
    const seen = await vault.read(former)
    if (seen.kind !== 'live') return
    const { session } = seen.open
    await vault.end(seen.open, 'replaced_at_login')
    if (!mayShareGrant(session, transaction, signIn))
      revoke(session.tokens.refreshToken, sessionLabel(former.digest))
  }

  /**
   * What a sign-in brought and no session will hold is revoked behind everybody's back, unless that could end the
   * grant of the session that the browser keeps.
   */
  function discard(transaction: Transaction, signIn: SignIn): void {
    void keepsGrant(transaction, signIn).then((keeps) => {
      if (!keeps) revoke(signIn.tokens.refreshToken, 'none')
    })
  }

  async function keepsGrant(transaction: Transaction, signIn: SignIn): Promise<boolean> {
    const former = formerTicket(transaction)
    if (former === undefined) return false
    try {
      const seen = await vault.read(former)
      return seen.kind === 'live' && mayShareGrant(seen.open.session, transaction, signIn)
    } catch {
      // It cannot be known, and a session that goes on is worth more than a token that nobody holds.
      return true
    }
  }
}

/** Known to be another grant: another issuer, another subject, another `sid` (docs/decisions/0002). */
const mayShareGrant = (former: Session, transaction: Transaction, signIn: SignIn): boolean => {
  const sid = text(signIn.idTokenClaims.sid)
  return (
    former.issuer === transaction.issuer &&
    former.subject === signIn.subject &&
    (sid === undefined ||
      former.providerSessionId === undefined ||
      sid === former.providerSessionId)
  )
}

/** A provider may legally return a lower `acr` than asked (RFC 9470 §5): then the answer is not accepted. */
const acrWasMet = (transaction: Transaction, signIn: SignIn): boolean => {
  const { acrValues } = transaction.asked
  if (acrValues === undefined) return true
  const acr = text(signIn.idTokenClaims.acr)
  return acr !== undefined && acrValues.split(' ').includes(acr)
}

/** How far the provider's clock may be behind. */
const CLOCK_TOLERANCE_MS = 30_000

/** `prompt=login` goes through the browser, and whoever sits there may take it out (OIDC Core §3.1.2.1). */
const wasAnew = (transaction: Transaction, signIn: SignIn): boolean => {
  const authTime = number(signIn.idTokenClaims.auth_time)
  return (
    transaction.asked.reauthentication !== true ||
    authTime === undefined ||
    authTime * 1000 >= transaction.signInStartedAt - CLOCK_TOLERANCE_MS
  )
}

const KNOWN_ERRORS: ReadonlySet<string> = new Set([
  'access_denied',
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'invalid_request',
  'invalid_scope',
  'invalid_target',
  'login_required',
  'server_error',
  'temporarily_unavailable',
  'unauthorized_client',
  'unmet_authentication_requirements',
  'unsupported_response_type',
])

const knownError = (error: string | undefined): string =>
  error !== undefined && KNOWN_ERRORS.has(error) ? error : 'error'

const text = (claim: unknown): string | undefined => (typeof claim === 'string' ? claim : undefined)
const number = (claim: unknown): number | undefined =>
  typeof claim === 'number' ? claim : undefined
const texts = (claim: unknown): readonly string[] | undefined =>
  Array.isArray(claim) ? claim.filter((value) => typeof value === 'string') : undefined
