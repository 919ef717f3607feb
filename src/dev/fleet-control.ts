/** The balancer's own paths: what the page with the buttons reads and presses, and what stands there when no replica does. */

import { createHash } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import { html, raw } from 'hono/html'
import type { Unanswered } from './balancer.ts'
import type { CallTally } from './call-tally.ts'
import { DEMO_PREFIX, onlyFromItsOwnPage } from './own-page.ts'

/** Starting, up, killed or ended by itself. */
export type ReplicaState = 'starting' | 'up' | 'down'
export type RedisState = 'up' | 'paused' | 'gone'

/** The processes that the buttons are for. Replicas are counted from 1. */
export interface Fleet {
  replicaStates(): readonly ReplicaState[]
  redisState(): RedisState
  /** Refreshes that the provider has answered well. */
  refreshes(): number
  /** SIGKILL; resolves when it is gone, with false where it was already. */
  kill(replica: number): Promise<boolean>
  /** False where it is not down. */
  restart(replica: number): boolean
  /** Stops Redis, and lets it go on after a while; false where it is not up. */
  pauseRedis(): boolean
}

export const fleetControl = (
  fleet: Fleet,
  tally: CallTally,
  publicUrl: string,
  others: Hono,
): RequestListener => {
  const app = new Hono()
  app.use(onlyFromItsOwnPage(publicUrl))
  app.route('/', others)

  const state = () => ({
    replicas: fleet.replicaStates().map((state, index) => ({
      number: index + 1,
      state,
      answered: tally.answeredBy(index + 1),
    })),
    redis: fleet.redisState(),
    calls: tally.calls,
    sessions: tally.sessions,
    refreshes: fleet.refreshes(),
    happenings: tally.happenings,
  })
  app.get(`${DEMO_PREFIX}state`, (c) => {
    c.header('Cache-Control', 'no-store')
    return c.json(state())
  })

  const button = (path: string, press: (replica: number) => boolean | Promise<boolean>) =>
    app.post(`${DEMO_PREFIX}${path}`, async (c) => {
      const pressed = await press(Number(c.req.param('number')))
      // A plain form stands on the page for when no replica answers: it goes back to the app.
      if (c.req.header('sec-fetch-mode') === 'navigate') return c.redirect('/', 303)
      return c.json(state(), pressed ? 200 : 409)
    })
  const ofReplica = '/:number{[1-9]}'
  button(`replicas${ofReplica}/kill`, (replica) => fleet.kill(replica))
  button(`replicas${ofReplica}/restart`, (replica) => fleet.restart(replica))
  button('redis/pause', () => fleet.pauseRedis())

  app.notFound((c) => c.json({ error: 'not_found' }, 404))
  return getRequestListener(app.fetch, { overrideGlobalObjects: false })
}

/** To a person a page whose buttons work without the app, which is a replica's to serve; to a script a problem. */
export const unansweredPage = (
  why: Unanswered,
  { headers }: IncomingMessage,
  response: ServerResponse,
  fleet: Fleet,
): void => {
  const problem = PROBLEMS[why]
  const page = headers['sec-fetch-mode'] === 'navigate'
  response.writeHead(problem.status, {
    'Retry-After': '1',
    'Cache-Control': 'no-store',
    'Content-Type': page ? 'text/html; charset=utf-8' : 'application/problem+json',
    ...(page ? { 'Content-Security-Policy': POLICY, 'Referrer-Policy': 'same-origin' } : {}),
  })
  response.end(page ? pageOf(problem, fleet.replicaStates()) : JSON.stringify(problem))
}

const PROBLEMS = {
  nobody_there: {
    title: 'No replica answers',
    status: 503,
    code: 'no_replica',
    detail: 'Every replica of the gateway is down. Nothing is lost: the sessions are in Redis.',
    retryable: true,
  },
  cut_off: {
    title: 'The replica was gone before it answered',
    status: 502,
    code: 'replica_gone',
    detail: 'Whether it had begun on the request nobody knows, so that nobody repeats it unasked.',
    retryable: false,
  },
} as const satisfies Record<Unanswered, object>

const pageOf = (
  { title, detail }: (typeof PROBLEMS)[Unanswered],
  states: readonly ReplicaState[],
): string =>
  String(html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${title} · Coatcheck demo</title>
  ${states.includes('starting') ? html`<meta http-equiv="refresh" content="1">` : ''}
  <style>${raw(STYLE)}</style>
</head>
<body>
  <main>
    <h1>${title}</h1>
    <p>${detail} This page comes from the balancer.</p>
    ${states.map((state, index) => partOf(index + 1, state))}
    <p><a href="/">Try again</a></p>
  </main>
</body>
</html>
`)

const partOf = (replica: number, state: ReplicaState) => {
  switch (state) {
    case 'up':
      return ''
    case 'starting':
      return html`<p role="status">Replica ${replica} starts …</p>`
    case 'down':
      return html`<form method="post" action="${DEMO_PREFIX}replicas/${replica}/restart">
      <button>Restart replica ${replica}</button>
    </form>`
  }
}

const STYLE = `
:root { color-scheme: light dark; --paper: #f7f1e7; --ink: #2a211d; --soft: #6b5d53; --accent: #7a2633; --on: #fff8ee }
@media (prefers-color-scheme: dark) { :root { --paper: #161210; --ink: #f2e9df; --soft: #b4a497; --accent: #f0a4a8; --on: #33090f } }
body { margin: 0; min-height: 100dvh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif }
main { display: grid; gap: 1rem; max-width: 32rem; padding: 2rem 1.5rem }
h1 { margin: 0; font: 600 2.25rem/1.15 ui-serif, Georgia, serif }
p { margin: 0; color: var(--soft) }
a { color: inherit }
button { padding: .625rem 1.125rem; font: inherit; font-weight: 550; cursor: pointer; color: var(--on);
  background: var(--accent); border: 0; border-radius: .5rem }
:focus-visible { outline: 3px solid #a86a12; outline-offset: 2px }
`

const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join('; ')
