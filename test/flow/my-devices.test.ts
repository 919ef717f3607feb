/** My devices: a user sees and ends their own sessions, by handles that open nothing, and nobody else's. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cookieLine, navigation, rawRequest, SAME_ORIGIN_FETCH } from '../hostile/raw-request.ts'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

interface Device {
  readonly handle: string
  readonly device: string | null
  readonly ip: string
  readonly createdAt: string
  readonly lastSeenAt: string
  readonly current: boolean
}

let whole: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway()
})
afterAll(() => whole.close())

const devicesOf = async (browser: Browser): Promise<readonly Device[]> => {
  const answer = await browser.fetch('/bff/sessions')
  expect(answer.status).toBe(200)
  return (answer.json() as { sessions: Device[] }).sessions
}
const isAlive = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated
const remove = (browser: Browser, handle?: string) =>
  browser.fetch(`/bff/sessions${handle === undefined ? '' : `/${handle}`}`, { method: 'DELETE' })
const ownHandle = async (browser: Browser) =>
  (await devicesOf(browser)).find(({ current }) => current)?.handle ?? ''

describe('the list', () => {
  it('shows each session of the user: device, address, times, and which one asks', async () => {
    const [first, second] = [await whole.signedIn('alice'), await whole.signedIn('alice')]
    const bob = await whole.signedIn('bob')
    const seen = await devicesOf(first)
    expect(seen.map(({ current }) => current)).toEqual([true, false])
    for (const device of seen) {
      expect(Object.keys(device)).toEqual([
        ...['handle', 'device', 'ip', 'createdAt', 'lastSeenAt', 'current'],
      ])
      expect(device.handle).toMatch(/^[\w-]{22}$/)
      expect(device.ip).toBe('127.0.0.1')
      expect(device.createdAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    }
    // The same names, whoever of the user's sessions asks.
    expect((await devicesOf(second)).map(({ handle }) => handle).toSorted()).toEqual(
      seen.map(({ handle }) => handle).toSorted(),
    )
    expect(await devicesOf(bob)).toHaveLength(1)
    await remove(first)
    await remove(first, await ownHandle(first))
  })

  it('shows no session id, no part of a cookie and no name that the store uses', async () => {
    const browser = await whole.signedIn('alice')
    const text = (await browser.fetch('/bff/sessions')).text
    expect(text).not.toContain(sessionCookie(browser)?.value.slice(0, 40))
    for (const { session } of whole.log)
      if (typeof session === 'string') expect(text).not.toContain(session)
    await remove(browser, await ownHandle(browser))
  })

  it('is named by links.sessions', async () => {
    const browser = await whole.signedIn('alice')
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({
      links: { sessions: '/bff/sessions' },
    })
  })
})

describe('ending', () => {
  it('one: it is over at once, the others live on', async () => {
    const [mine, lost, other] = [
      await whole.signedIn('alice'),
      await whole.signedIn('alice'),
      await whole.signedIn('alice'),
    ]
    const answer = await remove(mine, await ownHandle(lost))
    expect([answer.status, answer.json()]).toEqual([200, { ended: 1 }])
    expect(await Promise.all([mine, lost, other].map(isAlive))).toEqual([true, false, true])
    const refused = await lost.fetch('/api/items')
    expect([refused.status, refused.json()]).toEqual([
      401,
      expect.objectContaining({ code: 'session_ended' }),
    ])
    expect(whole.log.some(({ reason }) => reason === 'ended_elsewhere')).toBe(true)
    expect((await remove(mine, 'A'.repeat(22))).status).toBe(404)
  })

  it('the others: all but the one that asks, which keeps refreshing', async () => {
    const mine = await whole.signedIn('alice')
    const others = [await whole.signedIn('alice'), await whole.signedIn('alice')]
    const bob = await whole.signedIn('bob')
    const { ended } = (await remove(mine)).json() as { ended: number }
    expect(ended).toBeGreaterThanOrEqual(2)
    expect(await Promise.all([mine, ...others, bob].map(isAlive))).toEqual([
      ...[true, false, false, true],
    ])
    expect(await devicesOf(mine)).toHaveLength(1)
    expect((await remove(mine)).json()).toEqual({ ended: 0 })
  })

  it('the one that asks: signed out, its cookie cleared and its refresh token revoked', async () => {
    const mine = await whole.signedIn('alice')
    const before = whole.provider.revokedGrants().length
    const answer = await remove(mine, await ownHandle(mine))
    expect([answer.status, answer.json()]).toEqual([200, { ended: 1 }])
    expect(sessionCookie(mine)).toBeUndefined()
    await expect.poll(() => whole.provider.revokedGrants().length).toBe(before + 1)
  })

  it('another user’s handle names nothing', async () => {
    const [alice, bob] = [await whole.signedIn('alice'), await whole.signedIn('bob')]
    const answer = await remove(alice, await ownHandle(bob))
    expect([answer.status, answer.json()]).toEqual([
      404,
      expect.objectContaining({ code: 'session_not_found' }),
    ])
    expect(await isAlive(bob)).toBe(true)
  })

  it.each(['x', 'A'.repeat(21), 'A'.repeat(23), 'A'.repeat(43), '%2A'.repeat(22)])(
    'a handle of another shape is refused: %s',
    async (handle) => {
      const alice = await whole.signedIn('alice')
      const answer = await remove(alice, handle)
      expect([answer.status, answer.json()]).toEqual([
        400,
        expect.objectContaining({ code: 'request_invalid' }),
      ])
    },
  )
})

describe('nobody else', () => {
  it.each(['GET', 'DELETE'])('%s without a session is told to sign in', async (method) => {
    for (const target of ['/bff/sessions', `/bff/sessions/${'A'.repeat(22)}`]) {
      const answer = await rawRequest(whole.port, { method, target, lines: SAME_ORIGIN_FETCH })
      if (method === 'GET' && target !== '/bff/sessions') expect(answer.status).toBe(405)
      else expect([answer.status, answer.json().code]).toEqual([401, 'session_required'])
    }
  })

  it.each<[string, readonly string[]]>([
    ['another site', ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors']],
    ['a sibling', ['Sec-Fetch-Site: same-site', 'Sec-Fetch-Mode: cors']],
    ['a link', navigation('cross-site')],
    ['an old browser', ['Origin: https://evil.example']],
  ])('%s can neither read nor end anything', async (_, lines) => {
    const alice = await whole.signedIn('alice')
    const handle = await ownHandle(alice)
    for (const [method, target] of [
      ['GET', '/bff/sessions'],
      ['DELETE', '/bff/sessions'],
      ['DELETE', `/bff/sessions/${handle}`],
      ['DELETE', '/bff/sessions/x'],
    ] as const) {
      const answer = await rawRequest(whole.port, {
        method,
        target,
        lines: [cookieLine(alice), ...lines],
      })
      expect(answer.status).toBe(403)
    }
    expect(await isAlive(alice)).toBe(true)
  })
})
