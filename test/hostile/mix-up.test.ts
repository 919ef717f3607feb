/**
 * Attack: the mix-up of RFC 9207. The user has an account at two providers, one of them the attacker's, which makes
 * the client send the honest provider's code to the attacker or believe the attacker's answer. A second provider
 * with a life of its own plays the attacker; it must never be called, and its answers must end nothing and begin
 * nothing.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sessionCookie } from '../support/cookies.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { authorizationResponseFor } from './sign-in-steps.ts'

let honest: FakeProvider
let attacker: FakeProvider
let silent: FakeProvider
let whole: WholeGateway
let quiet: WholeGateway
beforeAll(async () => {
  honest = await FakeProvider.start({ clientId: CLIENT_ID })
  attacker = await FakeProvider.start({ clientId: CLIENT_ID, subject: 'mallory' })
  silent = await FakeProvider.start({ clientId: CLIENT_ID })
  delete silent.metadata.authorization_response_iss_parameter_supported
  const at = (provider: FakeProvider) =>
    startWholeGateway({
      env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
    })
  whole = await at(honest)
  quiet = await at(silent)
})
afterAll(async () => {
  await Promise.all([whole.close(), quiet.close()])
  await Promise.all([honest.close(), attacker.close(), silent.close()])
})

const outcomeOf = async (
  gateway: WholeGateway,
  provider: FakeProvider,
  change: (parameters: URLSearchParams) => void,
) => {
  const browser = gateway.browser()
  const response = await authorizationResponseFor(gateway, browser)
  change(response.searchParams)
  const before = provider.requestsTo('token').length
  const answer = await browser.navigate(response.href, { redirect: 'manual' })
  return {
    status: answer.status,
    isSignedIn: sessionCookie(browser) !== undefined,
    tokenCalls: provider.requestsTo('token').length - before,
  }
}
const REFUSED = { status: 400, isSignedIn: false, tokenCalls: 0 }
const SIGNED_IN = { status: 303, isSignedIn: true, tokenCalls: 1 }

describe('RFC 9207 §2.4 the issuer in the answer is compared as it stands', () => {
  it.each([
    ['the attacker’s', () => attacker.issuer],
    ['ours with a slash', () => `${honest.issuer}/`],
    ['ours in capitals', () => honest.issuer.toUpperCase()],
    ['ours with its port left out', () => honest.issuer.replace(/:\d+$/, '')],
    ['ours under https', () => honest.issuer.replace('http:', 'https:')],
    ['ours with user information', () => honest.issuer.replace('//', '//x@')],
    ['ours with a fragment', () => `${honest.issuer}#x`],
    ['ours behind a space', () => ` ${honest.issuer}`],
    ['an empty one', () => ''],
    ['a word', () => 'null'],
  ])('%s is refused', async (_, iss) => {
    const outcome = await outcomeOf(whole, honest, (parameters) => parameters.set('iss', iss()))
    expect(outcome).toEqual(REFUSED)
  })

  it('§3 left out, though the provider announces it, is refused', async () => {
    expect(await outcomeOf(whole, honest, (parameters) => parameters.delete('iss'))).toEqual(
      REFUSED,
    )
  })

  it('ours is accepted', async () => {
    expect(await outcomeOf(whole, honest, () => undefined)).toEqual(SIGNED_IN)
  })

  it('of a provider that announces nothing: may be left out, may not be another', async () => {
    expect(await outcomeOf(quiet, silent, (parameters) => parameters.delete('iss'))).toEqual(
      SIGNED_IN,
    )
    const mixed = await outcomeOf(quiet, silent, (parameters) =>
      parameters.set('iss', attacker.issuer),
    )
    expect(mixed).toEqual(REFUSED)
  })
})

it('RFC 9700 §4.4 the attacker’s code under the honest state and issuer buys nothing', async () => {
  const outcome = await outcomeOf(whole, honest, (parameters) =>
    parameters.set('code', attacker.issueCode()),
  )
  expect(outcome).toEqual({ status: 400, isSignedIn: false, tokenCalls: 1 })
})

it('no code, token or request of ours ever reached the attacker’s provider', () => {
  for (const endpoint of ['discovery', 'jwks', 'token', 'userinfo', 'revoke', 'authorize'] as const)
    expect(attacker.requestsTo(endpoint)).toEqual([])
})
