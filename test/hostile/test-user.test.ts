/**
 * Attack: the development provider signs test users in without a password, by a header. A page that the developer has
 * open tries to send it, another machine too, and a test user is asked for under a name that is none.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isFromThisMachine } from '../../src/dev/sign-in.ts'
import { createBrowser } from '../support/browser.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway()
})
afterAll(() => whole.close())

const HEADER = 'coatcheck-test-user'

describe('a test user at the development provider', () => {
  it('signs in by the header alone', async () => {
    const browser = createBrowser()
    const landed = await browser.navigate(`${whole.url}/bff/login`, {
      headers: { [HEADER]: 'alice' },
    })
    expect(landed.url).toBe(`${whole.url}/`)
  })

  it('is no way in for a page: its preflight is granted nothing', async () => {
    const browser = createBrowser()
    const page = await browser.navigate(`${whole.url}/bff/login`)
    const answer = await fetch(page.url, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://attacker.example',
        'access-control-request-method': 'GET',
        'access-control-request-headers': HEADER,
      },
    })
    expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual(
      [],
    )
  })

  it('that does not exist is not signed in, and no password helps', async () => {
    for (const login of ['zed', 'alice / alice', '', 'Alice']) {
      const page = await createBrowser().navigate(`${whole.url}/bff/login`, {
        headers: { [HEADER]: login },
      })
      expect([login, new URL(page.url).origin]).toEqual([login, whole.provider.issuer])
    }
  })

  it('of another machine is nobody', () => {
    for (const address of ['127.0.0.1', '127.1.2.3', '::1', '::ffff:127.0.0.1'])
      expect([address, isFromThisMachine(address)]).toEqual([address, true])
    for (const address of ['10.0.0.1', '::ffff:10.0.0.1', 'fe80::1', '128.0.0.1', '', undefined])
      expect([address, isFromThisMachine(address)]).toEqual([address, false])
  })
})
