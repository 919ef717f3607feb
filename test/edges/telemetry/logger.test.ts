import { describe, expect, it } from 'vitest'
import { createLogger } from '../../../src/edges/telemetry/logger.ts'
import { ERRORS, type ErrorCode, GatewayError, type LogLevel } from '../../../src/errors.ts'
import type { GatewayEvent } from '../../../src/events.ts'

const logTo = (level: LogLevel = 'debug') => {
  const lines: string[] = []
  const logger = createLogger({ level, destination: { write: (line) => void lines.push(line) } })
  return {
    logger,
    lines,
    only: () => {
      expect(lines).toHaveLength(1)
      return JSON.parse(lines[0] as string) as Record<string, unknown>
    },
  }
}

const refusal = (event: Partial<GatewayEvent & { type: 'request_refused' }>): GatewayEvent => ({
  type: 'request_refused',
  requestId: 'request-1',
  code: 'upstream_unreachable',
  ...event,
})

describe('one line per event', () => {
  const EVENTS: readonly (readonly [GatewayEvent, LogLevel])[] = [
    [{ type: 'login_started', requestId: 'r' }, 'debug'],
    [
      { type: 'login_succeeded', requestId: 'r', session: 'abcdefghijkl', user: 'mnopqrstuvwx' },
      'info',
    ],
    [{ type: 'login_failed', requestId: 'r', reason: 'nonce_mismatch' }, 'warn'],
    [{ type: 'login_restarted', requestId: 'r', reason: 'no_transaction' }, 'info'],
    [{ type: 'sign_in_refused', requestId: 'r', reason: 'requirements' }, 'warn'],
    [{ type: 'session_ended', session: 'abcdefghijkl', reason: 'idle' }, 'info'],
    [{ type: 'token_refreshed', session: 's', outcome: 'refreshed', durationMs: 12 }, 'info'],
    [{ type: 'token_refreshed', session: 's', outcome: 'superseded', durationMs: 1 }, 'debug'],
    [
      { type: 'token_refreshed', session: 's', outcome: 'rejected', reason: 'x', durationMs: 1 },
      'warn',
    ],
    [
      { type: 'token_refreshed', session: 's', outcome: 'unavailable', reason: 'x', durationMs: 1 },
      'warn',
    ],
    [{ type: 'token_revocation', session: 's', outcome: 'revoked' }, 'info'],
    [{ type: 'token_revocation', session: 's', outcome: 'failed' }, 'warn'],
    [{ type: 'key_ring_changed', seals: 1, opens: [1, 2] }, 'info'],
    [{ type: 'seal_renewed', session: 's', of: 'ticket' }, 'debug'],
    [{ type: 'operator_notice', notice: 'n', detail: 'd' }, 'warn'],
    [{ type: 'store_reasserted', written: 5, lost: 0, lostEnds: 0, durationMs: 1 }, 'info'],
    [{ type: 'store_reasserted', written: 5, lost: 2, lostEnds: 1, durationMs: 1 }, 'warn'],
  ]

  it.each(EVENTS)('%j is written at level %s with all its members', (event, level) => {
    const log = logTo()
    log.logger.emit(event)
    const { type, ...members } = event
    expect(log.only()).toEqual({ level, time: expect.any(String), event: type, ...members })
    expect(log.lines[0]?.endsWith('}\n')).toBe(true)
  })

  it.each(Object.keys(ERRORS) as ErrorCode[])('a refusal %s has the level of its code', (code) => {
    const log = logTo()
    log.logger.emit(refusal({ code, reason: 'some_reason', note: 'what happened' }))
    expect(log.only()).toMatchObject({
      level: ERRORS[code].log,
      event: 'request_refused',
      requestId: 'request-1',
      code,
      reason: 'some_reason',
      note: 'what happened',
    })
  })

  it('what is below the level is not written', () => {
    const log = logTo('warn')
    log.logger.emit({ type: 'login_succeeded', requestId: 'r', session: 's', user: 'u' })
    expect(log.lines).toEqual([])
    log.logger.emit({ type: 'sign_in_refused', requestId: 'r', reason: 'requirements' })
    expect(log.lines).toHaveLength(1)
  })

  it('the time is RFC 3339 in UTC', () => {
    const log = logTo()
    log.logger.notice('n', 'd')
    expect(log.only().time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  })
})

describe('notices', () => {
  it('the same words are written once, other words again', () => {
    const log = logTo()
    for (const detail of ['a', 'a', 'b', 'a']) log.logger.notice('issuer', detail)
    expect(log.lines.map((line) => (JSON.parse(line) as { detail: string }).detail)).toEqual([
      'a',
      'b',
    ])
  })

  it('a flood of one notice is bounded and silences no other', () => {
    const log = logTo()
    for (let i = 0; i < 1_000; i += 1) log.logger.notice('origin', `origin ${i}`)
    expect(log.lines).toHaveLength(100)
    log.logger.notice('issuer', 'still heard')
    expect(log.lines).toHaveLength(101)
  })
})

describe('nothing in it is worth stealing', () => {
  const CANARY = 'canary-eyJhbGciOiJSUzI1NiJ9'

  /** As libraries build their errors: the secret in the message, in fields, in causes of other kinds. */
  const leakingErrors = (): readonly (readonly [string, unknown])[] => {
    const withFields = Object.assign(new Error(`token ${CANARY} refused`), {
      code: CANARY,
      error: CANARY,
      error_description: CANARY,
      body: { refresh_token: CANARY },
      address: CANARY,
      syscall: CANARY,
      response: new Response(CANARY, { headers: { 'set-cookie': CANARY } }),
    })
    const named = new Error('x')
    named.name = CANARY
    const laterMessage = new Error(`a\n    at ${CANARY} (file:1:1)`)
    // Reading it once is what fixes the old message in it.
    expect(laterMessage.stack).toContain(CANARY)
    laterMessage.message = 'changed'
    return [
      ['a message', new Error(CANARY)],
      ['a message of several lines', new Error(`a\n    at ${CANARY} (file:1:1)\nb`)],
      ['fields', withFields],
      ['a name', named],
      ['a message that was changed', laterMessage],
      ['a cause', new Error('outer', { cause: new TypeError(CANARY) })],
      ['a string', CANARY],
      ['an object', { token: CANARY }],
      ['parameters as a cause', new Error('x', { cause: new URLSearchParams({ code: CANARY }) })],
      ['a response as a cause', new Error('x', { cause: new Response(CANARY) })],
      ['a GatewayError around it', new GatewayError('internal', { cause: new Error(CANARY) })],
      ['several errors', new AggregateError([new Error(CANARY)], CANARY)],
    ]
  }

  it.each(leakingErrors())('a cause with a secret in %s', (_, cause) => {
    for (const code of ['internal', 'upstream_unreachable'] as const) {
      const log = logTo()
      log.logger.emit(refusal({ code, cause }))
      expect(log.only().cause).toBeInstanceOf(Array)
      expect(log.lines[0]).not.toContain('canary')
      expect(log.lines[0]).not.toContain('eyJ')
    }
  })

  it('words from fixed sets and numbers remain', () => {
    const log = logTo()
    const refused = Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:4000'), {
      code: 'ECONNREFUSED',
      syscall: 'connect',
      address: '127.0.0.1',
      port: 4000,
    })
    const cause = new TypeError('fetch failed', { cause: refused })
    log.logger.emit(refusal({ cause: new GatewayError('upstream_unreachable', { cause }) }))
    expect(log.only().cause).toEqual([
      { name: 'GatewayError', code: 'upstream_unreachable' },
      { name: 'TypeError' },
      {
        name: 'Error',
        code: 'ECONNREFUSED',
        syscall: 'connect',
        address: '127.0.0.1',
        port: 4000,
      },
    ])
  })

  it('an OAuth error code and a failed claim remain', () => {
    const log = logTo()
    const cause = Object.assign(new Error('x'), {
      error: 'invalid_client',
      status: 401,
      claim: 'aud',
    })
    log.logger.emit(refusal({ cause }))
    expect(log.only().cause).toEqual([
      { name: 'Error', error: 'invalid_client', claim: 'aud', status: 401 },
    ])
  })

  it('a fault of the gateway itself says where it was thrown', () => {
    const log = logTo()
    log.logger.emit(refusal({ code: 'internal', cause: new TypeError('x') }))
    const [{ frames = [] } = {}] = log.only().cause as { frames?: string[] }[]
    expect(frames[0]).toContain('logger.test.ts')
    expect(frames.length).toBeLessThanOrEqual(8)
  })

  it('a circle of causes ends', () => {
    const log = logTo()
    const first = new Error('a')
    first.cause = new Error('b', { cause: first })
    log.logger.emit(refusal({ cause: first }))
    expect(log.only().cause).toHaveLength(5)
  })

  it('values as long as tokens are masked wherever they stand', () => {
    const log = logTo()
    const secret = 'A1'.repeat(22)
    log.logger.emit(refusal({ note: `origin https://${secret}.example`, reason: secret }))
    log.logger.notice('n', `seen ${secret}`)
    expect(log.lines.join('')).not.toContain(secret)
    expect(log.lines.join('').match(/\[masked\]/g)).toHaveLength(3)
  })

  it('a request id in UUID form stays whole', () => {
    const log = logTo()
    const requestId = '0f8fad5b-d9cb-469f-a165-70867728950e'
    log.logger.emit(refusal({ requestId }))
    expect(log.only().requestId).toBe(requestId)
  })
})

describe('a line cannot be forged', () => {
  it.each([
    ['CR and LF', 'a\r\n{"level":"info"}'],
    ['ESC', 'a\u001b[2Kb'],
    ['8-bit CSI', 'a\u009b2Kb'],
    ['NEL and the line separators', 'a\u0085b\u2028c\u2029d'],
    ['direction overrides', 'a\u202eb\u2066c'],
    ['DEL', 'a\u007fb'],
  ])('by %s', (_, text) => {
    const log = logTo()
    log.logger.emit(refusal({ note: text, reason: text, requestId: text }))
    log.logger.notice(text, text)
    for (const line of log.lines) {
      expect(line).toMatch(
        /^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]*\n$/,
      )
    }
  })

  it('nor made endless', () => {
    const log = logTo()
    log.logger.emit(refusal({ note: 'word '.repeat(100_000) }))
    expect(log.lines[0]?.length).toBeLessThan(1_000)
  })
})
