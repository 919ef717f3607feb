/** What operators and their probes ask, on an address of its own: liveness, readiness, metrics, and the admin API. */

import { randomUUID } from 'node:crypto'
import type { IncomingMessage, RequestListener } from 'node:http'
import { asGatewayError, GatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import type { Admin } from './admin.ts'
import { problemReply } from './problem.ts'
import { envelope, json, type Reply, reply, send } from './reply.ts'

type StoreState = 'ok' | 'unavailable'
type ProviderState = 'ok' | 'unavailable' | 'unknown'

export interface OperationsOptions {
  readonly state: () => 'starting' | 'serving' | 'draining'
  /** Asks the store; slow or failed counts as unavailable. */
  readonly store: () => Promise<StoreState>
  /** What is known; never goes to the network. */
  readonly provider: () => ProviderState
  /** Dependencies without which this replica wants no traffic. By default none: an outage hits all replicas alike. */
  readonly readiness: readonly ('store' | 'provider')[]
  /** Undefined without an admin token: then it does not exist. */
  readonly admin: Admin | undefined
  readonly emit: Emit
  readonly metrics: { text(): Promise<string>; readonly contentType: string }
}

const STORE_ANSWER_MS = 500
const STORE_ANSWER_VALID_MS = 1_000

export const createOperations = (options: OperationsOptions): RequestListener => {
  const { state, provider, readiness, admin, emit, metrics } = options
  const storeState = cached(bounded(options.store))

  const readyz = async (): Promise<Reply> => {
    const phase = state()
    // The dependencies are not asked: whatever they say, this replica takes no traffic now.
    if (phase !== 'serving') return json(503, { status: phase })
    const dependencies = { store: await storeState(), provider: provider() }
    // A provider nobody needed yet is `unknown`, which is no fault.
    const isUnavailable = (name: 'store' | 'provider') => dependencies[name] === 'unavailable'
    if (readiness.some(isUnavailable)) return json(503, { status: 'unavailable', ...dependencies })
    const isDegraded = isUnavailable('store') || isUnavailable('provider')
    return json(200, { status: isDegraded ? 'degraded' : 'ready', ...dependencies })
  }

  const answers: Readonly<Record<string, () => Promise<Reply> | Reply>> = {
    '/livez': () => json(200, { status: 'live' }),
    '/readyz': readyz,
    '/metrics': async () =>
      reply(200, [['content-type', metrics.contentType]], await metrics.text()),
  }

  const answer = async (req: IncomingMessage, requestId: string): Promise<Reply> => {
    // At the first question mark: a further one belongs to the query.
    const [, path = '', query = ''] = /^([^?]*)\??(.*)$/s.exec(req.url ?? '') ?? []
    if (admin !== undefined && path.startsWith('/admin/'))
      return admin(req, { path, query: new URLSearchParams(query) }, requestId)
    const known = Object.hasOwn(answers, path) ? answers[path] : undefined
    if (known === undefined) throw new GatewayError('route_not_found')
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      throw new GatewayError('method_not_allowed', { allow: ['GET', 'HEAD'] })
    }
    return known()
  }

  const outside = envelope()

  return async (req, res) => {
    const requestId = randomUUID()
    const refused = (thrown: unknown) => {
      const error = asGatewayError(thrown)
      const { code, reason, cause } = error
      emit({
        type: 'request_refused',
        requestId,
        code,
        ...(reason === undefined ? {} : { reason }),
        ...(cause === undefined ? {} : { cause }),
      })
      return problemReply(error, {
        requestId,
        isNavigation: false,
        login: '',
        expectedOrigin: undefined,
      })
    }
    send(req, res, await answer(req, requestId).catch(refused), outside(requestId))
  }
}

const bounded = (store: OperationsOptions['store']) => async (): Promise<StoreState> => {
  const silence = Promise.withResolvers<StoreState>()
  const timer = setTimeout(() => silence.resolve('unavailable'), STORE_ANSWER_MS)
  try {
    return await Promise.race([store(), silence.promise])
  } catch {
    // Why it is unavailable is the store adapter's to log; here it only counts that it is.
    return 'unavailable'
  } finally {
    clearTimeout(timer)
  }
}

/** Many probes are one question: they join the one that is on its way, or take an answer of the last second. */
const cached = (ask: () => Promise<StoreState>): (() => Promise<StoreState>) => {
  let answer: Promise<StoreState> | undefined
  return () => {
    if (answer === undefined) {
      answer = ask()
      void answer.then(() => {
        setTimeout(() => {
          answer = undefined
        }, STORE_ANSWER_VALID_MS).unref()
      })
    }
    return answer
  }
}
