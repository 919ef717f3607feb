/** The metrics: events and exchanges as Prometheus counters and histograms. docs/metrics.md explains each. */

import { STATUS_CODES } from 'node:http'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Emit, ObserveExchange } from '../../events.ts'
import type { PlaceCounts } from '../../upstream/places.ts'
import { createExchangeTally, type ExchangeTally } from './exchange-tally.ts'

export interface Metrics {
  readonly emit: Emit
  readonly observeExchange: ObserveExchange
  /** How many event streams are open now. */
  readonly observeStreams: (open: number) => void
  /** Asked whenever the metrics are: each request looks a session up, and a counter here would cost it time. */
  readonly observeLookups: (lookups: () => SessionLookups) => void
  /** Likewise: the calls that are at each upstream, by its origin. */
  readonly observeUpstreams: (upstreams: () => ReadonlyMap<string, PlaceCounts>) => void
  /** The exposition text, in the format that `contentType` names. */
  text(): Promise<string>
  readonly contentType: string
}

export interface SessionLookups {
  readonly fromMemory: number
  readonly fromStore: number
  /** Whether changes are told now, without which nothing is served from memory. */
  readonly changesAreTold: boolean
}

/** Reasons are words from the source; should one ever come from outside, it can't grow the series without end. */
const REASONS_MAX = 100
const REASON = /^[a-z0-9_]{1,64}$/

