/**
 * A small browser for flow tests: cookies, redirects, forms and the request headers by which a server tells
 * a navigation from a fetch and its own pages from others. It follows what Chromium does on loopback;
 * e2e/test-browser.spec.ts holds the two against each other.
 */

import http from 'node:http'
import { isIP } from 'node:net'
import zlib from 'node:zlib'
import {
  type Cookie,
  type CookieContext,
  type CookieJar,
  createCookieJar,
  isTrustworthy,
} from './cookie-jar.ts'
import { formsOf, type HtmlForm, metaRefreshOf } from './html.ts'
import { linesOf, onlyLineOf } from './raw-headers.ts'

export interface BrowserResponse {
  /** Where the response came from, with the fragment of a navigation. */
  readonly url: string
  readonly status: number
  readonly rawHeaders: readonly string[]
  /** Value of the only line of that name; throws when there are several. */
  header(name: string): string | undefined
  headerLines(name: string): readonly string[]
  /** As received, still compressed. */
  readonly body: Buffer
  /** Decompressed and decoded as UTF-8. */
  readonly text: string
  json(): unknown
  readonly request: {
    readonly method: string
    readonly headers: Readonly<Record<string, string>>
  }
  /** Every response on the way here, this one last. */
  readonly chain: readonly BrowserResponse[]
  /** Set on a navigation: who caused it, which a reload repeats. */
  readonly initiator: Initiator
}

/** `address-bar` is a typed URL or a bookmark; otherwise the URL of the page that asks. */
export type Initiator = 'address-bar' | string

export interface NavigateOptions {
  /** Page that holds the clicked link, as a response or a URL; without it the URL was typed. */
  readonly from?: BrowserResponse | string
  readonly headers?: Readonly<Record<string, string>>
  /** `manual` returns the redirect itself. */
  readonly redirect?: 'follow' | 'manual'
  /** `stay` returns a refreshing page itself. */
  readonly metaRefresh?: 'follow' | 'stay'
  readonly timeoutMs?: number
}

export interface SubmitOptions extends NavigateOptions {
  /** Which form of the page; the first by default. */
  readonly formIndex?: number
}

export interface FetchOptions {
  /** Page whose script (or element) asks; the page the browser is on by default. */
  readonly from?: BrowserResponse | string
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
  readonly mode?: 'cors' | 'no-cors' | 'same-origin' | 'navigate'
  /** Default as in fetch: `same-origin`; `include` in no-cors mode, as elements do. */
  readonly credentials?: 'same-origin' | 'include' | 'omit'
  /** `Sec-Fetch-Dest`; `empty` is what fetch() sends. */
  readonly destination?: string
  readonly redirect?: 'follow' | 'manual'
  readonly signal?: AbortSignal
  readonly timeoutMs?: number
}

export interface Browser {
  /** The page of the last navigation. */
  readonly page: BrowserResponse
  /** Goes to a URL like a typed one, or like a clicked link with `from`; relative to the page it is on. */
  navigate(url: string, options?: NavigateOptions): Promise<BrowserResponse>
  /** Repeats the navigation that led to this page, by GET, with its original initiator. */
  reload(options?: NavigateOptions): Promise<BrowserResponse>
  /** Fills the fields in by name and submits. A field that the form does not have is an error. */
  submitForm(
    page: BrowserResponse,
    fields?: Readonly<Record<string, string>>,
    options?: SubmitOptions,
  ): Promise<BrowserResponse>
  /** What script on the page does; with `destination` and `mode` also what its elements do. */
  fetch(url: string, init?: FetchOptions): Promise<BrowserResponse>
  cookies(): readonly Cookie[]
  readonly jar: CookieJar
  /** Another tab: the same cookies, a page of its own. */
  openTab(): Browser
}

interface BrowserOptions {
  readonly jar?: CookieJar
  readonly userAgent?: string
  /** `off` stands for a browser that is too old for Fetch Metadata. */
  readonly fetchMetadata?: 'on' | 'off'
}

const REDIRECTS_MAX = 20
const TIMEOUT_MS = 10_000

