/**
 * Attack: a page of another site, of a sibling subdomain or of another port makes the victim's browser send a
 * request that carries the session cookie. Here every header combination that browsers send in such cases, and some
 * that only tools send, comes with the live cookie of a signed-in user. Nothing may reach the API, and neither store
 * nor memory may even be asked (Redis counts its commands, the gateway its lookups): the guard decides from headers
 * alone.
 */

import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ListeningServer, startListener } from '../../src/edges/http/listener.ts'
import type { Browser } from '../support/browser.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { answerJson } from '../support/upstream-api.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'
import { cookieLine, navigation, rawRequest, SAME_ORIGIN_FETCH } from './raw-request.ts'

let redis: RedisServer
let inspector: Redis
let whole: WholeGateway
let operations: ListeningServer
let browser: Browser
let logoutLink: string
beforeAll(async () => {
  redis = await startRedis()
  inspector = new Redis(redis.url)
  whole = await startWholeGateway({ env: { COATCHECK_REDIS_URL: redis.url } })
  operations = await startListener({
    listener: whole.gateway.operations,
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
  browser = await whole.signedIn()
  const session = (await browser.fetch('/bff/session')).json() as { links: { logout: string } }
  logoutLink = session.links.logout
})
afterAll(async () => {
  inspector.disconnect()
  await operations.close()
  await whole.close()
  await redis.close()
})
beforeEach(() => whole.api.forgetRequests())

const lookups = async (): Promise<readonly string[]> => {
  const metrics = await fetch(`http://127.0.0.1:${operations.address.port}/metrics`)
  return (await metrics.text()).match(/^coatcheck_session_lookups_total.*$/gm) ?? []
}

/** Commands that Redis ran for anyone but this test and the proof that changes are told, and `lookup` for any lookup. */
const askedDuring = async (action: () => Promise<unknown>): Promise<readonly string[]> => {
  const before = await lookups()
  expect(before).toHaveLength(2)
  await inspector.config('RESETSTAT')
  await action()
  const commands = [...(await inspector.info('commandstats')).matchAll(/^cmdstat_([^:]+):/gm)]
    .map((match) => match[1] ?? '')
    .filter((name) => !['info', 'config|resetstat', 'ping'].includes(name))
  const after = await lookups()
  return after.join() === before.join() ? commands : [...commands, 'lookup']
}

const attacks = (own: string): readonly (readonly [string, readonly string[]])[] => {
  const fetched = ['Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty']
  const [, port] = own.split('localhost:')
  return [
    [
      'a fetch of another site',
      ['Sec-Fetch-Site: cross-site', ...fetched, 'Origin: https://evil.example'],
    ],
    ['a fetch of another site without Origin', ['Sec-Fetch-Site: cross-site', ...fetched]],
    [
      'an image of another site',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: image'],
    ],
    [
      'a form or link of another site',
      [...navigation('cross-site'), 'Origin: https://evil.example'],
    ],
    ['a link of another site', navigation('cross-site')],
    ['a sandboxed form of another site', [...navigation('cross-site'), 'Origin: null']],
    [
      'a frame of another site',
      ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    [
      'a fetch of a sibling subdomain',
      ['Sec-Fetch-Site: same-site', ...fetched, 'Origin: http://b.localhost'],
    ],
    [
      'a fetch of another port',
      ['Sec-Fetch-Site: same-site', ...fetched, 'Origin: http://localhost:1'],
    ],
    ['a link of a sibling', navigation('same-site')],
    [
      'a sibling’s speculation prefetch',
      [...navigation('none'), 'Sec-Purpose: prefetch;anonymous-client-ip'],
    ],
    ['a sibling’s prerendering', [...navigation('none'), 'Sec-Purpose: prefetch;prerender']],
    ['an old browser’s prefetch', [...navigation('none'), 'Purpose: prefetch']],
    ['no page at all, yet a fetch', ['Sec-Fetch-Site: none', ...fetched]],
    [
      'no page at all, yet a frame',
      ['Sec-Fetch-Site: none', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
    ],
    ['no page at all, without mode', ['Sec-Fetch-Site: none']],
    ['no page at all, yet an Origin', [...navigation('none'), 'Origin: https://evil.example']],
    [
      'our page by one header, another by the next',
      [...SAME_ORIGIN_FETCH, 'Origin: https://evil.example'],
    ],
    [
      'our page by one header, a sibling by the next',
      [...SAME_ORIGIN_FETCH, 'Origin: http://localhost:1'],
    ],
    ['a relation that no browser knows', ['Sec-Fetch-Site: same-planet', ...fetched]],
    ['a relation in other letters', ['Sec-Fetch-Site: Same-Origin', ...fetched]],
    ['an empty relation', ['Sec-Fetch-Site:', ...fetched]],
    ['two relations', ['Sec-Fetch-Site: same-origin', 'Sec-Fetch-Site: cross-site', ...fetched]],
    ['two relations in one line', ['Sec-Fetch-Site: same-origin, same-origin', ...fetched]],
    ['an old browser at another site', ['Origin: https://evil.example']],
    ['an old browser in a sandbox', ['Origin: null']],
    ['an old browser at another port', ['Origin: http://localhost:1']],
    ['an old browser under another scheme', [`Origin: https://localhost:${port}`]],
    ['an old browser on a host that begins like ours', [`Origin: ${own}.evil.example`]],
    ['an old browser on a host that ends like ours', [`Origin: http://evil-localhost:${port}`]],
    ['an old browser on our address by number', [`Origin: http://127.0.0.1:${port}`]],
    ['our origin with a path', [`Origin: ${own}/`]],
    ['our origin in capitals', [`Origin: ${own.toUpperCase()}`]],
    ['two origins', [`Origin: ${own}`, 'Origin: https://evil.example']],
    ['two origins, ours last', ['Origin: https://evil.example', `Origin: ${own}`]],
    ['an empty Origin', ['Origin:']],
    ['a form of an old browser', ['Accept: text/html']],
    ['nothing at all', []],
    ['our own page in Referer alone', [`Referer: ${own}/`]],
    ['a wrong value of the static header', ['X-CSRF: 0']],
    ['the static header twice', ['X-CSRF: 1', 'X-CSRF: 1']],
    ['the static header from another site', ['Origin: https://evil.example', 'X-CSRF: 1']],
    [
      'the static header beside Fetch Metadata',
      ['Sec-Fetch-Site: cross-site', ...fetched, 'X-CSRF: 1'],
    ],
    [
      'a Bearer token that the route does not take',
      ['Sec-Fetch-Site: cross-site', ...fetched, 'Authorization: Bearer x'],
    ],
    ['Basic credentials', ['Sec-Fetch-Site: cross-site', ...fetched, 'Authorization: Basic YTpi']],
    [
      'another method in a header',
      ['Sec-Fetch-Site: cross-site', ...fetched, 'X-HTTP-Method-Override: GET'],
    ],
    ['a forged Host', ['Host: evil.example', 'Origin: http://evil.example']],
    [
      'a forged X-Forwarded-Host',
      ['Origin: https://evil.example', 'X-Forwarded-Host: evil.example'],
    ],
  ]
}

const targets = () =>
  [
    ['GET', '/api/items'],
    ['HEAD', '/api/items'],
    ['OPTIONS', '/api/items'],
    ['QUERY', '/api/items'],
    ['POST', '/api/items'],
    ['PUT', '/api/items/1'],
    ['PATCH', '/api/items/1'],
    ['DELETE', '/api/items/1'],
    ['GET', '/bff/session'],
    ['POST', '/bff/login'],
    ['POST', '/bff/logout'],
    ['GET', logoutLink],
    ['GET', '/bff/logout/continue'],
    ['GET', '/%62ff/session'],
  ] as const

/** The body of a form that reads as JSON: the classic way past guards that look at content types. */
const bodyFor = (method: string) =>
  ['POST', 'PUT', 'PATCH', 'QUERY'].includes(method)
    ? { lines: ['Content-Type: text/plain'], body: '{"returnTo":"/x","a":"="}' }
    : { lines: [] }

describe('RFC 10017 §6.1.3.3 a request that did not come from the application is refused', () => {
  it('by headers alone, on every route and endpoint, and the session lives on', async () => {
    const asked = await askedDuring(async () => {
      for (const [attack, lines] of attacks(whole.url)) {
        for (const [method, target] of targets()) {
          const { lines: more, ...body } = bodyFor(method)
          const answer = await rawRequest(whole.port, {
            method,
            target,
            lines: [cookieLine(browser), ...lines, ...more],
            ...body,
          })
          const what = `${attack}: ${method} ${target.split('?')[0]}`
          expect([what, answer.status]).toEqual([what, 403])
          expect(answer.headerLines('set-cookie')).toEqual([])
          if (method !== 'HEAD') expect(answer.text).toContain('csrf_rejected')
        }
      }
    })
    expect(whole.api.requests).toEqual([])
    expect(asked).toEqual([])
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })
  })

  it('without a cookie too, at every endpoint of the gateway', async () => {
    for (const [attack, lines] of attacks(whole.url))
      for (const [method, target] of targets().filter(([, path]) => !path.startsWith('/api'))) {
        const answer = await rawRequest(whole.port, { method, target, lines })
        expect([attack, target, answer.status]).toEqual([attack, target, 403])
      }
  })

  it('no page load of the address bar changes anything: only GET and HEAD are typed', async () => {
    for (const [method, target] of targets().filter(([name]) => !['GET', 'HEAD'].includes(name))) {
      const answer = await rawRequest(whole.port, {
        method,
        target,
        lines: [cookieLine(browser), ...navigation('none')],
      })
      expect([method, target, answer.status]).toEqual([method, target, 403])
    }
    expect(whole.api.requests).toEqual([])
  })

  it('its honest twins pass, and ask for the session', async () => {
    const asked = await askedDuring(() => browser.fetch('/bff/session'))
    expect(asked).toContain('lookup')
    for (const lines of [
      SAME_ORIGIN_FETCH,
      [...SAME_ORIGIN_FETCH, `Origin: ${whole.url}`],
      [...navigation('same-origin'), 'Origin: null'],
      [`Origin: ${whole.url}`],
      ['X-CSRF: 1'],
      navigation('none'),
    ]) {
      const answer = await rawRequest(whole.port, {
        target: '/api/items',
        lines: [cookieLine(browser), ...lines],
      })
      expect([lines, answer.status]).toEqual([lines, 200])
    }
  })

  it('a request without our cookie carries nothing to steal: the API route says 401, not 403', async () => {
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: ['Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: cors', 'Origin: https://evil.example'],
    })
    expect(answer.status).toBe(401)
    expect(answer.json()).toMatchObject({ code: 'session_required' })
    expect(whole.api.requests).toEqual([])
  })
})

