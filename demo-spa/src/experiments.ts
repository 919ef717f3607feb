/** What the “Break it” buttons do: break one thing, make a call, and say what the user noticed. */

import { type Call, call, type Outcome } from './api.ts'
import { coatcheck } from './session.ts'

export interface Row {
  readonly request: string
  readonly status: number | string
  readonly code: string | undefined
  readonly isGood: boolean
}

export interface Verdict {
  readonly look: 'good' | 'waiting' | 'bad'
  /** What the user noticed, in a word or two. */
  readonly noticed: string
  readonly why: string
}

export interface Bench {
  /** Shown below what is there. */
  row(row: Row): void
  /** Shown in place of the last one. */
  sameRow(row: Row): void
  /** Breaks it, and makes no call until it is broken. */
  press(button: string): Promise<Pressed>
  probe(): Promise<Outcome<Probe>>
}

interface Probe {
  readonly token: string
  readonly refreshes: number
}

export interface Pressed {
  readonly waitMs?: number
  readonly lastsMs?: number
  /** Of this session until then. */
  readonly refreshes?: number
}

export interface Experiment {
  readonly id: string
  readonly label: string
  readonly about: string
  readonly run: (bench: Bench) => Promise<Verdict>
  /** Ends early what takes its time. */
  readonly stop?: () => Promise<unknown>
}

export const rowOf = ({ method, path, status, code }: Call): Row => ({
  request: `${method} ${path}`,
  status: status === 0 ? '—' : status,
  code,
  isGood: status >= 200 && status < 300,
})

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const times = (count: number, one: string, many: string): string =>
  `${count} ${count === 1 ? one : many}`

const nothing = (why: string): Verdict => ({ look: 'good', noticed: 'Nothing', why })
const failed = (why: string): Verdict => ({ look: 'bad', noticed: 'One call failed', why })

/** Only in “one 401”: pressed twice within a minute. */
const PASSED_ON =
  'This 401 is the API’s own, passed on as it is: the gateway forces one refresh a minute for a session, so that a broken API cannot make it hammer the provider.'

// #region experiment
const expire = async ({ press, probe }: Bench): Promise<Verdict> => {
  const { refreshes: before = 0 } = await press('expire')
  const after = await probe()
  if (after.kind !== 'answer') return failed(after.problem.detail)
  const refreshes = times(after.body.refreshes - before, 'refresh', 'refreshes')
  return nothing(`${refreshes}, then your call went on with the new token.`)
}
// #endregion

const refuseOnce = async ({ press, probe }: Bench): Promise<Verdict> => {
  await press('refuse-once')
  const answer = await probe()
  if (answer.kind === 'answer')
    return nothing('The API said 401 to the gateway, which refreshed once and asked again.')
  return failed(answer.problem.code === 'invalid_token' ? PASSED_ON : answer.problem.detail)
}

interface Volley {
  readonly ok: number
  readonly failed: number
  readonly refreshes: number
}

const volley = async ({ press, row }: Bench): Promise<Verdict> => {
  const { refreshes: before = 0 } = await press('slow-refresh')
  const fired = await call<Volley>('POST', '/demo/volley')
  if (fired.kind !== 'answer') return failed(fired.problem.detail)
  const { ok, failed: lost, refreshes } = fired.body
  row({
    request: '50 × GET /api/demo/probe',
    status: lost === 0 ? 200 : '—',
    code: undefined,
    isGood: lost === 0,
  })
  return {
    look: lost === 0 ? 'good' : 'bad',
    noticed: lost === 0 ? 'Nothing' : times(lost, 'call failed', 'calls failed'),
    why: `${times(refreshes - before, 'refresh', 'refreshes')}, ${times(ok, 'answer', 'answers')}, ${times(lost, 'failure', 'failures')}.`,
  }
}

const RECOVERY_MS = 20_000

const providerDown = async ({ press, probe, row, sameRow }: Bench): Promise<Verdict> => {
  const { lastsMs = 0 } = await press('provider-down')
  const from = performance.now()
  const seconds = () => Math.round((performance.now() - from) / 1000)
  for (let failures = 0; performance.now() - from < lastsMs + RECOVERY_MS; failures += 1) {
    const answer = await call<Probe>('GET', '/api/demo/probe')
    if (answer.kind === 'answer') {
      row({ request: 'GET /api/demo/probe', status: 200, code: undefined, isGood: true })
      return {
        look: 'waiting',
        noticed: `A pause of ${seconds()} seconds`,
        why: 'Calls heard 503 with Retry-After, and the client tried again by itself. Nobody was signed out.',
      }
    }
    const show = failures === 0 ? row : sameRow
    show({
      request: `GET /api/demo/probe, for ${seconds()} s`,
      status: 503,
      code: answer.problem.code,
      isGood: false,
    })
    if (answer.kind === 'refused') return failed(answer.problem.detail)
    await pause(500)
  }
  const last = await probe()
  return failed(last.kind === 'answer' ? 'It took too long.' : last.problem.detail)
}

