/** The SPA's servers behind the real listener, as app.ts calls them, without the rest of the gateway. */

import { once } from 'node:events'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Duplex } from 'node:stream'
import { refuseUpgrade, type SpaServer } from '../../../src/edges/http/app.ts'
import { type Exchange, headerOf } from '../../../src/edges/http/exchange.ts'
import { startListener } from '../../../src/edges/http/listener.ts'
import { problemReply } from '../../../src/edges/http/problem.ts'
import { envelope, send } from '../../../src/edges/http/reply.ts'
import { asGatewayError, GatewayError } from '../../../src/errors.ts'
import { isDocumentNavigation } from '../../../src/guard/fetch-metadata.ts'
import { parseTarget, type Target } from '../../../src/routing/path.ts'

export interface SpaRig {
  readonly url: string
  readonly port: number
  /** Faults behind an `internal` answer, and those that no exchange met. */
  readonly faults: unknown[]
  close(): Promise<void>
}

const CONTEXT = {
  requestId: 'request-1',
  isNavigation: false,
  login: '/bff/login',
  expectedOrigin: undefined,
}
const CLIENT = { address: '192.0.2.7', shared: false }

export const startSpaRig = async (spa: SpaServer): Promise<SpaRig> => {
  const faults: unknown[] = []
  const problem = (thrown: unknown) => {
    const error = asGatewayError(thrown)
    if (error.code === 'internal') faults.push(error.cause)
    return problemReply(error, CONTEXT)
  }

  const serve = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    try {
      const exchange: Exchange = {
        req,
        res,
        requestId: CONTEXT.requestId,
        client: CLIENT,
        target: targetOf(req),
        method: req.method ?? '',
        header: (name) => headerOf(req, name),
      }
      if (await spa.serve(exchange, isDocumentNavigation(exchange))) return
      throw new GatewayError('route_not_found')
    } catch (thrown) {
      send(req, res, problem(thrown), envelope()(CONTEXT.requestId))
    }
  }

  const upgrade = async (req: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const { requestId } = CONTEXT
    try {
      await spa.upgrade({
        req,
        rawHeaders: req.rawHeaders,
        socket,
        head,
        requestId,
        client: CLIENT,
        target: targetOf(req),
        method: req.method ?? '',
        header: (name) => headerOf(req, name),
      })
    } catch (thrown) {
      refuseUpgrade(socket, problem(thrown), envelope()(requestId))
    }
  }

  const server = await startListener({
    listener: (req, res) => void serve(req, res),
    upgrade: (req, socket, head) => void upgrade(req, socket, head),
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => faults.push(error),
  })
  const { port } = server.address
  return { url: `http://127.0.0.1:${port}`, port, faults, close: () => server.close() }
}

const targetOf = (req: IncomingMessage): Target => {
  const parsed = parseTarget(req.url ?? '', { encodedSlash: true })
  if (parsed.kind === 'ok') return parsed
  throw new GatewayError('request_invalid', { reason: parsed.reason })
}

export interface RigAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

/** As `fetch`, which would add `Sec-Fetch-Mode: cors` to everything and close the connection after HEAD. */
export const ask = async (
  url: string,
  { method = 'GET', headers = {} }: { method?: string; headers?: Record<string, string> } = {},
): Promise<RigAnswer> => {
  const outgoing = request(url, { method, headers, agent: false })
  outgoing.end()
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += chunk
  const { date: _date, ...rest } = response.headers
  return { status: response.statusCode ?? 0, headers: rest, text }
}

export interface BuildDirectory {
  readonly path: string
  write(name: string, content: string | Buffer): Promise<void>
  link(name: string, target: string): Promise<void>
  remove(): Promise<void>
}

/** A directory of its own inside another, so that something can lie beside it. */
export const buildDirectory = async (
  files: Readonly<Record<string, string | Buffer>> = {},
): Promise<BuildDirectory> => {
  const root = await mkdtemp(join(tmpdir(), 'coatcheck-spa-'))
  const path = join(root, 'build')
  const write = async (name: string, content: string | Buffer) => {
    await mkdir(dirname(join(path, name)), { recursive: true })
    await writeFile(join(path, name), content)
  }
  for (const [name, content] of Object.entries(files)) await write(name, content)
  return {
    path,
    write,
    link: async (name, target) => {
      await mkdir(dirname(join(path, name)), { recursive: true })
      await symlink(target, join(path, name))
    },
    remove: () => rm(root, { recursive: true }),
  }
}