/** One request and all it needs to know about who asks; redirects change `url`, `method` and the taints. */
interface Asking {
  url: URL
  method: string
  body: Uint8Array | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly initiator: Initiator
  readonly kind: 'navigation' | 'fetch'
  readonly mode: string
  readonly destination: string
  readonly credentials: 'same-origin' | 'include' | 'omit'
  readonly userActivated: boolean
  referrer: string | undefined
  referrerPolicy: string
  /** Every URL so far, this one included. */
  readonly visited: URL[]
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
}

export const createBrowser = (options: BrowserOptions = {}): Browser => {
  const jar = options.jar ?? createCookieJar()
  let page: BrowserResponse | undefined

  const send = async (
    asking: Asking,
    before: readonly BrowserResponse[],
  ): Promise<BrowserResponse> => {
    const context = cookieContext(asking)
    const headers = requestHeaders(asking, jar, context, options)
    const answer = await exchange(asking, headers)
    if (usesCookies(asking)) {
      for (const line of linesOf(answer.rawHeaders, 'set-cookie')) {
        // A navigation may set any cookie of its own top-level page; a cross-site subresource may not.
        jar.set(line, asking.url, asking.kind === 'navigation' ? 'strict' : context)
      }
    }
    return responseOf(asking, headers, answer, before)
  }

  const follow = async (
    asking: Asking,
    redirect: 'follow' | 'manual',
    before: readonly BrowserResponse[],
  ): Promise<BrowserResponse> => {
    let response = await send(asking, before)
    while (redirect === 'follow') {
      const target = redirectTarget(response)
      if (target === undefined) break
      if (response.chain.length > REDIRECTS_MAX) throw endless('redirects', response)
      if (target.protocol !== 'http:') {
        throw new Error(`redirected to ${target.href}, which is not http`)
      }
      redirectTo(asking, target, response)
      response = await send(asking, response.chain)
    }
    return response
  }

  const visit = async (first: Asking, navigation: NavigateOptions): Promise<BrowserResponse> => {
    let response = await follow(first, navigation.redirect ?? 'follow', [])
    while ((navigation.metaRefresh ?? 'follow') === 'follow') {
      const target = isHtml(response) ? metaRefreshOf(response.text) : undefined
      if (target === undefined) break
      if (response.chain.length > REDIRECTS_MAX) throw endless('refreshing pages', response)
      const next = navigationTo(new URL(target, response.url), {
        initiator: withoutFragment(response.url),
        referrerPolicy: policyOf(response),
        userActivated: false,
        navigation: { timeoutMs: first.timeoutMs },
      })
      response = await follow(next, navigation.redirect ?? 'follow', response.chain)
    }
    page = response
    return response
  }

  const currentPage = (): BrowserResponse => {
    if (page === undefined) throw new Error('the browser is on no page yet: navigate first')
    return page
  }

  const browser: Browser = {
    get page() {
      return currentPage()
    },
    jar,
    cookies: () => jar.all(),
    openTab: () => createBrowser({ ...options, jar }),

    navigate(url, navigation = {}) {
      const from = navigation.from
      const target = page === undefined ? new URL(url) : new URL(url, page.url)
      return visit(
        navigationTo(target, {
          initiator: from === undefined ? 'address-bar' : withoutFragment(urlOf(from)),
          referrerPolicy: from === undefined ? 'no-referrer' : policyOf(from),
          userActivated: true,
          navigation,
        }),
        navigation,
      )
    },

    reload(navigation = {}) {
      const { url, initiator } = currentPage()
      const asking = navigationTo(new URL(url), {
        initiator,
        referrerPolicy: 'strict-origin-when-cross-origin',
        userActivated: true,
        navigation: {
          ...navigation,
          headers: { 'cache-control': 'max-age=0', ...navigation.headers },
        },
      })
      return visit(asking, navigation)
    },

    submitForm(from, fields = {}, navigation = {}) {
      const form = formsOf(from.text)[navigation.formIndex ?? 0]
      if (form === undefined) throw new Error(`no such form on ${from.url}:\n${from.text}`)
      const body = filledIn(form, fields, from.url)
      const target = new URL(form.action === '' ? from.url : form.action, from.url)
      if (form.method === 'GET') target.search = body.toString()
      const asking = navigationTo(target, {
        initiator: withoutFragment(from.url),
        referrerPolicy: policyOf(from),
        userActivated: true,
        navigation:
          form.method === 'GET'
            ? navigation
            : {
                ...navigation,
                headers: {
                  'content-type': 'application/x-www-form-urlencoded',
                  ...navigation.headers,
                },
              },
      })
      if (form.method === 'POST') {
        asking.method = 'POST'
        asking.body = Buffer.from(body.toString())
      }
      return visit(asking, navigation)
    },

    async fetch(url, init = {}) {
      const from = init.from ?? currentPage()
      const mode = init.mode ?? 'cors'
      const target = new URL(url, urlOf(from))
      return follow(
        {
          url: target,
          method: (init.method ?? 'GET').toUpperCase(),
          body: typeof init.body === 'string' ? Buffer.from(init.body) : init.body,
          headers: {
            ...(typeof init.body === 'string' && { 'content-type': 'text/plain;charset=UTF-8' }),
            ...lowerCased(init.headers ?? {}),
          },
          initiator: withoutFragment(urlOf(from)),
          kind: 'fetch',
          mode,
          destination: init.destination ?? 'empty',
          credentials: init.credentials ?? (mode === 'no-cors' ? 'include' : 'same-origin'),
          userActivated: false,
          referrer: withoutFragment(urlOf(from)),
          referrerPolicy: policyOf(from),
          visited: [target],
          timeoutMs: init.timeoutMs ?? TIMEOUT_MS,
          signal: init.signal,
        },
        init.redirect ?? 'follow',
        [],
      )
    },
  }
  return browser
}

