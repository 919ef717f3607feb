/** The users file of `coatcheck dev`: who can sign in at the development provider, and with which claims. */

import { z } from 'zod'
import { readYamlFile } from './config-file.ts'
import { nearest } from './nearest.ts'
import { ConfigError, type Problem } from './problems.ts'

export interface UserInFile {
  readonly login: string
  readonly password: string
  /** `sub` is the login unless the file has another. */
  readonly claims: { readonly sub: string } & Readonly<Record<string, unknown>>
}

const DEFAULT_NAME = 'coatcheck.users.yaml'
const USERS_MAX = 100
const CLAIMS_MAX = 50

/** What tokens say of themselves: the provider alone decides these. */
const OF_THE_PROVIDER: ReadonlySet<string> = new Set([
  ...['iss', 'aud', 'exp', 'iat', 'nbf', 'jti', 'nonce', 'azp', 'sid', 'client_id', 'scope', 'cnf'],
  ...['acr', 'amr', 'auth_time', 'at_hash', 'c_hash', 's_hash', 'act', 'may_act', 'events'],
])

const word = (rule: string) =>
  z.string({ error: rule }).regex(/^[^\p{Cc}]{1,64}$/u, { error: rule })

const userSchema = z.strictObject(
  {
    login: word('must be text of 1 to 64 characters'),
    password: word('must be text of 1 to 64 characters (put quotes around a number)').optional(),
    claims: z
      .record(z.string(), z.unknown(), { error: 'must be a map of claims' })
      .refine((claims) => Object.keys(claims).length <= CLAIMS_MAX, {
        error: `must be at most ${CLAIMS_MAX} claims`,
      })
      .check((context) => {
        for (const name of Object.keys(context.value)) {
          const rule = ruleOfClaim(name, context.value[name])
          if (rule !== undefined)
            context.issues.push({
              code: 'custom',
              input: context.value,
              path: [name],
              message: rule,
            })
        }
      })
      .optional(),
  },
  { error: 'must be a user: login, password, claims' },
)

const ruleOfClaim = (name: string, value: unknown): string | undefined => {
  if (OF_THE_PROVIDER.has(name)) return 'is set by the provider itself: remove it'
  if (value === null || value === undefined) return 'must have a value'
  if (name === 'sub' && (typeof value !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(value)))
    return 'must be 1 to 255 characters of ASCII without blanks (OIDC Core §2)'
  return undefined
}

const fileSchema = z.strictObject(
  {
    users: z
      .array(userSchema, { error: 'must be a list of users' })
      .min(1, { error: 'must have a user' })
      .max(USERS_MAX, { error: `must have at most ${USERS_MAX} users` }),
  },
  { error: 'must have users: a list, each with login, password and claims' },
)

/**
 * One that is named must be there; `coatcheck.users.yaml` in the working directory may be. Undefined: there is none.
 * Throws ConfigError with every problem of the file, and never a value of it.
 */
export const readUsersFile = (
  named: string | undefined,
  cwd: string,
): readonly UserInFile[] | undefined => {
  const file = readYamlFile(named, DEFAULT_NAME, cwd)
  if (file === undefined) return undefined
  const source = `file ${file.name}`
  if (file.problems.length > 0) throw new ConfigError(file.problems)
  const result = fileSchema.safeParse(file.content)
  if (!result.success)
    throw new ConfigError(result.error.issues.flatMap((issue) => problemsOf(issue, source)))
  const users = result.data.users.map(({ login, password = login, claims = {} }) => ({
    login,
    password,
    claims: { sub: login, preferred_username: login, ...claims },
  }))
  const problems = [
    ...repeated(users, 'login', ({ login }) => login),
    ...repeated(users, 'claims.sub', ({ claims }) => claims.sub),
  ].map((problem) => ({ ...problem, source }))
  if (problems.length > 0) throw new ConfigError(problems)
  return users
}

const problemsOf = (issue: z.core.$ZodIssue, source: string): readonly Problem[] => {
  const at = placeOf(issue.path)
  if (issue.code !== 'unrecognized_keys') return [{ setting: at, rule: issue.message, source }]
  const known = at === '' ? ['users'] : ['login', 'password', 'claims']
  return issue.keys.map((key) => ({
    setting: at === '' ? key : `${at}.${key}`,
    rule:
      at === ''
        ? 'is not known here; the file has users alone'
        : `is not known here; the nearest is ${nearest(key, known)}, and what tokens carry, such as roles, belongs under claims`,
    source,
  }))
}

const placeOf = (path: readonly PropertyKey[]): string =>
  path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`))
    .join('')
    .replace(/^\./, '')

const repeated = (
  users: readonly UserInFile[],
  setting: string,
  key: (user: UserInFile) => string,
): readonly Omit<Problem, 'source'>[] =>
  users.flatMap((user, index) =>
    users.findIndex((other) => key(other) === key(user)) < index
      ? [{ setting: `users[${index}].${setting}`, rule: 'must not be that of an earlier user' }]
      : [],
  )
