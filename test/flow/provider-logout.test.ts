/**
 * Signing out at the provider, with real processes: oidc-provider tells one replica by its back channel, and the
 * session is over on the other one too, within a second.
 */

import { expect, test } from 'vitest'
import { createBrowser } from '../support/browser.ts'
import { startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'

test('signing out at the provider ends the session on every replica, and nobody else’s', async () => {
  const replicas = await startReplicas({ backchannelLogout: true, accessTokenLifetimeSeconds: 60 })
  try {
    const browser = createBrowser()
    const cookie = await replicas.signIn(browser)
    const other = await replicas.signIn()
    expect((await replicas.call(0, cookie)).status).toBe(200)

    const form = await browser.navigate(new URL('/session/end', replicas.provider.issuer).href)
    await browser.submitForm(form)
    const startedAt = performance.now()
    await waitFor('the session is over on both replicas', async () => {
      const answers = await Promise.all([0, 1].map((replica) => replicas.call(replica, cookie)))
      return answers.every(({ status, code }) => status === 401 && code === 'session_ended')
    })
    expect(performance.now() - startedAt).toBeLessThan(1_000)

    expect((await replicas.call(0, other)).status).toBe(200)
    const lines = replicas.gateways[1]?.stdout.filter((line) => line.includes('logout_received'))
    expect(lines).toHaveLength(1)
    expect(JSON.parse(lines?.[0] ?? '')).toMatchObject({ channel: 'back', ended: 1 })
  } finally {
    await replicas.close()
  }
}, 30_000)
