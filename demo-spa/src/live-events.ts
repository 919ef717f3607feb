/** What the gateway tells an open page of its session (docs/event-streams.md), and its reasons in words. */

export interface LiveEvents {
  /** Where the session stands: at first, after each reconnect, and when an end was put off. */
  readonly session: () => void
  readonly expiring: (news: Expiring) => void
  /** The provider says something else of the user now. */
  readonly claims: () => void
  readonly ended: (reason: string) => void
  /** Refused: why, only a call can tell. */
  readonly refused: () => void
}

export interface Expiring {
  readonly reason: 'idle' | 'absolute'
  readonly expiresIn: number
}

export const listen = (url: string, signal: AbortSignal, on: LiveEvents): void => {
  const events = new EventSource(url)
  signal.addEventListener('abort', () => events.close())
  const hear = (name: string, tell: (value: Readonly<Record<string, unknown>>) => void) =>
    events.addEventListener(name, ({ data }) => tell(JSON.parse(data)))
  hear('session', on.session)
  hear('claims', on.claims)
  hear('expiring', (value) => on.expiring(value as unknown as Expiring))
  hear('ended', ({ reason }) => on.ended(String(reason)))
  // A third window of this session took the place: this one asks from time to time, as it did before.
  hear('superseded', () => events.close())
  events.addEventListener('error', () => {
    // While it is open or reconnects by itself there is nothing to do.
    if (events.readyState === EventSource.CLOSED) on.refused()
  })
}

const WORDS: Readonly<Record<string, string>> = {
  logout: 'You signed out in another window.',
  ended_elsewhere: 'You ended it from another of your devices.',
  backchannel_logout: 'The identity provider signed you out.',
  frontchannel_logout: 'The identity provider signed you out.',
  admin: 'An administrator ended it.',
  session_limit: 'You signed in on another device, and the oldest sign-in made room for it.',
  idle: 'Nothing happened here for a while.',
  absolute: 'It had reached its full length.',
  access_token_expired: 'The identity provider’s permission ran out.',
  refresh_expired: 'The identity provider’s permission ran out.',
  refresh_rejected: 'The identity provider withdrew its permission.',
  refresh_lost: 'An answer of the identity provider was lost, and nothing can bring it back.',
  identity_changed: 'The identity provider named somebody else.',
}

export const endInWords = (reason: string): string => WORDS[reason] ?? 'The gateway ended it.'
