/** The demo: asks for the session, shows the page that fits, and keeps it true while time passes. */

import { type Call, call, type Outcome, observed, type Problem } from './api.ts'
import { announce, byId } from './dom.ts'
import {
  type ApiActions,
  apiPanel,
  banner,
  freshnessPanel,
  type Item,
  proofPanel,
  sessionPanel,
  topBar,
  type WhoAmI,
} from './panels.ts'
import { readSession, type SignedIn, signIn, signOut } from './session.ts'
import { endedView, signedInView, signedOutView, unavailableView } from './views.ts'

const SESSION_EVERY_MS = 15_000
const WHOAMI_EVERY_MS = 3_000
const SLOW_MS = 3_000

const DEFAULT_LOGIN = '/bff/login'

/** Shows a page in place of the one before, and moves the focus to what it is about. */
const showPage = (...elements: HTMLElement[]): void => {
  byId('app').replaceChildren(...elements)
  const heading = byId('app').querySelector('h1')
  heading?.focus({ preventScroll: true })
  announce(heading?.textContent ?? '')
}

const start = async (): Promise<void> => {
  const outcome = await readSession()
  if (outcome.kind !== 'answer') {
    showPage(unavailableView(outcome.problem, start))
  } else if (outcome.body.authenticated) {
    showSignedIn(outcome.body)
  } else {
    const { login } = outcome.body.links
    showPage(signedOutView(() => signIn(login)))
  }
}

const showEnded = (problem: Problem): void =>
  showPage(endedView(problem, () => signIn(problem.login ?? DEFAULT_LOGIN)))

const showSignedIn = (state: SignedIn): void => {
  const ended = new AbortController()
  let asking = true
  let deadlines = deadlinesFrom(state.session)
  let stream: EventSource | undefined

  const end = (problem: Problem) => {
    if (ended.signal.aborted) return
    ended.abort()
    stream?.close()
    showEnded(problem)
  }

  /** The body of a good answer; everything else is shown where it belongs. */
  const settle = <Body>(outcome: Outcome<Body>): Body | undefined => {
    proof.show(observed)
    notice.show(outcome.kind === 'try_again' ? outcome.problem : undefined)
    if (outcome.kind === 'signed_out') end(outcome.problem)
    return outcome.kind === 'answer' ? outcome.body : undefined
  }

  const askWho = async () => {
    const who = settle(await call<WhoAmI>('GET', '/api/whoami'))
    if (who !== undefined) freshness.show(who)
  }

  const askSession = async () => {
    const session = settle(await readSession())
    if (session === undefined) return
    if (session.authenticated) deadlines = deadlinesFrom(session.session)
    // That it ended is known now; a call to the API also says why.
    else await askWho()
  }

  const onCall = (made: Call) => {
    api.show({ kind: 'call', call: made })
    announce(`${made.method} ${made.path}: ${made.status}`)
  }
  const list = async () => {
    const answer = settle(
      await call<{ readonly items: readonly Item[] }>('GET', '/api/items', { onCall }),
    )
    if (answer !== undefined) api.show({ kind: 'items', items: answer.items })
  }
  const closeStream = (text: string) => {
    stream?.close()
    stream = undefined
    api.show({ kind: 'stream', open: false, text })
  }
  const actions: ApiActions = {
    list,
    add: async (title) => {
      const added = settle(await call<Item>('POST', '/api/items', { body: { title }, onCall }))
      if (added !== undefined) await list()
      return added !== undefined
    },
    remove: async (item) => {
      settle(await call('DELETE', `/api/items/${item.id}`, { onCall }))
      await list()
    },
    slow: async () => {
      settle(await call('GET', `/api/slow?ms=${SLOW_MS}`, { onCall }))
    },
    toggleStream: () => {
      if (stream !== undefined) return closeStream('The stream was stopped.')
      stream = new EventSource('/api/stream')
      api.show({ kind: 'stream', open: true, text: 'Waiting for the first event …' })
      stream.addEventListener('tick', ({ data }) =>
        api.show({ kind: 'stream', open: true, text: `event: tick\ndata: ${data}` }),
      )
      stream.addEventListener('error', async () => {
        if (stream?.readyState !== EventSource.CLOSED) return
        closeStream('The stream was refused.')
        // An EventSource does not tell why; a plain call does.
        await askWho()
      })
    },
  }

  const notice = banner(() => {
    void askSession()
    void list()
  })
  const who = sessionPanel(state.user)
  const freshness = freshnessPanel((on) => {
    asking = on
    if (on) void askWho()
  })
  const api = apiPanel(actions)
  const proof = proofPanel()

  const onSignOut = async () => {
    settle(await signOut())
  }
  showPage(
    topBar(state.user, onSignOut),
    notice.root,
    signedInView(state.user, [freshness.root, api.root], [who.root, proof.root]),
  )

  every(1_000, ended.signal, () => who.show(remaining(deadlines)))
  every(SESSION_EVERY_MS, ended.signal, askSession)
  every(WHOAMI_EVERY_MS, ended.signal, () => {
    if (asking && document.visibilityState === 'visible') void askWho()
  })
  document.addEventListener('visibilitychange', askSession, { signal: ended.signal })
  who.show(state.session)
  proof.show(observed)
  void askWho()
  void list()
}

/** Instants of this page's own clock, so that a wrong clock on this machine does no harm. */
const deadlinesFrom = (session: SignedIn['session']) => ({
  expiresAt: performance.now() + session.expiresIn * 1000,
  idleExpiresAt: performance.now() + session.idleExpiresIn * 1000,
  createdAt: session.createdAt,
})

const remaining = (deadlines: ReturnType<typeof deadlinesFrom>): SignedIn['session'] => ({
  createdAt: deadlines.createdAt,
  expiresIn: secondsUntil(deadlines.expiresAt),
  idleExpiresIn: secondsUntil(deadlines.idleExpiresAt),
})

const secondsUntil = (instant: number): number =>
  Math.max(0, Math.ceil((instant - performance.now()) / 1000))

const every = (ms: number, signal: AbortSignal, run: () => void): void => {
  const timer = setInterval(run, ms)
  signal.addEventListener('abort', () => clearInterval(timer))
}

// "Back" may bring a page from before a sign-in or a sign-out, frozen as it was: it begins anew.
window.addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload()
})
void start()
