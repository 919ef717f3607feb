/** A gateway for development: settings that need no file and no secret, the development provider, and first failures explained. */

import { randomBytes } from 'node:crypto'
import { hostPortText, isLoopback } from '../config/addresses.ts'
import type { Config } from '../config/config.ts'
import type { HostPort } from '../config/forms.ts'
import { loadConfig } from '../config/load.ts'
import { ConfigError, type Problem } from '../config/problems.ts'
import type { Reading } from '../config/reading.ts'
import type { Readable } from '../config/rules.ts'
import { variableOf } from '../config/settings.ts'
import { readUsersFile } from '../config/users-file.ts'
import type { Environment } from '../config/variables.ts'
import { isFree } from '../dev/free-port.ts'
import {
  DEVELOPMENT_USERS,
  type DevelopmentProvider,
  isProviderInstalled,
  startDevelopmentProvider,
} from '../dev/provider.ts'
import type { DevelopmentUser } from '../dev/sign-in.ts'
import { ListenError } from '../edges/http/listener.ts'
import { createLogger, type Logger } from '../edges/telemetry/logger.ts'
import { createGateway } from '../gateway.ts'
import { createCallExplainer } from './call-explainer.ts'
import { registration } from './check.ts'
import { askProvider } from './check-answers.ts'
import { AddressUnavailable, addressUnavailable, type Servers, startServers } from './servers.ts'

export interface DevelopmentOptions {
  readonly env: Environment
  readonly cwd: string
  readonly configFile?: string
  /** Variables that count where neither the environment nor the file says otherwise. */
  readonly defaults?: Environment
  /** How the addresses of API and app are set there. */
  readonly apiSetting: string
  readonly appSetting: string
  /** A problem that a call met, or what the developer should know: told once, line by line. */
  readonly say: (lines: readonly string[]) => void
}

export interface Development {
  /** What the developer opens, and what the API must be told, line by line. */
  readonly about: readonly string[]
  /** Ends the gateway, then the provider. */
  close(): Promise<void>
}

export { AddressUnavailable }

/** Carries the words for the developer. */
export class DevelopmentUnavailable extends Error {}

/** The command of `coatcheck dev` has it: a gateway is in front, and the Vite plugin starts no second one. */
export const BEHIND_DEV_VARIABLE = 'BEHIND_COATCHECK_DEV'

/** For a program that is no command: what the process that it runs in has. */
export const environmentHere = (): Pick<DevelopmentOptions, 'env' | 'cwd'> => ({
  env: process.env,
  cwd: process.cwd(),
})

const CLIENT_ID = 'coatcheck-dev'
/** What the access tokens are for, unless `resource` or `audience` names it. */
const RESOURCE = 'urn:coatcheck:dev'
const API_SCOPE = 'api'
/** Long enough to look at a token, short enough to meet refreshes in an afternoon. */
const ACCESS_TOKEN_SECONDS = 300
const OPENID_SCOPES = new Set(['openid', 'profile', 'email', 'offline_access'])

const APP_DEFAULT = 'http://localhost:5173'
const API_DEFAULT = 'http://localhost:4000'

/** What will run, before anything does. */
export interface DevelopmentPlan {
  readonly config: Config
  /** Who can sign in at the development provider; undefined with a provider of the developer's own. */
  readonly users: readonly DevelopmentUser[] | undefined
}

/** Throws ConfigError. */
export const planDevelopment = (options: DevelopmentOptions): DevelopmentPlan => {
  const { env, cwd } = options
  let ownProvider = false
  const { config } = loadConfig({
    env,
    cwd,
    profile: 'dev',
    ...(options.configFile === undefined ? {} : { configFile: options.configFile }),
    defaults: (written) => {
      ownProvider = !written.isSet('issuer')
      return { ...developmentDefaults(written), ...options.defaults }
    },
  })
  if (!ownProvider) return { config, users: undefined }
  if (!isLoopback(new URL(config.publicUrl).hostname)) throw new ConfigError([PUBLIC_URL_ELSEWHERE])
  return { config, users: readUsersFile(config.dev.users, cwd) ?? DEVELOPMENT_USERS }
}

const PUBLIC_URL_ELSEWHERE: Problem = {
  setting: 'publicUrl',
  variable: variableOf('publicUrl'),
  rule: 'must be of this machine, such as http://localhost:3000, for anybody can sign in at the development provider; or set issuer (COATCHECK_ISSUER) to one of your own',
  source: 'dev',
}

/**
 * Throws DevelopmentUnavailable, and AddressUnavailable where an address is taken: never another port, for an API points
 * there. ConfigError where the developer's own provider shows that the settings are wrong.
 */
export const startDevelopment = async (
  { config, users }: DevelopmentPlan,
  options: DevelopmentOptions,
): Promise<Development> => {
  const running: { close(): Promise<void> }[] = []
  const close = async () => {
    // The gateway goes first: it may still have a token to revoke at the provider.
    for (const part of running.splice(0).reverse()) await part.close()
  }
  try {
    await refuseTakenLocalhost(config)
    const own = users === undefined ? undefined : await startProvider(config, users)
    if (own !== undefined) running.push(own.provider)
    else await askOwnProvider(config, options.say)
    running.push(await startGateway(config, own?.provider, options))
    return { about: aboutLines(config, own), close }
  } catch (thrown) {
    await close()
    throw thrown
  }
}

