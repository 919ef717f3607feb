/** A WebSocket on the page's own origin: an echo, and what it hears when the session ends in another window. */

import { announce, el } from './dom.ts'
import { panel } from './panels.ts'
import { sourceOf } from './source.ts'

export interface EchoPanel {
  readonly root: HTMLElement
  /** What was said and heard; undefined until a WebSocket was opened. */
  readonly heard: () => HTMLElement | undefined
}

const LINES_MAX = 6
const MESSAGE_MAX = 200

export const echoPanel = (): EchoPanel => {
  const log = el('ol', { class: 'log', 'aria-label': 'The WebSocket, latest first', hidden: true })
  const text = el('input', {
    type: 'text',
    id: 'message',
    maxlength: MESSAGE_MAX,
    value: 'Is my coat still there?',
    autocomplete: 'off',
  })
  const openButton = el('button', { type: 'button', onclick: () => open() }, 'Open')
  const sendButton = el('button', { type: 'submit', disabled: true }, 'Send')
  const form = el(
    'form',
    { class: 'add' },
    el('label', { class: 'unseen', for: 'message' }, 'Message'),
    text,
    sendButton,
    openButton,
  )
  let socket: WebSocket | undefined

  const say = (badge: string, look: 'good' | 'bad' | 'calm', words: string) => {
    log.hidden = false
    log.prepend(
      el(
        'li',
        {},
        el('span', { class: `badge ${look}` }, badge),
        el('span', { class: 'target' }, words),
      ),
    )
    while (log.children.length > LINES_MAX) log.lastElementChild?.remove()
    announce(`${badge} ${words}`)
  }
  const isOpen = (open: boolean) => {
    sendButton.disabled = !open
    openButton.disabled = open
  }

  // #region echo
  const open = () => {
    socket = new WebSocket('/api/echo')
    isOpen(true)
    socket.onopen = () => say('open', 'good', 'The gateway added the token to the handshake')
    socket.onmessage = ({ data }) => say('heard', 'calm', data)
    socket.onclose = ({ code, reason }) => {
      isOpen(false)
      say(String(code), 'bad', code === 4401 ? `The session ended: ${reason}` : 'Closed')
    }
  }
  // #endregion

  form.addEventListener('submit', (event) => {
    event.preventDefault()
    if (socket?.readyState === WebSocket.OPEN) socket.send(text.value)
  })
  return {
    root: panel(
      'A WebSocket',
      'Ends with the session, wherever that ends: code 4401, within a second.',
      form,
      log,
      el(
        'p',
        { class: 'hint' },
        'Try it: ',
        el('a', { href: '/', target: '_blank', rel: 'noopener' }, 'open a second window'),
        ', sign out there, and look here.',
      ),
      sourceOf('echo.ts', 'echo'),
    ),
    heard: () =>
      socket === undefined
        ? undefined
        : el('div', { class: 'result' }, el('h3', {}, 'What the WebSocket heard'), log),
  }
}
