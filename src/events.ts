/** Events: what happened, for the audit log and the metrics. One line each; no token, code, cookie or claim. */

import type { ErrorCode } from './errors.ts'

/** Why a session ended. Written into its tombstone; `session_ended` events and metrics carry it. */
export const END_REASONS = [
  'logout',
  'ended_elsewhere',
  'backchannel_logout',
  'frontchannel_logout',
  'admin',
  'session_limit',
  'replaced_at_login',
  'idle',
  'absolute',
  'access_token_expired',
  'refresh_rejected',
  'refresh_expired',
  'refresh_lost',
  'identity_changed',
] as const
export type EndReason = (typeof END_REASONS)[number]

export type RefreshOutcome = 'refreshed' | 'superseded' | 'rejected' | 'unavailable'

export type GatewayEvent =
  | { readonly type: 'login_started'; readonly requestId: string }
  /** The first authorization request of this process, and again when the scope changed. */
  | { readonly type: 'scope_requested'; readonly scope: string }
  | {
      readonly type: 'login_succeeded'
      readonly requestId: string
      readonly session: string
      /** First 12 characters of the index name of issuer and subject: finds a known user, names nobody. */
      readonly user: string
    }
  | { readonly type: 'login_failed'; readonly requestId: string; readonly reason: string }
  | { readonly type: 'login_restarted'; readonly requestId: string; readonly reason: string }
  | {
      readonly type: 'sign_in_refused'
      readonly requestId: string
      readonly reason: 'requirements' | 'session_limit'
    }
  | { readonly type: 'session_ended'; readonly session: string; readonly reason: EndReason }
  | {
      readonly type: 'logout_received'
      readonly requestId: string
      /** A logout token from the provider itself, or a frame on its page. */
      readonly channel: 'back' | 'front'
      /** Sessions that it ended; for the back channel none is a success too. */
      readonly ended: number
    }
  /** The admin API ended sessions. */
  | {
      readonly type: 'sessions_administered'
      readonly requestId: string
      readonly by: 'session' | 'subject' | 'sid' | 'all'
      readonly ended: number
    }
  | {
      readonly type: 'token_refreshed'
      readonly session: string
      readonly outcome: RefreshOutcome
      /** Set when the outcome is not `refreshed`. */
      readonly reason?: string
      readonly durationMs: number
    }
  | {
      readonly type: 'token_revocation'
      readonly session: string
      readonly outcome: 'revoked' | 'failed' | 'unsupported'
    }
  | {
      readonly type: 'request_refused'
      readonly requestId: string
      readonly code: ErrorCode
      readonly reason?: string
      readonly note?: string
      readonly cause?: unknown
    }
  /** An answer of an API ended after its head had been sent and before its end, so that no refusal could say so. */
  | {
      readonly type: 'answer_cut'
      readonly requestId: string
      readonly route: string
      /** What the client had been told. */
      readonly status: number
      readonly reason: string
    }
  | { readonly type: 'web_socket_opened'; readonly requestId: string; readonly route: string }
  | {
      readonly type: 'web_socket_closed'
      /** Of its handshake. */
      readonly requestId: string
      readonly route: string
      /** Who or what began it. */
      readonly reason: 'client' | 'upstream' | 'session_ended' | 'drain' | 'idle' | 'lifetime'
      readonly durationMs: number
    }
  /** At start, and whenever a secret comes, goes or begins to seal. Ring ids, which every cookie shows. */
  | { readonly type: 'key_ring_changed'; readonly seals: number; readonly opens: readonly number[] }
  /** A session came under an outdated secret, and its cookie or record has the current one now. */
  | { readonly type: 'seal_renewed'; readonly session: string; readonly of: 'ticket' | 'record' }
  /** After a reconnect or failover of the store this process wrote again what it had written lately. */
  | {
      readonly type: 'store_reasserted'
      readonly written: number
      /** Of these the store had lost so many, among them so many ends of sessions. */
      readonly lost: number
      readonly lostEnds: number
      readonly durationMs: number
    }
  /** Once per process and subject (for example an issuer): something the operator should change. */
  | { readonly type: 'operator_notice'; readonly notice: string; readonly detail: string }

/** `session` in events is the first 12 characters of the store digest: enough to correlate, useless to steal. */
export type Emit = (event: GatewayEvent) => void

/** What the metrics count without a log line: one proxied exchange. */
export interface ExchangeObservation {
  readonly route: string
  /** Status sent to the client; 0 when the client left first. */
  readonly status: number
  readonly durationSeconds: number
}
export type ObserveExchange = (exchange: ExchangeObservation) => void
