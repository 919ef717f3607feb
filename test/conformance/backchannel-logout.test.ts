/** OIDC Back-Channel Logout 1.0 at the gateway's endpoint: what it takes, what it ends, what it answers. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { rawRequest } from '../hostile/raw-request.ts'
import { authorizationResponseFor, signInAtOnce } from '../hostile/sign-in-steps.ts'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { FakeProvider, type JsonObject } from '../support/fake-provider.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { waitFor } from '../support/wait.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let provider: FakeProvider
let redis: RedisServer
let whole: WholeGateway
beforeAll(async () => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  redis = await startRedis()
  whole = await startWholeGateway({
    env: {
      COATCHECK_ISSUER: provider.issuer,
      COATCHECK_RESOURCE: undefined,
      COATCHECK_REDIS_URL: redis.url,
    },
  })
})
afterAll(async () => {
  await whole.close()
  await redis.close()
  await provider.close()
})
afterEach(() => provider.answerHonestly())

const FORM = 'Content-Type: application/x-www-form-urlencoded'

const post = (body: string, lines: readonly string[] = [FORM], query = '') =>
  rawRequest(whole.port, {
    method: 'POST',
    target: `/bff/backchannel-logout${query}`,
    lines,
    body,
  })
const tokenField = async (claims: JsonObject = {}) =>
  `logout_token=${await provider.logoutToken({ claims })}`

let count = 0
const unique = (what: string) => {
  count += 1
  return `${what}-${count}`
}

const signedIn = async (sub: string, sid?: string): Promise<Browser> => {
  provider.lieInIdTokens({ claims: { sub, sid } })
  const browser = whole.browser()
  await signInAtOnce(whole, browser)
  provider.answerHonestly()
  return browser
}
const isAlive = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated
const alive = (...browsers: readonly Browser[]) => Promise.all(browsers.map(isAlive))

describe('§2.7 what a logout token ends', () => {
  it('sub alone: every session of that subject, and no other', async () => {
    const [sub, other] = [unique('sub'), unique('sub')]
    const mine = [await signedIn(sub, 'a'), await signedIn(sub, 'b'), await signedIn(sub)]
    const theirs = await signedIn(other)
    expect((await post(await tokenField({ sub }))).status).toBe(200)
    expect(await alive(...mine)).toEqual([false, false, false])
    expect(await isAlive(theirs)).toBe(true)
    expect((await mine[0]!.fetch('/api/x')).json()).toMatchObject({ code: 'session_ended' })
    expect(
      whole.log.filter(
        ({ event, reason }) => event === 'session_ended' && reason === 'backchannel_logout',
      ).length,
    ).toBeGreaterThanOrEqual(3)
  })

  it('sid alone: that session', async () => {
    const [sub, sid] = [unique('sub'), unique('sid')]
    const [named, unnamed] = [await signedIn(sub, sid), await signedIn(sub, unique('sid'))]
    expect((await post(await tokenField({ sub: undefined, sid }))).status).toBe(200)
    expect(await alive(named, unnamed)).toEqual([false, true])
  })

  it('both: the sessions of that sid with that sub', async () => {
    const [sub, other, sid] = [unique('sub'), unique('sub'), unique('sid')]
    const [named, elsewhere] = [await signedIn(sub, sid), await signedIn(sub, unique('sid'))]
    const namesake = await signedIn(other, sid)
    expect((await post(await tokenField({ sub, sid }))).status).toBe(200)
    expect(await alive(named, elsewhere, namesake)).toEqual([false, true, true])
  })

  it('nobody known: a success all the same', async () => {
    const answer = await post(await tokenField({ sub: unique('nobody'), sid: unique('none') }))
    expect([answer.status, answer.text]).toEqual([200, ''])
  })

  it('a sign-in that was under way: it ends with its callback', async () => {
    const sub = unique('sub')
    provider.lieInIdTokens({ claims: { sub } })
    const browser = whole.browser()
    const response = await authorizationResponseFor(whole, browser)
    let loggedOut: number | undefined
    provider.forgetRequests()
    // The logout arrives while the code is being exchanged.
    provider.script('userinfo', async () => {
      loggedOut = (await post(await tokenField({ sub }))).status
      return { body: { sub } }
    })
    const answer = await browser.navigate(response.href, { redirect: 'manual' })
    expect(loggedOut).toBe(200)
    expect(answer.status).toBe(400)
    expect(sessionCookie(browser)).toBeUndefined()
    expect(whole.log.filter(({ reason }) => reason === 'ended_meanwhile')).not.toEqual([])
    await waitFor('its refresh token is revoked', () => provider.requestsTo('revoke').length > 0)
    // A sign-in that begins later is another one.
    provider.answerHonestly()
    expect(await isAlive(await signedIn(sub))).toBe(true)
  })
})

describe('§2.5 the request', () => {
  it('is nobody’s page: it needs no cookie, no Origin of ours and no header', async () => {
    const lines = [FORM, 'Origin: https://id.example.com', 'Sec-Fetch-Site: cross-site']
    expect((await post(await tokenField(), lines)).status).toBe(200)
  })

  it('may carry other fields, which say nothing', async () => {
    expect((await post(`x=1&${await tokenField()}&sub=bob&sid=s`)).status).toBe(200)
  })

  it('§2.8 is answered without anything to store or show', async () => {
    const answer = await post(await tokenField())
    expect(answer.status).toBe(200)
    expect(answer.header('cache-control')).toBe('no-store')
    expect(answer.headerLines('set-cookie')).toEqual([])
    expect(answer.text).toBe('')
  })

  it.each<[string, () => Promise<Awaited<ReturnType<typeof post>>>]>([
    ['twice the field', async () => post(`${await tokenField()}&${await tokenField()}`)],
    ['no field', async () => post('token=x')],
    ['an empty field', async () => post('logout_token=')],
    ['nothing', async () => post('')],
    [
      'JSON',
      async () =>
        post(JSON.stringify({ logout_token: await provider.logoutToken() }), [
          'Content-Type: application/json',
        ]),
    ],
    ['no content type', async () => post(await tokenField(), [])],
    ['the query', async () => post('', [FORM], `?${await tokenField()}`)],
    [
      'GET',
      async () =>
        rawRequest(whole.port, { target: `/bff/backchannel-logout?${await tokenField()}` }),
    ],
    ['a token that does not verify', async () => post(await tokenField({ nonce: 'n' }))],
  ])('is refused with 400: %s', async (_, ask) => {
    const answer = await ask()
    expect([answer.status, answer.json().code]).toEqual([400, 'logout_token_invalid'])
    expect(answer.header('cache-control')).toBe('no-store')
    expect(answer.headerLines('set-cookie')).toEqual([])
  })
})

describe('§2.6(8) replay', () => {
  it('the same jti again is refused and has no second effect', async () => {
    const sub = unique('sub')
    const field = await tokenField({ sub })
    expect((await post(field)).status).toBe(200)
    const again = await signedIn(sub)
    expect((await post(field)).status).toBe(400)
    expect(await isAlive(again)).toBe(true)
    expect(whole.log.filter(({ reason }) => reason === 'jti_replayed')).toHaveLength(1)
  })

  it('a token whose logout failed is good for the provider’s next try', async () => {
    const sub = unique('sub')
    const browser = await signedIn(sub)
    const field = await tokenField({ sub })
    redis.pause()
    const failed = await post(field)
    redis.resume()
    expect([failed.status, failed.json().code]).toEqual([503, 'store_unavailable'])
    await expect.poll(async () => (await post(field)).status, { timeout: 5_000 }).toBe(200)
    expect(await isAlive(browser)).toBe(false)
  })
})

describe('§4 denial of service', () => {
  it('a flood of bad tokens is turned away unread, and asks the provider for nothing', async () => {
    const flooded = await startWholeGateway({
      env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined },
    })
    provider.forgetRequests()
    const bad = await provider.logoutToken({ header: { kid: 'nobody' } })
    const statuses: number[] = []
    for (let round = 0; round < 20; round += 1)
      statuses.push(
        ...(await Promise.all(
          Array.from({ length: 20 }, async () => {
            const answer = await rawRequest(flooded.port, {
              method: 'POST',
              target: '/bff/backchannel-logout',
              lines: [FORM],
              body: `logout_token=${bad}`,
            })
            return answer.status
          }),
        )),
      )
    await flooded.close()
    expect(new Set(statuses)).toEqual(new Set([400, 429]))
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThanOrEqual(180)
    expect(provider.requestsTo('jwks').length).toBeLessThanOrEqual(2)
  })
})
