/** What the demo calls a lost session, and what it does not. */

import type { IncomingMessage } from 'node:http'
import { expect, test } from 'vitest'
import type { Passed } from '../../src/dev/balancer.ts'
import { CallTally } from '../../src/dev/call-tally.ts'

const passed = (changes: Partial<Passed> & { url?: string; cookie?: string }): Passed => {
  const { url = '/api/whoami', cookie, ...rest } = changes
  const request = { url, headers: { cookie } } as IncomingMessage
  return { request, replica: 1, status: 200, durationMs: 1, body: '', ...rest }
}

const refused = (code: string) => ({ status: 401, body: JSON.stringify({ code }) })

test('calls are counted by their answers, and only those of the API', () => {
  const tally = new CallTally(2, ['ticket'])
  for (const status of [200, 204, 401, 502, 503, 404]) tally.count(passed({ status, replica: 2 }))
  tally.count(passed({ status: 503, replica: undefined, durationMs: 41.6 }))
  tally.count(passed({ url: '/bff/session' }))
  expect(tally.calls).toEqual({
    total: 7,
    ok: 2,
    unauthorized: 1,
    unavailable: 2,
    cutOff: 1,
    other: 1,
    slowestMs: 42,
  })
  expect([tally.answeredBy(1), tally.answeredBy(2)]).toEqual([0, 6])
})

test('a session that was good and that the store no longer knows is lost, once', () => {
  const tally = new CallTally(1, ['ticket'])
  tally.count(passed({ cookie: 'other=1; ticket=a' }))
  tally.count(passed({ cookie: 'ticket=a', ...refused('session_required') }))
  tally.count(passed({ cookie: 'ticket=a', ...refused('session_required') }))
  expect(tally.sessions).toEqual({ seen: 1, lost: 1 })
})

test('a stranger’s cookie, and a session that somebody ended, are no loss', () => {
  const tally = new CallTally(1, ['ticket'])
  tally.count(passed({ cookie: 'ticket=a' }))
  tally.count(passed({ cookie: 'ticket=a', ...refused('session_ended') }))
  tally.count(passed({ cookie: 'ticket=b', ...refused('session_required') }))
  tally.sessionEnded('logout')
  expect(tally.sessions).toEqual({ seen: 1, lost: 0 })
})

test.each(['refresh_lost', 'refresh_rejected', 'identity_changed'])(
  'an end by %s is a loss, and is told',
  (reason) => {
    const tally = new CallTally(1, ['ticket'])
    tally.sessionEnded(reason)
    expect(tally.sessions.lost).toBe(1)
    expect(tally.happenings[0]?.text).toContain(reason)
  },
)
