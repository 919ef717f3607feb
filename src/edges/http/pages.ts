/** The gateway's few HTML pages: plain, readable, without script, under a policy that lets nothing in. */

import { createHash } from 'node:crypto'
import { ERRORS, type ErrorCode } from '../../errors.ts'
import { type Reply, reply } from './reply.ts'

const STYLE = `
:root{color-scheme:light dark;--ink:#1c1b22;--soft:#5d5b66;--paper:#faf8f5;--card:#fff;--line:#e4dfd8;--accent:#8a3b12}
@media (prefers-color-scheme:dark){:root{--ink:#f1eee9;--soft:#aaa5b0;--paper:#17161b;--card:#211f27;--line:#37343f;--accent:#f0a277}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:24px;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{width:100%;max-width:34rem;background:var(--card);border:1px solid var(--line);border-radius:16px;padding:32px}
h1{margin:0 0 12px;font-size:1.4rem;line-height:1.25}
p{margin:0 0 16px}
a{color:var(--accent)}
.action{display:inline-block;padding:10px 18px;border-radius:10px;background:var(--accent);color:var(--card);text-decoration:none;font-weight:600}
dl{display:grid;grid-template-columns:auto 1fr;gap:4px 16px;margin:20px 0 0;padding-top:16px;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}
`

const styleHash = createHash('sha256').update(STYLE).digest('base64')

const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${styleHash}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join('; ')

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '')

const page = (
  status: number,
  title: string,
  head: string,
  body: string,
  headers: Reply['headers'] = [],
  setCookies: readonly string[] = [],
): Reply =>
  reply(
    status,
    [
      ['content-type', 'text/html; charset=utf-8'],
      ['content-security-policy', POLICY],
      ['cross-origin-opener-policy', 'same-origin'],
      ...headers,
    ],
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">${head}<title>${escapeHtml(title)}</title><style>${STYLE}</style></head><body><main>${body}</main></body></html>\n`,
    setCookies,
  )

/**
 * Sends the browser to the very same URL from our own origin, so that its Strict cookie comes along: the request
 * that got this page came from another site and had none (RFC 6265bis §5.2). No fragment is added: with a changed
 * one the browser would make no request.
 */
export const sameSitePage = (pathAndQuery: string, setCookies: readonly string[] = []): Reply =>
  page(
    200,
    'One moment',
    `<meta http-equiv="refresh" content="0;url=${escapeHtml(pathAndQuery)}">`,
    `<h1>One moment …</h1><p><a class="action" href="${escapeHtml(pathAndQuery)}">Continue</a></p>`,
    [],
    setCookies,
  )

/** For a frame on the provider's page, which alone may show it; nobody reads it. */
export const frontchannelPage = (issuer: string, setCookies: readonly string[]): Reply =>
  reply(
    200,
    [
      ['content-type', 'text/html; charset=utf-8'],
      [
        'content-security-policy',
        `default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors ${new URL(issuer).origin}`,
      ],
    ],
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed out</title></head><body></body></html>\n',
    setCookies,
  )

/** Fixed sentences for the few private reasons that a user can do something about. */
const ADVICE: Readonly<Record<string, string>> = {
  cookies_not_returned:
    'Your browser did not send back the cookie that this sign-in set, twice in a row. Check that cookies are allowed for this site, that the address in the address bar is the application’s public one, and that the clock is right.',
  other_process:
    'This session lives in the memory of another gateway process. The operator needs to configure a shared session store.',
  provider_access_denied: 'The identity provider says that access was denied.',
}

/** What a person reads where the catalogue's sentence speaks to a developer. */
const FOR_PEOPLE: Partial<Readonly<Record<ErrorCode, string>>> = {
  session_required: 'Sign in to see this page.',
  session_expired: 'You were signed out because the time was over. Sign in to go on.',
  session_ended: 'You were signed out. Sign in to go on.',
  csrf_rejected: 'This link came from another site. Open the page from within the application.',
  provider_unavailable:
    'Signing in is not possible just now. Nothing is lost; try again in a moment.',
  store_unavailable:
    'The application is not available just now. Nothing is lost; try again in a moment.',
  upstream_unreachable: 'The application does not answer just now. Try again in a moment.',
  upstream_busy: 'The application has too much to do just now. Try again in a moment.',
  upstream_timeout: 'The application takes too long to answer. Try again in a moment.',
  route_not_found: 'There is no page under this address.',
}

export interface ErrorPage {
  readonly code: ErrorCode
  readonly reason: string | undefined
  /** What the error is about, where it is about a parameter. */
  readonly parameter: string | undefined
  readonly requestId: string
  /** Where the button leads, if signing in helps. */
  readonly login: string | undefined
  readonly headers: Reply['headers']
  readonly setCookies: readonly string[]
}

export const errorPage = (error: ErrorPage): Reply => {
  const { status, title, detail, retryable } = ERRORS[error.code]
  const advice =
    (error.reason === undefined ? undefined : ADVICE[error.reason]) ?? FOR_PEOPLE[error.code]
  const login = error.login === undefined ? '' : action(error.login, 'Sign in')
  const parameter =
    error.parameter === undefined ? '' : `<dt>Parameter</dt><dd>${escapeHtml(error.parameter)}</dd>`
  // An empty reference is this very page: asked for again, a callback under way included.
  const again = retryable ? action('', 'Try again') : ''
  return page(
    status,
    title,
    '',
    `<h1>${escapeHtml(title)}</h1><p>${escapeHtml(advice ?? detail)}</p>${login}${again}<p><a href="/">To the start page</a></p><dl><dt>Status</dt><dd>${status}</dd><dt>Code</dt><dd>${error.code}</dd>${parameter}<dt>Request</dt><dd>${escapeHtml(error.requestId)}</dd></dl>`,
    error.headers,
    error.setCookies,
  )
}

const action = (href: string, text: string): string =>
  `<p><a class="action" href="${escapeHtml(href)}">${text}</a></p>`
