/** The demo: asks for the session, shows the page that fits, and keeps it true while time passes. */

import { call, hasReplicas, observed, type Problem, type Settle } from './api.ts'
import { apiActions } from './api-actions.ts'
import { devicesPanel } from './devices.ts'
import { announce, byId } from './dom.ts'
import { type FleetPanel, fleetPanel } from './fleet.ts'
import { endInWords, listen } from './live-events.ts'
import {
  apiPanel,
  banner,
  type Expiry,
  expiryBar,
  freshnessPanel,
  proofPanel,
  sessionPanel,
  topBar,
  type WhoAmI,
} from './panels.ts'
import { readSession, type SignedIn, signIn, signOut } from './session.ts'
import { endedView, signedInView, signedOutView, unavailableView } from './views.ts'

const SESSION_EVERY_MS = 15_000
const ENDED_EVERY_MS = 5_000
const WHOAMI_EVERY_MS = 3_000
/** With replicas to kill, something should always be under way. */
const WHOAMI_PAUSE_MS = 100

/** Events come within a second. */
const REASON_WAIT_MS = 1_000

const DEFAULT_LOGIN = '/bff/login'

let fleet: FleetPanel | undefined

/** Shows a page in place of the one before, and moves the focus to what it is about. */
const showPage = (...elements: HTMLElement[]): void => {
  byId('app').replaceChildren(...elements)
  const heading = byId('app').querySelector('h1')
  heading?.focus({ preventScroll: true })
  announce(heading?.textContent ?? '')
}

/** Below a page that has no panels of its own. */
const fleetBelow = (): HTMLElement[] => {
  if (fleet === undefined) return []
  const below = document.createElement('div')
  below.className = 'below'
  below.append(fleet.root)
  return [below]
}

const start = async (): Promise<void> => {
  const outcome = await readSession()
  if (hasReplicas()) fleet ??= fleetPanel()
  if (outcome.kind !== 'answer') {
    showPage(unavailableView(outcome.problem, start), ...fleetBelow())
  } else if (outcome.body.authenticated) {
    showSignedIn(outcome.body)
  } else {
    const { login } = outcome.body.links
    showPage(
      signedOutView(() => signIn(login)),
      ...fleetBelow(),
    )
  }
}

const showEnded = (problem: Problem): void => {
  showPage(
    endedView(problem, () => signIn(problem.login ?? DEFAULT_LOGIN)),
    ...fleetBelow(),
  )
  // Another window of this browser may sign in, and then this one is signed in as well.
  const over = new AbortController()
  const look = async () => {
    const outcome = await readSession()
    if (over.signal.aborted || outcome.kind !== 'answer' || !outcome.body.authenticated) return
    over.abort()
    showSignedIn(outcome.body)
  }
  every(ENDED_EVERY_MS, over.signal, look)
  document.addEventListener('visibilitychange', look, { signal: over.signal })
}