const developmentDefaults = (written: Reading): Environment => {
  const { listen, dev, publicUrl, provider } = written.settings
  const isSet = (...paths: readonly string[]) => paths.some(written.isSet)
  const own = originOf({ host: 'localhost', port: listen?.port ?? 3000 })
  // Another public URL is the app's own server, which sends the gateway its share.
  const appIsBehind = !isSet('publicUrl') || publicUrl === own
  return {
    COATCHECK_PUBLIC_URL: own,
    COATCHECK_LOGGING_LEVEL: 'error',
    // For Safari, which keeps no Secure cookie of http://localhost.
    ...(isPlainLoopback(publicUrl ?? own) && provider?.responseMode !== 'form_post'
      ? { COATCHECK_PLAIN_COOKIES: 'true' }
      : {}),
    // One port less that may be taken.
    ...(isSet('admin.token') ? {} : { COATCHECK_OPERATIONS_LISTEN: 'off' }),
    ...(isSet('routes') ? {} : { COATCHECK_UPSTREAM: API_DEFAULT }),
    ...(appIsBehind && !isSet('spa.directory', 'spa.upstream')
      ? { COATCHECK_SPA: APP_DEFAULT }
      : {}),
    ...(isSet('issuer')
      ? {}
      : {
          COATCHECK_ISSUER: issuerAt(dev?.providerListen),
          COATCHECK_CLIENT_ID: CLIENT_ID,
          COATCHECK_CLIENT_SECRET: randomBytes(32).toString('base64url'),
          COATCHECK_SCOPE: `openid profile email offline_access ${API_SCOPE}`,
        }),
  }
}

const isPlainLoopback = (url: string): boolean => {
  const { protocol, hostname } = new URL(url)
  return protocol === 'http:' && isLoopback(hostname)
}

const originOf = (address: HostPort): string => new URL(`http://${hostPortText(address)}`).origin

/** 127.0.0.1, not localhost: another port of the app's own host would be the same site, and hide what Strict does. */
const issuerAt = ({ host = '127.0.0.1', port = 3100 }: Readable<HostPort> = {}): string =>
  originOf({ host: isLoopback(host) ? host : '127.0.0.1', port })

/** Browsers try ::1 first for `localhost`, and would meet whoever listens there. */
const refuseTakenLocalhost = async ({ publicUrl, listen }: Config): Promise<void> => {
  const { hostname, port } = new URL(publicUrl)
  if (hostname !== 'localhost' || listen.host !== '127.0.0.1' || Number(port) !== listen.port)
    return
  if (await isFree(listen.port, '::1')) return
  throw addressUnavailable('listen', taken({ host: '::1', port: listen.port }))
}

const taken = (address: HostPort): ListenError =>
  new ListenError(address, Object.assign(new Error('taken'), { code: 'EADDRINUSE' }))

interface OwnProvider {
  readonly provider: DevelopmentProvider
  readonly audience: string
  readonly scopes: readonly string[]
  readonly users: readonly DevelopmentUser[]
}

const startProvider = async (
  config: Config,
  users: readonly DevelopmentUser[],
): Promise<OwnProvider> => {
  const { publicUrl, prefix, dev, resource = RESOURCE } = config
  if (!isProviderInstalled())
    throw new DevelopmentUnavailable(
      'coatcheck: the development identity provider is not part of this installation, which may be the container image: run coatcheck dev from the npm package, or set issuer (COATCHECK_ISSUER)',
    )
  const audience = config.audience ?? resource
  const scopes = (config.scope ?? '').split(' ').filter((name) => name && !OPENID_SCOPES.has(name))
  try {
    const provider = await startDevelopmentProvider({
      ...dev.providerListen,
      issuer: config.issuer,
      users,
      resource,
      audience,
      resourceScopes: scopes,
      accessTokenClaims: 'all',
      accessTokenLifetimeSeconds: ACCESS_TOKEN_SECONDS,
      clients: [
        {
          clientId: config.clientId,
          clientSecret: config.clientSecret.current,
          tokenEndpointAuthMethod: config.provider.clientAuthentication,
          redirectUris: [`${publicUrl}${prefix}/callback`],
          postLogoutRedirectUris: [`${publicUrl}${prefix}/logged-out`],
          backchannelLogoutUri: `${publicUrl}${prefix}/backchannel-logout`,
          resource: true,
        },
      ],
    })
    return { provider, audience, scopes, users }
  } catch (thrown) {
    if (!isListenFault(thrown)) throw thrown
    throw addressUnavailable('dev.providerListen', new ListenError(dev.providerListen, thrown))
  }
}

const isListenFault = (thrown: unknown): thrown is NodeJS.ErrnoException =>
  thrown instanceof Error && 'syscall' in thrown && thrown.syscall === 'listen'

