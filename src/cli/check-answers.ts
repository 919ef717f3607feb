/** What the provider and Redis answer to `coatcheck check`: facts, or whose fault it is that there are none. */

import type { Config } from '../config/config.ts'
import type { Problem } from '../config/problems.ts'
import { variableOf } from '../config/settings.ts'
import { asGatewayError, GatewayError } from '../errors.ts'
import { providerOf, redisStoresOf } from '../gateway.ts'
import type { ProviderFacts } from '../oidc/provider.ts'
import { milliseconds, systemClock } from '../time.ts'
import { shown } from './arguments.ts'

export type Answer<Facts> =
  | { readonly kind: 'facts'; readonly facts: Facts }
  /** Nobody is there just now, which says nothing about the configuration: the gateway starts all the same. */
  | { readonly kind: 'silent'; readonly reason: string; readonly words: string }
  /** Somebody is there, and what they say shows that the configuration is wrong. */
  | { readonly kind: 'contradicts'; readonly problem: Problem }

const SILENT_PROVIDER =
  /_(?:name_not_resolved|connect(?:ion_(?:refused|reset)|_timeout)|not_connected|timeout|network|closed|backoff|status_(?:429|5\d\d))$/

export const askProvider = async (config: Config): Promise<Answer<ProviderFacts>> => {
  const provider = providerOf(config, systemClock, () => undefined)
  try {
    return { kind: 'facts', facts: await provider.facts() }
  } catch (thrown) {
    if (!(thrown instanceof GatewayError)) throw thrown
    const reason = reasonOf(thrown)
    const words = thrown.cause instanceof Error ? shown(thrown.cause.message) : reason
    return SILENT_PROVIDER.test(reason)
      ? { kind: 'silent', reason, words }
      : contradicts('issuer', providerRule(reason, words), 'answer of the provider')
  } finally {
    await provider.close()
  }
}

const providerRule = (reason: string, words: string): string => {
  if (reason.endsWith('issuer_mismatch'))
    return `must be spelled exactly as the provider does, a final slash included: ${words}`
  if (reason.endsWith('tls_failed'))
    return `must be an address whose certificate is valid here (${words}); NODE_EXTRA_CA_CERTS names a private authority`
  return `must lead to usable metadata of a provider, and does not (${reason}: ${words})`
}

const SILENT_STORE: ReadonlySet<string> = new Set([
  ...['not_connected', 'connection_refused', 'connection_lost', 'connect_timeout', 'timeout'],
  ...['name_not_resolved', 'loading', 'cluster_down', 'too_many_clients'],
])

export interface StoreFacts {
  /** What works and should be another way all the same. */
  readonly warnings: readonly string[]
}

const PAUSE_MS = milliseconds(50)

/** Undefined where sessions live in memory. Waits no longer than a connection and one command may take. */
export const askStore = async (config: Config): Promise<Answer<StoreFacts> | undefined> => {
  const warnings: string[] = []
  let advice: string | undefined
  const stores = redisStoresOf(config, systemClock, (event) => {
    if (event.type !== 'operator_notice') return
    if (event.notice === 'store_unreachable') advice = event.detail
    else warnings.push(event.detail)
  })
  if (stores === undefined) return undefined
  const { connectTimeout, commandTimeout } = config.redis
  const deadline = systemClock.monotonicMs() + connectTimeout + commandTimeout
  let failure = await failureOf(stores.health.ping())
  // A connection that is still being made cannot say yet why it fails.
  while (failure?.reason === 'not_connected' && systemClock.monotonicMs() < deadline) {
    await systemClock.sleep(PAUSE_MS)
    failure = await failureOf(stores.health.ping())
  }
  await stores.close()
  if (failure === undefined) return { kind: 'facts', facts: { warnings } }
  const reason = reasonOf(failure)
  const words = advice ?? reason
  return SILENT_STORE.has(reason)
    ? { kind: 'silent', reason, words }
    : contradicts(
        'redis.url',
        `must lead to a usable Redis (${reason}). ${words}`,
        'answer of Redis',
      )
}

const failureOf = (attempt: Promise<void>): Promise<GatewayError | undefined> =>
  attempt.then(() => undefined, asGatewayError)

const reasonOf = ({ reason, code }: GatewayError): string => reason ?? code

const contradicts = (setting: string, rule: string, source: string): Answer<never> => ({
  kind: 'contradicts',
  problem: { setting, variable: variableOf(setting), rule, source },
})
