/**
 * Attack: sign-ins that nobody means to finish, so that the gateway floods its own provider with pushed requests; by
 * the login endpoint, and by callbacks whose transaction is gone, which begin once more.
 */

import { afterAll, beforeAll, expect, test } from 'vitest'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { navigation, type RawRequest, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

const SIGN_INS_MAX = 600

let provider: FakeProvider
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  provider.metadata.pushed_authorization_request_endpoint = `${provider.issuer}/par`
  const env = { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined }
  whole = await startWholeGateway({ env })
})
afterAll(async () => {
  await whole.close()
  await provider.close()
})

const LOGIN: RawRequest = { target: '/bff/login', lines: navigation('none') }
const WAYS: readonly RawRequest[] = [
  LOGIN,
  { target: `/bff/callback?code=x&state=0n${'s'.repeat(43)}`, lines: navigation('none') },
  {
    method: 'POST',
    target: '/bff/login',
    lines: [...SAME_ORIGIN_FETCH, 'Content-Type: application/json'],
    body: '{}',
  },
]

test('RFC 9126 the provider gets no more pushed requests than a minute of one address may cause', async () => {
  const statuses = new Map<number, number>()
  for (let turn = 0; turn < SIGN_INS_MAX; turn += 20)
    await Promise.all(
      Array.from({ length: 21 }, async (_, index) => {
        const { status } = await rawRequest(whole.port, WAYS[index % WAYS.length] ?? LOGIN)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }),
    )
  expect(provider.requestsTo('par')).toHaveLength(SIGN_INS_MAX)
  expect(statuses.get(429)).toBe(SIGN_INS_MAX / 20)

  for (const way of WAYS) {
    const refused = await rawRequest(whole.port, way)
    expect(refused.status).toBe(429)
    expect(Number(refused.header('retry-after'))).toBeGreaterThan(0)
    expect(refused.headerLines('set-cookie')).toEqual([])
  }
  // It is starting that is bounded, not the address.
  const session = await rawRequest(whole.port, { target: '/bff/session', lines: SAME_ORIGIN_FETCH })
  expect(session.status).toBe(200)
}, 60_000)
