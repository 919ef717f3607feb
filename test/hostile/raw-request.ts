/** Requests byte for byte, as an attacker writes them: header lines in any order, number and spelling. */

import { rawExchange } from '../edges/upstream/raw-sockets.ts'
import type { Browser } from '../support/browser.ts'
import { sessionCookie } from '../support/cookies.ts'
import { linesOf, onlyLineOf } from '../support/raw-headers.ts'

export interface RawAnswer {
  readonly status: number
  readonly rawHeaders: readonly string[]
  /** Value of the only line of that name; throws when there are several. */
  header(name: string): string | undefined
  headerLines(name: string): readonly string[]
  /** Everything that came, head included. */
  readonly whole: string
  readonly text: string
  json(): Record<string, unknown>
}

export interface RawRequest {
  readonly method?: string
  /** The request target as it stands in the request line. */
  readonly target: string
  /** Whole lines, `Name: value`. `Host` is added where none of them is one. */
  readonly lines?: readonly string[]
  readonly body?: string
}

/** One request on a connection of its own. */
export const rawRequest = async (
  port: number,
  { method = 'GET', target, lines = [], body }: RawRequest,
): Promise<RawAnswer> => {
  const given = lines.map((line) => line.toLowerCase())
  const hasHost = given.some((line) => line.startsWith('host:'))
  const hasConnection = given.some((line) => line.startsWith('connection:'))
  const head = [
    `${method} ${target} HTTP/1.1`,
    ...(hasHost ? [] : [`Host: localhost:${port}`]),
    ...lines,
    ...(hasConnection ? [] : ['Connection: close']),
    ...(body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
  ]
  return parsed(await rawExchange(port, `${head.join('\r\n')}\r\n\r\n${body ?? ''}`))
}

const parsed = (whole: string): RawAnswer => {
  const headEnd = whole.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = whole.slice(0, headEnd).split('\r\n')
  const rawHeaders = lines.flatMap((line) => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon), line.slice(colon + 1).trim()]
  })
  const body = whole.slice(headEnd + 4)
  const isChunked = onlyLineOf(rawHeaders, 'transfer-encoding') === 'chunked'
  // Octets so far, one character each, as chunk sizes count them.
  const text = Buffer.from(isChunked ? withoutChunks(body) : body, 'latin1').toString('utf8')
  return {
    status: Number(/^HTTP\/1\.1 (\d{3})/.exec(statusLine)?.[1]),
    rawHeaders,
    header: (name) => onlyLineOf(rawHeaders, name),
    headerLines: (name) => linesOf(rawHeaders, name),
    whole,
    text,
    json: () => JSON.parse(text) as Record<string, unknown>,
  }
}

const withoutChunks = (body: string): string => {
  const size = Number.parseInt(body, 16)
  const from = body.indexOf('\r\n') + 2
  return size > 0 ? body.slice(from, from + size) + withoutChunks(body.slice(from + size + 2)) : ''
}

/** What a browser says of script on the application's own page. */
export const SAME_ORIGIN_FETCH = [
  'Sec-Fetch-Site: same-origin',
  'Sec-Fetch-Mode: cors',
  'Sec-Fetch-Dest: empty',
]

/** What a browser says of a page load that began at `site`. */
export const navigation = (site: 'none' | 'same-origin' | 'same-site' | 'cross-site') => [
  `Sec-Fetch-Site: ${site}`,
  'Sec-Fetch-Mode: navigate',
  'Sec-Fetch-Dest: document',
  'Accept: text/html',
]

/** The `Cookie` line of a signed-in browser. */
export const cookieLine = (browser: Browser): string => {
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('this browser is not signed in')
  return `Cookie: ${cookie.name}=${cookie.value}`
}
