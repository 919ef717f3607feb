/** docs/timers.md: its numbers are the settings' defaults and the source's constants, and no setting of a time is left out. */

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { SETTING_BY_PATH, SETTINGS } from '../../src/config/settings.ts'
import { DUE_BEFORE_MAX_MS } from '../../src/credential/freshness.ts'
import { refreshTimes } from '../../src/credential/refresh.ts'
import { RENEW_PAUSE_MAX_MS } from '../../src/credential/refresh-lease.ts'
import { LISTENER_LIMITS } from '../../src/edges/http/listener.ts'
import { SIGN_IN_CLOCK_TOLERANCE_SECONDS } from '../../src/edges/openid-client/id-token.ts'
import { RECONNECT_MAX_MS } from '../../src/edges/redis/client.ts'
import { PROOF_MS } from '../../src/edges/redis/tracker.ts'
import { TRANSACTION_SECONDS } from '../../src/login/transaction.ts'
import { SETTLING_MS } from '../../src/session/key-ring-rotation.ts'
import * as store from '../../src/session/session-store.ts'
import { seconds } from '../../src/time.ts'
import { tableRows } from './markdown.ts'

const text = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
const page = text('docs/timers.md')
const rows = tableRows(page, 'timer').filter(([name = '']) => !name.startsWith('**'))

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}
const toMs = (written: string): number => {
  const [, count, unit = ''] = /^(\d+)(ms|s|m|h|d)$/.exec(written) ?? []
  return Number(count) * (UNITS[unit] ?? Number.NaN)
}

/** A number of a file that keeps it to itself: what stands behind `=`, a product at most. */
const constant = (file: string, name: string): number => {
  const [, written] =
    new RegExp(`const ${name}\\b[^=]*= (?:\\w+\\()*([\\d_ *]+)`).exec(text(`src/${file}`)) ?? []
  if (written === undefined) throw new Error(`${file} has no ${name}`)
  return written
    .replaceAll('_', '')
    .split('*')
    .reduce((product, factor) => product * Number(factor), 1)
}

const refresh = refreshTimes(seconds(5))

