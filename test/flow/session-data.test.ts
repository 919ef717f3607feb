/**
 * docs/session-data.md against what a run really writes: two gateway processes on one Redis go through sign-in, API
 * calls, refreshes, outages of the provider and every way in which a session ends, and all keys are looked at.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { storeNamespace } from '../../src/edges/redis/keys.ts'
import { createBrowser } from '../support/browser.ts'
import { compareWithPage, documentedKeys } from '../support/documented-keys.ts'
import { startReplicas } from '../support/replicas.ts'
import { waitFor } from '../support/wait.ts'
import { CLIENT_ID } from '../support/whole-gateway.ts'

const ADMIN_TOKEN = 'an-admin-token-of-32-characters-or-more'
const ABSOLUTE_MS = 3_600_000

test('every key of a run is in the table with its type, time and size, and every row of the table was seen', async ({
  onTestFinished,
}) => {
  const replicas = await startReplicas({
    backchannelLogout: true,
    env: { COATCHECK_SESSION_ABSOLUTE: '1h', COATCHECK_ADMIN_TOKEN: ADMIN_TOKEN },
  })
  const client = new Redis(replicas.redis.url)
  onTestFinished(async () => {
    client.disconnect()
    await replicas.close()
  })
  const rows = documentedKeys(storeNamespace(replicas.provider.issuer, CLIENT_ID), ABSOLUTE_MS)
  const seen = new Set<string>()
  const look = async () => {
    const compared = await compareWithPage(client, rows)
    expect(compared.differences).toEqual([])
    for (const name of compared.seen) seen.add(name)
  }
  const untilExpired = () => sleep(2_100)

  const atProvider = createBrowser()
  const cookie = await replicas.signIn(atProvider)
  const [second, third, fourth] = [
    await replicas.signIn(),
    await replicas.signIn(),
    await replicas.signIn(),
  ]
  expect((await replicas.call(0, cookie)).status).toBe(200)
  await look()

  replicas.provider.setFault({ delayMs: 1_000 }, 'before')
  await untilExpired()
  const held = replicas.call(1, cookie)
  await waitFor('the provider is asked', () => replicas.refreshes().length > 0)
  await look()
  expect((await held).status).toBe(200)
  await look()

  replicas.provider.setFault({ status: 503, body: 'down' }, 'before')
  await untilExpired()
  expect((await replicas.call(0, cookie)).status).toBe(503)
  await look()
  replicas.provider.setFault('continue', 'before')

  const out = await replicas.call(1, second, '/bff/logout', 'POST')
  expect(out.status).toBe(200)
  await look()
  const devices = await replicas.call(0, third, '/bff/sessions', 'DELETE')
  expect(JSON.parse(devices.body)).toEqual({ ended: 2 })
  expect((await replicas.call(0, fourth)).code).toBe('session_ended')
  await look()
  const later = createBrowser()
  const ended = await replicas.signIn(later)
  await later.submitForm(
    await later.navigate(new URL('/session/end', replicas.provider.issuer).href),
  )
  await waitFor(
    'the back channel ended it',
    async () => (await replicas.call(0, ended)).code === 'session_ended',
  )
  await look()
  const all = await fetch(`${replicas.gateways[0]?.operationsUrl}/admin/sessions?all=true`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
  })
  expect(await all.json()).toEqual({ ended: 1 })
  await look()

  expect([...seen].toSorted()).toEqual(rows.map(({ name }) => name).toSorted())
}, 60_000)