const navigationTo = (
  url: URL,
  how: {
    readonly initiator: Initiator
    readonly referrerPolicy: string
    readonly userActivated: boolean
    readonly navigation: NavigateOptions
  },
): Asking => ({
  url,
  method: 'GET',
  body: undefined,
  headers: lowerCased(how.navigation.headers ?? {}),
  initiator: how.initiator,
  kind: 'navigation',
  mode: 'navigate',
  destination: 'document',
  credentials: 'include',
  userActivated: how.userActivated,
  referrer: how.initiator === 'address-bar' ? undefined : how.initiator,
  referrerPolicy: how.referrerPolicy,
  visited: [url],
  timeoutMs: how.navigation.timeoutMs ?? TIMEOUT_MS,
  signal: undefined,
})

const redirectTarget = (response: BrowserResponse): URL | undefined => {
  if (![301, 302, 303, 307, 308].includes(response.status)) return undefined
  const location = response.header('location')
  if (location === undefined) return undefined
  const target = new URL(location, response.url)
  // RFC 9110 §10.2.2: a target without a fragment inherits that of the request.
  if (target.hash === '') target.hash = new URL(response.url).hash
  return target
}

const redirectTo = (asking: Asking, target: URL, response: BrowserResponse): void => {
  const toGet =
    (response.status === 303 && asking.method !== 'HEAD') ||
    ((response.status === 301 || response.status === 302) && asking.method === 'POST')
  if (toGet && asking.method !== 'GET') {
    asking.method = 'GET'
    asking.body = undefined
  }
  asking.referrer = response.request.headers.referer
  asking.referrerPolicy = response.header('referrer-policy') ?? asking.referrerPolicy
  asking.url = target
  asking.visited.push(target)
}

/** Site of a URL: scheme and registrable domain; an address or a single label stands for itself. */
const siteOf = (url: URL): string => {
  const host = isIP(url.hostname.replace(/^\[|\]$/g, ''))
    ? url.hostname
    : lastTwoLabels(url.hostname)
  return `${url.protocol}//${host}`
}

const lastTwoLabels = (host: string): string => host.split('.').slice(-2).join('.')

type Relation = 'same-origin' | 'same-site' | 'cross-site'

