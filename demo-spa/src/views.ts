/** The pages: signed out, signed in, ended, and no answer. They show what they are given and decide nothing. */

import type { Problem } from './api.ts'
import { el } from './dom.ts'
import type { User } from './session.ts'
import { sourceOf } from './source.ts'

export const signedOutView = (onSignIn: () => void): HTMLElement =>
  el(
    'main',
    { class: 'hero' },
    el(
      'div',
      { class: 'hero-text' },
      el('p', { class: 'kicker' }, 'Cloakroom · a Coatcheck demo'),
      el('h1', { tabindex: -1 }, 'The browser holds a ticket. The tokens stay behind the counter.'),
      el(
        'p',
        { class: 'lead' },
        'This page signs you in and calls an API without ever seeing a token. The gateway keeps them, refreshes them, and puts them on every request.',
      ),
      el('button', { class: 'primary large', type: 'button', onclick: onSignIn }, 'Sign in'),
      el('p', { class: 'hint' }, 'As alice or bob; the password is the same word.'),
    ),
    ticket(),
    el(
      'ol',
      { class: 'steps' },
      step('Sign in', 'One navigation to /bff/login. The page has no OAuth code.'),
      step('Call the API', 'Plain fetch("/api/…") on your own origin, always with a fresh token.'),
      step(
        'Sign out',
        'One call ends the session here and at the provider, and revokes its tokens.',
      ),
    ),
    el('div', { class: 'hero-source' }, sourceOf('session.ts', 'client', 'open')),
  )

const step = (title: string, text: string): HTMLElement =>
  el('li', {}, el('h2', {}, title), el('p', {}, text))

const ticket = (): HTMLElement =>
  el(
    'div',
    { class: 'ticket', 'aria-hidden': 'true' },
    el(
      'div',
      { class: 'ticket-body' },
      el('span', { class: 'ticket-label' }, 'Cloakroom'),
      el('span', { class: 'ticket-number' }, 'Nº 0417'),
      el('span', { class: 'ticket-label' }, 'Keep this half'),
    ),
    el('div', { class: 'ticket-stub' }, el('span', {}, '0417')),
  )

export const signedInView = (
  user: User,
  across: HTMLElement[],
  wideColumn: HTMLElement[],
  narrowColumn: HTMLElement[],
): HTMLElement =>
  el(
    'main',
    { class: 'panels' },
    el('h1', { tabindex: -1 }, `Good to see you, ${user.given_name ?? user.name ?? user.sub}`),
    ...across,
    el('div', { class: 'column' }, ...wideColumn),
    el('div', { class: 'column' }, ...narrowColumn),
  )

/** `witnesses` saw it end: what a button broke, what a WebSocket heard. */
export const endedView = (
  problem: Problem,
  witnesses: HTMLElement[],
  onSignIn: () => void,
): HTMLElement =>
  noticeView({
    kicker: 'Your session is over',
    problem,
    below: [...witnesses, sourceOf('main.ts', 'views')],
    actions: [
      el('button', { class: 'primary', type: 'button', onclick: onSignIn }, 'Sign in again'),
    ],
  })

export const unavailableView = (problem: Problem, onRetry: () => void): HTMLElement =>
  noticeView({
    kicker: 'One moment',
    problem,
    below: [],
    actions: [el('button', { class: 'primary', type: 'button', onclick: onRetry }, 'Try again')],
  })

const noticeView = (notice: {
  readonly kicker: string
  readonly problem: Problem
  readonly actions: HTMLElement[]
  readonly below: HTMLElement[]
}): HTMLElement =>
  el(
    'main',
    { class: 'notice' },
    el('p', { class: 'kicker' }, notice.kicker),
    el('h1', { tabindex: -1 }, notice.problem.title),
    el('p', { class: 'lead' }, notice.problem.detail),
    el('div', { class: 'row' }, ...notice.actions),
    el('p', { class: 'hint' }, 'Code ', el('code', {}, notice.problem.code)),
    ...notice.below,
  )
