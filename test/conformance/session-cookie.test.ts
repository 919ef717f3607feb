/** RFC 6265bis and RFC 10017 §6.1.3.2: the gateway's cookies on the wire, by setting. */

import { afterEach, describe, expect, it } from 'vitest'
import { navigation, rawRequest, SAME_ORIGIN_FETCH } from '../hostile/raw-request.ts'
import { FakeProvider } from '../support/fake-provider.ts'
import { CLIENT_ID, startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
let provider: FakeProvider
afterEach(async () => {
  await whole.close()
  await provider.close()
})

const PUBLIC = 'https://app.example.com'

interface Line {
  readonly name: string
  readonly value: string
  readonly attributes: readonly string[]
}

const parsed = (line: string): Line => {
  const [pair = '', ...attributes] = line.split('; ')
  const [name = '', ...value] = pair.split('=')
  return { name, value: value.join('='), attributes: attributes.toSorted() }
}

/** Signs in and out by bare requests, as through a TLS proxy: every `Set-Cookie` line on the way. */
const cookiesOf = async (env: Readonly<Record<string, string>>) => {
  provider = await FakeProvider.start({ clientId: CLIENT_ID })
  whole = await startWholeGateway({
    env: { COATCHECK_ISSUER: provider.issuer, COATCHECK_RESOURCE: undefined, ...env },
  })
  const started = await rawRequest(whole.port, {
    target: '/bff/login?returnTo=/x',
    lines: navigation('none'),
  })
  const [transaction] = started.headerLines('set-cookie').map(parsed)
  const approved = await fetch(started.header('location') ?? '', { redirect: 'manual' })
  const callback = new URL(approved.headers.get('location') ?? '')
  const signedIn = await rawRequest(whole.port, {
    target: `${callback.pathname}${callback.search}`,
    lines: [`Cookie: ${transaction?.name}=${transaction?.value}`, ...navigation('cross-site')],
  })
  const after = signedIn.headerLines('set-cookie').map(parsed)
  const session = after.find(({ value }) => value.startsWith('Fe26.2*'))
  const signedOut = await rawRequest(whole.port, {
    method: 'POST',
    target: '/bff/logout',
    lines: [`Cookie: ${session?.name}=${session?.value}`, ...SAME_ORIGIN_FETCH],
  })
  const out = signedOut.headerLines('set-cookie').map(parsed)
  return {
    callback,
    transaction,
    transactionCleared: after.find(({ value }) => value === ''),
    session,
    sessionCleared: out.find(({ value }) => value === ''),
    logout: out.find(({ value }) => value !== ''),
  }
}

const attributes = (sameSite: string, maxAge?: string) =>
  [
    'HttpOnly',
    'Path=/',
    `SameSite=${sameSite}`,
    'Secure',
    ...(maxAge === undefined ? [] : [`Max-Age=${maxAge}`]),
  ].toSorted()

describe('RFC 10017 §6.1.3.2 __Host-Http-, Secure, HttpOnly, Path=/, no Domain', () => {
  it('by default: Strict for the session, which ends with the browser; Lax for what must survive a redirect', async () => {
    const cookies = await cookiesOf({})
    const { port } = whole
    expect(cookies.session).toMatchObject({
      name: `__Host-Http-coatcheck-${port}`,
      attributes: attributes('Strict'),
    })
    expect(cookies.transaction).toMatchObject({
      name: `__Host-Http-coatcheck-login-0-${port}`,
      attributes: attributes('Lax', '600'),
    })
    expect(cookies.logout).toMatchObject({
      name: `__Host-Http-coatcheck-logout-${port}`,
      attributes: attributes('Lax', '600'),
    })
    // RFC 6265bis §5.7: a cookie is only replaced by one of the same name, path and prefix rules.
    expect(cookies.sessionCleared).toMatchObject({
      name: cookies.session?.name,
      attributes: attributes('Strict', '0'),
    })
    expect(cookies.transactionCleared).toMatchObject({
      name: cookies.transaction?.name,
      attributes: attributes('Lax', '0'),
    })
  })

  it('session.sameSite: lax', async () => {
    const { session, sessionCleared } = await cookiesOf({ COATCHECK_SESSION_SAME_SITE: 'lax' })
    expect(session?.attributes).toEqual(attributes('Lax'))
    expect(sessionCleared?.attributes).toEqual(attributes('Lax', '0'))
  })

  it('session.persistent: as long as the session may live', async () => {
    const { session } = await cookiesOf({
      COATCHECK_SESSION_PERSISTENT: 'true',
      COATCHECK_SESSION_ABSOLUTE: '2h',
    })
    expect(session?.attributes).toEqual(attributes('Strict', '7200'))
  })

  it('an https public URL: no port in the names, and everything is built from it', async () => {
    const { session, transaction, logout, callback } = await cookiesOf({
      COATCHECK_PUBLIC_URL: PUBLIC,
    })
    expect(session).toMatchObject({
      name: '__Host-Http-coatcheck',
      attributes: attributes('Strict'),
    })
    expect(transaction?.name).toBe('__Host-Http-coatcheck-login-0')
    expect(logout?.name).toBe('__Host-Http-coatcheck-logout')
    expect(callback.origin).toBe(PUBLIC)
    const refused = await rawRequest(whole.port, {
      target: '/bff/session',
      lines: [`Origin: ${whole.url}`],
    })
    // Beyond loopback nobody is told what was expected.
    expect([refused.status, refused.json().expectedOrigin]).toEqual([403, undefined])
    const elsewhere = await rawRequest(whole.port, { target: '/x', lines: navigation('none') })
    expect(elsewhere.status).toBe(404)
  })

  it('RFC 6265bis §5.6 each is far below the 4096 octets of a browser', async () => {
    const { session, transaction, logout } = await cookiesOf({})
    expect(session?.value.length).toBeLessThanOrEqual(1024)
    expect(transaction?.value.length).toBeLessThanOrEqual(1536)
    expect(logout?.value.length).toBeLessThanOrEqual(1536)
  })
})
