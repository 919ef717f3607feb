/** What the types promise. Wrong uses do not compile: `npm test` runs tsc over this file. */

import { describe, expectTypeOf, it } from 'vitest'
import type {
  Client,
  ClientCode,
  CoatcheckError,
  Loading,
  ProblemCode,
  SessionState,
  SignedIn,
  User,
} from '../../src/client/client.ts'
import type { ErrorCode } from '../../src/errors.ts'

declare const client: Client
/** Only compiled. */
const never = (_uses: () => unknown) => {}

describe('the types of coatcheck/client', () => {
  it('list every code of the gateway, and no other but the client’s own', () => {
    expectTypeOf<ProblemCode>().toEqualTypeOf<ErrorCode | ClientCode>()
  })

  it('tell a session that is known from one that is not', () => {
    expectTypeOf<Client['state']>().toEqualTypeOf<SessionState | Loading>()
    expectTypeOf<Extract<SessionState, { status: 'signed-in' }>>().toEqualTypeOf<SignedIn>()
    expectTypeOf<SignedIn['user']>().toEqualTypeOf<User>()
    expectTypeOf<Extract<SessionState, { status: 'signed-out' }>['user']>().toEqualTypeOf<null>()
    expectTypeOf<CoatcheckError['retryAfterSeconds']>().toEqualTypeOf<number | undefined>()
  })

  it('refuse a place to return to that is elsewhere', () => {
    never(() => client.login({ returnTo: '/orders?page=2#total', prompt: 'login', max_age: 60 }))
    // @ts-expect-error: another origin
    never(() => client.login({ returnTo: 'https://evil.example' }))
    // @ts-expect-error: relative
    never(() => client.logout({ returnTo: 'orders' }))
    // @ts-expect-error: no parameter of ours
    never(() => client.login({ loginHint: 'alice' }))
  })
})
