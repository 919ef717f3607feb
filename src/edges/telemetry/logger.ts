/** The audit log: one JSON line per event, at the level its kind of event has; nothing in it is worth stealing. */

import { pino, stdTimeFunctions } from 'pino'
import { ERRORS, type LogLevel } from '../../errors.ts'
import type { Emit, GatewayEvent } from '../../events.ts'
import { createLineWriter, type LineWriter } from './line-writer.ts'
import { causeChain, plainText } from './safe-text.ts'

export interface LoggerOptions {
  readonly level: LogLevel
  /** Standard output where absent. */
  readonly destination?: Pick<LineWriter, 'write'>
}

export interface Logger {
  readonly emit: Emit
  /** An `operator_notice`. The same words are written once. */
  readonly notice: (notice: string, detail: string) => void
  /** Call it before `process.exit`: resolves when all lines are written, within a second in any case. */
  readonly flush: () => Promise<void>
}

const STDOUT = 1
const FLUSH_MS = 1_000
/** `detail` can depend on requests, so the memory of what was said is bounded for each notice by itself. */
const DETAILS_PER_NOTICE_MAX = 100

export const createLogger = (options: LoggerOptions): Logger => {
  const standardOutput = createLineWriter(STDOUT)
  const log = pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    options.destination ?? standardOutput,
  )

  const emit: Emit = (event) => {
    const level = levelOf(event)
    if (log.isLevelEnabled(level)) log[level](lineOf(event))
  }

  const noticed = new Map<string, Set<string>>()
  const notice = (name: string, detail: string): void => {
    const details = noticed.get(name) ?? new Set()
    if (details.has(detail) || details.size >= DETAILS_PER_NOTICE_MAX) return
    noticed.set(name, details.add(detail))
    emit({ type: 'operator_notice', notice: name, detail })
  }

  return { emit, notice, flush: () => standardOutput.flush(FLUSH_MS) }
}

const levelOf = (event: GatewayEvent): LogLevel => {
  switch (event.type) {
    case 'request_refused':
      return ERRORS[event.code].log
    // Anybody can cause it by opening a URL.
    case 'login_started':
    // As many as requests may be.
    case 'web_socket_opened':
    case 'web_socket_closed':
    // Each session once, and all of them at the same change of secrets: the metric says how many.
    case 'seal_renewed':
      return 'debug'
    case 'scope_requested':
    case 'login_succeeded':
    case 'login_restarted':
    case 'session_ended':
    case 'logout_received':
    case 'sessions_administered':
    case 'key_ring_changed':
      return 'info'
    case 'login_failed':
    case 'sign_in_refused':
    case 'answer_cut':
    case 'operator_notice':
      return 'warn'
    case 'store_reasserted':
      return event.lost > 0 ? 'warn' : 'info'
    case 'token_refreshed':
      return REFRESH_LEVELS[event.outcome]
    case 'token_revocation':
      return event.outcome === 'failed' ? 'warn' : 'info'
  }
}

const REFRESH_LEVELS = {
  refreshed: 'info',
  // Somebody else refreshed, and that event tells it.
  superseded: 'debug',
  rejected: 'warn',
  unavailable: 'warn',
} as const satisfies Record<string, LogLevel>

/** Every member of the event, `type` as `event`: text made plain, causes reduced. */
const lineOf = (event: GatewayEvent): Record<string, unknown> => {
  const line: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(event)) {
    if (name === 'type') line.event = value
    else if (name !== 'cause') line[name] = typeof value === 'string' ? plainText(value) : value
  }
  if (event.type === 'request_refused' && event.cause !== undefined) {
    const isOwnFault = event.code === 'internal'
    line.cause = causeChain(event.cause, isOwnFault ? 'facts_and_frames' : 'facts')
  }
  return line
}
