/**
 * The whole gateway in this process, with a real OpenID provider, an upstream that records, and real sockets. The
 * provider lives on 127.0.0.1 and the gateway on localhost, so that they are two sites as in real life.
 */

import { loadConfig } from '../../src/config/load.ts'
import {
  type DevelopmentProvider,
  type DevelopmentProviderOptions,
  startDevelopmentProvider,
} from '../../src/dev/provider.ts'
import { type ListenerLimits, startListener } from '../../src/edges/http/listener.ts'
import { createLogger } from '../../src/edges/telemetry/logger.ts'
import { createGateway, type Gateway } from '../../src/gateway.ts'
import { type Browser, createBrowser } from './browser.ts'
import { writeConfig } from './config-file.ts'
import { freePort } from './free-port.ts'
import { signIn } from './sign-in.ts'
import { answerJson, startUpstreamApi, type UpstreamApi } from './upstream-api.ts'

export const CLIENT_ID = 'spa'
export const CLIENT_SECRET = 'spa-client-secret-of-32-characters-or-more'
export const RESOURCE = 'urn:coatcheck:demo-api'
export const RING_SECRET = 'a-test-ring-secret-of-more-than-32-characters'

export interface WholeGatewayOptions {
  readonly provider?: DevelopmentProviderOptions
  /** Further variables; undefined removes a default. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Settings of a file, for what variables cannot say. */
  readonly file?: (origins: { readonly api: string }) => object
  /** Of the listener, for what no setting makes short enough to wait for. */
  readonly limits?: Partial<ListenerLimits>
  /** How the client differs from the usual one. */
  readonly client?: { readonly resource?: boolean }
}

export interface WholeGateway {
  /** Public origin. */
  readonly url: string
  readonly port: number
  readonly provider: DevelopmentProvider
  readonly api: UpstreamApi
  readonly gateway: Gateway
  /** Every log line so far, parsed. */
  readonly log: readonly Readonly<Record<string, unknown>>[]
  /** The same lines as they were written. */
  readonly logText: () => string
  /** Reads the files of `_FILE` variables again, as happens every 10 s in a process. */
  reread(): void
  browser(): Browser
  /** A browser on the application's page, signed in as alice. */
  signedIn(login?: string): Promise<Browser>
  close(): Promise<void>
}

/** The variables of the smallest sidecar, for a gateway process or one in here. */
export const sidecarEnvironment = (
  port: number,
  provider: Pick<DevelopmentProvider, 'issuer'>,
  api: Pick<UpstreamApi, 'url'>,
): Record<string, string> => ({
  COATCHECK_PUBLIC_URL: `http://localhost:${port}`,
  COATCHECK_LISTEN: `127.0.0.1:${port}`,
  COATCHECK_OPERATIONS_LISTEN: 'off',
  COATCHECK_ISSUER: provider.issuer,
  COATCHECK_CLIENT_ID: CLIENT_ID,
  COATCHECK_CLIENT_SECRET: CLIENT_SECRET,
  COATCHECK_RESOURCE: RESOURCE,
  COATCHECK_UPSTREAM: api.url,
  COATCHECK_SECRET: RING_SECRET,
})

/** The client as it must be registered for a gateway under this public URL. */
export const clientOf = (publicUrl: string, prefix = '/bff') => ({
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  redirectUris: [`${publicUrl}${prefix}/callback`],
  postLogoutRedirectUris: [`${publicUrl}${prefix}/logged-out`],
  resource: true,
})

export const startWholeGateway = async (
  options: WholeGatewayOptions = {},
): Promise<WholeGateway> => {
  const port = await freePort()
  const url = `http://localhost:${port}`
  const prefix = options.env?.COATCHECK_PREFIX ?? '/bff'
  const provider = await startDevelopmentProvider({
    clients: [{ ...clientOf(url, prefix), ...options.client }],
    ...options.provider,
  })
  const api = await startUpstreamApi({ answer: answerJson({ ok: true }) })
  const file = options.file && (await writeConfig(options.file({ api: api.url })))
  const { config, followedFiles } = loadConfig({
    env: definedOnly({ ...sidecarEnvironment(port, provider, api), ...options.env }),
    cwd: import.meta.dirname,
    ...(file === undefined ? {} : { configFile: file.path }),
  })
  await file?.remove()
  const lines: string[] = []
  const logger = createLogger({
    level: 'debug',
    destination: { write: (line: string) => void lines.push(line) },
  })
  const gateway = createGateway(config, { logger })
  const { identity, minVersion, plainListen } = config.tls
  const listening = await startListener({
    listener: gateway.listener,
    upgrade: gateway.upgrade,
    limits: { ...gateway.limits, ...options.limits },
    address: { host: '127.0.0.1', port },
    onError: gateway.onError,
    onRefused: gateway.onRefused,
    ...(identity === undefined ? {} : { tls: { identity, minVersion } }),
  })
  const plain =
    plainListen &&
    (await startListener({ ...gateway.plain, address: plainListen, onError: gateway.onError }))
  await gateway.ready()

  const browser = () => createBrowser()
  return {
    url,
    port,
    provider,
    api,
    gateway,
    get log() {
      return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
    },
    logText: () => lines.join(''),
    reread: () => {
      for (const followed of followedFiles) followed.check()
    },
    browser,
    signedIn: async (login = 'alice') => {
      const signedInBrowser = browser()
      await signIn(signedInBrowser, url, { login, password: login })
      return signedInBrowser
    },
    close: async () => {
      await Promise.all([listening.close(), plain?.close()])
      await gateway.close()
      await Promise.all([provider.close(), api.close()])
    },
  }
}

const definedOnly = (
  variables: Readonly<Record<string, string | undefined>>,
): Record<string, string> =>
  Object.fromEntries(
    Object.entries(variables).filter((entry): entry is [string, string] => entry[1] !== undefined),
  )
