/**
 * The authorization response, checked against its transaction before anything is spent: state, issuer
 * (RFC 9207 §2.4), duplicates. Nothing else makes a `ValidatedAuthorizationResponse`.
 */

import type { ProviderFacts, ValidatedAuthorizationResponse } from '../oidc/provider.ts'
import { equalInConstantTime } from '../session/constant-time.ts'
import { parseState, type State, type Transaction } from './transaction.ts'

/** One value per name; a duplicated security parameter makes the whole response unusable (RFC 6749 §3.1). */
export interface AuthorizationParameters {
  readonly code: string | undefined
  readonly error: string | undefined
  readonly iss: string | undefined
  readonly state: string
  readonly stateParts: State
}

export type ParsedResponse =
  | { readonly kind: 'parameters'; readonly parameters: AuthorizationParameters }
  | { readonly kind: 'malformed'; readonly reason: string }

const CODE_LENGTH_MAX = 4096
const VSCHAR = /^[\x20-\x7e]+$/

export const parseAuthorizationResponse = (query: URLSearchParams): ParsedResponse => {
  const malformed = (reason: string): ParsedResponse => ({ kind: 'malformed', reason })
  const single = (name: string): string | undefined => query.get(name) ?? undefined
  for (const name of ['code', 'state', 'iss', 'error', 'response'])
    if (query.getAll(name).length > 1) return malformed(`${name}_duplicated`)
  const state = single('state')
  if (state === undefined)
    return malformed(single('error') === undefined ? 'state_missing' : 'error_without_state')
  const stateParts = parseState(state)
  if (stateParts === undefined) return malformed('state_malformed')
  const code = single('code')
  const error = single('error')
  if (code === undefined && error === undefined) return malformed('code_missing')
  if (code !== undefined && error !== undefined) return malformed('code_and_error')
  if (code !== undefined && (code.length > CODE_LENGTH_MAX || !VSCHAR.test(code)))
    return malformed('code_malformed')
  return { kind: 'parameters', parameters: { code, error, iss: single('iss'), state, stateParts } }
}

export const belongsTo = (parameters: AuthorizationParameters, transaction: Transaction): boolean =>
  equalInConstantTime(parameters.state, transaction.state)

export type IssuerVerdict = 'ok' | 'iss_missing' | 'iss_mismatch'

/** Exact string comparison; a provider that announces `iss` must send it (RFC 9207 §2.4, §3). */
export const issuerVerdict = (
  iss: string | undefined,
  transaction: Transaction,
  facts: ProviderFacts,
): IssuerVerdict => {
  if (transaction.issuer !== facts.issuer) return 'iss_mismatch'
  if (iss === undefined) return facts.issParameterSupported ? 'iss_missing' : 'ok'
  return iss === transaction.issuer ? 'ok' : 'iss_mismatch'
}

/** Called once state and issuer have been found right, and by nothing else. */
export const validated = (
  parameters: AuthorizationParameters & { readonly code: string },
): ValidatedAuthorizationResponse =>
  ({
    code: parameters.code,
    state: parameters.state,
    iss: parameters.iss,
  }) as ValidatedAuthorizationResponse
