/** The demo: follows the session, shows the page that fits, and keeps it true while time passes. */

import { call, observed, type Problem, type Settle } from './api.ts'
import { apiActions } from './api-actions.ts'
import { devicesPanel } from './devices.ts'
import { announce, byId } from './dom.ts'
import { echoPanel } from './echo.ts'
import { type FleetPanel, fleetPanel } from './fleet.ts'
import { lab } from './lab.ts'
import {
  apiPanel,
  banner,
  expiryBar,
  freshnessPanel,
  proofPanel,
  sessionPanel,
  topBar,
  type WhoAmI,
} from './panels.ts'
import { endInWords } from './reasons.ts'
import { coatcheck, type SessionState, type SignedIn, signIn, signOut } from './session.ts'
import { endedView, signedInView, signedOutView, unavailableView } from './views.ts'

const DEVICES_EVERY_MS = 15_000
const WHOAMI_EVERY_MS = 3_000
/** With replicas to kill, something should always be under way. */
const WHOAMI_PAUSE_MS = 100

/** The page of somebody who is signed in. */
interface Page {
  readonly user: string
  show(state: SignedIn): void
  /** What is down only for the moment; the page stays as it is. */
  warn(problem: Problem | undefined): void
  end(): void
}

let fleet: FleetPanel | undefined
let page: Page | undefined
/** The page that was there has ended, and says why. */
let hasEnded = false
let witnesses: () => HTMLElement[] = () => []
/** What ends the session from here on is this page's own doing, and it is about to leave. */
let isLeaving = false

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

// #region views
const show = (state: SessionState): void => {
  if (isLeaving) return
  if (state.status === 'signed-in') showSignedIn(state)
  else if (state.status === 'signed-out') showSignedOut(state.reason)
  else page ? page.warn(state.error) : showUnavailable(state.error)
}
// #endregion

const showSignedOut = (reason: string | undefined): void => {
  if (page !== undefined) showEnded(reason)
  // Who saw it end goes on seeing why; a call that finds out later knows no reason.
  else if (!hasEnded) showPage(signedOutView(signIn), ...fleetBelow())
}

const showUnavailable = (problem: Problem) =>
  showPage(
    unavailableView(problem, () => void coatcheck.session()),
    ...fleetBelow(),
  )

const showEnded = (reason: string | undefined): void => {
  page?.end()
  page = undefined
  hasEnded = true
  const problem = {
    code: reason ?? 'session_ended',
    title: 'You are signed out',
    detail: reason === undefined ? 'The gateway ended your session.' : endInWords(reason),
  }
  showPage(endedView(problem, witnesses(), signIn), ...fleetBelow())
}

const showSignedIn = (state: SignedIn): void => {
  const user = JSON.stringify(state.user)
  // Somebody else signed in, in another window of this browser; or the provider says something else of the user now.
  if (page?.user !== user) {
    page?.end()
    page = signedInPage(state, user)
    hasEnded = false
  }
  page.show(state)
}

const signedInPage = (first: SignedIn, user: string): Page => {
  const ended = new AbortController()
  let asking = true
  let state = first

  const settle: Settle = (outcome) => {
    proof.show(observed)
    if (!ended.signal.aborted)
      notice.show(outcome.kind === 'try_again' ? outcome.problem : undefined)
    return outcome.kind === 'answer' ? outcome.body : undefined
  }

  // #region whoami
  const askWho = async () => {
    const who = settle(await call<WhoAmI>('GET', '/api/whoami'))
    if (who !== undefined) freshness.show(who)
  }
  // #endregion

  // #region session
  const tick = () => {
    const expiresIn = secondsUntil(state.expiresAt)
    const idleExpiresIn = secondsUntil(state.idleExpiresAt)
    who.show({ expiresIn, idleExpiresIn })
    expiry.show(
      state.expiring && {
        reason: state.expiring,
        expiresIn: state.expiring === 'idle' ? idleExpiresIn : expiresIn,
      },
    )
  }
  // #endregion

  const notice = banner(() => {
    void coatcheck.session()
    void actions.list()
  })
  const expiry = expiryBar({
    stay: async () => {
      // Any call of the API is activity.
      await askWho()
      await coatcheck.session()
    },
    signIn,
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
  const echo = echoPanel()
  const bench = lab(fleet !== undefined)
  witnesses = () => [bench.result(), echo.heard()].filter((seen) => seen !== undefined)

  const onSignOut = async () => {
    isLeaving = true
    try {
      await signOut()
    } catch {
      // It could not be ended, and nobody is signed out: what is wrong shows as soon as the gateway is asked.
      isLeaving = false
      void coatcheck.session()
    }
  }
  showPage(
    topBar(state.user, onSignOut),
    notice.root,
    expiry.root,
    signedInView(
      state.user,
      [bench.root],
      [...(fleet === undefined ? [] : [fleet.root]), freshness.root, api.root],
      [who.root, ...(devices === undefined ? [] : [devices.root]), echo.root, proof.root],
    ),
  )

  every(1_000, ended.signal, tick)
  every(DEVICES_EVERY_MS, ended.signal, () => void devices?.refresh())
  const isAsking = () => asking && !bench.isBusy() && document.visibilityState === 'visible'
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
    })
  }
  const refresh = () => void devices?.refresh()
  document.addEventListener('visibilitychange', refresh, { signal: ended.signal })
  proof.show(observed)
  void askWho()
  void actions.list()
  void devices?.refresh()
  return {
    user,
    show: (next) => {
      state = next
      notice.show(undefined)
      tick()
    },
    warn: notice.show,
    end: () => ended.abort(),
  }
}

const secondsUntil = (instant = 0): number => Math.max(0, Math.ceil((instant - Date.now()) / 1000))

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

const start = async (): Promise<void> => {
  const about = await call<{ readonly hasReplicas: boolean }>('GET', '/demo/about')
  if (about.kind === 'answer' && about.body.hasReplicas) fleet = fleetPanel()
  coatcheck.subscribe(show)
}

void start()
