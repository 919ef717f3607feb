/** The panels of the signed-in page: each is an element and the one function that shows it something new. */

import type { Call, Observed, Problem } from './api.ts'
import { el } from './dom.ts'
import type { User } from './session.ts'
import { sourceOf } from './source.ts'

export interface Panel<Value> {
  readonly root: HTMLElement
  show(value: Value): void
}

export interface WhoAmI {
  readonly subject: string
  readonly scope: string | null
  readonly token: { readonly fingerprint: string; readonly expiresAt: number }
  readonly tokensSeen: number
  readonly headers: readonly (readonly [string, string])[]
}

export interface Item {
  readonly id: string
  readonly title: string
}

export const panel = (title: string, about: string, ...children: (Node | string)[]): HTMLElement =>
  el(
    'section',
    { class: 'panel', 'aria-label': title },
    el('h2', {}, title),
    el('p', { class: 'about' }, about),
    ...children,
  )

export const topBar = (user: User, onSignOut: () => void): HTMLElement =>
  el(
    'header',
    { class: 'bar' },
    el(
      'div',
      { class: 'bar-inner' },
      el('span', { class: 'brand' }, el('img', { src: '/favicon.svg', alt: '' }), 'Cloakroom'),
      el('span', { class: 'who' }, user.name ?? user.sub),
      codeButton(),
      el('button', { type: 'button', onclick: onSignOut }, 'Sign out'),
    ),
  )

/** Unfolds what stands behind every panel. */
const codeButton = (): HTMLElement => {
  const button = el('button', { type: 'button', 'aria-pressed': 'false' }, 'Code')
  button.addEventListener('click', () => {
    const isShown = button.getAttribute('aria-pressed') !== 'true'
    button.setAttribute('aria-pressed', String(isShown))
    for (const source of document.querySelectorAll<HTMLDetailsElement>('.source'))
      source.open = isShown
  })
  return button
}

/** For what is down only for the moment; the page below it stays as it is. */
export const banner = (onRetry: () => void): Panel<Problem | undefined> => {
  const text = el('p')
  const root = el(
    'div',
    { class: 'banner', role: 'alert', hidden: true },
    text,
    el('button', { type: 'button', onclick: onRetry }, 'Try again'),
  )
  return {
    root,
    show: (problem) => {
      root.hidden = problem === undefined
      if (problem !== undefined) text.textContent = `${problem.title}. ${problem.detail}`
    },
  }
}

/** Ahead of an end, with time left to do something about it. */
export const expiryBar = (actions: {
  readonly stay: () => void
  readonly signIn: () => void
}): Panel<Expiry | undefined> => {
  const text = el('p')
  const stay = el('button', { type: 'button', onclick: actions.stay }, 'Stay signed in')
  const signIn = el('button', { type: 'button', onclick: actions.signIn }, 'Sign in again')
  const root = el(
    'div',
    { class: 'banner gentle', role: 'status', hidden: true },
    text,
    stay,
    signIn,
  )
  return {
    root,
    show: (expiry) => {
      root.hidden = expiry === undefined
      if (expiry === undefined) return
      stay.hidden = expiry.reason !== 'idle'
      signIn.hidden = expiry.reason === 'idle'
      const why =
        expiry.reason === 'idle'
          ? 'Nothing happened here for a while.'
          : 'Your session is nearly over.'
      text.textContent = `${why} You will be signed out in ${clockText(expiry.expiresIn)}.`
    },
  }
}

export interface Expiry {
  readonly reason: 'idle' | 'absolute'
  readonly expiresIn: number
}

/** In seconds. */
export interface TimeLeft {
  readonly expiresIn: number
  readonly idleExpiresIn: number
}

export const sessionPanel = (user: User): Panel<TimeLeft> => {
  const total = meter('Session ends in')
  const idle = meter('Without any API call, in')
  const facts = Object.entries(user).flatMap(([claim, value]) => [
    el('dt', {}, claim),
    el('dd', {}, typeof value === 'string' ? value : JSON.stringify(value)),
  ])
  return {
    root: panel(
      'Who am I',
      'What GET /bff/session says of you. Asking it never extends the session.',
      el('dl', { class: 'facts' }, ...facts),
      el('div', { class: 'meters' }, total.root, idle.root),
      sourceOf('main.ts', 'session'),
    ),
    show: ({ expiresIn, idleExpiresIn }) => {
      total.show(expiresIn)
      idle.show(idleExpiresIn)
    },
  }
}

