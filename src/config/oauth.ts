/** OAuth and OpenID Connect settings: scopes, parameters, requirements and algorithms, as their specifications spell them. */

import { z } from 'zod'
import { type Form, matching, text } from './forms.ts'

/** VSCHAR, RFC 6749 Appendix A. */
export const clientId: Form<string> = matching(
  'text',
  'must be 1 to 512 ASCII characters without control characters',
  /^[\x20-\x7e]{1,512}$/,
)

/** Wider than VSCHAR, because providers are. A control character is nearly always a second line by mistake. */
export const clientSecret: Form<string> = matching(
  'text',
  'must be 1 to 4096 characters in one line, without control characters',
  /^[^\p{Cc}]{1,4096}$/u,
)

/** scope-token, RFC 6749 §3.3. */
export const scope: Form<string> = text(
  'scopes, separated by blanks',
  'must be scopes separated by single blanks, openid among them (OpenID Connect Core 1.0 §3.1.2.1)',
  (written) =>
    written.length <= 2048 &&
    /^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$/.test(written) &&
    written.split(' ').includes('openid')
      ? written
      : undefined,
)

/** RFC 8707 §2. */
export const resource: Form<string> = text(
  'absolute URI',
  'must be an absolute URI without fragment (RFC 8707 §2)',
  (written) =>
    /^[a-z][a-z0-9+.-]*:[\x21\x24-\x5b\x5d\x5f\x61-\x7a\x7e]{1,2000}$/i.test(written) &&
    URL.canParse(written)
      ? written
      : undefined,
)

export const audience: Form<string> = matching(
  'text',
  'must be 1 to 2000 ASCII characters without blanks and control characters',
  /^[\x21-\x7e]{1,2000}$/,
)

/** Set by the gateway itself, or by a setting of their own. Secrets and assertions never belong in a URL. */
const RESERVED_PARAMETERS: ReadonlySet<string> = new Set([
  'client_id',
  'redirect_uri',
  'response_type',
  'response_mode',
  'scope',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'request',
  'request_uri',
  'resource',
  'audience',
  'client_secret',
  'client_assertion',
  'client_assertion_type',
])

const PARAMETER_NAME = /^(?!__proto__$)[A-Za-z0-9_.:-]{1,64}$/
const PARAMETER_VALUE = /^[^\p{Cc}]{0,1000}$/u

const parametersSchema = z
  .record(z.string(), z.string({ error: 'must be text (in YAML, put quotes around it)' }), {
    error: 'must be parameters such as access_type=offline&prompt=consent, each name once',
  })
  .superRefine((parameters, context) => {
    const reserved = Object.keys(parameters).filter((name) => RESERVED_PARAMETERS.has(name))
    if (reserved.length > 0)
      context.addIssue({
        code: 'custom',
        message: `may not name ${reserved.join(', ')}: the gateway sets what it needs of those itself`,
      })
    if (parameters.max_age !== undefined && !/^\d{1,9}$/.test(parameters.max_age))
      context.addIssue({
        code: 'custom',
        message:
          'must have max_age as a whole number of seconds (OpenID Connect Core 1.0 §3.1.2.1)',
      })
    const sound = Object.entries(parameters).every(
      ([name, value]) => PARAMETER_NAME.test(name) && PARAMETER_VALUE.test(value),
    )
    if (!sound || Object.keys(parameters).length > 20)
      context.addIssue({
        code: 'custom',
        message:
          'must have at most 20 parameters with names of letters, digits and _.:- and values without control characters',
      })
  })

export const authorizationParameters: Form<Readonly<Record<string, string>>> = {
  schema: parametersSchema,
  written: 'map of texts, or one text such as `access_type=offline&prompt=consent`',
  fromText: (written) => {
    const pairs = [...new URLSearchParams(written)]
    return isPlainOnce(pairs.map(([name]) => name)) ? Object.fromEntries(pairs) : written
  },
  composite: true,
}

/** Names that are there, once each, and can be keys of a plain object. */
const isPlainOnce = (names: readonly string[]): boolean =>
  names.every((name) => name !== '' && name !== '__proto__') && new Set(names).size === names.length

const REQUIREMENTS_RULE =
  'must be requirements such as groups=staff,admins or email_domain=example.com, separated by ";", each claim once'
const CLAIM_PATH = /^(?!__proto__$)[^\s\p{Cc}=;,]{1,200}$/u
const DOMAIN = /^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i

const requiredValuesSchema = z.preprocess(
  (written) => (typeof written === 'string' ? [written] : written),
  z
    .array(z.string({ error: REQUIREMENTS_RULE }).min(1, { error: REQUIREMENTS_RULE }), {
      error: REQUIREMENTS_RULE,
    })
    .min(1, { error: 'must accept at least one value, or nobody could sign in' }),
)

/** Claim → accepted values. */
export const signInRequirements: Form<Readonly<Record<string, readonly string[]>>> = {
  schema: z
    .record(z.string(), requiredValuesSchema, { error: REQUIREMENTS_RULE })
    .superRefine((requirements, context) => {
      const names = Object.keys(requirements)
      if (names.length > 20 || !names.every((name) => CLAIM_PATH.test(name)))
        context.addIssue({ code: 'custom', message: REQUIREMENTS_RULE })
      if (!(requirements.email_domain ?? []).every((domain) => DOMAIN.test(domain)))
        context.addIssue({
          code: 'custom',
          message:
            'must name email_domain as domains such as example.com, without "@" and wildcards',
        })
    }),
  written:
    'map of claims to lists, or one text such as `groups=staff,admins;email_domain=example.com`',
  fromText: (written) => {
    const pairs = written
      .split(';')
      .map((part) => part.trim())
      .filter((part) => part !== '')
      .map((part) => {
        const equals = part.indexOf('=')
        const values = equals < 0 ? '' : part.slice(equals + 1)
        return [part.slice(0, Math.max(equals, 0)).trim(), splitValues(values)] as const
      })
    return isPlainOnce(pairs.map(([name]) => name)) ? Object.fromEntries(pairs) : written
  },
  composite: true,
}

const splitValues = (values: string): readonly string[] =>
  values
    .split(',')
    .map((value) => value.trim())
    .filter((value) => value !== '')

export const claimPath: Form<string> = matching(
  'claim name or path such as `realm_access.roles`',
  'must be a claim name or path without blanks, such as groups or realm_access.roles',
  /^(?!__proto__$)[^\s\p{Cc}]{1,200}$/u,
)

/** RFC 7518 §3.1, RFC 8037 and RFC 9864: signatures only. `none` and HS* would let anyone, or any client, sign. */
export const ID_TOKEN_ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const

export const idTokenAlgorithm: Form<(typeof ID_TOKEN_ALGORITHMS)[number]> = {
  schema: z.enum(ID_TOKEN_ALGORITHMS, {
    error: `must be one of ${ID_TOKEN_ALGORITHMS.join(', ')}; none and HS* are never accepted`,
  }),
  written: ID_TOKEN_ALGORITHMS.map((algorithm) => `\`${algorithm}\``).join(', '),
  fromText: (written) => written,
}
