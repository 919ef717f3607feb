/**
 * Two gateway processes on one Redis, one provider, one API. Both answer for the same public origin, as behind a
 * balancer; callers choose the replica and carry the session cookie themselves.
 */

import http from 'node:http'
import {
  type DevelopmentProvider,
  type DevelopmentProviderOptions,
  startDevelopmentProvider,
} from '../../src/dev/provider.ts'
import { type Browser, createBrowser } from './browser.ts'
import { sessionCookie } from './cookies.ts'
import { freePort } from './free-port.ts'
import { type GatewayProcess, startGatewayProcess } from './gateway-process.ts'
import { type RedisServer, startRedis } from './redis.ts'
import { signIn } from './sign-in.ts'
import { answerJson, startUpstreamApi, type UpstreamApi } from './upstream-api.ts'
import { clientOf, sidecarEnvironment } from './whole-gateway.ts'

export interface ApiAnswer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
  readonly milliseconds: number
  /** Problem code of a refusal of the gateway. */
  readonly code: string | undefined
}

export interface Replicas {
  readonly publicUrl: string
  readonly provider: DevelopmentProvider
  readonly redis: RedisServer
  readonly api: UpstreamApi
  readonly gateways: readonly GatewayProcess[]
  start(index: number): Promise<void>
  /** `Cookie` header of a new session of alice, by default in a browser of its own. */
  signIn(browser?: Browser): Promise<string>
  call(replica: number, cookie: string, path?: string, method?: string): Promise<ApiAnswer>
  /** Refresh requests that the provider has seen so far. */
  refreshes(): ReturnType<DevelopmentProvider['tokenRequests']>
  close(): Promise<void>
}

export const startReplicas = async (
  options: DevelopmentProviderOptions & {
    /** The same for both, or by index. */
    readonly env?:
      | Readonly<Record<string, string>>
      | ((index: number) => Readonly<Record<string, string>>)
    /** The provider tells the second replica when it signs somebody out. */
    readonly backchannelLogout?: boolean
  } = {},
): Promise<Replicas> => {
  const { env, backchannelLogout, ...providerOptions } = options
  const ports = [await freePort(), await freePort()]
  const publicUrl = `http://localhost:${ports[0]}`
  const redis = await startRedis()
  const provider = await startDevelopmentProvider({
    clients: [
      {
        ...clientOf(publicUrl),
        ...(backchannelLogout === true
          ? { backchannelLogoutUri: `http://localhost:${ports[1]}/bff/backchannel-logout` }
          : {}),
      },
    ],
    accessTokenLifetimeSeconds: 2,
    ...providerOptions,
  })
  const api = await startUpstreamApi({ answer: answerJson({ ok: true }) })
  const gateways: GatewayProcess[] = []
  const agent = new http.Agent({ keepAlive: true, maxSockets: 256 })

  const start = async (index: number) => {
    const port = ports[index]!
    gateways[index] = await startGatewayProcess(
      {
        ...sidecarEnvironment(ports[0]!, provider, api),
        COATCHECK_LISTEN: `127.0.0.1:${port}`,
        COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
        COATCHECK_REDIS_URL: redis.url,
        COATCHECK_DRAIN_DELAY: '0s',
        ...(typeof env === 'function' ? env(index) : env),
      },
      { port },
    )
  }
  await Promise.all(ports.map((_, index) => start(index)))

  return {
    publicUrl,
    provider,
    redis,
    api,
    gateways,
    start,
    signIn: async (browser = createBrowser()) => {
      await signIn(browser, publicUrl)
      const cookie = sessionCookie(browser)
      if (cookie === undefined) throw new Error('sign-in set no session cookie')
      return `${cookie.name}=${cookie.value}`
    },
    call: (replica, cookie, path = '/api/items', method = 'GET') =>
      call(agent, ports[replica]!, cookie, path, method),
    refreshes: () =>
      provider.tokenRequests().filter((request) => request.grantType === 'refresh_token'),
    close: async () => {
      agent.destroy()
      await Promise.all(gateways.map((gateway) => gateway.kill()))
      await Promise.all([provider.close(), api.close(), redis.close()])
    },
  }
}

const CALL_TIMEOUT_MS = 15_000

const call = (
  agent: http.Agent,
  port: number,
  cookie: string,
  path: string,
  method: string,
): Promise<ApiAnswer> =>
  new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const request = http.request(
      {
        agent,
        host: '127.0.0.1',
        port,
        path,
        method,
        headers: { cookie, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
        timeout: CALL_TIMEOUT_MS,
      },
      (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('error', reject)
        response.on('end', () => {
          const isProblem = response.headers['content-type'] === 'application/problem+json'
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body,
            milliseconds: performance.now() - startedAt,
            code: isProblem ? (JSON.parse(body) as { code: string }).code : undefined,
          })
        })
      },
    )
    request.on('timeout', () => request.destroy(new Error(`no answer in ${CALL_TIMEOUT_MS} ms`)))
    request.on('error', reject)
    request.end()
  })