/** Counts down against the largest value that it has shown. */
const meter = (label: string): Panel<number> => {
  const value = el('b')
  const bar = el('progress', { max: 1, value: 0, 'aria-label': label })
  return {
    root: el('div', { class: 'meter' }, el('div', { class: 'meter-head' }, label, value), bar),
    show: (seconds) => {
      bar.max = Math.max(bar.max, seconds)
      bar.value = seconds
      value.textContent = clockText(seconds)
    },
  }
}

const clockText = (seconds: number): string => {
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0')
  return seconds >= 3600
    ? `${Math.floor(seconds / 3600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}`
    : `${Math.floor(seconds / 60)}:${two(seconds % 60)}`
}

const FINGERPRINTS_MAX = 8

export const freshnessPanel = (
  onToggle: (asking: boolean) => void,
  pace: string,
): Panel<WhoAmI> => {
  const count = el('b', {}, '–')
  const countLabel = el('span', {}, 'access tokens so far')
  const life = meter('The newest expires in')
  const chips = el('ul', {
    class: 'chips',
    'aria-label': 'Fingerprints of the tokens, newest first',
  })
  const headers = el('pre', { tabindex: 0 })
  const asking = el('input', { type: 'checkbox', id: 'asking', checked: true })
  asking.addEventListener('change', () => onToggle(asking.checked))
  const fingerprints: string[] = []
  let seenBefore = 0
  let subject: string | undefined
  return {
    root: panel(
      'Fresh tokens, unseen',
      'The API reports the token of each call by a fingerprint. Here it lives for a few seconds only.',
      el('p', { class: 'count' }, count, countLabel),
      chips,
      life.root,
      el(
        'label',
        { class: 'switch', for: 'asking' },
        asking,
        `Keep asking GET /api/whoami, ${pace}. Switched off, nothing counts as activity and the idle time runs down.`,
      ),
      el('details', {}, el('summary', {}, 'What the API was sent'), headers),
      sourceOf('main.ts', 'whoami'),
    ),
    show: (who) => {
      // The API counts for each user by themselves: with another one the count begins anew.
      if (who.subject !== subject) {
        subject = who.subject
        seenBefore = who.tokensSeen - 1
        fingerprints.length = 0
      }
      const seen = who.tokensSeen - seenBefore
      count.textContent = String(seen)
      countLabel.textContent =
        seen === 1
          ? 'access token so far. Wait for the next: this page does nothing for it'
          : 'different access tokens so far, and this page did nothing for it'
      life.show(Math.max(0, Math.round(who.token.expiresAt - Date.now() / 1000)))
      if (fingerprints[0] !== who.token.fingerprint) {
        fingerprints.unshift(who.token.fingerprint)
        fingerprints.splice(FINGERPRINTS_MAX)
        chips.replaceChildren(...fingerprints.map((fingerprint) => el('li', {}, fingerprint)))
      }
      headers.textContent = who.headers.map(([name, value]) => `${name}: ${value}`).join('\n')
    },
  }
}

export interface ApiActions {
  readonly list: () => void
  /** Resolves to whether the item was added: the field keeps its text otherwise. */
  readonly add: (title: string) => Promise<boolean>
  readonly remove: (item: Item) => void
  readonly slow: () => void
  readonly toggleStream: () => void
}

export type ApiNews =
  | { readonly kind: 'items'; readonly items: readonly Item[] }
  | { readonly kind: 'call'; readonly call: Call }
  | { readonly kind: 'stream'; readonly open: boolean; readonly text: string }

const CALLS_MAX = 6

