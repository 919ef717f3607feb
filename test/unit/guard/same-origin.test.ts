/** The same-origin guard as a table: each accepted form beside its rejected twins. */

import { expect, test } from 'vitest'
import { isDocumentNavigation, type RequestFacts } from '../../../src/guard/fetch-metadata.ts'
import { type RequestKind, sameOriginVerdict } from '../../../src/guard/same-origin.ts'

const OWN = 'https://app.example.com'

const request = (method: string, headers: Record<string, string>): RequestFacts => ({
  method,
  header: (name) => headers[name],
})

const verdict = (
  method: string,
  headers: Record<string, string>,
  mode: 'fetch-metadata' | 'header' = 'fetch-metadata',
  kind: RequestKind = 'http',
) => {
  const answer = sameOriginVerdict(request(method, headers), kind, { publicOrigin: OWN, mode })
  return answer.kind === 'pass' ? 'pass' : answer.reason
}

const NAVIGATION = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }

test.each([
  ['our own fetch', 'GET', { 'sec-fetch-site': 'same-origin' }, 'pass'],
  ['our own POST', 'POST', { 'sec-fetch-site': 'same-origin', origin: OWN }, 'pass'],
  [
    'our own form under no-referrer',
    'POST',
    { 'sec-fetch-site': 'same-origin', origin: 'null' },
    'pass',
  ],
  [
    'same-origin that names another origin',
    'POST',
    { 'sec-fetch-site': 'same-origin', origin: 'https://evil.example' },
    'origin_mismatch',
  ],
  [
    'cross-site fetch',
    'GET',
    { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' },
    'cross_site',
  ],
  [
    'cross-site that names our origin',
    'POST',
    { 'sec-fetch-site': 'cross-site', origin: OWN },
    'cross_site',
  ],
  ['cross-site navigation', 'GET', { 'sec-fetch-site': 'cross-site', ...NAVIGATION }, 'cross_site'],
  [
    'RFC 10017 §6.1.3.3.1 a sibling subdomain',
    'POST',
    { 'sec-fetch-site': 'same-site', origin: 'https://b.example.com' },
    'cross_site',
  ],
  ['an unknown value', 'GET', { 'sec-fetch-site': 'same-origin, cross-site' }, 'cross_site'],
  ['a value in capitals', 'GET', { 'sec-fetch-site': 'Same-Origin' }, 'cross_site'],
  ['a typed address', 'GET', { 'sec-fetch-site': 'none', ...NAVIGATION }, 'pass'],
  ['a typed address by HEAD', 'HEAD', { 'sec-fetch-site': 'none', ...NAVIGATION }, 'pass'],
  ['none by POST', 'POST', { 'sec-fetch-site': 'none', ...NAVIGATION }, 'not_a_navigation'],
  [
    'none by QUERY, safe as it is (RFC 10008)',
    'QUERY',
    { 'sec-fetch-site': 'none', ...NAVIGATION },
    'not_a_navigation',
  ],
  [
    'none as a fetch',
    'GET',
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' },
    'not_a_navigation',
  ],
  [
    'none in a frame',
    'GET',
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' },
    'not_a_navigation',
  ],
  [
    'a sibling’s speculation prefetch, which carries the Strict cookie',
    'GET',
    { 'sec-fetch-site': 'none', ...NAVIGATION, 'sec-purpose': 'prefetch' },
    'not_a_navigation',
  ],
  [
    'a prerender',
    'GET',
    { 'sec-fetch-site': 'none', ...NAVIGATION, 'sec-purpose': 'prefetch;prerender' },
    'not_a_navigation',
  ],
  ['no metadata, our Origin', 'POST', { origin: OWN }, 'pass'],
  ['no metadata, foreign Origin', 'POST', { origin: 'https://evil.example' }, 'origin_mismatch'],
  ['no metadata, Origin null', 'POST', { origin: 'null' }, 'origin_mismatch'],
  [
    'no metadata, an Origin that merely begins like ours',
    'POST',
    { origin: `${OWN}.evil.example` },
    'origin_mismatch',
  ],
  [
    'no metadata, our host over http',
    'POST',
    { origin: 'http://app.example.com' },
    'origin_mismatch',
  ],
  [
    'no metadata, foreign Origin with the static header',
    'POST',
    { origin: 'https://evil.example', 'x-csrf': '1' },
    'origin_mismatch',
  ],
  ['nothing but the static header', 'POST', { 'x-csrf': '1' }, 'pass'],
  ['the static header with another value', 'POST', { 'x-csrf': 'true' }, 'origin_missing'],
  ['nothing at all', 'GET', {}, 'origin_missing'],
] as const)('%s: %s → %s', (_, method, headers, expected) => {
  expect(verdict(method, headers as Record<string, string>)).toBe(expected)
})

test.each([
  [
    'our fetch without the header',
    'GET',
    { 'sec-fetch-site': 'same-origin' },
    'http',
    'csrf_header_missing',
  ],
  ['our fetch with it', 'GET', { 'sec-fetch-site': 'same-origin', 'x-csrf': '1' }, 'http', 'pass'],
  [
    'the header does not outweigh the origin',
    'GET',
    { 'sec-fetch-site': 'cross-site', 'x-csrf': '1' },
    'http',
    'cross_site',
  ],
  [
    'our event stream, which cannot set headers',
    'GET',
    { 'sec-fetch-site': 'same-origin' },
    'event-stream',
    'pass',
  ],
  ['our WebSocket handshake', 'GET', { origin: OWN }, 'websocket', 'pass'],
  [
    'a foreign WebSocket handshake',
    'GET',
    { origin: 'https://evil.example' },
    'websocket',
    'origin_mismatch',
  ],
  [
    'a WebSocket handshake without Origin, which every browser sends',
    'GET',
    { 'sec-fetch-site': 'same-origin', 'x-csrf': '1' },
    'websocket',
    'origin_missing',
  ],
  [
    'a WebSocket handshake of an opaque origin',
    'GET',
    { origin: 'null', 'sec-fetch-site': 'same-origin' },
    'websocket',
    'origin_mismatch',
  ],
  ['our own navigation', 'GET', { 'sec-fetch-site': 'same-origin', ...NAVIGATION }, 'http', 'pass'],
  [
    'our own form post',
    'POST',
    { 'sec-fetch-site': 'same-origin', ...NAVIGATION, origin: OWN },
    'http',
    'pass',
  ],
  [
    'a foreign navigation',
    'GET',
    { 'sec-fetch-site': 'cross-site', ...NAVIGATION },
    'http',
    'cross_site',
  ],
] as const)('RFC 10017 §6.1.3.3.2 header mode: %s', (_, method, headers, kind, expected) => {
  expect(verdict(method, headers as Record<string, string>, 'header', kind)).toBe(expected)
})

test.each([
  ['a page load', { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }, true],
  ['a frame', { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' }, false],
  [
    'a fetch that accepts HTML',
    { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', accept: 'text/html' },
    false,
  ],
  [
    'a prefetch',
    { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', 'sec-purpose': 'prefetch' },
    false,
  ],
  ['an old prefetch', { accept: 'text/html', purpose: 'prefetch' }, false],
  ['an old browser', { accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8' }, true],
  ['a tool', { accept: '*/*' }, false],
  ['a tool without Accept', {}, false],
  ['text/html in capitals', { accept: 'Text/HTML' }, true],
  ['a type that merely contains it', { accept: 'text/html+x' }, false],
  [
    'Node’s fetch, which sends the mode alone',
    { 'sec-fetch-mode': 'cors', accept: 'text/html' },
    false,
  ],
] as const)('document navigation: %s → %s', (_, headers, expected) => {
  expect(isDocumentNavigation(request('GET', headers as Record<string, string>))).toBe(expected)
})