const showSignedIn = (state: SignedIn): void => {
  const ended = new AbortController()
  let asking = true
  /** What ends the session from here on is this page's own doing, and it is about to leave. */
  let leaving = false
  let deadlines = deadlinesFrom(state.session)
  let expiring: Expiry['reason'] | undefined

  const end = (problem: Problem) => {
    if (ended.signal.aborted || leaving) return
    ended.abort()
    showEnded(problem)
  }

  /** A call knows that it is over, an event also why; the event may be a moment behind. */
  const endUnlessTold = (problem: Problem) => {
    if (state.links.events === undefined) return end(problem)
    asking = false
    setTimeout(() => end(problem), REASON_WAIT_MS)
  }

  /** Another session has taken the place of this page's: it begins anew. */
  const restart = () => {
    if (ended.signal.aborted) return
    ended.abort()
    void start()
  }

  const settle: Settle = (outcome) => {
    proof.show(observed)
    notice.show(outcome.kind === 'try_again' ? outcome.problem : undefined)
    if (outcome.kind === 'signed_out') endUnlessTold(outcome.problem)
    return outcome.kind === 'answer' ? outcome.body : undefined
  }

  const askWho = async () => {
    const who = settle(await call<WhoAmI>('GET', '/api/whoami'))
    if (who !== undefined) freshness.show(who)
  }

  const askSession = async () => {
    const session = settle(await readSession())
    if (session === undefined || ended.signal.aborted) return
    // That it ended is known now; a call to the API also says why.
    if (!session.authenticated) return askWho()
    // Somebody else signed in, in another window of this browser.
    if (session.user.sub !== state.user.sub) return restart()
    deadlines = deadlinesFrom(session.session)
    tick()
  }

  const tick = () => {
    const left = remaining(deadlines)
    who.show(left)
    const expiresIn = expiring === 'idle' ? left.idleExpiresIn : left.expiresIn
    expiry.show(expiring === undefined ? undefined : { reason: expiring, expiresIn })
  }

  const notice = banner(() => {
    void askSession()
    void actions.list()
  })
  const expiry = expiryBar({
    stay: async () => {
      // Any call of the API is activity.
      await askWho()
      expiring = undefined
      await askSession()
    },
    signIn: () => signIn(state.links.login),
  })
  const who = sessionPanel(state.user)
  const freshness = freshnessPanel(
    (on) => {
      asking = on
      if (on) void askWho()
    },
    fleet === undefined ? 'every 3 seconds' : 'without a pause',
  )
  const actions = apiActions({
    settle,
    show: (news) => api.show(news),
    askWhy: askWho,
    ended: ended.signal,
  })
  const api = apiPanel(actions)
  const { sessions } = state.links
  const devices = sessions === undefined ? undefined : devicesPanel(sessions, settle)
  const proof = proofPanel()

  const onSignOut = async () => {
    leaving = true
    const outcome = await signOut()
    leaving = outcome.kind === 'answer'
    settle(outcome)
  }
  showPage(
    topBar(state.user, onSignOut),
    notice.root,
    expiry.root,
    signedInView(
      state.user,
      [...(fleet === undefined ? [] : [fleet.root]), freshness.root, api.root],
      [who.root, ...(devices === undefined ? [] : [devices.root]), proof.root],
    ),
  )

  every(1_000, ended.signal, tick)
  const askAll = () => {
    void askSession()
    void devices?.refresh()
  }
  every(SESSION_EVERY_MS, ended.signal, askAll)
  const isAsking = () => asking && document.visibilityState === 'visible'
  if (fleet === undefined) {
    every(WHOAMI_EVERY_MS, ended.signal, () => {
      if (isAsking()) void askWho()
    })
  } else {
    const { showCall } = fleet
    void repeat(WHOAMI_PAUSE_MS, ended.signal, async () => {
      if (!isAsking()) return
      // A 503 among ten calls a second is shown as what it is there, not as a notice that comes and goes.
      const outcome = await call<WhoAmI>('GET', '/api/whoami', { onCall: showCall })
      if (outcome.kind === 'answer' && !ended.signal.aborted) freshness.show(outcome.body)
      if (outcome.kind === 'signed_out') endUnlessTold(outcome.problem)
    })
  }
  document.addEventListener('visibilitychange', askAll, { signal: ended.signal })
  if (state.links.events !== undefined)
    listen(state.links.events, ended.signal, {
      session: () => {
        expiring = undefined
        void askSession()
      },
      expiring: ({ reason }) => {
        expiring = reason
        void askSession()
      },
      claims: restart,
      ended: (reason) =>
        reason === 'replaced_at_login' ? restart() : end(endedBecause(reason, state.links.login)),
      refused: askSession,
    })
  tick()
  proof.show(observed)
  void askWho()
  void actions.list()
  void devices?.refresh()
}

const endedBecause = (reason: string, login: string): Problem => ({
  status: 401,
  code: reason,
  title: 'You are signed out',
  detail: endInWords(reason),
  login,
})

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

/** One after the other, with a pause in between. */
const repeat = async (
  pauseMs: number,
  signal: AbortSignal,
  run: () => Promise<void>,
): Promise<void> => {
  while (!signal.aborted) {
    await run()
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}

// "Back" may bring a page from before a sign-in or a sign-out, frozen as it was: it begins anew.
window.addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload()
})
void start()
