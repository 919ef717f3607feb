/** The gateway's cookies: names, attributes, reading and writing (RFC 6265bis, RFC 10017 §6.1.3.2). */

import type { Seconds } from '../time.ts'

/** Every cookie of ours starts so; upstreams never see one and can never set one. */
export const COOKIE_NAME_PREFIX = '__Host-Http-coatcheck'

/** Open sign-ins per browser; the oldest gives way to a fifth. */
export const LOGIN_SLOTS = ['0', '1', '2', '3'] as const
export type LoginSlot = (typeof LOGIN_SLOTS)[number]

export const isLoginSlot = (value: string): value is LoginSlot =>
  (LOGIN_SLOTS as readonly string[]).includes(value)

export type SameSite = 'Strict' | 'Lax' | 'None'

export interface CookieNames {
  readonly session: string
  readonly logout: string
  login(slot: LoginSlot): string
}

/** Cookies ignore ports: on a loopback origin the port joins every name, so that two gateways don't collide. */
export const cookieNames = (publicOrigin: string, loopback: boolean): CookieNames => {
  const url = new URL(publicOrigin)
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const suffix = loopback ? `-${port}` : ''
  return {
    session: `${COOKIE_NAME_PREFIX}${suffix}`,
    logout: `${COOKIE_NAME_PREFIX}-logout${suffix}`,
    login: (slot) => `${COOKIE_NAME_PREFIX}-login-${slot}${suffix}`,
  }
}

/** Seals hold no `;`, `,`, space or quote, so a value goes on the wire as it is. */
export const setCookie = (
  name: string,
  value: string,
  sameSite: SameSite,
  maxAge: Seconds | undefined,
): string =>
  `${name}=${value}; Path=/; Secure; HttpOnly; SameSite=${sameSite}${maxAge === undefined ? '' : `; Max-Age=${Math.floor(maxAge)}`}`

/** Same name, path and prefix attributes as when it was set, or a browser keeps the old one. */
export const clearCookie = (name: string, sameSite: SameSite): string =>
  `${name}=; Path=/; Secure; HttpOnly; SameSite=${sameSite}; Max-Age=0`

export type CookieReading =
  | { readonly kind: 'absent' }
  | { readonly kind: 'value'; readonly value: string }
  /** The same name twice: one of them is not ours, and no rule says which (RFC 6265bis §4.2.2). */
  | { readonly kind: 'ambiguous' }

/** Reads one cookie from a `Cookie` header; several header lines arrive joined by `; `. */
export const readCookie = (header: string | undefined, name: string): CookieReading => {
  if (header === undefined) return { kind: 'absent' }
  let found: string | undefined
  let start = 0
  while (start <= header.length) {
    const separator = header.indexOf(';', start)
    const end = separator === -1 ? header.length : separator
    const equals = header.indexOf('=', start)
    if (equals !== -1 && equals < end && header.slice(start, equals).trim() === name) {
      if (found !== undefined) return { kind: 'ambiguous' }
      found = header.slice(equals + 1, end).trim()
    }
    start = end + 1
  }
  return found === undefined || found === '' ? { kind: 'absent' } : { kind: 'value', value: found }
}