/** The farthest relation of any URL on the way: one foreign redirect makes the whole chain cross-site. */
const relationOf = (initiator: string, visited: readonly URL[]): Relation => {
  const from = new URL(initiator)
  if (visited.every((url) => url.origin === from.origin)) return 'same-origin'
  return visited.every((url) => siteOf(url) === siteOf(from)) ? 'same-site' : 'cross-site'
}

const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS', 'TRACE']

/** Unlike Fetch Metadata, cookies look at the asker and the target alone, not at the redirects between. */
const isSameSite = (asking: Asking): boolean =>
  asking.initiator === 'address-bar' || siteOf(new URL(asking.initiator)) === siteOf(asking.url)

const cookieContext = (asking: Asking): CookieContext => {
  if (isSameSite(asking)) return 'strict'
  if (asking.kind === 'fetch') return 'none'
  return SAFE_METHODS.includes(asking.method) ? 'lax' : 'lax-unsafe'
}

const usesCookies = (asking: Asking): boolean => {
  if (asking.kind === 'navigation') return true
  // Chromium blocks third-party cookies: a subresource of another site gets and sets none at all.
  if (asking.credentials === 'omit' || !isSameSite(asking)) return false
  return (
    asking.credentials === 'include' ||
    relationOf(asking.initiator, asking.visited) === 'same-origin'
  )
}

const requestHeaders = (
  asking: Asking,
  jar: CookieJar,
  context: CookieContext,
  options: BrowserOptions,
): Record<string, string> => {
  const headers: Record<string, string> = {
    'user-agent': options.userAgent ?? 'Mozilla/5.0 (X11; Linux x86_64) TestBrowser/1.0',
    'accept-language': 'en-US,en;q=0.9',
    'accept-encoding': 'gzip, deflate, br, zstd',
    accept: '*/*',
  }
  if (asking.kind === 'navigation') {
    headers.accept = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
    headers['upgrade-insecure-requests'] = '1'
  }
  const origin = originHeader(asking)
  if (origin !== undefined) headers.origin = origin
  const referer = refererHeader(asking)
  if (referer !== undefined) headers.referer = referer
  const cookie = usesCookies(asking) ? jar.header(asking.url, context) : undefined
  if (cookie !== undefined) headers.cookie = cookie
  // Fetch Metadata goes to trustworthy URLs only.
  if ((options.fetchMetadata ?? 'on') === 'on' && isTrustworthy(asking.url)) {
    headers['sec-fetch-site'] =
      asking.initiator === 'address-bar' ? 'none' : relationOf(asking.initiator, asking.visited)
    headers['sec-fetch-mode'] = asking.mode
    headers['sec-fetch-dest'] = asking.destination
    if (asking.userActivated) headers['sec-fetch-user'] = '?1'
  }
  if (asking.body !== undefined) headers['content-length'] = String(asking.body.byteLength)
  else if (['POST', 'PUT', 'PATCH'].includes(asking.method)) headers['content-length'] = '0'
  const own = { ...asking.headers }
  if (asking.body === undefined) delete own['content-type']
  return { ...headers, ...own }
}

/** Fetch standard, "append a request Origin header". */
const originHeader = (asking: Asking): string | undefined => {
  if (asking.initiator === 'address-bar') return undefined
  const { origin } = new URL(asking.initiator)
  if (asking.mode === 'cors' && asking.visited.some((url) => url.origin !== origin)) {
    return isTainted(asking.visited, origin) ? 'null' : origin
  }
  if (asking.method === 'GET' || asking.method === 'HEAD') return undefined
  if (asking.referrerPolicy === 'no-referrer') return 'null'
  if (asking.referrerPolicy === 'same-origin' && asking.url.origin !== origin) return 'null'
  // A post that is redirected to another origin no longer says where it began.
  const first = asking.visited[0]?.origin
  return asking.visited.every((url) => url.origin === first) ? origin : 'null'
}

/** A redirect from one foreign origin to yet another hides who asked first. */
const isTainted = (visited: readonly URL[], origin: string): boolean =>
  visited.some((url, index) => {
    const previous = visited[index - 1]
    return previous !== undefined && previous.origin !== origin && previous.origin !== url.origin
  })

