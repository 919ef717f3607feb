/** What counts as signed in, signed out, and neither: from the gateway's answer, and from those of others. */

import { describe, expect, it } from 'vitest'
import { stateIn } from '../../src/client/session-state.ts'

const answer = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status })

describe('an answer of the session endpoint', () => {
  it('says who is signed in, for how long, and where further endpoints are', async () => {
    const before = Date.now()
    const state = await stateIn(
      answer({
        authenticated: true,
        user: { sub: 'alice', name: 'Alice' },
        session: { createdAt: '2026-11-22T09:00:00Z', expiresIn: 600, idleExpiresIn: 60 },
        links: { sessions: '/bff/sessions' },
      }),
    )
    expect(state).toEqual({
      status: 'signed-in',
      user: { sub: 'alice', name: 'Alice' },
      createdAt: '2026-11-22T09:00:00Z',
      expiresAt: expect.closeTo(before + 600_000, -4),
      idleExpiresAt: expect.closeTo(before + 60_000, -4),
      links: { sessions: '/bff/sessions' },
    })
  })

  const signedOut = { status: 'signed-out', user: null }
  it.each([
    ['ours', answer({ authenticated: false, user: null, session: null, links: {} })],
    ['401', answer('no', 401)],
    ['null', answer(null)],
  ])('says that nobody is: %s', async (_form, response) => {
    expect(await stateIn(response)).toEqual(signedOut)
  })

  it.each([
    ['an object', { sub: 'alice', name: 'Alice' }],
    [
      'a list',
      [
        { type: 'sub', value: 'alice' },
        { type: 'name', value: 'Alice' },
      ],
    ],
  ])('of another gateway has the claims as %s', async (_form, body) => {
    expect(await stateIn(answer(body))).toEqual({
      status: 'signed-in',
      user: { sub: 'alice', name: 'Alice' },
      links: {},
    })
  })

  it.each([
    ['a page', new Response('<!doctype html><title>My app</title>')],
    ['a proxy’s 502', answer({ error: 'bad gateway' }, 502)],
    ['a 403', answer({}, 403)],
    ['a text', answer('hello')],
  ])('that is %s is not taken for one', async (_form, response) => {
    await expect(stateIn(response)).rejects.toMatchObject({ code: 'unexpected_answer' })
  })
})
