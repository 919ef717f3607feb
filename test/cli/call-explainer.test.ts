/** Explanations of failing calls: which answer says what, and that nothing is said twice or of a token. */

import { beforeEach, expect, test } from 'vitest'
import { createCallExplainer } from '../../src/cli/call-explainer.ts'
import { milliseconds } from '../../src/time.ts'
import type {
  UpstreamFault,
  UpstreamObserver,
  UpstreamRequest,
} from '../../src/upstream/forward.ts'

const API = 'http://localhost:4000'
const APP = 'http://localhost:5173'

const jwt = (claims: object) =>
  ['{"alg":"ES256"}', JSON.stringify(claims), 'signature']
    .map((part) => Buffer.from(part).toString('base64url'))
    .join('.')
const IN_AN_HOUR = Math.floor(Date.now() / 1000) + 3600
const TOKEN = jwt({ iss: 'http://127.0.0.1:3100', aud: ['a', 'b'], scope: 'api', exp: IN_AN_HOUR })

let said: string[]
let explainer: ReturnType<typeof createCallExplainer>

beforeEach(() => {
  said = []
  explainer = createCallExplainer({
    app: APP,
    apiSetting: '--api',
    appSetting: '--spa',
    stripsPrefix: (origin) => origin.endsWith(':4001'),
    jwksUri: 'http://127.0.0.1:3100/jwks',
    say: (lines) => void said.push(lines.join('\n')),
  })
})

interface Call {
  readonly origin?: string
  readonly path?: string
  readonly headers?: readonly string[]
  readonly towards?: 'routes' | 'app'
}

const watched = (answer: (observer: UpstreamObserver) => void, call: Call = {}) => {
  const seen: unknown[] = []
  const dispatch = explainer.watch((_request, observer) => {
    answer(observer)
    return { pause: () => undefined, resume: () => undefined, abort: () => undefined }
  }, call.towards ?? 'routes')
  const request: UpstreamRequest = {
    origin: call.origin ?? API,
    path: call.path ?? '/api/items?secret=1',
    method: 'GET',
    headers: call.headers ?? ['accept', '*/*', 'authorization', `Bearer ${TOKEN}`],
    body: null,
    timeouts: {
      connectMs: milliseconds(1),
      firstByteMs: milliseconds(1),
      idleMs: milliseconds(1),
    },
    connection: 'any',
    isAgain: false,
    endsAtMs: undefined,
  }
  dispatch(request, {
    onHead: (status) => void seen.push(status),
    onChunk: (chunk) => void seen.push(String(chunk)),
    onEnd: () => void seen.push('end'),
    onFault: ({ kind }) => void seen.push(kind),
  })
  return seen
}

const answered = (status: number, headers: readonly string[] = [], call: Call = {}) =>
  watched((observer) => observer.onHead(status, headers), call)
const failed = (fault: UpstreamFault, call: Call = {}) =>
  watched((observer) => observer.onFault(fault), call)
const unreachable = (reason: string): UpstreamFault => ({
  kind: 'unreachable',
  reason,
  cause: undefined,
  unanswered: false,
})
const challenge = (description: string) => [
  'WWW-Authenticate',
  `Bearer realm="audience issuer", error="invalid_token", error_description="${description}"`,
]

test('everything is passed on, and a good call needs no words', () => {
  const seen = watched((observer) => {
    observer.onHead(200, ['content-type', 'application/json'])
    observer.onChunk(Buffer.from('{}'))
    observer.onEnd()
  })
  expect(seen).toEqual([200, '{}', 'end'])
  expect(failed({ kind: 'busy', reason: 'queue_full' })).toEqual(['busy'])
  expect(said).toEqual([])
})

test.each([
  ['The audience is invalid', 'Tell the API the audience a and b'],
  ['jwt issuer invalid', 'Tell the API the issuer http://127.0.0.1:3100'],
  ['The signature key was not found', 'could not verify the signature'],
  ['no luck today', 'Tell the API this issuer and this audience'],
])('a 401 for “%s”', (description, words) => {
  answered(401, challenge(description))
  expect(said).toHaveLength(1)
  expect(said[0]).toContain(words)
  expect(said[0]).toContain('audience a and b, scope api')
  expect(said[0]).not.toContain(TOKEN)
  expect(said[0]).not.toContain('secret=1')
})

test('a 401 to an opaque token, and to none', () => {
  answered(401, [], { headers: ['authorization', 'Bearer opaque.token'] })
  expect(said.pop()).toContain('The token is no JWT')
  answered(401, [], { headers: ['authorization', 'Bearer a.b.c'] })
  expect(said).toEqual([])
  answered(401, [], { headers: [] })
  expect(said.pop()).toContain('it was sent no access token')
})

test('a 401 to a token that has run out is refreshed without words', () => {
  const headers = ['authorization', `Bearer ${jwt({ exp: 1 })}`]
  answered(401, challenge('expired'), { headers })
  expect(said).toEqual([])
})

test('a 403 is the API’s own affair, unless it wants a scope', () => {
  answered(403)
  expect(said).toEqual([])
  answered(403, ['www-authenticate', 'Bearer error="insufficient_scope", scope="orders:read"'])
  expect(said[0]).toContain('lacks a scope, orders:read.')
})

test('HTML is explained where JSON could be expected', () => {
  const html = ['content-type', 'text/html; charset=utf-8']
  answered(200, html, { headers: ['accept', 'text/html,*/*'] })
  answered(500, html)
  expect(said).toEqual([])
  answered(200, html)
  expect(said[0]).toContain('most likely the development server of your app')
  answered(200, html, { origin: APP })
  expect(said[1]).toContain('It is the server of your app')
})

test('a 404 is explained by what was done with the prefix', () => {
  answered(404)
  expect(said.pop()).toContain('COATCHECK_UPSTREAM_STRIP_PREFIX=true')
  answered(404, [], { origin: 'http://localhost:4001', path: '/items' })
  expect(said.pop()).toContain('The prefix was taken away before')
})

test.each([
  ['connection_refused', 'routes', 'where your API should be', '--api'],
  ['name_not_resolved', 'routes', 'where your API should be', '--api'],
  ['connection_refused', 'app', 'where your app should be', '--spa'],
  ['tls_untrusted', 'routes', 'certificate of http://localhost:4000 is not accepted', '--api'],
] as const)('%s towards %s', (reason, towards, words, setting) => {
  failed(unreachable(reason), { towards })
  expect(said[0]).toContain(words)
  expect(said[0]).toContain(setting)
})

test('a timeout names the limit', () => {
  failed({ kind: 'timeout', reason: 'first_byte' })
  expect(said[0]).toContain('COATCHECK_UPSTREAM_TIMEOUT_FIRST_BYTE')
})

test('each cause is told once for each origin, and not without end', () => {
  for (let calls = 0; calls < 3; calls += 1) failed(unreachable('connection_refused'))
  expect(said).toHaveLength(1)
  for (let port = 1; port <= 200; port += 1)
    failed(unreachable('connection_refused'), { origin: `http://localhost:${port}` })
  expect(said).toHaveLength(30)
})

test('what the app’s own server answers is not judged', () => {
  answered(404, [], { towards: 'app', origin: APP })
  answered(401, [], { towards: 'app', origin: APP })
  expect(said).toEqual([])
})

test('an API cannot steer the terminal, nor fill it', () => {
  answered(401, challenge(`\u001b]0;owned\u0007\u202e${'x'.repeat(10_000)}`))
  expect(said[0]).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
  expect(said[0]?.length).toBeLessThan(2_000)
})