export const createMetrics = (): Metrics => {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })

  const logins = new Counter({
    name: 'coatcheck_logins_total',
    help: 'Sign-ins by outcome: started, succeeded, failed, restarted, refused',
    labelNames: ['outcome', 'reason'],
    registers,
  })
  const refreshes = new Counter({
    name: 'coatcheck_refresh_total',
    help: 'Token refreshes by outcome',
    labelNames: ['outcome', 'reason'],
    registers,
  })
  const refreshDuration = new Histogram({
    name: 'coatcheck_refresh_duration_seconds',
    help: 'Time from the need for a refresh to its outcome',
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  })
  const sessionsEnded = new Counter({
    name: 'coatcheck_sessions_ended_total',
    help: 'Sessions that were ended, each counted once across all replicas',
    labelNames: ['reason'],
    registers,
  })
  const revocations = new Counter({
    name: 'coatcheck_token_revocations_total',
    help: 'Refresh tokens to be revoked at the provider, by outcome',
    labelNames: ['outcome'],
    registers,
  })
  const ringSecrets = new Gauge({
    name: 'coatcheck_key_ring_secrets',
    help: 'Secrets of the key ring by id; use="seals" for the one that seals now',
    labelNames: ['id', 'use'],
    registers,
  })
  const sealsRenewed = new Counter({
    name: 'coatcheck_seals_renewed_total',
    help: 'Session cookies and records that came under an outdated secret and were sealed anew',
    labelNames: ['of'],
    registers,
  })
  const reasserted = new Counter({
    name: 'coatcheck_store_reasserted_total',
    help: 'Writes repeated after a reconnect or failover of the store, by what it had of them',
    labelNames: ['outcome'],
    registers,
  })
  const refused = new Counter({
    name: 'coatcheck_refused_total',
    help: 'Requests that the gateway answered with a problem of its own',
    labelNames: ['code', 'reason'],
    registers,
  })
  const answersCut = new Counter({
    name: 'coatcheck_answers_cut_total',
    help: 'Answers of APIs that ended after their head had been sent and before their end',
    labelNames: ['route', 'reason'],
    registers,
  })
  const exchanges = createExchangeTally()
  new Counter({
    name: 'coatcheck_upstream_responses_total',
    help: 'Exchanges by route and the status that the client got',
    labelNames: ['route', 'status'],
    registers,
    collect() {
      this.reset()
      exchanges.responses((route, status, count) =>
        this.inc({ route, status: statusLabel(status) }, count),
      )
    },
  })
  registry.registerMetric(exchangeDurations(exchanges))

  const eventStreams = new Gauge({
    name: 'coatcheck_event_streams',
    help: 'Event streams that are open now',
    registers,
  })
  let upstreams = (): ReadonlyMap<string, PlaceCounts> => new Map()
  new Gauge({
    name: 'coatcheck_upstream_calls',
    help: 'Calls that are at an upstream now, or wait for a place there',
    labelNames: ['upstream', 'state'],
    registers,
    collect() {
      for (const [upstream, { taken, waiting }] of upstreams()) {
        this.set({ upstream, state: 'sent' }, taken)
        this.set({ upstream, state: 'waiting' }, waiting)
      }
    },
  })
  const webSockets = new Gauge({
    name: 'coatcheck_web_sockets',
    help: 'WebSockets that are open now',
    labelNames: ['route'],
    registers,
  })
  const webSocketsClosed = new Counter({
    name: 'coatcheck_web_sockets_closed_total',
    help: 'WebSockets that were closed, by who or what began it',
    labelNames: ['route', 'reason'],
    registers,
  })
  let lookups = (): SessionLookups => ({ fromMemory: 0, fromStore: 0, changesAreTold: false })
  new Counter({
    name: 'coatcheck_session_lookups_total',
    help: 'Sessions that requests named, by where they were looked up',
    labelNames: ['from'],
    registers,
    collect() {
      const { fromMemory, fromStore } = lookups()
      this.reset()
      this.inc({ from: 'memory' }, fromMemory)
      this.inc({ from: 'store' }, fromStore)
    },
  })
  new Gauge({
    name: 'coatcheck_session_changes_told',
    help: '1 while the store tells this replica of changed sessions, else 0',
    registers,
    collect() {
      this.set(lookups().changesAreTold ? 1 : 0)
    },
  })

  const reasons = new Set<string>()
  const bounded = (reason = ''): string => {
    if (reason === '' || reasons.has(reason)) return reason
    if (!REASON.test(reason) || reasons.size >= REASONS_MAX) return 'other'
    reasons.add(reason)
    return reason
  }

  const emit: Emit = (event) => {
    switch (event.type) {
      case 'login_started':
        logins.inc({ outcome: 'started', reason: '' })
        break
      case 'login_succeeded':
        logins.inc({ outcome: 'succeeded', reason: '' })
        break
      case 'login_failed':
        logins.inc({ outcome: 'failed', reason: bounded(event.reason) })
        break
      case 'login_restarted':
        logins.inc({ outcome: 'restarted', reason: bounded(event.reason) })
        break
      case 'sign_in_refused':
        logins.inc({ outcome: 'refused', reason: event.reason })
        break
      case 'session_ended':
        sessionsEnded.inc({ reason: event.reason })
        break
      case 'token_refreshed':
        refreshes.inc({ outcome: event.outcome, reason: bounded(event.reason) })
        refreshDuration.observe(event.durationMs / 1000)
        break
      case 'token_revocation':
        revocations.inc({ outcome: event.outcome })
        break
      case 'request_refused':
        refused.inc({ code: event.code, reason: bounded(event.reason) })
        break
      case 'answer_cut':
        answersCut.inc({ route: event.route, reason: bounded(event.reason) })
        break
      case 'key_ring_changed':
        ringSecrets.reset()
        for (const id of event.opens)
          ringSecrets.set({ id: String(id), use: id === event.seals ? 'seals' : 'opens' }, 1)
        break
      case 'seal_renewed':
        sealsRenewed.inc({ of: event.of })
        break
      case 'store_reasserted':
        reasserted.inc({ outcome: 'lost' }, event.lost)
        reasserted.inc({ outcome: 'there' }, event.written - event.lost)
        break
      case 'web_socket_opened':
        webSockets.inc({ route: event.route })
        break
      case 'web_socket_closed':
        webSockets.dec({ route: event.route })
        webSocketsClosed.inc({ route: event.route, reason: event.reason })
        break
      case 'logout_received':
      case 'sessions_administered':
      case 'operator_notice':
        break
    }
  }

  return {
    emit,
    observeExchange: exchanges.observe,
    observeStreams: (open) => eventStreams.set(open),
    observeUpstreams: (source) => {
      upstreams = source
    },
    observeLookups: (source) => {
      lookups = source
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** Stands for a histogram of prom-client's, which would have to be told of each exchange as it ends. */
const exchangeDurations = (exchanges: ExchangeTally): Histogram => {
  const name = 'coatcheck_exchange_duration_seconds'
  const metric = {
    name,
    get: async () => ({
      name,
      help: 'Time from the head of a request to the end of its answer',
      type: 'histogram',
      values: exchanges.durations(name),
    }),
  }
  // The registry asks for no more than these two.
  return metric as unknown as Histogram
}

/** An upstream may send any number; those without a name share one series per class (RFC 9110 §15). */
const statusLabel = (status: number): string => {
  if (status === 0) return 'client_left'
  const text = String(status)
  return text in STATUS_CODES ? text : `${text.charAt(0)}xx`
}
