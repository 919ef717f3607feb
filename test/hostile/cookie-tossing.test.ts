/**
 * Attack: whoever can write a cookie for the victim's host (a sibling subdomain, another port, a plain-http twin, a
 * script) plants one under the gateway's names: a second one beside the real one, one of the attacker's own, one
 * of another gateway, one made up. Raw `Cookie` lines stand for the jar that was written to. What is planted must
 * open nothing, count as absent, and stay where it is: clearing it would let the attacker end sessions.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createSealer } from '../../src/session/seal.ts'
import { newTicket } from '../../src/session/ticket.ts'
import { seconds } from '../../src/time.ts'
import type { Browser } from '../support/browser.ts'
import { loginCookies, logoutCookie, sessionCookie } from '../support/cookies.ts'
import { RING_SECRET, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let whole: WholeGateway
let neighbour: WholeGateway
let browser: Browser
let name: string
let good: string
/** Cookie values under the session's name, by what they are. */
let planted: Readonly<Record<string, string>>
beforeAll(async () => {
  whole = await startWholeGateway()
  // The same secret: what keeps the two apart must be something else.
  neighbour = await startWholeGateway()
  browser = await whole.signedIn()
  const cookie = sessionCookie(browser)
  name = cookie?.name ?? ''
  good = cookie?.value ?? ''
  planted = await plantedValues()
})
afterAll(async () => {
  await whole.close()
  await neighbour.close()
})
beforeEach(() => whole.api.forgetRequests())

const plantedValues = async () => {
  const ours = createSealer({ current: createKeyRing([RING_SECRET]) })
  const foreign = createSealer({ current: createKeyRing(['the-ring-of-somebody-else-entirely-0']) })
  const { id, key } = newTicket(undefined)
  const ticket = { id, key: key.toString('base64url') }
  const hour = seconds(3600)
  const abandoned = whole.browser()
  await abandoned.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
  const leaving = await whole.signedIn()
  await leaving.fetch('/bff/logout', { method: 'POST' })
  const parts = good.split('*')
  return {
    'a sign-in’s seal': loginCookies(abandoned)[0]?.value ?? '',
    'a sign-out’s seal': logoutCookie(leaving)?.value ?? '',
    'our seal of a ticket for another purpose': await ours.seal('logout', ticket, hour),
    'our seal of something else than a ticket': await ours.seal('ticket', { id: 1, key: [] }, hour),
    'our seal of a ticket that leads nowhere': await ours.seal('ticket', ticket, hour),
    'a seal of an unknown secret': await foreign.seal('ticket', ticket, hour),
    'the session of a neighbour on another port':
      sessionCookie(await neighbour.signedIn())?.value ?? '',
    'the real seal with something behind its mark': `${good}~2`,
    'the real seal with another mark': good.replace(/~2$/, '~1'),
    'the real seal with a long mark': good.replace(/~2$/, `~${'z'.repeat(200)}`),
    'the real seal twice over': `${good}${good}`,
    'the real seal in quotes': `"${good}"`,
    'the real seal, its key in other letters': good.replace(/(Fe26\.2\*\d+\*[0-9a-f]+)/, (head) =>
      head.toUpperCase(),
    ),
    'the real seal with a later end': [
      ...parts.slice(0, 5),
      String(Number(parts[5]) + 9_000_000),
      ...parts.slice(6),
    ].join('*'),
    'the real seal, ended': [
      ...parts.slice(0, 5),
      String(Date.now() - 120_000),
      ...parts.slice(6),
    ].join('*'),
    'the real seal without its end': [...parts.slice(0, 5), '', ...parts.slice(6)].join('*'),
    'the real seal with another first byte': good.replace('Fe26', 'Ge26'),
    'the real seal, percent-encoded': encodeURIComponent(good).replaceAll('*', '%2A'),
    'a seal that is too large': good.replace(
      /\*[\w-]{43}~2$/,
      (end) => `${'A'.repeat(1024)}${end}`,
    ),
    'a megabyte no, but thirty thousand bytes': 'x'.repeat(30_000),
    'an object’s name': '__proto__',
    'a JWT': `eyJhbGciOiJub25lIn0.${Buffer.from('{"sub":"alice"}').toString('base64url')}.`,
    'a plain id': id,
    text: 'alice',
  }
}

const ask = (target: string, cookies: readonly string[], more = SAME_ORIGIN_FETCH) =>
  rawRequest(whole.port, { target, lines: [...cookies.map((line) => `Cookie: ${line}`), ...more] })

const expectOpensNothing = async (what: string, cookies: readonly string[]) => {
  const api = await ask('/api/items', cookies)
  expect([what, api.status]).toEqual([what, 401])
  expect(api.json()).toMatchObject({ code: 'session_required' })
  const lines = whole.log.length
  const session = await ask('/bff/session', cookies)
  expect([what, session.status]).toEqual([what, 200])
  expect(session.json()).toMatchObject({ authenticated: false, user: null, session: null })
  for (const answer of [api, session]) expect(answer.headerLines('set-cookie')).toEqual([])
  // A planted cookie would otherwise fill the log at every poll.
  expect(whole.log.slice(lines).filter(({ level }) => level !== 'debug')).toEqual([])
}

