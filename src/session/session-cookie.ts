/** The gateway's cookies: names, attributes, reading and writing (RFC 6265bis, RFC 10017 §6.1.3.2). */

import type { Seconds } from '../time.ts'

const PREFIXED_NAME = '__Host-Http-coatcheck'
const PLAIN_NAME = 'coatcheck'

/** Upstreams never see such a cookie and can never set one, whether or not this gateway uses the plain form. */
export const isOwnCookieName = (name: string): boolean => OWN_NAME.test(name)

const OWN_NAME = /^(?:__host-http-coatcheck|coatcheck-)/i

/** Open sign-ins per browser; the oldest gives way to a fifth. */
export const LOGIN_SLOTS = ['0', '1', '2', '3'] as const
export type LoginSlot = (typeof LOGIN_SLOTS)[number]

export const isLoginSlot = (value: string): value is LoginSlot =>
  (LOGIN_SLOTS as readonly string[]).includes(value)

export type SameSite = 'Strict' | 'Lax' | 'None'

/** `plain` is without prefix and `Secure`: some browsers drop `Secure` cookies on http://localhost (Safari). */
export type CookieForm = 'prefixed' | 'plain'

export interface CookieNames {
  readonly form: CookieForm
  readonly session: string
  readonly logout: string
  login(slot: LoginSlot): string
}

/** Cookies ignore ports: on a loopback origin the port joins every name, so that two gateways don't collide. */
export const cookieNames = (
  publicOrigin: string,
  loopback: boolean,
  form: CookieForm = 'prefixed',
): CookieNames => {
  const url = new URL(publicOrigin)
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  const suffix = loopback ? `-${port}` : ''
  const name = form === 'prefixed' ? PREFIXED_NAME : PLAIN_NAME
  return {
    form,
    session: `${name}${suffix}`,
    logout: `${name}-logout${suffix}`,
    login: (slot) => `${name}-login-${slot}${suffix}`,
  }
}

/**
 * Which form a browser's cookies have. A browser that sends any prefixed cookie keeps `Secure` ones, and its plain
 * ones count for nothing: any script on that host, of whatever port, can write those (RFC 6265bis §8.5, §8.6).
 */
export interface CookieForms {
  /** Every form that there is, `prefixed` first; alone unless the plain one was asked for. */
  readonly all: readonly CookieNames[]
  /** The form of the cookies that came with this request; `prefixed` where none did. */
  of(cookieHeader: string | undefined): CookieNames
  /** Forms in which this browser is offered a cookie, to see which of them it returns. */
  offeredTo(cookieHeader: string | undefined): readonly CookieNames[]
  /** A prefixed cookie that says nothing: whoever returns it is no longer believed a plain one. */
  readonly probe: string
}

export const createCookieForms = (
  publicOrigin: string,
  loopback: boolean,
  also: 'plain' | undefined,
): CookieForms => {
  const prefixed = cookieNames(publicOrigin, loopback)
  const probe = setCookie(
    prefixed.session.replace(PREFIXED_NAME, `${PREFIXED_NAME}-keeps-secure`),
    '1',
    'Lax',
    undefined,
  )
  if (also === undefined) {
    const all = [prefixed]
    return { all, of: () => prefixed, offeredTo: () => all, probe }
  }
  const plain = cookieNames(publicOrigin, loopback, 'plain')
  const all = [prefixed, plain]
  const keepsSecure = (header: string) => PREFIXED_PAIR.test(header)
  return {
    all,
    of: (header) =>
      header !== undefined && !keepsSecure(header) && header.includes(PLAIN_NAME)
        ? plain
        : prefixed,
    offeredTo: (header) => (header !== undefined && keepsSecure(header) ? [prefixed] : all),
    probe,
  }
}

const PREFIXED_PAIR = /(?:^|;)\s*__Host-Http-coatcheck/

/** Seals hold no `;`, `,`, space or quote, so a value goes on the wire as it is. */
export const setCookie = (
  name: string,
  value: string,
  sameSite: SameSite,
  maxAge: Seconds | undefined,
): string =>
  `${name}=${value}; Path=/;${secure(name)} HttpOnly; SameSite=${sameSite}${maxAge === undefined ? '' : `; Max-Age=${Math.floor(maxAge)}`}`

/** Same name, path and prefix attributes as when it was set, or a browser keeps the old one. */
export const clearCookie = (name: string, sameSite: SameSite): string =>
  `${name}=; Path=/;${secure(name)} HttpOnly; SameSite=${sameSite}; Max-Age=0`

const secure = (name: string): string => (name.startsWith(PREFIXED_NAME) ? ' Secure;' : '')

export type CookieReading =
  | { readonly kind: 'absent' }
  /** `form` is said of a session cookie in its plain form. */
  | { readonly kind: 'value'; readonly value: string; readonly form?: 'plain' }
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
