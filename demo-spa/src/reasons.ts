/** Why a session ended (docs/event-streams.md), in words. */

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
