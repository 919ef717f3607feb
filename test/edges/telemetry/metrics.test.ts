import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { createMetrics } from '../../../src/edges/telemetry/metrics.ts'
import { END_REASONS, type GatewayEvent } from '../../../src/events.ts'

/** Sample lines of our own metrics that are not zero, without histogram buckets. */
const samples = async (metrics: ReturnType<typeof createMetrics>): Promise<string[]> =>
  (await metrics.text())
    .split('\n')
    .filter((line) => line.startsWith('coatcheck_') && !line.includes('_bucket{'))
    .filter((line) => !line.endsWith(' 0'))

it('calls at upstreams are counted when somebody asks', async () => {
  const metrics = createMetrics()
  metrics.observeUpstreams(() => new Map([['http://api:8080', { taken: 3, waiting: 2 }]]))
  expect(await samples(metrics)).toEqual([
    'coatcheck_upstream_calls{upstream="http://api:8080",state="sent"} 3',
    'coatcheck_upstream_calls{upstream="http://api:8080",state="waiting"} 2',
  ])
})

describe('events', () => {
  const EVENTS: readonly (readonly [GatewayEvent, readonly string[]])[] = [
    [
      { type: 'login_started', requestId: 'r' },
      ['coatcheck_logins_total{outcome="started",reason=""} 1'],
    ],
    [
      { type: 'login_succeeded', requestId: 'r', session: 's', user: 'u' },
      ['coatcheck_logins_total{outcome="succeeded",reason=""} 1'],
    ],
    [
      { type: 'login_failed', requestId: 'r', reason: 'nonce_mismatch' },
      ['coatcheck_logins_total{outcome="failed",reason="nonce_mismatch"} 1'],
    ],
    [
      { type: 'login_restarted', requestId: 'r', reason: 'no_transaction' },
      ['coatcheck_logins_total{outcome="restarted",reason="no_transaction"} 1'],
    ],
    [
      { type: 'sign_in_refused', requestId: 'r', reason: 'requirements' },
      ['coatcheck_logins_total{outcome="refused",reason="requirements"} 1'],
    ],
    ...END_REASONS.map(
      (reason) =>
        [
          { type: 'session_ended', session: 's', reason },
          [`coatcheck_sessions_ended_total{reason="${reason}"} 1`],
        ] as const,
    ),
    [
      { type: 'token_refreshed', session: 's', outcome: 'refreshed', durationMs: 250 },
      [
        'coatcheck_refresh_total{outcome="refreshed",reason=""} 1',
        'coatcheck_refresh_duration_seconds_sum 0.25',
        'coatcheck_refresh_duration_seconds_count 1',
      ],
    ],
    [
      { type: 'token_revocation', session: 's', outcome: 'failed' },
      ['coatcheck_token_revocations_total{outcome="failed"} 1'],
    ],
    [
      { type: 'request_refused', requestId: 'r', code: 'csrf_rejected', reason: 'origin' },
      ['coatcheck_refused_total{code="csrf_rejected",reason="origin"} 1'],
    ],
    [
      { type: 'seal_renewed', session: 's', of: 'record' },
      ['coatcheck_seals_renewed_total{of="record"} 1'],
    ],
    [{ type: 'logout_received', requestId: 'r', channel: 'back', ended: 2 }, []],
    [{ type: 'sessions_administered', requestId: 'r', by: 'all', ended: 2 }, []],
    [{ type: 'operator_notice', notice: 'n', detail: 'd' }, []],
    [
      { type: 'store_reasserted', written: 5, lost: 2, lostEnds: 1, durationMs: 1 },
      [
        'coatcheck_store_reasserted_total{outcome="lost"} 2',
        'coatcheck_store_reasserted_total{outcome="there"} 3',
      ],
    ],
  ]

  it.each(EVENTS)('%j is counted', async (event, expected) => {
    const metrics = createMetrics()
    metrics.emit(event)
    expect(await samples(metrics)).toEqual(expected)
  })

  it('a secret that left the key ring leaves the metrics', async () => {
    const metrics = createMetrics()
    metrics.emit({ type: 'key_ring_changed', seals: 11, opens: [11, 22] })
    metrics.emit({ type: 'key_ring_changed', seals: 22, opens: [33, 22] })
    expect(await samples(metrics)).toEqual([
      'coatcheck_key_ring_secrets{id="33",use="opens"} 1',
      'coatcheck_key_ring_secrets{id="22",use="seals"} 1',
    ])
  })

  it('two processes’ worth of metrics in one process do not meet', async () => {
    const first = createMetrics()
    const second = createMetrics()
    first.emit({ type: 'login_started', requestId: 'r' })
    expect(await samples(second)).toEqual([])
  })
})

describe('exchanges', () => {
  it.each([
    [200, '200'],
    [404, '404'],
    [0, 'client_left'],
    [799, '7xx'],
    [299, '2xx'],
  ])('status %i is the label %s', async (status, label) => {
    const metrics = createMetrics()
    metrics.observeExchange({ route: '/api', status, durationSeconds: 0.5 })
    expect(await samples(metrics)).toEqual([
      `coatcheck_upstream_responses_total{route="/api",status="${label}"} 1`,
      'coatcheck_exchange_duration_seconds_sum{route="/api"} 0.5',
      'coatcheck_exchange_duration_seconds_count{route="/api"} 1',
    ])
  })
})