describe('RFC 6265bis §8.6 a cookie that others could write', () => {
  it('opens nothing under the session’s name, is not cleared and not logged above debug', async () => {
    for (const [what, value] of Object.entries(planted)) {
      if (what.includes('neighbour')) continue
      await expectOpensNothing(what, [`${name}=${value}`])
    }
    expect(whole.api.requests).toEqual([])
  })

  it('of a neighbour on another port is not read, and under our name leads nowhere', async () => {
    const other = planted['the session of a neighbour on another port'] ?? ''
    const theirs = name.replace(/\d+$/, String(neighbour.port))
    const beside = await ask('/bff/session', [`${theirs}=${other}; ${name}=${good}`])
    expect(beside.json()).toMatchObject({ authenticated: true })
    await expectOpensNothing('theirs alone', [`${theirs}=${other}`])
    const answer = await ask('/api/items', [`${name}=${other}`])
    expect([answer.status, answer.json().code]).toEqual([401, 'session_required'])
    expect(answer.headerLines('set-cookie')).toEqual([])
    expect(whole.api.requests).toEqual([])
    // Its operator hears why, once.
    const told = whole.log.filter(({ notice }) => notice === 'session_of_another_process')
    expect(told).toHaveLength(1)
  })

  it('RFC 6265bis §4.2.2 beside the real one spoils both: no rule says which is ours', async () => {
    const other = planted['a seal of an unknown secret'] ?? ''
    for (const cookies of [
      [`${name}=${good}; ${name}=${other}`],
      [`${name}=${other}; ${name}=${good}`],
      [`${name}=${good}`, `${name}=${other}`],
      [`${name}=${other}`, `a=b; ${name}=${good}`],
      [`${name}=${good}; ${name}=${good}`],
      [`${name}=; ${name}=${good}`],
      [`${name}=${good}; ${name} =x`],
    ])
      await expectOpensNothing(cookies.join(' | '), cookies)
    expect(whole.api.requests).toEqual([])
  })

  it('whose name only looks like ours is somebody else’s', async () => {
    for (const cookie of [
      `${name.toLowerCase()}=${good}`,
      `${name.toUpperCase()}=${good}`,
      `${name}x=${good}`,
      `x${name}=${good}`,
      `__Host-coatcheck=${good}`,
      `__Host-Http-coatcheck=${good}`,
      `coatcheck=${good}`,
      `=${name}=${good}`,
      `x="; ${name}x=${good}"`,
    ])
      await expectOpensNothing(cookie.slice(0, 40), [cookie])
  })
})

describe('the real cookie', () => {
  it('RFC 6265bis §4.2.1 is found among others, over several lines and without the seal’s inert mark', async () => {
    for (const cookies of [
      [`a=1; ${name}=${good}; b=2`],
      ['a=1', `${name}=${good}`, 'b=2'],
      [`;;a=1;;${name}=${good};`],
      [`${name}=${good.replace(/~2$/, '')}`],
    ]) {
      const answer = await ask('/bff/session', cookies)
      expect([cookies.length, answer.json().authenticated]).toEqual([cookies.length, true])
    }
  })

  it('never reaches the API, nor does any of its relatives', async () => {
    const cookies = `theme=dark; ${name}=${good}; ${name.replace('coatcheck', 'coatcheck-login-0')}=x; __Host-Http-coatcheck-1=y`
    expect((await ask('/api/items', [cookies])).status).toBe(200)
    expect(whole.api.requests[0]?.headerLines('cookie')).toEqual([])
  })
})

describe('a sign-in is not steered by planted cookies', () => {
  const SLOTS = ['0', '1', '2', '3']
  const loginName = (slot: string) => name.replace('coatcheck', `coatcheck-login-${slot}`)

  it('garbage in every slot leaves room for it', async () => {
    const victim = whole.browser()
    for (const slot of SLOTS)
      victim.jar.set(`${loginName(slot)}=garbage; Path=/; Secure; HttpOnly`, new URL(whole.url))
    await victim.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
    expect(loginCookies(victim).filter(({ value }) => value !== 'garbage')).toHaveLength(1)
  })

  it('slots that claim a far end do not keep it from begin and from end', async () => {
    const parts = (planted['a sign-in’s seal'] ?? '').split('*')
    const eternal = [...parts.slice(0, 5), '999999999999999', ...parts.slice(6)].join('*')
    const victim = whole.browser()
    for (const slot of SLOTS)
      victim.jar.set(`${loginName(slot)}=${eternal}; Path=/; Secure; HttpOnly`, new URL(whole.url))
    await victim.navigate(`${whole.url}/bff/login`, { redirect: 'manual' })
    expect(loginCookies(victim).filter(({ value }) => value !== eternal)).toHaveLength(1)
  })

  it('a session seal in a slot, and a sign-in’s seal in the session, are neither', async () => {
    const state = `0n${'a'.repeat(43)}`
    const answer = await ask(
      `/bff/callback?code=x&state=${state}`,
      [`${loginName('0')}=${good}; ${name}=${planted['a sign-in’s seal']}`],
      navigation('same-origin'),
    )
    // Begun anew: nothing was believed.
    expect(new URL(answer.header('location') ?? '').origin).toBe(whole.provider.issuer)
    expect(answer.headerLines('set-cookie').some((line) => line.startsWith(`${name}=`))).toBe(false)
  })
})