describe('RFC 10017 §6.1.3.3.2 CORS stays closed', () => {
  const hasCors = (answer: { rawHeaders: readonly string[] }) =>
    answer.rawHeaders.some((name, index) => index % 2 === 0 && /^access-control-/i.test(name))

  it.each([
    ['POST', '/api/items'],
    ['DELETE', '/api/items/1'],
    ['GET', '/bff/session'],
    ['POST', '/bff/login'],
    ['POST', '/bff/logout'],
  ])('a preflight for %s %s gets no Access-Control field', async (method, target) => {
    for (const origin of ['https://evil.example', 'null', 'http://localhost:1'])
      for (const cookie of [[], [cookieLine(browser)]]) {
        const answer = await rawRequest(whole.port, {
          method: 'OPTIONS',
          target,
          lines: [
            ...cookie,
            `Origin: ${origin}`,
            `Access-Control-Request-Method: ${method}`,
            'Access-Control-Request-Headers: x-csrf,content-type',
            'Sec-Fetch-Site: cross-site',
            'Sec-Fetch-Mode: cors',
            'Sec-Fetch-Dest: empty',
          ],
        })
        expect(answer.status).toBeGreaterThanOrEqual(400)
        expect(hasCors(answer)).toBe(false)
      }
    expect(whole.api.requests).toEqual([])
  })

  it('an API that opens itself to everybody does not open the gateway', async () => {
    whole.api.answerWith(
      answerJson({}, 200, {
        'access-control-allow-origin': '*',
        'access-control-allow-credentials': 'true',
        'access-control-expose-headers': 'x-secret',
      }),
    )
    const answer = await rawRequest(whole.port, {
      target: '/api/items',
      lines: [cookieLine(browser), ...SAME_ORIGIN_FETCH],
    })
    expect(answer.status).toBe(200)
    expect(hasCors(answer)).toBe(false)
    whole.api.answerWith(answerJson({ ok: true }))
  })
})

