/** Addresses: URLs, host and port, address ranges and paths as settings may write them, in one canonical spelling. */

import { isIPv4, isIPv6 } from 'node:net'
import { type Form, type HostPort, matching, text } from './forms.ts'

/** What a browser treats as this machine (Secure Contexts §3.1). */
export const isLoopback = (hostname: string): boolean =>
  hostname === 'localhost' ||
  hostname.endsWith('.localhost') ||
  hostname === '[::1]' ||
  (isIPv4(hostname) && hostname.startsWith('127.'))

// The URL parser drops tabs and newlines, decodes percent signs and reads `\` as `/`: such texts never get there.
const HTTP_URL = /^https?:\/\/[^/?#@\\%\s\p{Cc}]+(\/[^?#\\\s\p{Cc}]*)?$/iu
const HOSTNAME = /^([a-z0-9._-]{1,253}|\[[0-9a-f:.]+\])$/

/** An http(s) URL without user information, query or fragment; undefined for anything else. */
const parseHttpUrl = (written: string): URL | undefined => {
  if (!HTTP_URL.test(written) || !URL.canParse(written)) return undefined
  const url = new URL(written)
  return HOSTNAME.test(url.hostname) ? url : undefined
}

const isProtected = (url: URL): boolean => url.protocol === 'https:' || isLoopback(url.hostname)

export const publicUrl: Form<string> = text(
  'origin, such as `https://app.example.com`',
  'must be an origin with https (http only for localhost, 127.0.0.0/8 or [::1]), without path, query or user',
  (written) => {
    const url = parseHttpUrl(written)
    return url?.pathname === '/' && isProtected(url) ? url.origin : undefined
  },
)

/** Kept exactly as written: issuers are compared code point by code point (OIDC Discovery 1.0 §4.3). */
export const issuer: Form<string> = text(
  'URL, exactly as the provider spells it',
  'must be a URL with https (http only for localhost, 127.0.0.0/8 or [::1]), without query, fragment or user',
  (written) => {
    const url = parseHttpUrl(written)
    return url !== undefined && isProtected(url) ? written : undefined
  },
)

export const origin: Form<string> = text(
  'origin, such as `http://127.0.0.1:5173`',
  'must be an origin with http or https, without path, query or user',
  (written) => {
    const url = parseHttpUrl(written)
    return url?.pathname === '/' ? url.origin : undefined
  },
)

const PATH = /^(\/[A-Za-z0-9._~!$&'()*+,=:@-]+)+$/

const parsePath = (written: string): string | undefined =>
  written.length <= 512 && PATH.test(written) && !/\/\.\.?(\/|$)/.test(written)
    ? written
    : undefined

const PATH_RULE =
  'must be a path that begins with "/", has no "/" at its end, no empty or dot segments and no percent signs'

/** In canonical spelling, so that it equals what requests are matched by. */
export const path: Form<string> = text('path, such as `/api`', PATH_RULE, parsePath)

/** `/` alone is the route that gets what no other takes. */
export const routePath: Form<string> = text('path, such as `/api`, or `/`', PATH_RULE, (written) =>
  written === '/' ? written : parsePath(written),
)

/** Origin and optional base path. */
export const upstream: Form<string> = text(
  'URL, such as `http://127.0.0.1:8080`',
  'must be an origin with http or https and at most a plain path, without query, fragment, dot segments or user',
  (written) => {
    const url = parseHttpUrl(written)
    if (url === undefined) return undefined
    const base = new URL(written).pathname.replace(/\/$/, '')
    const spelled = /^https?:\/\/[^/]+(.*?)\/?$/i.exec(written)?.[1]
    return base === '' || (base === spelled && parsePath(base) !== undefined)
      ? url.origin + base
      : undefined
  },
)

const HOST_PORT = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):(\d{1,5})$/

/** Undefined for anything else; an IPv6 address stands in brackets. */
export const parseHostPort = (written: string, portMin: number): HostPort | undefined => {
  const [, bracketed, digits] = HOST_PORT.exec(written) ?? []
  if (bracketed === undefined) return undefined
  const host = bracketed.startsWith('[') ? bracketed.slice(1, -1) : bracketed.toLowerCase()
  const port = Number(digits)
  if (port < portMin || port > 65_535) return undefined
  if (bracketed.startsWith('[') ? !isIPv6(host) : /^[\d.]+$/.test(host) && !isIPv4(host))
    return undefined
  return { host, port }
}

/** Port 0 lets the system choose. */
export const listenAddress: Form<HostPort> = text(
  '`host:port`',
  'must be host:port, such as 127.0.0.1:3000, 0.0.0.0:3000 or [::1]:3000',
  (written) => parseHostPort(written, 0),
)

export const listenAddressOrOff: Form<HostPort | 'off'> = text(
  '`host:port` or `off`',
  'must be host:port, such as 127.0.0.1:9090, or off',
  (written) => (written === 'off' ? written : parseHostPort(written, 0)),
)

export const connectAddress: Form<HostPort> = text(
  '`host:port`',
  'must be host:port, such as keycloak:8080',
  (written) => parseHostPort(written, 1),
)

/** Loopback, RFC 1918, link-local and unique local addresses: peers inside one machine, cluster or network. */
export const PRIVATE_RANGES: readonly string[] = [
  '127.0.0.0/8',
  '::1/128',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '169.254.0.0/16',
  'fc00::/7',
  'fe80::/10',
]

/** `private`, or one range in CIDR notation; a bare address is a range of one. */
export const addressRange: Form<string> = text(
  'address range such as `10.0.0.0/8`, or `private`',
  'must be an address, a range in CIDR notation such as 10.0.0.0/8, or private',
  (written) => {
    if (written === 'private') return written
    const [, address, prefix] = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/.exec(written) ?? []
    if (address === undefined) return undefined
    const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : undefined
    if (bits === undefined || Number(prefix ?? bits) > bits) return undefined
    // Peers with a mapped address are compared as IPv4, so such a range could never match.
    if (/^(0{0,4}:){1,5}ffff:/i.test(address)) return undefined
    return `${address.toLowerCase()}/${prefix ?? bits}`
  },
)

/** A name as RFC 9110 §5.6.2 allows it, other than those that the gateway's own cookies begin with. */
export const foreignCookieName: Form<string> = matching(
  'cookie name',
  'must be a cookie name other than the gateway’s own (__Host-Http-coatcheck…, coatcheck-…)',
  /^(?!__host-http-coatcheck|coatcheck-)[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/i,
)

export const hostPortText = ({ host, port }: HostPort): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