/** `Referer` under the policy. What one hop has cut off, later hops of a redirect do not get back. */
const refererHeader = (asking: Asking): string | undefined => {
  if (asking.referrer === undefined) return undefined
  const from = new URL(asking.referrer)
  const isSameOrigin = asking.url.origin === from.origin
  // Loopback counts as trustworthy, so nothing here is ever a downgrade.
  switch (asking.referrerPolicy) {
    case 'no-referrer':
      return undefined
    case 'origin':
    case 'strict-origin':
      return `${from.origin}/`
    case 'same-origin':
      return isSameOrigin ? from.href : undefined
    case 'unsafe-url':
    case 'no-referrer-when-downgrade':
      return from.href
    default:
      return isSameOrigin ? from.href : `${from.origin}/`
  }
}

interface Answer {
  readonly status: number
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
}

const exchange = (asking: Asking, headers: Record<string, string>): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { url } = asking
    const timeout = AbortSignal.timeout(asking.timeoutMs)
    const request = http.request({
      // One connection per request: no answer can depend on what an earlier one left behind.
      agent: false,
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port || 80,
      method: asking.method,
      path: `${url.pathname}${url.search}`,
      headers: { host: url.host, ...headers },
      signal: asking.signal ? AbortSignal.any([asking.signal, timeout]) : timeout,
    })
    const fail = (cause: Error) =>
      reject(
        new Error(
          `${asking.method} ${url.href}: ${timeout.aborted ? 'timed out' : cause.message}`,
          { cause },
        ),
      )
    request.once('error', fail)
    request.once('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', fail)
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          rawHeaders: response.rawHeaders,
          body: Buffer.concat(chunks),
        }),
      )
    })
    request.end(asking.body)
  })

const responseOf = (
  asking: Asking,
  headers: Record<string, string>,
  { status, rawHeaders, body }: Answer,
  before: readonly BrowserResponse[],
): BrowserResponse => {
  const header = (name: string): string | undefined => onlyLineOf(rawHeaders, name)
  const chain = [...before]
  const response: BrowserResponse = {
    url: asking.url.href,
    status,
    rawHeaders,
    headerLines: (name) => linesOf(rawHeaders, name),
    header,
    body,
    get text() {
      return decompressed(body, header('content-encoding')).toString('utf8')
    },
    json: () => JSON.parse(response.text),
    request: { method: asking.method, headers },
    chain,
    initiator: asking.initiator,
  }
  chain.push(response)
  return response
}

const decompressed = (body: Buffer, encoding: string | undefined): Buffer => {
  if (body.length === 0) return body
  switch (encoding) {
    case 'gzip':
      return zlib.gunzipSync(body)
    case 'deflate':
      return zlib.inflateSync(body)
    case 'br':
      return zlib.brotliDecompressSync(body)
    case 'zstd':
      return zlib.zstdDecompressSync(body)
    default:
      return body
  }
}

const filledIn = (
  form: HtmlForm,
  values: Readonly<Record<string, string>>,
  pageUrl: string,
): URLSearchParams => {
  const pairs = new URLSearchParams()
  for (const [name, value] of form.fields) pairs.append(name, value)
  for (const [name, value] of Object.entries(values)) {
    if (!pairs.has(name)) throw new Error(`the form on ${pageUrl} has no field ${name}`)
    pairs.set(name, value)
  }
  const pressed = form.buttons[0]
  if (pressed !== undefined && pressed[0] !== '') pairs.append(pressed[0], pressed[1])
  return pairs
}

const endless = (what: string, { chain }: BrowserResponse): Error =>
  new Error(`more than ${REDIRECTS_MAX} ${what}: ${chain.map(({ url }) => url).join(' → ')}`)

const urlOf = (from: BrowserResponse | string): string =>
  typeof from === 'string' ? from : from.url

const policyOf = (from: BrowserResponse | string): string =>
  (typeof from === 'string' ? undefined : from.header('referrer-policy')) ??
  'strict-origin-when-cross-origin'

const isHtml = (response: BrowserResponse): boolean =>
  response.header('content-type')?.startsWith('text/html') ?? false

const withoutFragment = (url: string): string => url.replace(/#.*$/s, '')

const lowerCased = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
