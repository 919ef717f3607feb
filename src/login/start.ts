/** Starting a sign-in: parameters by allow-list → transaction in a cookie → the authorization URL. */

import { randomBytes } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { ClientAddress, SignInAdmission } from '../guard/admission.ts'
import type { Provider, ProviderFacts } from '../oidc/provider.ts'
import type { Sealer } from '../session/seal.ts'
import { type CookieForms, type SameSite, setCookie } from '../session/session-cookie.ts'
import type { OneTimeStore } from '../session/session-store.ts'
import type { Ticket } from '../session/ticket.ts'
import type { Clock } from '../time.ts'
import { chooseSlot, newState, sealTransaction, TRANSACTION_SECONDS } from './transaction.ts'

/** What a caller may say about a sign-in; everything else is ignored. */
export interface LoginParameters {
  readonly prompt?: string
  readonly login_hint?: string
  readonly acr_values?: string
  readonly max_age?: string
  readonly ui_locales?: string
}

const PROMPTS: ReadonlySet<string> = new Set([
  'none',
  'login',
  'consent',
  'select_account',
  'create',
])
const PRINTABLE = /^[\x20-\x7e\u00a0-\uffff]*$/
const PARAMETER_BYTES_MAX = 256

/** Throws `request_invalid` for a value that the provider would have to refuse. */
export const parseLoginParameters = (
  given: (name: keyof LoginParameters) => string | undefined,
): LoginParameters => {
  const text = (name: keyof LoginParameters): Record<string, string> => {
    const value = given(name)
    if (value === undefined || value === '') return {}
    if (Buffer.byteLength(value) > PARAMETER_BYTES_MAX || !PRINTABLE.test(value))
      throw invalid(name)
    return { [name]: value }
  }
  const parameters: LoginParameters = {
    ...text('prompt'),
    ...text('login_hint'),
    ...text('acr_values'),
    ...text('max_age'),
    ...text('ui_locales'),
  }
  const prompts = parameters.prompt?.split(' ') ?? []
  if (
    prompts.some((prompt) => !PROMPTS.has(prompt)) ||
    (prompts.length > 1 && prompts.includes('none'))
  )
    throw invalid('prompt')
  if (parameters.max_age !== undefined && !/^\d{1,9}$/.test(parameters.max_age))
    throw invalid('max_age')
  return parameters
}

const invalid = (parameter: keyof LoginParameters): GatewayError =>
  new GatewayError('request_invalid', { reason: `${parameter}_invalid`, parameter })

export interface LoginSettings {
  readonly redirectUri: string
  readonly responseMode: 'query' | 'form_post'
  /** As configured; undefined: chosen by what the provider supports. */
  readonly scope: string | undefined
  readonly audience: string | undefined
  readonly authorizationParams: Readonly<Record<string, string>>
}

export interface StartedLogin {
  /** The authorization URL. */
  readonly location: string
  readonly setCookies: readonly string[]
}

export interface LoginStart {
  readonly client: ClientAddress
  readonly returnTo: string
  readonly parameters: LoginParameters
  readonly cookieHeader: string | undefined
  /** The session that exists now, if its cookie came along. */
  readonly former: Ticket | undefined
  /** Set by the callback: this sign-in replaces one whose transaction was lost. */
  readonly restarted?: boolean
  /** Set by the callback: ask for consent, because the first answer had no refresh token. */
  readonly consent?: boolean
}

export interface LoginStarter {
  /**
   * Throws `rate_limited` for more sign-ins of one address than anybody needs, and `store_unavailable` where the session
   * could not be kept: nobody types a password in vain.
   */
  start(request: LoginStart): Promise<StartedLogin>
}

export interface LoginStarterDependencies {
  readonly admit: SignInAdmission
  readonly once: Pick<OneTimeStore, 'isClaimed'>
  readonly provider: Provider
  readonly sealer: Sealer
  readonly cookies: CookieForms
  readonly clock: Clock
  readonly settings: LoginSettings
  readonly consent: ConsentMemory
  readonly emit: Emit
}

