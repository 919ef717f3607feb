/**
 * Attack: a flood from as many addresses as one attacker can have: a whole IPv6 network, or whatever forwarding fields
 * a proxy that nobody trusts lets through. Admission alone on a clock that stands still: the counting is what is
 * attacked here, and forged-seals.test.ts shows that the gateway asks it.
 */

import { expect, it } from 'vitest'
import {
  type ClientAddress,
  createAdmission,
  createSignInAdmission,
} from '../../src/guard/admission.ts'
import { createFakeClock } from '../support/fake-clock.ts'

const FAILURES_MAX = 200
const SIGN_INS_MAX = 600
const SHARED_MAX = 5_000

const refusals = (addresses: readonly ClientAddress[]) => {
  const admission = createAdmission(createFakeClock())
  let refused = 0
  for (const client of addresses) {
    try {
      admission.admit(client)
    } catch {
      refused += 1
    }
    admission.countFailure(client)
  }
  return refused
}
const times = (count: number, client: (turn: number) => ClientAddress) =>
  Array.from({ length: count }, (_, turn) => client(turn))

it('RFC 4291 §2.5.4 an IPv6 network of one subscriber is one', () => {
  const hex = (turn: number) => turn.toString(16)
  const inOne = (turn: number) => ({
    address: `2001:db8:1:2:${hex(turn)}::${hex(turn)}`,
    shared: false,
  })
  const inMany = (turn: number) => ({ address: `2001:db8:1:${hex(turn)}::1`, shared: false })
  expect(refusals(times(FAILURES_MAX + 50, inOne))).toBe(50)
  expect(refusals(times(FAILURES_MAX + 50, inMany))).toBe(0)
})

it('RFC 4291 §2.5.5.2 IPv4 peers of a dual-stack socket are one each', () => {
  const mapped = (turn: number) => ({ address: `::ffff:192.0.2.${turn}`, shared: false })
  expect(refusals(times(FAILURES_MAX + 50, mapped))).toBe(0)
  const asEither = (turn: number) => ({
    address: turn % 2 === 0 ? '::ffff:192.0.2.1' : '192.0.2.1',
    shared: false,
  })
  expect(refusals(times(FAILURES_MAX + 50, asEither))).toBe(50)
})

it('behind a proxy that nobody trusts is bounded too, much higher', () => {
  const proxied = () => ({ address: '192.0.2.1', shared: true })
  expect(refusals(times(SHARED_MAX + 7, proxied))).toBe(7)
})

it('started sign-ins are bounded by the same addresses, and the bound ends with its minute', async () => {
  const clock = createFakeClock()
  const admit = createSignInAdmission(clock)
  const refusedOf = (count: number, client: (turn: number) => ClientAddress) =>
    times(count, client).filter((each) => {
      try {
        admit(each)
        return false
      } catch {
        return true
      }
    }).length
  const ofOneNetwork = (turn: number) => ({ address: `2001:db8:1:2::${turn}`, shared: false })
  expect(refusedOf(SIGN_INS_MAX + 9, ofOneNetwork)).toBe(9)
  expect(refusedOf(1, () => ({ address: '2001:db8:1:3::1', shared: false }))).toBe(0)
  expect(refusedOf(SHARED_MAX + 5, () => ({ address: '192.0.2.1', shared: true }))).toBe(5)
  await clock.advance(60_000)
  expect(refusedOf(1, ofOneNetwork)).toBe(0)
})
