/** `coatcheck/vite`: the gateway and its development provider behind Vite's own server, in one line of vite.config. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Plugin, ProxyOptions, UserConfig, ViteDevServer } from 'vite'
import {
  AddressUnavailable,
  BEHIND_DEV_VARIABLE,
  type Development,
  type DevelopmentOptions,
  type DevelopmentPlan,
  DevelopmentUnavailable,
  environmentHere,
  planDevelopment,
  startDevelopment,
} from './cli/development.ts'
import { hostPortText } from './config/addresses.ts'

export interface CoatcheckPluginOptions {
  /** Your API, which gets `/api/…` with an access token; `COATCHECK_UPSTREAM`, else http://localhost:4000. */
  readonly api?: string
}

/**
 * Sends the gateway's own paths and the API's from Vite's server to a gateway that it starts, with a provider to sign in
 * at. Settings come from `COATCHECK_*` variables and `coatcheck.yaml`, as for `coatcheck dev`. For `vite` alone: neither a
 * build nor a preview nor a test run is touched, nor a Vite that `coatcheck dev` has started and is in front of.
 */
export const coatcheck = (options: CoatcheckPluginOptions = {}): Plugin => {
  let planned: Planned | undefined
  return {
    name: 'coatcheck',
    apply: (_config, { command, isPreview }) => {
      const { env } = environmentHere()
      const isElsewhere = env.VITEST !== undefined || env[BEHIND_DEV_VARIABLE] !== undefined
      return command === 'serve' && isPreview !== true && !isElsewhere
    },
    config: (config) => {
      planned = planFor(config, options)
      return {
        server: {
          // The provider and the gateway know the app under this port: another one would not do.
          port: portOf(config),
          strictPort: true,
          proxy: proxyTo(planned.plan),
        },
      }
    },
    configureServer: async (server) => {
      if (planned === undefined) return
      const fault = await attach(server, planned)
      if (fault !== undefined) refuseBecause(fault, server, planned.plan)
    },
  }
}

const VITE_PORT = 5173

const portOf = ({ server }: UserConfig): number => server?.port ?? VITE_PORT

interface Planned {
  readonly plan: DevelopmentPlan
  readonly options: DevelopmentOptions
  /** What the running gateway says goes to the terminal of the latest server. */
  say: DevelopmentOptions['say']
}

const planFor = (config: UserConfig, { api }: CoatcheckPluginOptions): Planned => {
  const { env, cwd } = environmentHere()
  const scheme = config.server?.https === undefined ? 'http' : 'https'
  const planned: Omit<Planned, 'plan'> & { say: DevelopmentOptions['say'] } = {
    say: () => undefined,
    options: {
      env: { ...env, ...(api === undefined ? {} : { COATCHECK_UPSTREAM: api }) },
      cwd: config.root ?? cwd,
      defaults: {
        COATCHECK_PUBLIC_URL: `${scheme}://localhost:${portOf(config)}`,
        // Vite has the app.
        COATCHECK_SPA: '',
      },
      apiSetting: 'coatcheck({ api }) in vite.config (or COATCHECK_UPSTREAM)',
      appSetting: 'COATCHECK_SPA',
      say: (lines) => planned.say(lines),
    },
  }
  return Object.assign(planned, { plan: planDevelopment(planned.options) })
}

const pathsOf = ({ config }: DevelopmentPlan): readonly string[] => [
  config.prefix,
  ...config.routes.map(({ path }) => path),
]

/** Whole segments, as routes match: `/api` must not take the module `/api-client.ts` with it. */
const patternOf = (path: string): string =>
  path === '/' ? '^/' : `^${path.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?:[/?]|$)`

