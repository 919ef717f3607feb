/** `coatcheck check`: is the configuration right, and what does the provider have to know about us? */

import { hostPortText } from '../config/addresses.ts'
import type { Config } from '../config/config.ts'
import { type LoadedConfig, loadConfig } from '../config/load.ts'
import { ConfigError } from '../config/problems.ts'
import { requestedScope } from '../login/start.ts'
import type { ProviderFacts } from '../oidc/provider.ts'
import { CONFIG_OPTIONS, configFileOf, parseArguments } from './arguments.ts'
import { type Answer, askProvider, askStore, type StoreFacts } from './check-answers.ts'
import { CHECK_HELP } from './help.ts'
import { type Command, EXIT } from './io.ts'

export const check: Command = async (argv, io) => {
  const values = parseArguments('check', argv, CONFIG_OPTIONS)
  if (values.has('help')) {
    io.out(CHECK_HELP)
    return EXIT.ok
  }
  const loaded = loadConfig({ env: io.env, cwd: io.cwd, ...configFileOf(values) })
  const { config } = loaded
  const [provider, store] = await Promise.all([askProvider(config), askStore(config)])
  const problems = [provider, store].flatMap((answer) =>
    answer?.kind === 'contradicts' ? [answer.problem] : [],
  )
  for (const line of [
    ...summary(loaded, problems.length === 0),
    '',
    ...registration(config),
    '',
    ...providerReport(config, provider),
    ...storeReport(store),
  ])
    io.out(line)
  const storeWarnings = store?.kind === 'facts' ? store.facts.warnings : []
  for (const warning of [...loaded.warnings, ...storeWarnings]) io.err(`warning: ${warning}`)
  if (problems.length > 0) throw new ConfigError(problems)
  return EXIT.ok
}

const row = (name: string, value: string): string => `  ${name.padEnd(26)}${value}`

const summary = ({ config, file }: LoadedConfig, isValid: boolean): readonly string[] => [
  `The configuration ${isValid ? 'is valid' : 'was read'} (${file === undefined ? 'environment only' : `${file} and environment`}).`,
  row('public URL', config.publicUrl),
  row(
    'listens on',
    `${hostPortText(config.listen)}, ${config.tls.identity === undefined ? 'without TLS' : 'with TLS'}`,
  ),
  ...(config.tls.plainListen === undefined
    ? []
    : [row('plain HTTP', `${hostPortText(config.tls.plainListen)}, which leads to https`)]),
  row(
    'operations',
    config.operations.listen === 'off' ? 'off' : hostPortText(config.operations.listen),
  ),
  row('sessions', config.redis.url === undefined ? 'in memory' : 'in Redis'),
  ...config.routes.map((route) => row(`route ${route.path}`, route.upstream)),
  row('app', spaText(config.spa)),
]

const spaText = (spa: Config['spa']): string => {
  if (spa === undefined) return 'served by something else'
  return spa.kind === 'directory' ? `files, policy ${policyName(spa.csp)}` : spa.origin
}

const policyName = (csp: string): string =>
  csp === 'default' || csp === 'strict' ? csp : 'of your own'

/** What the provider has to know about the gateway, line by line. */
export const registration = ({
  publicUrl,
  prefix,
  clientId,
  provider,
}: Config): readonly string[] => [
  'Register at the provider:',
  row('client id', clientId),
  row('client authentication', provider.clientAuthentication),
  row('grant types', 'authorization_code, refresh_token'),
  row('redirect URI', `${publicUrl}${prefix}/callback`),
  row('post-logout redirect URI', `${publicUrl}${prefix}/logged-out`),
  row('back-channel logout URI', `${publicUrl}${prefix}/backchannel-logout`),
  row('front-channel logout URI', `${publicUrl}${prefix}/frontchannel-logout`),
  row('', 'for both logouts with the session required; one of them is enough'),
]

/** A provider that is silent is no fault of the configuration: the gateway, too, starts without it. */
const providerReport = (config: Config, answer: Answer<ProviderFacts>): readonly string[] => {
  if (answer.kind === 'facts') return factLines(config, answer.facts)
  if (answer.kind === 'contradicts') return [`The provider ${config.issuer} is not usable.`]
  return [
    `The provider ${config.issuer} gave no usable metadata (${answer.reason}): ${answer.words}.`,
    'What it supports is unknown; everything above holds all the same.',
  ]
}

const storeReport = (answer: Answer<StoreFacts> | undefined): readonly string[] => {
  if (answer === undefined) return []
  if (answer.kind === 'facts') return ['Redis answers.']
  if (answer.kind === 'contradicts') return ['Redis is not usable.']
  return [`Redis does not answer (${answer.reason}). ${answer.words}`]
}

const factLines = (config: Config, facts: ProviderFacts): readonly string[] => [
  'The provider answers:',
  row('issuer', facts.issuer),
  row('PKCE with S256', pkceText(facts.codeChallengeMethodsSupported)),
  row('pushed requests', facts.pushedAuthorizationRequests),
  row('end session', facts.endSession ? 'supported' : 'unsupported: sign-out ends here only'),
  row(
    'revocation',
    facts.revocation ? 'supported' : 'unsupported: tokens live on until they expire',
  ),
  row('scopes that will be sent', requestedScope(config.scope, facts)),
]

/** Some providers support PKCE without saying so; S256 is sent to all of them (RFC 9700 §2.1.1). */
const pkceText = (methods: readonly string[] | undefined): string => {
  if (methods === undefined) return 'not advertised; sent all the same'
  return methods.includes('S256') ? 'supported' : 'unsupported; sent all the same'
}
