/** `coatcheck sessions`: lists and ends sessions through the admin API of a gateway that runs. */

import type { Config } from '../config/config.ts'
import { loadAdminAccess } from '../config/load.ts'
import {
  CONFIG_OPTIONS,
  configFileOf,
  parseArguments,
  shown,
  UsageError,
  type Values,
} from './arguments.ts'
import { SESSIONS_HELP } from './help.ts'
import { type Command, EXIT, type Io } from './io.ts'

const SELECTING = { subject: { type: 'string' }, sid: { type: 'string' } } as const
const COMMON = { ...CONFIG_OPTIONS, ...SELECTING, issuer: { type: 'string' } } as const
const OPTIONS = {
  list: COMMON,
  end: { ...COMMON, session: { type: 'string' }, all: { type: 'boolean' } },
} as const

/** Ending a million sessions takes its time. */
const ANSWER_MS = 300_000

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

type Ask = (method: 'GET' | 'DELETE', path: string) => Promise<Answer>

export const sessions: Command = async ([action, ...argv], io) => {
  if (action === '--help' || action === '-h') {
    io.out(SESSIONS_HELP)
    return EXIT.ok
  }
  if (action !== 'list' && action !== 'end')
    throw new UsageError('sessions needs one of: list, end', 'sessions')
  const values = parseArguments('sessions', argv, OPTIONS[action])
  if (values.has('help')) {
    io.out(SESSIONS_HELP)
    return EXIT.ok
  }
  const target = targetOf(action, values)
  const { token, listen } = loadAdminAccess({ env: io.env, cwd: io.cwd, ...configFileOf(values) })
  if (token === undefined || listen === 'off') {
    io.err('coatcheck: sessions needs admin.token (COATCHECK_ADMIN_TOKEN) and operations.listen')
    return EXIT.config
  }
  const ask = askAt(operationsUrl(listen), token)
  try {
    return await (action === 'list' ? list(ask, target, io) : end(ask, target, io))
  } catch (thrown) {
    if (!(thrown instanceof TypeError || thrown instanceof DOMException)) throw thrown
    io.err('coatcheck: no answer from operations.listen: is the gateway running there?')
    return EXIT.unavailable
  }
}

/** Path and query of the admin API. Throws UsageError. */
const targetOf = (action: 'list' | 'end', values: Values): URL => {
  const chosen = ['session', 'subject', 'sid', 'all'].filter((name) => values.has(name))
  if (action === 'end' && chosen.length !== 1)
    throw new UsageError('end needs one of: --session, --subject, --sid, --all', 'sessions')
  if (chosen.length > 1) throw new UsageError('list takes one of: --subject, --sid', 'sessions')
  const url = new URL('/admin/sessions', 'http://localhost')
  for (const name of ['subject', 'sid', 'all', 'issuer']) {
    const value = values.get(name)
    if (value !== undefined) url.searchParams.set(name, String(value))
  }
  const session = values.get('session')
  if (session !== undefined) url.pathname += `/${encodeURIComponent(String(session))}`
  return url
}

/** A gateway that listens on all addresses is asked on this machine's own. */
const operationsUrl = ({ host, port }: Exclude<Config['operations']['listen'], 'off'>): string => {
  if (host === '0.0.0.0' || host === '::') return `http://127.0.0.1:${port}`
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}

const askAt =
  (origin: string, token: string): Ask =>
  async (method, path) => {
    const response = await fetch(`${origin}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_MS),
    })
    const body: unknown = await response.json().catch(() => undefined)
    const isObject = typeof body === 'object' && body !== null
    return { status: response.status, body: isObject ? (body as Answer['body']) : {} }
  }

const list = async (ask: Ask, target: URL, io: Io): Promise<number> => {
  for (;;) {
    const answer = await ask('GET', `${target.pathname}${target.search}`)
    if (answer.status !== 200) return refused(answer, io)
    const { sessions: page, next } = answer.body
    for (const session of Array.isArray(page) ? page : []) io.out(lineOf(session))
    if (typeof next !== 'string') return EXIT.ok
    target.searchParams.set('cursor', next)
  }
}

/** One JSON object a line, names whole: they are what `end` takes. What browsers say of themselves must not steer the terminal. */
const lineOf = (session: unknown): string =>
  JSON.stringify(session, (_, value) =>
    typeof value === 'string' ? shown(value, Number.POSITIVE_INFINITY) : value,
  )

const end = async (ask: Ask, target: URL, io: Io): Promise<number> => {
  const answer = await ask('DELETE', `${target.pathname}${target.search}`)
  if (answer.status !== 200) return refused(answer, io)
  const { ended } = answer.body
  io.out(`${ended} ${ended === 1 ? 'session' : 'sessions'} ended`)
  return EXIT.ok
}

const refused = ({ status, body }: Answer, io: Io): number => {
  const code = typeof body.code === 'string' ? shown(body.code) : 'no problem document'
  io.err(`coatcheck: the gateway answered ${status} (${code})`)
  return EXIT.unavailable
}