/** What it contradicts is a problem of the settings; that it is silent may pass. */
const askOwnProvider = async (config: Config, say: DevelopmentOptions['say']): Promise<void> => {
  const answer = await askProvider(config)
  if (answer.kind === 'contradicts') throw new ConfigError([answer.problem])
  if (answer.kind === 'silent')
    say([
      `The provider ${config.issuer} does not answer (${answer.reason}): ${answer.words}.`,
      'Sign-ins fail until it does; issuer (COATCHECK_ISSUER) names it. Without one coatcheck dev brings a provider of its own.',
    ])
}

const startGateway = async (
  config: Config,
  provider: DevelopmentProvider | undefined,
  { apiSetting, appSetting, say }: DevelopmentOptions,
): Promise<{ close(): Promise<void> }> => {
  const explainer = createCallExplainer({
    app: config.spa?.kind === 'upstream' ? config.spa.origin : undefined,
    apiSetting,
    appSetting,
    stripsPrefix: (origin) =>
      config.routes.some(
        ({ upstream, stripPrefix }) => stripPrefix && new URL(upstream).origin === origin,
      ),
    jwksUri: provider?.jwksUri,
    say,
  })
  const logger = tellingNotices(createLogger({ level: config.logging.level }), say, provider)
  const gateway = createGateway(config, { logger, watchUpstream: explainer.watch })
  let servers: Servers | undefined
  const close = async () => {
    await Promise.all(
      [servers?.open, servers?.plain, servers?.operations].map((server) => server?.close()),
    )
    await gateway.close()
    await logger.flush()
  }
  try {
    servers = await startServers(config, gateway)
    await gateway.ready()
    return { close }
  } catch (thrown) {
    await close()
    throw thrown
  }
}

const SAID_MAX = 100

/** The development provider's tokens are for the API, and open no UserInfo: their ID tokens have all the claims. */
const EXPECTED_OF_OWN_PROVIDER = 'userinfo_unusable'

/** What an operator should change, a developer should know: told once, by its name in docs/events.md, whatever the log's level. */
const tellingNotices = (
  logger: Logger,
  say: DevelopmentOptions['say'],
  provider: DevelopmentProvider | undefined,
): Logger => {
  const said = new Set<string>()
  const tell = (line: string) => {
    if (said.has(line) || said.size >= SAID_MAX) return
    said.add(line)
    say([line])
  }
  const tellNotice = (name: string, detail: string) => {
    if (provider === undefined || name !== EXPECTED_OF_OWN_PROVIDER) tell(`${name}: ${detail}`)
  }
  return {
    emit: (event) => {
      logger.emit(event)
      if (event.type === 'operator_notice') tellNotice(event.notice, event.detail)
      if (event.type === 'login_failed')
        tell(`A sign-in failed: ${event.reason}. COATCHECK_LOGGING_LEVEL=info says more.`)
    },
    notice: (name, detail) => {
      logger.notice(name, detail)
      tellNotice(name, detail)
    },
    flush: logger.flush,
  }
}

const row = (name: string, value: string): string => `  ${name.padEnd(18)}${value}`

const aboutLines = (config: Config, own: OwnProvider | undefined): readonly string[] => [
  row('your app', config.spa?.kind === 'directory' ? config.spa.directory : appText(config)),
  ...config.routes.map(({ path, upstream }) => row(`${path}/…`, upstream)),
  ...(own === undefined ? ofYourProvider(config) : ofOwnProvider(config, own)),
]

const appText = ({ spa, publicUrl }: Config): string =>
  spa?.kind === 'upstream' ? spa.origin : `${publicUrl}, in front of the gateway`

const ofOwnProvider = (config: Config, { provider, audience, scopes, users }: OwnProvider) => [
  row('sign in as', accountsText(users)),
  '',
  'What your API must be told to accept the tokens:',
  row('issuer', provider.issuer),
  row('JWKS URL', provider.jwksUri),
  row('audience', audience),
  row('scopes', scopes.join(' ') || 'none'),
  ...(isLoopback(config.dev.providerListen.host)
    ? []
    : [
        '',
        `Anybody who reaches ${hostPortText(config.dev.providerListen)} can sign in: dev.providerListen (COATCHECK_DEV_PROVIDER_LISTEN) is not an address of this machine alone.`,
      ]),
]

const ACCOUNTS_SHOWN_MAX = 5

const accountsText = (users: readonly DevelopmentUser[]): string =>
  [
    ...users.slice(0, ACCOUNTS_SHOWN_MAX).map(({ login, password }) => `${login} / ${password}`),
    ...(users.length > ACCOUNTS_SHOWN_MAX ? [`${users.length - ACCOUNTS_SHOWN_MAX} more`] : []),
  ].join(', ')

const ofYourProvider = (config: Config) => [
  row('sign in at', config.issuer),
  '',
  'What your API must be told to accept the tokens:',
  row('issuer', config.issuer),
  row('audience', config.audience ?? config.resource ?? 'as the provider sets it'),
  row('scopes', config.scope ?? 'those of the provider'),
  '',
  ...registration(config),
]
