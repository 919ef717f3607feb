/** The “Break it” panel: a button for each experiment, and beside them what came of the last one. */

import { call } from './api.ts'
import { announce, el } from './dom.ts'
import {
  type Bench,
  EXPERIMENTS,
  type Experiment,
  type Pressed,
  type Row,
  rowOf,
  type Verdict,
} from './experiments.ts'
import { panel } from './panels.ts'
import { sourceOf } from './source.ts'

export interface Lab {
  readonly root: HTMLElement
  /** What came of the last experiment; undefined before the first. */
  readonly result: () => HTMLElement | undefined
  /** While one runs, other calls would blur what is seen. */
  readonly isBusy: () => boolean
}

/** With replicas, tokens live for 2 seconds: none needs to be made expire. */
export const lab = (hasReplicas: boolean): Lab => {
  const offered = EXPERIMENTS.filter(({ id }) => !hasReplicas || id !== 'expire')
  const title = el('h3', { tabindex: -1 }, 'Nothing is broken yet')
  const rows = el('ol', { class: 'log', 'aria-label': 'Requests and answers' })
  const noticed = el('b')
  const why = el(
    'p',
    { class: 'hint' },
    'Press a button: here you see the request, its answer, and what you would have noticed.',
  )
  const stop = el('button', { type: 'button', class: 'start', hidden: true }, 'Mend it now')
  const outcome = el(
    'p',
    { class: 'noticed', hidden: true },
    el('span', { class: 'kicker' }, 'What you noticed'),
    noticed,
  )
  const result = el(
    'div',
    { class: 'result', role: 'group', 'aria-label': 'What came of it' },
    title,
    rows,
    outcome,
    why,
    stop,
  )
  const buttons: HTMLButtonElement[] = []
  let running: Experiment | undefined
  let hasRun = false

  const add = (row: Row) => rows.append(rowElement(row))
  const bench: Bench = {
    row: add,
    sameRow: (row) => {
      rows.lastElementChild?.remove()
      add(row)
    },
    press: async (button) => {
      const outcome = await call<Pressed>('POST', `/api/demo/${button}`, {
        onCall: (made) => add(rowOf(made)),
      })
      if (outcome.kind !== 'answer') throw new Error(outcome.problem.detail)
      await new Promise((resolve) => setTimeout(resolve, outcome.body.waitMs ?? 0))
      return outcome.body
    },
    probe: () => call('GET', '/api/demo/probe', { onCall: (made) => add(rowOf(made)) }),
  }

  const show = ({ look, noticed: words, why: reason }: Verdict) => {
    outcome.className = `noticed ${look}`
    outcome.hidden = false
    noticed.textContent = words
    why.textContent = reason
    announce(`${words}. ${reason}`)
  }

  const run = async (experiment: Experiment) => {
    if (running !== undefined) return
    running = experiment
    hasRun = true
    draw()
    title.textContent = experiment.label
    result.scrollIntoView({ block: 'nearest' })
    rows.replaceChildren()
    outcome.hidden = true
    why.textContent = experiment.about
    stop.hidden = experiment.stop === undefined
    try {
      show(await experiment.run(bench))
    } catch (thrown) {
      // A button that could not even be pressed: its row says why.
      show({
        look: 'bad',
        noticed: 'It could not be tried',
        why: thrown instanceof Error ? thrown.message : 'Try again.',
      })
    } finally {
      running = undefined
      stop.hidden = true
      draw()
    }
  }
  stop.addEventListener('click', () => void running?.stop?.())

  const draw = () => {
    for (const [index, button] of buttons.entries()) {
      // Not `disabled`: the focus would be lost, and with it the keyboard's place.
      button.setAttribute('aria-disabled', String(running !== undefined))
      button.setAttribute('aria-pressed', String(offered[index] === running))
    }
  }
  for (const experiment of offered)
    buttons.push(
      el(
        'button',
        { type: 'button', class: 'experiment', onclick: () => run(experiment) },
        el('span', {}, experiment.label),
        el('span', { class: 'hint' }, experiment.about),
      ),
    )

  const here = el('div', { class: 'lab' }, el('div', { class: 'experiments' }, ...buttons), result)
  const root = el(
    'div',
    { class: 'across' },
    panel(
      'Break it',
      'Each button really breaks something behind this page, for your session. Then it makes a call.',
      here,
      sourceOf('experiments.ts', 'experiment'),
    ),
  )
  return {
    root,
    result: () => (hasRun ? result : undefined),
    isBusy: () => running !== undefined,
  }
}

const rowElement = ({ request, status, code, isGood }: Row): HTMLElement =>
  el(
    'li',
    {},
    el('span', { class: `badge ${isGood ? 'good' : 'bad'}` }, String(status)),
    el(
      'span',
      { class: 'target' },
      request,
      ...(code === undefined ? [] : [' ', el('code', {}, code)]),
    ),
  )
