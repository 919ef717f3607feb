/** The rules by which a call is repeated with a newer token, apart from what is sent. */

import { describe, expect, it } from 'vitest'
import { createRejectionWatch } from '../../src/credential/rejection-watch.ts'
import { createRouteSession, type RouteSessionDependencies } from '../../src/route-session.ts'
import { compileRoutes } from '../../src/routing/route-table.ts'
import type { OpenSession } from '../../src/session/vault.ts'
import { routeTo } from '../edges/upstream/small-gateway.ts'
import { createFakeClock } from '../support/fake-clock.ts'

const [route] = compileRoutes([routeTo('http://api.internal')]).routes
if (route === undefined) throw new Error('no route')
const session = (name: string) => ({ name }) as unknown as OpenSession
const [sent, newer] = [session('sent'), session('newer')]
const INVALID = ['WWW-Authenticate', 'Bearer error="invalid_token"']

interface Answer {
  readonly kind: string
  readonly status?: number
}

const rig = () => {
  const notices: string[] = []
  const { sendWithToken } = createRouteSession({
    rejections: createRejectionWatch(createFakeClock(), (notice) => void notices.push(notice)),
    machine: { hasRunOut: () => false, mayForce: () => true, force: async () => newer },
  } as unknown as RouteSessionDependencies)
  /** The upstream answers the first token with 401, the newer one with this. Gives the sessions that were sent. */
  const call = async (second: Answer, mayRepeat?: () => boolean) => {
    const sessions: OpenSession[] = []
    const answer = await sendWithToken<Answer>(
      route,
      sent,
      async (open, isUnwanted) => {
        sessions.push(open)
        const own = open === sent ? { kind: 'sent', status: 401 } : second
        isUnwanted(own.status ?? 0, INVALID)
        return own
      },
      mayRepeat,
    )
    return { answer, sessions }
  }
  return { call, notices }
}

describe('a call whose token the upstream calls invalid', () => {
  it('is sent once more with a newer one', async () => {
    const { sessions, answer } = await rig().call({ kind: 'sent', status: 200 })
    expect(sessions).toEqual([sent, newer])
    expect(answer.status).toBe(200)
  })

  it('RFC 9110 §9.2.2 is not where it may not be repeated', async () => {
    const { sessions, answer } = await rig().call({ kind: 'sent', status: 200 }, () => false)
    expect(sessions).toEqual([sent])
    expect(answer.status).toBe(401)
  })

  it('is not any more on a route that refused five newer ones; a client that left in between changes nothing', async () => {
    const { call, notices } = rig()
    for (let refused = 0; refused < 5; refused += 1) {
      await call({ kind: 'client_left' })
      await call({ kind: 'sent', status: 401 })
    }
    expect(notices).toEqual(['upstream_rejects_tokens'])
    expect((await call({ kind: 'sent', status: 200 })).sessions).toEqual([sent])
  })
})
