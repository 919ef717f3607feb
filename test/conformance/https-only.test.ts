/** RFC 9700 §4.17, RFC 6797 §7.2: what comes in clear is redirected or refused, and never in a loop. */

import { type IncomingMessage, request } from 'node:http'
import { request as requestTls } from 'node:https'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import { createAuthority } from '../support/certificates.ts'
import { freePort } from '../support/free-port.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

const PUBLIC_URL = 'https://app.example.com'
const PAGE = { accept: 'text/html' }
const HSTS = 'max-age=31536000; includeSubDomains'

interface Answer {
  readonly status: number | undefined
  readonly location: string | undefined
  readonly hsts: string | undefined
  readonly code: string | undefined
}

const ask = (
  port: number,
  path: string,
  headers: Readonly<Record<string, string>>,
  {
    method = 'GET',
    tls,
  }: { readonly method?: string; readonly tls?: { readonly ca: string } } = {},
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port,
      path,
      method,
      agent: false,
      headers: { host: 'app.example.com', ...headers },
    }
    const onAnswer = async (response: IncomingMessage) => {
      let body = ''
      for await (const chunk of response) body += chunk
      const isProblem = response.headers['content-type'] === 'application/problem+json'
      resolve({
        status: response.statusCode,
        location: response.headers.location,
        hsts: response.headers['strict-transport-security'],
        code: isProblem ? (JSON.parse(body) as { code: string }).code : undefined,
      })
    }
    const sent =
      tls === undefined
        ? request(options, onAnswer)
        : requestTls({ ...options, ca: tls.ca, servername: 'app.example.com' }, onAnswer)
    sent.once('error', reject).end()
  })

const REFUSED: Answer = {
  status: 403,
  location: undefined,
  hsts: undefined,
  code: 'https_required',
}
const redirectTo = (path: string): Answer => ({
  status: 308,
  location: `${PUBLIC_URL}${path}`,
  hsts: undefined,
  code: undefined,
})

describe('TLS, and plain HTTP beside it', () => {
  const authority = createAuthority()
  const { cert, key } = authority.issue('app.example.com')
  const tls = { ca: authority.cert }
  const directory = temporaryDirectory({ 'tls.pem': cert, 'tls.key': key })
  let gateway: WholeGateway
  let plainPort: number
  beforeAll(async () => {
    plainPort = await freePort()
    gateway = await startWholeGateway({
      env: {
        COATCHECK_PUBLIC_URL: PUBLIC_URL,
        COATCHECK_TLS_CERT: join(directory, 'tls.pem'),
        COATCHECK_TLS_KEY: join(directory, 'tls.key'),
        COATCHECK_TLS_PLAIN_LISTEN: `127.0.0.1:${plainPort}`,
      },
    })
  })
  afterAll(() => gateway.close())

  it('serves over TLS, with the policy that pins browsers to it', async () => {
    expect(await ask(gateway.port, '/api/items', { 'x-csrf': '1' }, { tls })).toEqual({
      status: 401,
      location: undefined,
      hsts: HSTS,
      code: 'session_required',
    })
  })

  test.each([
    ['/'],
    ['/orders?a=1&b=%20%C3%A9'],
    ['/bff/login?returnTo=%2F'],
    ['/api/items?page=2'],
    ['/a//b/?'],
  ])('sends the navigation %s to the public URL, path and query as they are', async (path) => {
    expect(await ask(plainPort, path, PAGE)).toEqual(redirectTo(path))
  })

  it('sends it to the public host, whatever the request names', async () => {
    expect(await ask(plainPort, '/x', { ...PAGE, host: 'evil.example' })).toEqual(redirectTo('/x'))
    const absolute = await ask(plainPort, 'http://evil.example/x', PAGE)
    expect(absolute).toEqual(redirectTo('/x'))
  })

  test.each([['//evil.example/'], ['/\\evil.example/'], ['/..//evil.example']])(
    'does not redirect %s',
    async (path) => {
      const answer = await ask(plainPort, path, PAGE)
      expect(answer).toEqual({ ...REFUSED, status: 400, code: undefined })
    },
  )

  it('refuses calls, and says in the log when they carried a secret', async () => {
    expect(await ask(plainPort, '/api/items', {})).toEqual(REFUSED)
    const secret = 'cookie-that-leaked'
    const cookie = `__Host-Http-coatcheck=${secret}`
    expect(await ask(plainPort, '/api/items', { cookie })).toEqual(REFUSED)
    const form = await ask(plainPort, '/bff/logout', PAGE, { method: 'POST' })
    expect(form.status).toBe(403)
    expect(gateway.api.requests).toEqual([])
    const reasons = gateway.log
      .filter(({ code }) => code === 'https_required')
      .map(({ level, reason }) => `${level} ${reason}`)
    expect(reasons).toEqual(['warn in_clear', 'warn secret_in_clear', 'warn in_clear'])
    expect(gateway.logText()).not.toContain(secret)
  })

  it('refuses WebSocket handshakes', async () => {
    const answer = await ask(plainPort, '/api/socket', {
      ...PAGE,
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
    })
    expect(answer).toEqual(REFUSED)
  })

  it('a TLS ingress that leads here by mistake gets a refusal, not a loop', async () => {
    const browser = { ...PAGE, 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' }
    const { status } = await ask(plainPort, '/', browser)
    expect(status).toBe(403)
  })
})

describe('behind something that ends TLS', () => {
  const http = { ...PAGE, 'x-forwarded-proto': 'http' }
  const overHttps = {
    'sec-fetch-site': 'none',
    'sec-fetch-mode': 'navigate',
    'sec-fetch-dest': 'document',
  }
  const startBehind = (trusted: string | undefined) =>
    startWholeGateway({
      env: { COATCHECK_PUBLIC_URL: PUBLIC_URL, COATCHECK_TRUSTED_PROXIES: trusted },
    })

  describe.each([
    ['that is not in trustedProxies', undefined],
    ['that is trusted', '127.0.0.0/8'],
  ])('%s', (_name, trusted) => {
    let gateway: WholeGateway
    beforeAll(async () => {
      gateway = await startBehind(trusted)
    })
    afterAll(() => gateway.close())

    test.each<[string, Readonly<Record<string, string>>, boolean]>([
      ['nothing is said', PAGE, false],
      ['https is said', { ...PAGE, 'x-forwarded-proto': 'https' }, false],
      [
        'https, and http by an inner proxy that adds',
        { ...PAGE, 'x-forwarded-proto': 'https, http' },
        false,
      ],
      ['http, by an inner proxy that overwrites, of a browser', { ...http, ...overHttps }, false],
      ['http, of whoever tells nothing else', http, trusted !== undefined],
    ])('%s', async (_case, headers, redirects) => {
      const { status, location } = await ask(gateway.port, '/x?y', headers)
      expect([status, location]).toEqual(redirects ? [308, `${PUBLIC_URL}/x?y`] : [404, undefined])
    })

    it('calls in clear are refused where the proxy can be believed', async () => {
      const headers = { 'x-forwarded-proto': 'http', 'x-csrf': '1' }
      const { status, code } = await ask(gateway.port, '/api/items', headers)
      expect([status, code]).toEqual(
        trusted === undefined ? [401, 'session_required'] : [403, 'https_required'],
      )
    })

    it('the operator hears of a proxy that contradicts the browser, once', async () => {
      for (let i = 0; i < 2; i += 1) await ask(gateway.port, '/', { ...http, ...overHttps })
      const notices = gateway.log.filter(({ notice }) => notice === 'forwarded_proto')
      expect(notices).toHaveLength(trusted === undefined ? 0 : 1)
    })
  })
})
