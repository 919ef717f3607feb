/** Failover of the store under two real gateways: an answer or 503 with `Retry-After`, no cookie cleared, no restart. */

import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startCluster, startSentinels } from '../support/redis-deployments.ts'
import { type ApiAnswer, startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'

test.for([
  ['Sentinels', startSentinels],
  ['a Cluster', startCluster],
] as const)(
  'a master that is killed behind %s signs nobody out',
  { timeout: 60_000 },
  async ([, startDeployment], { onTestFinished }) => {
    const deployment = await startDeployment()
    onTestFinished(deployment.close)
    const replicas = await startReplicas({
      // No refresh falls into the failover: what that may lose is not the subject here.
      accessTokenLifetimeSeconds: 600,
      env: { COATCHECK_REDIS_URL: deployment.url },
    })
    onTestFinished(() => replicas.close())
    const cookies = [await replicas.signIn()]
    // In a Cluster a session may lie on another master than the one that dies.
    while ((await deployment.masters[0]?.keys('cc:*:s:*'))?.length === 0)
      cookies.push(await replicas.signIn())
    await Promise.all(deployment.masters.map((master) => master.wait(1, 5_000)))

    const answers: ApiAnswer[] = []
    const round = async () => {
      const latest = await Promise.all(
        cookies.map((cookie, index) => replicas.call(index % 2, cookie)),
      )
      answers.push(...latest)
      await sleep(50)
      return latest.every(({ status }) => status === 200)
    }
    expect(await round()).toBe(true)
    await deployment.servers[0]?.kill()
    const waiting = { timeoutMs: 20_000, intervalMs: 0 }
    await waitFor('the outage is felt', async () => !(await round()), waiting)
    await waitFor('every session works again', round, waiting)

    const refused = answers.filter(({ status }) => status !== 200)
    for (const { status, code, headers, milliseconds } of refused) {
      expect({ status, code }).toEqual({ status: 503, code: 'store_unavailable' })
      expect(headers['retry-after']).toMatch(/^\d+$/)
      expect(headers).not.toHaveProperty('set-cookie')
      // `redis.commandTimeout` is 1 s.
      expect(milliseconds).toBeLessThan(3_000)
    }
  },
)