const proxyTo = (plan: DevelopmentPlan): Record<string, ProxyOptions> => {
  const { listen } = plan.config
  const target = `http://${hostPortText(listen)}`
  const proxy: ProxyOptions = {
    target,
    ws: true,
    // The gateway compares what the browser says with the app's own origin.
    changeOrigin: false,
    configure: (server) =>
      server.on('error', (cause, req, res) => {
        const words = `The gateway at ${target} does not answer (${codeOf(cause)}). Restart Vite to start it again.`
        if ('writeHead' in res && !res.headersSent) answer(req, res, words)
      }),
  }
  return Object.fromEntries(pathsOf(plan).map((path) => [patternOf(path), proxy]))
}

const codeOf = (cause: Error): string => ('code' in cause ? String(cause.code) : cause.name)

/** Words for people who open it, a problem document for code (RFC 9457 §4.2.1). */
const answer = (req: IncomingMessage, res: ServerResponse, detail: string): void => {
  const forPeople = req.headers.accept?.includes('text/html') === true
  res.writeHead(502, {
    'content-type': forPeople ? 'text/plain; charset=utf-8' : 'application/problem+json',
    'cache-control': 'no-store',
  })
  res.end(
    forPeople
      ? `${detail}\n`
      : JSON.stringify({ type: 'about:blank', title: 'Bad Gateway', status: 502, detail }),
  )
}

/** Whoever listens at the gateway's address is not ours: nothing may reach them. */
const refuseBecause = (fault: string, server: ViteDevServer, plan: DevelopmentPlan): void => {
  server.config.logger.error(fault)
  const patterns = pathsOf(plan).map((path) => new RegExp(patternOf(path)))
  server.middlewares.use((req, res, next) => {
    if (!patterns.some((pattern) => pattern.test(req.url ?? ''))) return next()
    answer(req, res, `The gateway is not there. ${fault}`)
  })
}

interface Running {
  readonly settings: string
  readonly planned: Planned
  readonly development: Promise<Development>
  /** Vite's servers that use it: a restart makes the new one before it closes the old. */
  readonly servers: Set<ViteDevServer>
}

/** One gateway for all restarts of Vite: sessions outlive an edit of vite.config. */
let running: Running | undefined

/** Says why there is no gateway, if there is none. */
const attach = async (server: ViteDevServer, planned: Planned): Promise<string | undefined> => {
  const current = await runningFor(planned)
  current.servers.add(server)
  server.httpServer?.once('close', () => void detach(current, server))
  const { logger } = server.config
  current.planned.say = ([first = '', ...rest]) =>
    logger.warn([`coatcheck: ${first}`, ...rest].join('\n  '), { timestamp: true })
  try {
    const { about } = await current.development
    const { printUrls } = server
    server.printUrls = () => {
      printUrls()
      const { publicUrl } = planned.plan.config
      logger.info(['', `Coatcheck: open ${publicUrl}`, ...about, ''].join('\n'))
    }
    return undefined
  } catch (thrown) {
    await detach(current, server)
    const isTold = thrown instanceof AddressUnavailable || thrown instanceof DevelopmentUnavailable
    if (!isTold) throw thrown
    return thrown.message
  }
}

const runningFor = async (planned: Planned): Promise<Running> => {
  const settings = settingsText(planned.plan)
  if (running?.settings === settings) return running
  const former = running
  running = undefined
  await end(former)
  running = {
    settings,
    planned,
    development: startDevelopment(planned.plan, planned.options),
    servers: new Set(),
  }
  return running
}

const detach = async (current: Running, server: ViteDevServer): Promise<void> => {
  current.servers.delete(server)
  if (current.servers.size > 0) return
  if (running === current) running = undefined
  await end(current)
}

const end = async (former: Running | undefined): Promise<void> => {
  const development = await former?.development.catch(() => undefined)
  await development?.close()
}

/** All that makes one gateway another; the secret of its client is invented anew each time. */
const settingsText = ({ config, users }: DevelopmentPlan): string =>
  JSON.stringify([config, users], (key, value: unknown) =>
    key === 'clientSecret' ? undefined : value,
  )
