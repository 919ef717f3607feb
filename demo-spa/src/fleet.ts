/** The panel of `coatcheck demo --replicas`: what runs behind this page, buttons that break it, and what that costs. */

import type { Call } from './api.ts'
import { announce, el } from './dom.ts'
import { panel } from './panels.ts'

interface Replica {
  readonly number: number
  readonly state: 'starting' | 'up' | 'down'
  readonly answered: number
}

interface FleetState {
  readonly replicas: readonly Replica[]
  readonly redis: 'up' | 'paused' | 'gone'
  readonly calls: {
    readonly total: number
    readonly ok: number
    readonly unauthorized: number
    readonly unavailable: number
    readonly cutOff: number
    readonly other: number
    readonly slowestMs: number
  }
  readonly sessions: { readonly seen: number; readonly lost: number }
  readonly refreshes: number
  readonly happenings: readonly { readonly at: string; readonly text: string }[]
}

export interface FleetPanel {
  readonly root: HTMLElement
  /** One more call in the lane of the replica that answered it. */
  showCall(call: Call): void
}

const STATE_EVERY_MS = 500
const LANE_CALLS_MAX = 60

export const fleetPanel = (): FleetPanel => {
  const parts = el('div', { class: 'fleet' })
  const lanes = el('div', { class: 'lanes', 'aria-hidden': 'true' })
  const counters = el('dl', { class: 'counters' })
  const happenings = el('ol', { class: 'happenings', 'aria-label': 'What happened, latest first' })
  const gone = el('p', { class: 'hint', hidden: true }, 'The demo does not answer: has it ended?')
  const cards = new Map<string, Card>()
  const laneOf = new Map<string, HTMLElement>()

  const card = (key: string, title: string): Card => {
    const known = cards.get(key)
    if (known !== undefined) return known
    const made = partCard(title, press)
    cards.set(key, made)
    parts.append(made.root)
    return made
  }

  const show = (state: FleetState): void => {
    gone.hidden = true
    for (const replica of state.replicas) {
      const name = String(replica.number)
      card(name, `Replica ${name}`).show(replicaLook(replica))
      if (!laneOf.has(name)) {
        const cells = el('div', { class: 'lane' })
        lanes.append(el('span', {}, name), cells)
        laneOf.set(name, cells)
      }
    }
    card('redis', 'Redis').show(redisLook(state.redis))
    counters.replaceChildren(...countersOf(state))
    happenings.replaceChildren(...state.happenings.map(happeningRow))
  }

  const ask = async (method: 'GET' | 'POST', path: string): Promise<void> => {
    try {
      const response = await fetch(`/demo/${path}`, { method })
      show(await response.json())
    } catch {
      // Nobody there, or an answer that is none of the demo's: both mean that it is over.
      gone.hidden = false
    }
  }

  async function press(button: Button): Promise<void> {
    announce(button.doing)
    await ask('POST', button.path)
  }

  void ask('GET', 'state')
  setInterval(() => {
    if (document.visibilityState === 'visible') void ask('GET', 'state')
  }, STATE_EVERY_MS)

  return {
    root: panel(
      'Break a replica',
      'These gateways share one Redis behind this URL. Tokens live 2 seconds, and once you are signed in this page calls without a pause.',
      parts,
      lanes,
      counters,
      gone,
      happenings,
      el(
        'details',
        {},
        el('summary', {}, 'What should come of it'),
        el('p', { class: 'hint' }, EXPECTATION),
        el('p', { class: 'hint' }, TOLERANCE),
      ),
    ),
    showCall: ({ status, replica }) => {
      for (const [name, cells] of laneOf) {
        // What no replica answered shows in all lanes.
        const isHere = replica === name || replica === undefined
        cells.append(el('i', { class: isHere ? lookOf(status) : 'none' }))
        while (cells.children.length > LANE_CALLS_MAX) cells.firstElementChild?.remove()
      }
    },
  }
}

const EXPECTATION =
  'A call that is inside a replica when it is killed is cut off; all others go to the next one. While Redis is stopped, or a killed replica’s refresh is still waited for, calls hear 503: the session is kept. Until somebody signs out, no call hears 401, and no session is lost.'