const SIGNED_OUT = 'Signed out, with the reason'

const revoke = async ({ press, probe }: Bench): Promise<Verdict> => {
  await press('revoke')
  const answer = await probe()
  return answer.kind === 'answer'
    ? failed('The session goes on.')
    : {
        look: 'waiting',
        noticed: SIGNED_OUT,
        why: 'The refresh was refused for good, so the session ended: this one alone. Signing in again is one click.',
      }
}

const endSession = async ({ press, row }: Bench): Promise<Verdict> => {
  const from = performance.now()
  const told = new Promise<string>((resolve) => {
    const stop = coatcheck.subscribe((state) => {
      if (state.status !== 'signed-out') return
      stop()
      resolve(state.reason ?? 'session_ended')
    })
  })
  await press('end-session')
  const reason = await Promise.race([told, pause(5_000)])
  if (typeof reason !== 'string') return failed('The session goes on.')
  row({ request: 'Event of GET /bff/events', status: 'ended', code: reason, isGood: false })
  return {
    look: 'waiting',
    noticed: SIGNED_OUT,
    why: `The provider posted a logout token to /bff/backchannel-logout; this page knew ${Math.round(performance.now() - from)} ms after the press, without asking.`,
  }
}

interface Rival {
  readonly url: string
  readonly attempts: readonly {
    readonly from: string
    readonly request: string
    readonly cookie: string
    readonly status: number
    readonly code?: string
  }[]
  readonly total: number
}

const RIVAL_MS = 15_000

const crossSite = async ({ row }: Bench): Promise<Verdict> => {
  const ask = () => call<Rival>('GET', '/demo/rival')
  const before = await ask()
  if (before.kind !== 'answer') return failed(before.problem.detail)
  const { url, total } = before.body
  const popup = window.open(url, 'rival', 'popup,width=460,height=420')
  if (popup === null)
    return {
      look: 'waiting',
      noticed: 'No window came up',
      why: 'Allow pop-ups for this page and press again.',
    }
  const from = performance.now()
  let shown = total
  while (shown < total + 2 && performance.now() - from < RIVAL_MS) {
    await pause(250)
    const answer = await ask()
    if (answer.kind !== 'answer') continue
    for (const attempt of answer.body.attempts.slice(
      answer.body.attempts.length - (answer.body.total - shown),
    ))
      row({
        request: `${attempt.request} from ${attempt.from}, cookie ${attempt.cookie}`,
        status: attempt.status,
        code: attempt.code,
        isGood: false,
      })
    shown = answer.body.total
  }
  if (shown < total + 2) return failed('The other window did not get to its request.')
  return nothing(
    'From another site the browser keeps the cookie back. From another port of this host it sends it, and the gateway refuses all the same.',
  )
}

export const EXPERIMENTS: readonly Experiment[] = [
  {
    id: 'expire',
    label: 'Expire the access token now',
    about: 'Long before its time.',
    run: expire,
  },
  {
    id: 'refuse-once',
    label: 'Let the API answer one 401',
    about: 'As if it had lost the provider’s keys.',
    run: refuseOnce,
  },
  {
    id: 'volley',
    label: '50 calls during one refresh',
    about: 'At once, and the refresh takes a second.',
    run: volley,
  },
  {
    id: 'provider-down',
    label: 'Break the provider for 20 s',
    about: 'Its token endpoint answers 500.',
    run: providerDown,
    stop: () => call('POST', '/demo/mend'),
  },
  {
    id: 'cross-site',
    label: 'Let another site try a POST',
    about: 'It opens in a small window of its own.',
    run: crossSite,
  },
  {
    id: 'revoke',
    label: 'Revoke the refresh token',
    about: 'At the provider. This ends your session.',
    run: revoke,
  },
  {
    id: 'end-session',
    label: 'End the session at the provider',
    about: 'By back-channel logout. This ends it too.',
    run: endSession,
  },
]