it('the durations of exchanges fill every bucket from the first whose bound they keep', async () => {
  const metrics = createMetrics()
  for (const durationSeconds of [0.001, 0.005, 0.006, 30, 31, 500])
    metrics.observeExchange({ route: '/api', status: 200, durationSeconds })
  metrics.observeExchange({ route: '/other', status: 200, durationSeconds: 0.3 })
  const text = await metrics.text()
  const buckets = (route: string) =>
    [
      ...text.matchAll(
        /^coatcheck_exchange_duration_seconds_bucket\{le="(.*)",route="(.*)"\} (\d+)$/gm,
      ),
    ]
      .filter((found) => found[2] === route)
      .map(([, bound, , count]) => `${bound}: ${count}`)
  const low = ['0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '2.5', '5', '10']
  expect(buckets('/api')).toEqual(['0.005: 2', ...low.map((le) => `${le}: 3`), '30: 4', '+Inf: 6'])
  expect(buckets('/other').slice(4, 7)).toEqual(['0.1: 0', '0.25: 0', '0.5: 1'])
  expect(text).toContain('coatcheck_exchange_duration_seconds_sum{route="/api"} 561.012\n')
  expect(text).toContain('coatcheck_exchange_duration_seconds_count{route="/api"} 6\n')
})

it('lookups of sessions are asked for whenever the metrics are', async () => {
  const metrics = createMetrics()
  const lookups = { fromMemory: 5, fromStore: 2, changesAreTold: true }
  metrics.observeLookups(() => lookups)
  expect(await samples(metrics)).toEqual([
    'coatcheck_session_lookups_total{from="memory"} 5',
    'coatcheck_session_lookups_total{from="store"} 2',
    'coatcheck_session_changes_told 1',
  ])
  lookups.fromMemory += 1
  lookups.changesAreTold = false
  expect(await samples(metrics)).toEqual([
    'coatcheck_session_lookups_total{from="memory"} 6',
    'coatcheck_session_lookups_total{from="store"} 2',
  ])
})

describe('the number of series is bounded', () => {
  it('reasons from outside become `other`', async () => {
    const metrics = createMetrics()
    for (const reason of ['with spaces', 'UPPER', 'x'.repeat(65), 'a"b', 'a\nb']) {
      metrics.emit({ type: 'login_failed', requestId: 'r', reason })
    }
    expect(await samples(metrics)).toEqual([
      'coatcheck_logins_total{outcome="failed",reason="other"} 5',
    ])
  })

  it('so do words beyond the hundredth, while known ones go on counting', async () => {
    const metrics = createMetrics()
    for (let i = 0; i < 1_000; i += 1) {
      metrics.emit({ type: 'login_failed', requestId: 'r', reason: `reason_${i}` })
    }
    metrics.emit({ type: 'login_failed', requestId: 'r', reason: 'reason_7' })
    const lines = await samples(metrics)
    expect(lines).toHaveLength(101)
    expect(lines).toContain('coatcheck_logins_total{outcome="failed",reason="reason_7"} 2')
    expect(lines).toContain('coatcheck_logins_total{outcome="failed",reason="other"} 900')
  })
})

describe('docs/metrics.md', () => {
  const text = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8')
  const documented = new Map(
    [...text.matchAll(/^\| `(coatcheck_\w+)` \| (\w+) \| ([^|]*)\|/gm)].map(
      ([, name = '', type, labels = '']) => [
        name,
        { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label) },
      ],
    ),
  )

  /** One event of each type and one exchange, so that every metric shows its labels. */
  const exposed = async () => {
    const metrics = createMetrics()
    metrics.emit({ type: 'login_started', requestId: 'r' })
    metrics.emit({ type: 'session_ended', session: 's', reason: 'idle' })
    metrics.emit({ type: 'token_refreshed', session: 's', outcome: 'refreshed', durationMs: 1 })
    metrics.emit({ type: 'token_revocation', session: 's', outcome: 'revoked' })
    metrics.emit({ type: 'request_refused', requestId: 'r', code: 'internal' })
    metrics.emit({ type: 'key_ring_changed', seals: 1, opens: [1] })
    metrics.emit({ type: 'seal_renewed', session: 's', of: 'ticket' })
    metrics.emit({ type: 'store_reasserted', written: 1, lost: 0, lostEnds: 0, durationMs: 1 })
    metrics.emit({
      type: 'answer_cut',
      requestId: 'r',
      route: '/',
      status: 200,
      reason: 'idle',
    })
    metrics.emit({ type: 'web_socket_opened', requestId: 'r', route: '/' })
    metrics.emit({
      type: 'web_socket_closed',
      requestId: 'r',
      route: '/',
      reason: 'client',
      durationMs: 1,
    })
    metrics.observeExchange({ route: '/', status: 200, durationSeconds: 1 })
    metrics.observeUpstreams(() => new Map([['http://api', { taken: 1, waiting: 0 }]]))
    return metrics.text()
  }

  it('has a row for every metric with its type and labels, and no other row', async () => {
    const exposition = await exposed()
    const registered = new Map(
      [...exposition.matchAll(/^# TYPE (coatcheck_\w+) (\w+)$/gm)].map(([, name = '', type]) => {
        const sample = new RegExp(`^${name}(?:_count)?(?:\\{(.*)\\})? `, 'm').exec(exposition)
        const labels = [...(sample?.[1] ?? '').matchAll(/(\w+)="/g)].map(([, label]) => label)
        return [name, { type, labels }]
      }),
    )
    expect(documented).toEqual(registered)
  })

  it('names every metric of the process, and no other', async () => {
    const registered = [...(await exposed()).matchAll(/^# TYPE ((?:process|nodejs)_\w+) /gm)]
    const named = [...text.matchAll(/`((?:process|nodejs)_\w*[a-z0-9])`/g)]
    expect(new Set(named.map(([, name]) => name))).toEqual(
      new Set(registered.map(([, name]) => name)),
    )
  })
})
