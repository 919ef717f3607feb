/**
 * Attack: a page of another site lets its visitor's own browser collect failures at the gateway, by images, frames and
 * forms, until the visitor's address, and everybody behind it, is held off from the application.
 */

import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import {
  cookieLine,
  navigation,
  type RawRequest,
  rawRequest,
  SAME_ORIGIN_FETCH,
} from './raw-request.ts'

const FAILURES_MAX = 200

let whole: WholeGateway
beforeEach(async () => {
  whole = await startWholeGateway()
})
afterEach(() => whole.close())

const flood = async (request: RawRequest) => {
  for (let turn = 0; turn < FAILURES_MAX; turn += 10)
    await Promise.all(Array.from({ length: 11 }, () => rawRequest(whole.port, request)))
}

const IMAGE = ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image']
const FRAME = ['Sec-Fetch-Site: same-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe']
const FETCH = [
  ...['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: empty'],
  ...['Origin: https://evil.example', 'Content-Type: application/x-www-form-urlencoded'],
]
const STATE = `0n${'s'.repeat(43)}`
const TOKEN = { method: 'POST', target: '/bff/backchannel-logout', body: 'logout_token=x' }

describe('ASVS 2.4.1 what another site’s page causes is not its visitor’s failure', () => {
  it.each<[string, RawRequest]>([
    ['images of the callback', { target: '/bff/callback?x=1', lines: IMAGE }],
    ['images with a code', { target: `/bff/callback?code=x&state=${STATE}`, lines: IMAGE }],
    ['frames with an error', { target: `/bff/callback?error=x&state=${STATE}`, lines: FRAME }],
    ['logout tokens posted by a script', { ...TOKEN, lines: FETCH }],
    [
      'frames of the front channel',
      { target: '/bff/frontchannel-logout?iss=x&sid=y', lines: FRAME },
    ],
  ])('%s', async (_, request) => {
    const victim = await whole.signedIn()
    await flood(request)
    for (const [target, lines] of [
      ['/api/items', [cookieLine(victim), ...SAME_ORIGIN_FETCH]],
      ['/bff/session', SAME_ORIGIN_FETCH],
      ['/bff/login', navigation('none')],
    ] as const)
      expect([target, (await rawRequest(whole.port, { target, lines })).status]).not.toContain(429)
  })

  it.each<[string, RawRequest]>([
    ['callbacks', { target: '/bff/callback?x=1' }],
    ['callbacks as navigations', { target: '/bff/callback?x=1', lines: navigation('none') }],
    ['logout tokens', { ...TOKEN, lines: ['Content-Type: application/x-www-form-urlencoded'] }],
  ])('a tool’s own %s are counted', async (_, request) => {
    await flood(request)
    const session = { target: '/bff/session', lines: SAME_ORIGIN_FETCH }
    expect((await rawRequest(whole.port, session)).status).toBe(429)
  })
})

describe('Front-Channel Logout §2 a `sid` is not for guessing', () => {
  const guess = (sid: string) => ({
    target: `/bff/frontchannel-logout?${new URLSearchParams({ iss: whole.provider.issuer, sid })}`,
    lines: FRAME,
  })

  it('whoever names many that lead nowhere is heard no more, and may do everything else', async () => {
    await flood(guess('none'))
    expect((await rawRequest(whole.port, guess('another'))).status).toBe(429)
    const session = { target: '/bff/session', lines: SAME_ORIGIN_FETCH }
    expect((await rawRequest(whole.port, session)).status).toBe(200)
  })
})