export const apiPanel = (actions: ApiActions): Panel<ApiNews> => {
  const list = el('ul', { class: 'items', 'aria-label': 'Items' })
  const title = el('input', {
    type: 'text',
    id: 'title',
    maxlength: 200,
    required: true,
    placeholder: 'Another coat',
    autocomplete: 'off',
  })
  const form = el(
    'form',
    { class: 'add' },
    el('label', { class: 'unseen', for: 'title' }, 'Title of a new item'),
    title,
    el('button', { type: 'submit' }, 'Add'),
  )
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    if (await actions.add(title.value)) title.value = ''
  })
  const log = el('ol', { class: 'log', 'aria-label': 'Last calls, newest first' })
  const answer = el('pre', { tabindex: 0, 'aria-label': 'Last answer' }, 'No call yet.')
  const streamButton = el(
    'button',
    { type: 'button', 'aria-pressed': 'false', onclick: actions.toggleStream },
    'Stream',
  )
  const show = (news: ApiNews): void => {
    if (news.kind === 'items') {
      list.replaceChildren(...news.items.map((item) => itemRow(item, () => actions.remove(item))))
      list.hidden = news.items.length === 0
    } else if (news.kind === 'stream') {
      streamButton.setAttribute('aria-pressed', String(news.open))
      streamButton.textContent = news.open ? 'Stop the stream' : 'Stream'
      answer.textContent = news.text
    } else {
      log.prepend(callRow(news.call))
      while (log.children.length > CALLS_MAX) log.lastElementChild?.remove()
      answer.textContent = readable(news.call.text)
    }
  }
  return {
    root: panel(
      'Call the API',
      'Plain fetch on this origin. The gateway adds the token; the API really verifies it.',
      list,
      form,
      el(
        'div',
        { class: 'row' },
        el('button', { type: 'button', onclick: actions.list }, 'Get items'),
        el('button', { type: 'button', onclick: actions.slow }, 'Slow, 3 s'),
        streamButton,
      ),
      log,
      answer,
      sourceOf('api.ts', 'call'),
      sourceOf('api-actions.ts', 'stream'),
    ),
    show,
  }
}

const itemRow = (item: Item, onDelete: () => void): HTMLElement =>
  el(
    'li',
    {},
    el('span', {}, item.title),
    el(
      'button',
      { type: 'button', class: 'plain', 'aria-label': `Delete ${item.title}`, onclick: onDelete },
      'Delete',
    ),
  )

const callRow = ({ method, path, status, durationMs }: Call): HTMLElement =>
  el(
    'li',
    {},
    el(
      'span',
      { class: `badge ${status >= 200 && status < 300 ? 'good' : 'bad'}` },
      status === 0 ? '—' : String(status),
    ),
    el('span', { class: 'target' }, `${method} ${path}`),
    el('span', { class: 'time' }, `${durationMs} ms`),
  )

const readable = (text: string): string => {
  if (text === '') return '(no content)'
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    // Not JSON: shown as it came.
    return text
  }
}

export const proofPanel = (): Panel<Observed> => {
  const list = el('ul', { class: 'proof' })
  const headers = el('pre', { tabindex: 0 })
  return {
    root: panel(
      'Nothing to steal here',
      'Everything that a script on this page could read, looked through for tokens.',
      list,
      el('details', {}, el('summary', {}, 'Every response header this page was shown'), headers),
    ),
    show: (observed) => {
      const suspects = [...observed.suspects]
      list.replaceChildren(
        proof('document.cookie', document.cookie === '', document.cookie || 'empty'),
        proof(
          'localStorage',
          localStorage.length === 0,
          countText(localStorage.length, 'entry', 'entries'),
        ),
        proof(
          'sessionStorage',
          sessionStorage.length === 0,
          countText(sessionStorage.length, 'entry', 'entries'),
        ),
        proof(
          `${countText(observed.calls, 'answer', 'answers')} of the API, headers and bodies`,
          suspects.length === 0,
          suspects.length === 0 ? 'nothing that looks like a token' : suspects.join(', '),
        ),
      )
      headers.textContent = [...observed.headers]
        .map(([name, value]) => `${name}: ${value}`)
        .sort()
        .join('\n')
    },
  }
}

const proof = (what: string, good: boolean, value: string): HTMLElement =>
  el(
    'li',
    {},
    el('span', { class: good ? 'mark' : 'mark bad', 'aria-hidden': 'true' }, good ? '✓' : '✗'),
    el('span', {}, `${what}: `, el('span', { class: 'value' }, value)),
  )

const countText = (count: number, one: string, many: string): string =>
  `${count} ${count === 1 ? one : many}`
