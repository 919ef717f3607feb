/** A site that means no good: it posts to the demo's API from its visitor's browser, and the demo's page tells what came of it. */

import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'

/** One cross-origin request as it came to the gateway, and what it got. */
export interface Attempt {
  readonly from: string
  readonly request: string
  readonly cookie: 'sent' | 'kept back'
  readonly status: number
  /** Of the gateway's problem document. */
  readonly code: string | undefined
}

export interface Answered {
  readonly method: string | undefined
  readonly path: string | undefined
  readonly headers: { readonly origin?: string | undefined; readonly cookie?: string | undefined }
  readonly status: number
  readonly body: string
}

export interface RivalSite {
  /** Where the visit begins: 127.0.0.1 is another site than the demo's `localhost`. */
  readonly url: string
  isFrom(origin: string | undefined): boolean
  /** To be told of every answer; those to other pages' requests are not kept. */
  note(answered: Answered): void
  /** Latest last, and how many there have been. */
  attempts(): { readonly attempts: readonly Attempt[]; readonly total: number }
  close(): Promise<void>
}

const ATTEMPTS_MAX = 20

export const startRivalSite = async (options: {
  readonly host: string
  readonly port: number
  /** The demo that it attacks. */
  readonly publicUrl: string
  /** Names that it may have, by the browser's kind. */
  readonly sessionCookies: readonly string[]
}): Promise<RivalSite> => {
  const { host, port, publicUrl, sessionCookies } = options
  const foreign = `http://${host}:${port}`
  // Another port of localhost: another origin, yet the same site, so that the cookie comes along.
  const sibling = `http://localhost:${port}`
  const attempts: Attempt[] = []
  let total = 0
  const server = createServer((request, response) => {
    const isSibling = request.headers.host === new URL(sibling).host
    const page = isSibling
      ? pageOf(publicUrl, 'Another port of the same host', undefined)
      : pageOf(publicUrl, 'Another site', sibling)
    response.writeHead(200, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'Content-Security-Policy': `default-src 'none'; style-src ${hashOf(STYLE)}; script-src ${hashOf(page.script)}; connect-src ${publicUrl}`,
    })
    response.end(page.html)
  })
  server.listen(port, host)
  await once(server, 'listening')
  const isFrom = (origin: string | undefined) => origin === foreign || origin === sibling
  return {
    url: `${foreign}/`,
    isFrom,
    note: ({ method, path, headers, status, body }) => {
      if (headers.origin === undefined || !isFrom(headers.origin)) return
      total += 1
      attempts.push({
        from: headers.origin,
        request: `${method} ${path}`,
        cookie: sessionCookies.some((name) => headers.cookie?.includes(`${name}=`))
          ? 'sent'
          : 'kept back',
        status,
        code: codeIn(body),
      })
      attempts.splice(0, attempts.length - ATTEMPTS_MAX)
    },
    attempts: () => ({ attempts: attempts.slice(), total }),
    close: async () => {
      if (!server.listening) return
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

const codeIn = (body: string): string | undefined => {
  try {
    const { code }: { code?: unknown } = JSON.parse(body)
    return typeof code === 'string' ? code : undefined
  } catch {
    // No problem document: an answer that got through would be the API's.
    return undefined
  }
}

const pageOf = (target: string, title: string, next: string | undefined) => {
  const script = `
const told = document.getElementById('told')
fetch(${JSON.stringify(`${target}/api/items`)}, {
  method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"title":"Taken by a stranger"}',
}).then(
  ({ type }) => { told.textContent = 'Sent. My script may read nothing of the answer: it is “' + type + '”.' },
  () => { told.textContent = 'The browser told my script only that it failed.' },
).finally(() => setTimeout(() => ${next === undefined ? 'window.close()' : `location.replace(${JSON.stringify(`${next}/`)})`}, 1500))
`
  return { script, html: htmlOf(title, script) }
}

const htmlOf = (title: string, script: string): string => `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${title}</title>
  <style>${STYLE}</style>
</head>
<body>
  <main>
    <h1>${title}</h1>
    <p>This page is not the demo. It has your browser post to the demo’s API behind your back.</p>
    <p id="told" role="status">Sending …</p>
  </main>
  <script>${script}</script>
</body>
</html>
`

const STYLE = `
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.55 system-ui, sans-serif }
main { max-width: 26rem; padding: 1.5rem }
h1 { margin: 0 0 .5rem; font: 600 1.75rem/1.2 ui-serif, Georgia, serif }
`

const hashOf = (source: string): string =>
  `'sha256-${createHash('sha256').update(source).digest('base64')}'`