const TOLERANCE =
  'The provider here forgives a refresh token that comes twice within 10 seconds, as Auth0 and Okta can be set to. With one that never forgives, a replica that dies between the provider’s answer and Redis loses that one session (refresh_lost).'

interface Button {
  readonly label: string
  readonly path: string
  /** Shown from the press to the answer. */
  readonly doing: string
}

interface Look {
  readonly light: 'good' | 'waiting' | 'bad'
  readonly state: string
  readonly note: string
  readonly button: Button | undefined
}

interface Card {
  readonly root: HTMLElement
  show(look: Look): void
}

const partCard = (title: string, press: (button: Button) => Promise<void>): Card => {
  const light = el('span', { class: 'light', 'aria-hidden': 'true' })
  const state = el('span', { class: 'part-state' })
  const note = el('span', { class: 'hint' })
  const button = el('button', { type: 'button' })
  const root = el(
    'section',
    { class: 'part', 'aria-label': title },
    el('div', { class: 'part-head' }, light, el('h3', {}, title), state),
    note,
    button,
  )
  let current: Button | undefined
  let isPressed = false
  const draw = () => {
    button.disabled = isPressed || current === undefined
    button.textContent = isPressed ? `${current?.doing} …` : (current?.label ?? 'Please wait')
  }
  button.addEventListener('click', async () => {
    if (current === undefined || isPressed) return
    isPressed = true
    draw()
    await press(current)
    isPressed = false
    draw()
  })
  return {
    root,
    show: (look) => {
      light.className = `light ${look.light}`
      state.textContent = look.state
      note.textContent = look.note
      if (!isPressed) current = look.button
      draw()
    },
  }
}

const replicaLook = ({ number, state, answered }: Replica): Look => {
  const note = `${answered.toLocaleString('en')} ${answered === 1 ? 'call' : 'calls'} answered`
  const button = (verb: 'kill' | 'restart', label: string, doing: string): Button => ({
    label,
    path: `replicas/${number}/${verb}`,
    doing,
  })
  switch (state) {
    case 'up':
      return { light: 'good', state: 'up', note, button: button('kill', 'kill -9', 'Killing') }
    case 'starting':
      return { light: 'waiting', state: 'starting', note, button: undefined }
    case 'down':
      return {
        light: 'bad',
        state: 'down',
        note,
        button: button('restart', 'Restart', 'Starting'),
      }
  }
}

const redisLook = (state: FleetState['redis']): Look => {
  const note = 'keeps the sessions'
  switch (state) {
    case 'up':
      return {
        light: 'good',
        state: 'up',
        note,
        button: { label: 'Stop for 3 s', path: 'redis/pause', doing: 'Stopping' },
      }
    case 'paused':
      return { light: 'waiting', state: 'stopped', note: 'goes on by itself', button: undefined }
    case 'gone':
      return { light: 'bad', state: 'gone', note: 'start the demo again', button: undefined }
  }
}

const countersOf = ({ calls, sessions, refreshes }: FleetState): HTMLElement[] => [
  counter('calls', calls.total),
  counter('2xx', calls.ok),
  counter('503', calls.unavailable, calls.unavailable > 0 ? 'waiting' : ''),
  counter('cut off', calls.cutOff, calls.cutOff > 0 ? 'waiting' : ''),
  counter('401', calls.unauthorized, calls.unauthorized > 0 ? 'bad' : 'good'),
  counter(
    'sessions lost',
    sessions.lost,
    sessions.lost > 0 ? 'bad' : 'good',
    ` of ${sessions.seen}`,
  ),
  counter('refreshes', refreshes),
  counter('slowest ms', calls.slowestMs),
  ...(calls.other > 0 ? [counter('other', calls.other)] : []),
]

const counter = (label: string, value: number, look = '', more = ''): HTMLElement =>
  el('div', { class: look }, el('dt', {}, label), el('dd', {}, value.toLocaleString('en'), more))

const lookOf = (status: number): string => {
  if (status >= 200 && status < 300) return 'good'
  return status === 401 || status === 502 ? 'bad' : 'waiting'
}

const happeningRow = ({ at, text }: { readonly at: string; readonly text: string }) =>
  el('li', {}, el('time', { datetime: at }, new Date(at).toLocaleTimeString('en-GB')), text)
