/** The admin API, on the operations listener alone: sessions listed and ended by whoever has the admin token. */

import type { IncomingMessage } from 'node:http'
import { GatewayError } from '../../errors.ts'
import type { Admission } from '../../guard/admission.ts'
import type { Administration, Selection } from '../../logout/administration.ts'
import { equalInConstantTime } from '../../session/constant-time.ts'
import type { ListedSession } from '../../session/roster.ts'
import type { SessionDigest } from '../../session/session.ts'
import { rfc3339, singleValues } from './parameters.ts'
import { json, type Reply } from './reply.ts'

export interface AdminDependencies {
  readonly administration: Administration
  /** Read at each request: a token may be replaced while the gateway runs. */
  readonly tokens: { readonly current: readonly string[] }
  /** Counts wrong tokens by the address of the peer. */
  readonly admission: Admission
}

/** Throws whatever it refuses. */
export type Admin = (req: IncomingMessage, target: AdminTarget, requestId: string) => Promise<Reply>

export interface AdminTarget {
  readonly path: string
  readonly query: URLSearchParams
}

const SESSIONS = '/admin/sessions'
const DIGEST_SHAPE = /^[\w-]{43}$/
const CURSOR_SHAPE = /^[\w-]{1,64}$/

export const createAdmin = ({ administration, tokens, admission }: AdminDependencies): Admin => {
  const authenticate = (req: IncomingMessage) => {
    const client = { address: req.socket.remoteAddress ?? '', shared: false }
    admission.admit(client)
    // A page in the operator's browser could reach this address; no tool sends either field.
    if (req.headers.origin !== undefined || req.headers['sec-fetch-site'] !== undefined)
      throw new GatewayError('csrf_rejected', { reason: 'browser_at_admin' })
    const [, given] = /^bearer +([\x21-\x7e]{1,2048})$/i.exec(req.headers.authorization ?? '') ?? []
    // All of them are compared, whichever is right.
    const matches = tokens.current.map((token) => equalInConstantTime(token, given ?? ''))
    if (given !== undefined && matches.includes(true)) return
    admission.countFailure(client)
    throw new GatewayError('bearer_invalid', {
      reason: given === undefined ? 'admin_token_missing' : 'admin_token_wrong',
    })
  }

  return async (req, { path, query }, requestId) => {
    authenticate(req)
    const parameter = singleValues(query)
    const method = req.method ?? ''
    if (path === SESSIONS) {
      if (method === 'GET') {
        const cursor = parameter('cursor')
        if (cursor !== undefined && !CURSOR_SHAPE.test(cursor)) throw invalid('cursor')
        const selection = selectionFrom(parameter, ['subject', 'sid', 'issuer', 'cursor'], query)
        const page = await administration.list(
          selection ?? { by: 'all' },
          parameter('issuer'),
          cursor,
        )
        return json(200, { sessions: page.sessions.map(asJson), next: page.next ?? null })
      }
      if (method === 'DELETE') {
        const selection = selectionFrom(parameter, ['subject', 'sid', 'issuer', 'all'], query)
        // Whoever forgets to say which must not end all of them.
        if (selection === undefined) throw invalid('selection_missing')
        return json(200, { ended: await administration.endAll(selection, requestId) })
      }
      throw new GatewayError('method_not_allowed', { allow: ['GET', 'DELETE'] })
    }
    if (path.startsWith(`${SESSIONS}/`)) {
      if (method !== 'DELETE') throw new GatewayError('method_not_allowed', { allow: ['DELETE'] })
      const name = path.slice(SESSIONS.length + 1)
      if (!DIGEST_SHAPE.test(name)) throw invalid('session_malformed')
      return json(200, { ended: await administration.end(name as SessionDigest, requestId) })
    }
    throw new GatewayError('route_not_found')
  }
}

const invalid = (reason: string): GatewayError => new GatewayError('request_invalid', { reason })

/** At most one of subject, sid and all; undefined where none is there. */
const selectionFrom = (
  parameter: (name: string) => string | undefined,
  known: readonly string[],
  query: URLSearchParams,
): Selection | undefined => {
  for (const name of query.keys()) if (!known.includes(name)) throw invalid('parameter_unknown')
  const [subject, sid, all] = [parameter('subject'), parameter('sid'), parameter('all')]
  const issuer = parameter('issuer')
  const given = [subject, sid, all].filter((value) => value !== undefined)
  if (given.includes('') || issuer === '') throw invalid('selection_empty')
  if (given.length > 1) throw invalid('selection_ambiguous')
  if (subject !== undefined) return { by: 'subject', subject, issuer }
  if (sid !== undefined) return { by: 'sid', sid, issuer }
  if (all === undefined) return undefined
  if (all !== 'true' || issuer !== undefined) throw invalid('all_malformed')
  return { by: 'all' }
}

const asJson = ({ digest, metadata, lastActivityAt, absoluteExpiresAt }: ListedSession) => ({
  session: digest,
  issuer: metadata?.issuer ?? null,
  subject: metadata?.subject ?? null,
  sid: metadata?.providerSessionId ?? null,
  createdAt: metadata === undefined ? null : rfc3339(metadata.createdAt),
  lastSeenAt: lastActivityAt === undefined ? null : rfc3339(lastActivityAt),
  expiresAt: rfc3339(absoluteExpiresAt),
  device: metadata?.device ?? null,
  ip: metadata?.address ?? null,
})