describe('RFC 10017 §6.1.3.3.2 with csrf: header, the static header is demanded too', () => {
  let strict: WholeGateway
  let strictBrowser: Browser
  beforeAll(async () => {
    strict = await startWholeGateway({ env: { COATCHECK_CSRF: 'header' } })
    strictBrowser = await strict.signedIn()
  })
  afterAll(() => strict.close())

  const ask = (target: string, lines: readonly string[], method = 'GET') =>
    rawRequest(strict.port, { method, target, lines: [cookieLine(strictBrowser), ...lines] })

  it.each([
    ['GET', '/api/items'],
    ['POST', '/api/items'],
    ['GET', '/bff/session'],
    ['POST', '/bff/logout'],
  ])('%s %s without it is refused though it comes from our own page', async (method, target) => {
    for (const lines of [
      SAME_ORIGIN_FETCH,
      [...SAME_ORIGIN_FETCH, 'X-CSRF: 2'],
      [`Origin: ${strict.url}`],
    ])
      expect((await ask(target, lines, method)).status).toBe(403)
    expect(strict.api.requests).toEqual([])
  })

  it('with it, only what also comes from our own page passes', async () => {
    expect((await ask('/api/items', [...SAME_ORIGIN_FETCH, 'X-CSRF: 1'])).status).toBe(200)
    expect((await ask('/api/items', navigation('none'))).status).toBe(200)
    strict.api.forgetRequests()
    for (const [attack, lines] of attacks(strict.url).filter(
      ([, all]) => !all.includes('X-CSRF: 1'),
    )) {
      const answer = await ask('/api/items', [...lines, 'X-CSRF: 1'])
      const isPlain = !lines.some((line) => /^(sec-fetch|origin|x-csrf)/i.test(line))
      expect([attack, answer.status]).toEqual([attack, isPlain ? 200 : 403])
    }
  })
})