/** Whether `prompt=consent` brings this provider to issue a refresh token; learnt once per process. */
export interface ConsentMemory {
  verdict: 'unknown' | 'helps' | 'useless'
}

const BASIC_SCOPE = 'openid profile email'

/**
 * `offline_access` only where the provider lists it, and never at Keycloak, where it makes an offline session that
 * outlives the browser's and where refresh tokens come without it.
 */
export const requestedScope = (configured: string | undefined, facts: ProviderFacts): string => {
  if (configured !== undefined) return configured
  const isKeycloak = /\/realms\/[^/]+$/.test(facts.issuer)
  return facts.scopesSupported?.includes('offline_access') === true && !isKeycloak
    ? `${BASIC_SCOPE} offline_access`
    : BASIC_SCOPE
}

export const asksOffline = (scope: string): boolean => scope.split(' ').includes('offline_access')

/** With `form_post` the callback is a cross-site POST, which carries no `Lax` cookie. */
export const transactionSameSite = (responseMode: LoginSettings['responseMode']): SameSite =>
  responseMode === 'form_post' ? 'None' : 'Lax'

export const createLoginStarter = (dependencies: LoginStarterDependencies): LoginStarter => {
  const { admit, once, provider, sealer, cookies, clock, settings, consent, emit } = dependencies
  let announced: string | undefined
  return {
    start: async (request) => {
      // A pushed request is a call to the provider that anybody can cause.
      admit(request.client)
      const slot = chooseSlot(request.cookieHeader, cookies.of(request.cookieHeader))
      const state = newState({ slot, restarted: request.restarted ?? false })
      // Nobody has: it is asked because a store that cannot say so could not keep the session either.
      await once.isClaimed(state)
      const facts = await provider.facts()
      const scope = requestedScope(settings.scope, facts)
      if (scope !== announced) emit({ type: 'scope_requested', scope })
      announced = scope
      const prompt =
        request.consent === true
          ? 'consent'
          : (request.parameters.prompt ??
            settings.authorizationParams.prompt ??
            (consent.verdict === 'helps' && asksOffline(scope) ? 'consent' : undefined))
      const prompts = prompt?.split(' ') ?? []
      const parameters: Readonly<Record<string, string>> = {
        ...settings.authorizationParams,
        ...request.parameters,
        ...(prompt === undefined ? {} : { prompt }),
      }
      const nonce = randomBytes(32).toString('base64url')
      const codeVerifier = randomBytes(32).toString('base64url')
      const signInStartedAt = clock.now()

      const url = await provider.authorizationUrl({
        redirectUri: settings.redirectUri,
        scope,
        state,
        nonce,
        codeVerifier,
        responseMode: settings.responseMode,
        parameters: {
          ...parameters,
          ...(settings.audience === undefined ? {} : { audience: settings.audience }),
        },
      })
      const seal = await sealTransaction(sealer, {
        state,
        codeVerifier,
        nonce,
        returnTo: request.returnTo,
        issuer: facts.issuer,
        asked: {
          acrValues: parameters.acr_values,
          maxAgeSeconds: numberOf(parameters.max_age),
          consent: prompts.includes('consent'),
          reauthentication: prompts.includes('login'),
          silent: prompt === 'none',
        },
        signInStartedAt,
        former:
          request.former === undefined
            ? undefined
            : { id: request.former.id, key: request.former.key.toString('base64url') },
      })
      return {
        location: url.href,
        setCookies: cookies
          .offeredTo(request.cookieHeader)
          .map((names) =>
            setCookie(
              names.login(slot),
              seal,
              transactionSameSite(settings.responseMode),
              TRANSACTION_SECONDS,
            ),
          ),
      }
    },
  }
}

const numberOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number(text)
