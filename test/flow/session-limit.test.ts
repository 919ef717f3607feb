/** `session.maxPerUser`: the oldest session makes room, or the sign-in is refused; nobody else notices. */

import { afterEach, describe, expect, it } from 'vitest'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { signIn } from '../support/sign-in.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
afterEach(() => whole.close())

const start = async (beyondMax: string) => {
  whole = await startWholeGateway({
    env: { COATCHECK_SESSION_MAX_PER_USER: '2', COATCHECK_SESSION_BEYOND_MAX: beyondMax },
  })
}
const isAlive = async (browser: Browser) =>
  ((await browser.fetch('/bff/session')).json() as { authenticated: boolean }).authenticated
const alive = (...browsers: readonly Browser[]) => Promise.all(browsers.map(isAlive))
const reasons = () =>
  whole.log.flatMap(({ event, reason }) => (event === 'session_ended' ? [reason] : []))

describe('evict-oldest', () => {
  it('ends the user’s oldest session, and no one else’s', async () => {
    await start('evict-oldest')
    const bob = await whole.signedIn('bob')
    const [first, second] = [await whole.signedIn(), await whole.signedIn()]
    expect(await alive(first, second)).toEqual([true, true])
    const third = await whole.signedIn()
    expect(await alive(bob, first, second, third)).toEqual([true, false, true, true])
    expect(reasons()).toEqual(['session_limit'])
  })

  it('counts no session that was signed out, and not the one that is replaced', async () => {
    await start('evict-oldest')
    const [first, second] = [await whole.signedIn(), await whole.signedIn()]
    await signIn(second, whole.url)
    expect(await alive(first, second)).toEqual([true, true])
    await second.fetch('/bff/logout', { method: 'POST' })
    const third = await whole.signedIn()
    expect(await alive(first, third)).toEqual([true, true])
  })
})

describe('deny', () => {
  it('refuses the sign-in with a page that says so, and keeps what there was', async () => {
    await start('deny')
    const [first, second] = [await whole.signedIn(), await whole.signedIn()]
    const third = whole.browser()
    const page = await signIn(third, whole.url)
    expect(page.status).toBe(403)
    expect(page.text).toContain('sign_in_refused')
    expect(sessionCookie(third)).toBeUndefined()
    expect(await alive(first, second)).toEqual([true, true])
    expect(whole.log).toContainEqual(
      expect.objectContaining({ event: 'sign_in_refused', reason: 'session_limit' }),
    )
    // What the provider had issued for it is not left behind.
    await expect.poll(() => whole.provider.revokedGrants().length).toBe(1)

    await first.fetch('/bff/logout', { method: 'POST' })
    expect(await isAlive(await whole.signedIn())).toBe(true)
  })

  it('lets a browser that is signed in already sign in again', async () => {
    await start('deny')
    const [first, second] = [await whole.signedIn(), await whole.signedIn()]
    await signIn(second, whole.url)
    expect(await alive(first, second)).toEqual([true, true])
  })

  it('of sign-ins at once lets in as many as there is room for', async () => {
    await start('deny')
    const browsers = Array.from({ length: 6 }, () => whole.browser())
    await Promise.all(browsers.map((browser) => signIn(browser, whole.url)))
    const signedIn = browsers.filter((browser) => sessionCookie(browser) !== undefined)
    expect(signedIn).toHaveLength(2)
    expect(await alive(...signedIn)).toEqual([true, true])
  })
})
