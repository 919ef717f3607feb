/** What went wrong with Redis, as one stable word for log and metric. The client's errors stop here. */

import { GatewayError } from '../../errors.ts'
import { NOT_CONFIRMED } from '../../session/session-store.ts'

/** For each reason, what the operator should look at. */
export const ADVICE = {
  not_connected: 'There is no connection to Redis yet.',
  connection_refused: 'Nothing listens at the address of the Redis URL.',
  name_not_resolved: 'The host name of the Redis URL does not resolve.',
  connect_timeout: 'The address of the Redis URL does not answer; a firewall may drop the packets.',
  connection_lost: 'Redis closed the connection.',
  timeout: 'Redis accepts connections and does not answer in time.',
  tls_failed:
    'The TLS handshake with Redis failed; check rediss://, its certificate authorities, and the certificate and key of the gateway.',
  authentication_refused: 'Redis refuses the user name or password of the Redis URL.',
  permission_refused: 'The Redis user may not run the commands or touch the keys that are needed.',
  loading: 'Redis is loading its data.',
  read_only: 'The Redis server is a replica and takes no writes.',
  out_of_memory: 'Redis has reached maxmemory and takes no writes.',
  persistence_failed: 'Redis cannot persist its data and takes no writes.',
  cluster_down: 'The Redis cluster has no master for the key.',
  master_unknown: 'The Sentinels know no master by the name in the Redis URL.',
  other_server: 'Two connections to one address of Redis lead to different servers.',
  too_many_clients: 'Redis takes no more connections; raise its maxclients.',
  command_refused: 'Redis refused a command; version 6.2 or later is needed.',
} as const satisfies Record<string, string>

export type FailureReason = keyof typeof ADVICE

/** By what an error reply begins with, or contains where it passed through a script. */
const BY_REPLY: Readonly<Record<string, FailureReason>> = {
  NOAUTH: 'authentication_refused',
  WRONGPASS: 'authentication_refused',
  NOPERM: 'permission_refused',
  "The user executing the script can't": 'permission_refused',
  LOADING: 'loading',
  READONLY: 'read_only',
  MASTERDOWN: 'read_only',
  NOREPLICAS: 'read_only',
  OOM: 'out_of_memory',
  MISCONF: 'persistence_failed',
  BUSY: 'timeout',
  CLUSTERDOWN: 'cluster_down',
  // Of a pipeline, which is not led on: the slots are asked for every second.
  MOVED: 'cluster_down',
  ASK: 'cluster_down',
  TRYAGAIN: 'cluster_down',
  'max number of clients': 'too_many_clients',
}
const KNOWN_REPLY = new RegExp(`\\b(?:${Object.keys(BY_REPLY).join('|')})\\b`)

const BY_SYSTEM_CODE: Readonly<Record<string, FailureReason>> = {
  ECONNREFUSED: 'connection_refused',
  ENOTFOUND: 'name_not_resolved',
  EAI_AGAIN: 'name_not_resolved',
  ETIMEDOUT: 'connect_timeout',
  EHOSTUNREACH: 'connect_timeout',
  ENETUNREACH: 'connect_timeout',
}

/** The client gives its own errors no code: these are known by their texts alone (observed, ioredis 6.0). */
const TIMED_OUT = /^(Command timed out|Socket timeout)/
const REDIRECTED = /^Too many Cluster redirections/

/** A Sentinel answered, and monitors no such master. */
export class UnknownMaster extends Error {
  constructor() {
    super('the Sentinel knows no such master')
    this.name = 'UnknownMaster'
  }
}

/** What one connection wrote was not heard on the other, which also takes writes. */
export class OtherServer extends Error {
  constructor() {
    super('the connections lead to different servers')
    this.name = 'OtherServer'
  }
}

export const failureReason = (thrown: unknown): FailureReason => {
  if (!(thrown instanceof Error)) return 'connection_lost'
  if (thrown instanceof UnknownMaster) return 'master_unknown'
  if (thrown instanceof OtherServer) return 'other_server'
  // Of a Cluster none of whose nodes could be asked; the last of them says why.
  if ('lastNodeError' in thrown && thrown.lastNodeError instanceof Error)
    return failureReason(thrown.lastNodeError)
  if (thrown.name === 'ReplyError')
    return BY_REPLY[KNOWN_REPLY.exec(thrown.message)?.[0] ?? ''] ?? 'command_refused'
  const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
  if (/^(ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO)/.test(code))
    return 'tls_failed'
  if (TIMED_OUT.test(thrown.message)) return 'timeout'
  if (REDIRECTED.test(thrown.message)) return 'cluster_down'
  return BY_SYSTEM_CODE[code] ?? 'connection_lost'
}

/**
 * The client hangs the command's arguments on its errors, the password of AUTH among them, and Redis repeats
 * arguments after a comma. What goes to the log is the first clause and nothing more.
 */
export const causeWithoutArguments = (thrown: unknown): Error => {
  if (!(thrown instanceof Error)) return new Error('not an error')
  const [clause = ''] = thrown.message.split(',', 1)
  return new Error(`${thrown.name}: ${clause.slice(0, 120)}`)
}

const RETRY_AFTER_SECONDS = 1

export const storeUnavailable = (reason: string, cause?: unknown): GatewayError =>
  new GatewayError('store_unavailable', {
    reason,
    retryAfterSeconds: RETRY_AFTER_SECONDS,
    ...(cause === undefined ? {} : { cause }),
  })

/** It was written, and fewer replicas than demanded had it in time. */
export const notConfirmed = (): GatewayError => storeUnavailable(NOT_CONFIRMED)

/** What is stored was written by a release that this one does not understand. That is no "absent". */
export const unreadableAnswer = (what: 'record' | 'lease'): GatewayError =>
  storeUnavailable(`${what}_unreadable`)