/** Milliseconds of what no setting moves. */
const FIXED: Readonly<Record<string, number>> = {
  'activity is written down': Number(
    /Math\.min\((\d+_\d+), idle/.exec(text('src/session/session.ts'))?.[1]?.replace('_', ''),
  ),
  '`expiring` before an end': constant('session/coming-ends.ts', 'AHEAD_MAX_MS'),
  'reason of an ended session': store.TOMBSTONE_LIFE_MS,
  'lifetime where the provider says none':
    1_000 * constant('edges/openid-client/token-answer.ts', 'ASSUMED_LIFETIME_SECONDS'),
  'lifetime in `coatcheck dev`': 1_000 * constant('cli/development.ts', 'ACCESS_TOKEN_SECONDS'),
  'answer of the session endpoint': constant('client/shared-session.ts', 'ANSWER_MS'),
  'next try where the session is unavailable':
    1_000 * constant('client/shared-session.ts', 'RETRY_SECONDS'),
  'session is asked for where no stream tells':
    1_000 * constant('client/shared-session.ts', 'POLL_SECONDS'),
  'longest `Retry-After` that a call waits for':
    1_000 * constant('client/calls.ts', 'WAIT_SECONDS_MAX'),
  'next sign-in that begins by itself': constant('client/client.ts', 'SIGN_IN_AGAIN_MS'),
  'refresh margin': DUE_BEFORE_MAX_MS,
  'no longer sent': Number(
    /Math\.min\((5_000), lifeMs/.exec(text('src/credential/freshness.ts'))?.[1]?.replace('_', ''),
  ),
  'a call waits for a refresh': refresh.requestWait,
  "refresh forced by an API's `invalid_token`": constant('credential/refresh.ts', 'FORCE_EVERY_MS'),
  lease: refresh.lease,
  'lease is renewed': RENEW_PAUSE_MAX_MS,
  'attempt is given up': refresh.giveUp,
  'unwritten result is kept': refresh.rewrite,
  transaction: 1_000 * TRANSACTION_SECONDS,
  'sign-in clock tolerance': 1_000 * SIGN_IN_CLOCK_TOLERANCE_SECONDS,
  '/bff/logout/continue': 1_000 * constant('logout/logout.ts', 'CONTINUE_SECONDS'),
  'logout cookie': 1_000 * constant('logout/logout.ts', 'LOGOUT_COOKIE_SECONDS'),
  'ends on other replicas': constant('session/session-watch.ts', 'TURN_MS'),
  'sign-in under way when the provider signs out': store.ENDED_BEFORE_LIFE_MS,
  'revocation at the provider': constant(
    'edges/openid-client/provider.ts',
    'REVOCATION_WAIT_MAX_MS',
  ),
  'pause after failures, first': constant('credential/provider-slots.ts', 'BACKOFF_FIRST_MS'),
  'pause after failures, longest': constant('credential/provider-slots.ts', 'BACKOFF_MAX_MS'),
  'longest `Retry-After` believed': constant('credential/provider-slots.ts', 'RETRY_AFTER_MAX_MS'),
  'pause after `invalid_client`': constant('credential/refresh.ts', 'MISCONFIGURED_PAUSE_MS'),
  'metadata is asked again': constant('edges/openid-client/provider.ts', 'METADATA_FRESH_MS'),
  'signing keys are asked again': constant('edges/openid-client/provider.ts', 'KEYS_FRESH_MS'),
  'metadata and keys outlive an outage': constant('edges/openid-client/provider.ts', 'KEPT_MS'),
  'keep-alive to the API': constant('edges/upstream/dispatcher.ts', 'KEEP_ALIVE_MS'),
  'a route stops forcing refreshes': constant('credential/rejection-watch.ts', 'PAUSE_MS'),
  'heartbeat of `/bff/events`': constant('edges/http/event-streams.ts', 'HEARTBEAT_MS'),
  '`EventSource` comes back, at least': constant('edges/http/event-streams.ts', 'RETRY_MIN_MS'),
  'WebSocket close is answered': constant('edges/upstream/splice.ts', 'WIND_DOWN_MS'),
  "WebSocket's last messages": constant('edges/upstream/splice.ts', 'LAST_WORDS_MS'),
  'head of a request': LISTENER_LIMITS.headMs,
  'keep-alive': LISTENER_LIMITS.keepAliveMs,
  'body to a `/bff` endpoint': constant('edges/http/endpoints.ts', 'BODY_MS'),
  'body behind an answer': LISTENER_LIMITS.unreadBodyMs,
  'silent TCP connection is probed': constant('edges/http/listener.ts', 'TCP_PROBE_AFTER_MS'),
  'window of the limits by address': constant('guard/admission.ts', 'WINDOW_MS'),
  'reconnect pause, longest': RECONNECT_MAX_MS,
  'settling after a reconnect':
    constant('credential/refresh-lease.ts', 'REWRITE_PAUSE_MAX_MS') + RECONNECT_MAX_MS,
  'session is served from memory': constant('session/session-cache.ts', 'ENTRY_LIFE_MS'),
  'changes are proven to be told': PROOF_MS,
  'writes that a failover lost are made again': constant('edges/redis/journal.ts', 'KEPT_MS'),
  'record outlives its session': store.RECORD_GRACE_MS,
  'secret files are read again': 1_000 * constant('config/watched.ts', 'PERIOD'),
  'new first secret begins to seal': SETTLING_MS,
  'Strict-Transport-Security':
    1_000 * Number(/max-age=(\d+)/.exec(text('src/upstream/response-headers.ts'))?.[1]),
}

/** What a setting's default is, as the page has to write it. */
const writtenDefault = (setting: { default?: unknown; defaultInWords?: string }) =>
  setting.default ?? /^`(\w+)`/.exec(setting.defaultInWords ?? '')?.[1]

const settingsIn = (setBy: string) =>
  (setBy.match(/[\w[\].]+/g) ?? []).filter((word) => SETTING_BY_PATH.has(word))

describe.each(rows)('%s', (name = '', byDefault = '', setBy = '') => {
  const [path = ''] = settingsIn(setBy)
  const setting = SETTING_BY_PATH.get(path)
  test('is what the code says', () => {
    if (name in FIXED) expect(toMs(byDefault)).toBe(FIXED[name])
    else if (/^provider( |$)/.test(setBy)) expect(byDefault).toBe('as it says')
    else if (name === 'cookie')
      expect(SETTING_BY_PATH.get('session.persistent')?.default).toBe(false)
    else
      expect({ path, byDefault }).toEqual({ path, byDefault: setting && writtenDefault(setting) })
  })
})

test('every timer of the code that is held here has a row', () => {
  const names = rows.map(([name = '']) => name)
  expect(Object.keys(FIXED).filter((name) => !names.includes(name))).toEqual([])
  expect(new Set(names.map((name) => name.toLowerCase())).size).toBeGreaterThan(55)
})

test('every setting that is a time is in the table', () => {
  const named = new Set(rows.flatMap(([, , setBy = '']) => settingsIn(setBy)))
  const times = SETTINGS.filter(({ form }) => form.written.startsWith('duration'))
  expect(times.length).toBeGreaterThan(15)
  expect(times.filter(({ path }) => !named.has(path)).map(({ path }) => path)).toEqual([])
})
