/** “My devices”: every session of the user, this one marked, and a button that ends each other one. */

import { call, type Settle } from './api.ts'
import { deviceName } from './device-name.ts'
import { el } from './dom.ts'
import { panel } from './panels.ts'
import { sourceOf } from './source.ts'

export interface Device {
  /** Names the session for `DELETE`, and tells nothing of it. */
  readonly handle: string
  /** `User-Agent` at sign-in. */
  readonly device: string | null
  readonly ip: string
  readonly createdAt: string
  readonly lastSeenAt: string
  readonly current: boolean
}

export interface DevicesPanel {
  readonly root: HTMLElement
  /** Asks who is signed in now. */
  readonly refresh: () => Promise<void>
}

/** `url` is `links.sessions` of the session. */
export const devicesPanel = (url: string, settle: Settle): DevicesPanel => {
  // #region devices
  const refresh = async () => {
    const answer = settle(await call<{ readonly sessions: readonly Device[] }>('GET', url))
    if (answer !== undefined) show(answer.sessions)
  }
  const end = async (path: string) => {
    settle(await call('DELETE', path))
    await refresh()
  }
  // #endregion
  const list = el('ul', { class: 'devices', 'aria-label': 'Devices' })
  const endOthers = el(
    'button',
    { type: 'button', class: 'start', hidden: true, onclick: () => end(url) },
    'Sign out all others',
  )
  const show = (devices: readonly Device[]) => {
    list.replaceChildren(
      ...devices.map((device) =>
        row(device, () => end(`${url}/${encodeURIComponent(device.handle)}`)),
      ),
    )
    endOthers.hidden = devices.every(({ current }) => current)
  }
  return {
    root: panel(
      'My devices',
      'Where you are signed in, from GET /bff/sessions. The browser never learns a session id.',
      list,
      endOthers,
      sourceOf('devices.ts', 'devices'),
    ),
    refresh,
  }
}

const row = (device: Device, onEnd: () => void): HTMLElement => {
  const name = deviceName(device.device)
  return el(
    'li',
    {},
    el(
      'div',
      { class: 'device' },
      el(
        'span',
        { class: 'device-name' },
        name,
        ...(device.current ? [el('span', { class: 'here' }, 'this one')] : []),
      ),
      el(
        'span',
        { class: 'hint' },
        `${device.ip} · signed in ${since(device.createdAt)} · seen ${since(device.lastSeenAt)}`,
      ),
    ),
    ...(device.current
      ? []
      : [
          el(
            'button',
            {
              type: 'button',
              class: 'plain',
              'aria-label': `Sign out ${name}, signed in ${since(device.createdAt)}`,
              onclick: onEnd,
            },
            'Sign out',
          ),
        ]),
  )
}

const MINUTE_MS = 60_000
const STEPS: readonly (readonly [number, Intl.RelativeTimeFormatUnit])[] = [
  [24 * 60 * MINUTE_MS, 'day'],
  [60 * MINUTE_MS, 'hour'],
  [MINUTE_MS, 'minute'],
]
const FORMAT = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })

const since = (instant: string): string => {
  const ageMs = Date.now() - Date.parse(instant)
  const step = STEPS.find(([lengthMs]) => ageMs >= lengthMs)
  return step === undefined ? 'just now' : FORMAT.format(-Math.floor(ageMs / step[0]), step[1])
}
