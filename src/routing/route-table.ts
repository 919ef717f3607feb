/** The route table: which upstream a path and method lead to. Compiled once; matching allocates nothing. */

import { GatewayError } from '../errors.ts'
import type { Milliseconds } from '../time.ts'
import type { Target } from './path.ts'
import { parseTarget } from './path.ts'

export type AcceptedCredential = 'session' | 'anonymous'
export type CachePolicy = 'private, no-store' | 'upstream'

export interface WebSocketLimits {
  /** `Origin` towards the upstream: as the browser sent it, or the upstream's own. */
  readonly origin: 'keep' | 'upstream'
  /** Longest silence in both directions. 0: no limit. */
  readonly idle: Milliseconds
  /** 0: no limit. */
  readonly lifetime: Milliseconds
}

/** A route as it is configured. */
export interface RouteDefinition {
  /** Canonical path prefix without a trailing slash, or `/`. */
  readonly path: string
  /** Undefined means every method but CONNECT and TRACE. GET brings HEAD with it. */
  readonly methods: readonly string[] | undefined
  /** Origin and optional base path. */
  readonly upstream: string
  readonly stripPrefix: boolean
  readonly accept: readonly AcceptedCredential[]
  readonly credential: 'user' | 'none'
  readonly documents: boolean
  readonly webSocket: boolean
  readonly webSockets: WebSocketLimits
  readonly eventSource: boolean
  readonly encodedSlash: boolean
  readonly preserveHost: boolean
  readonly cookies: readonly string[]
  readonly setCookies: readonly string[]
  readonly bodyBytesMax: number
  readonly timeout: {
    readonly connect: Milliseconds
    readonly firstByte: Milliseconds
    /** 0: no limit. */
    readonly idle: Milliseconds
    /** 0: no limit. */
    readonly total: Milliseconds
  }
  readonly cache: CachePolicy
}

export interface UpstreamTimeouts {
  readonly connectMs: Milliseconds
  readonly firstByteMs: Milliseconds
  /** 0: no limit. */
  readonly idleMs: Milliseconds
}

/** A compiled route: everything about it that a request would otherwise have to work out. */
export interface Route extends Omit<RouteDefinition, 'upstream' | 'timeout'> {
  /** Name in metrics and logs: the configured path. */
  readonly id: string
  readonly upstreamOrigin: string
  /** Empty, or a path without a trailing slash. */
  readonly upstreamBasePath: string
  readonly timeouts: UpstreamTimeouts
  /** From the forwarding of a request to the end of its answer. 0: no limit. */
  readonly totalMs: Milliseconds
}

export type RouteMatch =
  | { readonly kind: 'route'; readonly route: Route }
  | { readonly kind: 'none' }
  | { readonly kind: 'method'; readonly allow: readonly string[] }

interface Prefix {
  readonly path: string
  /** What a longer path under this one begins with. */
  readonly below: string
}

interface PathEntry extends Prefix {
  /** The prefix as the most lenient parser reads it. */
  readonly folded: Prefix
  readonly byMethod: ReadonlyMap<string, RouteMatch>
  readonly otherMethods: RouteMatch
}

export interface RouteTable {
  readonly routes: readonly Route[]
  /** Longest path first. */
  readonly entries: readonly PathEntry[]
  /** One route lies below another: see `matchRoute`. */
  readonly nested: boolean
}

const NO_ROUTE: RouteMatch = { kind: 'none' }
const NEVER_FORWARDED = new Set(['CONNECT', 'TRACE'])
const USUAL_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY']

/** Throws a plain Error on a definition that the configuration should have refused. */
export const compileRoutes = (definitions: readonly RouteDefinition[]): RouteTable => {
  const routes = definitions.map(compileRoute)
  const byPath = Map.groupBy(routes, (route) => route.path)
  const entries = [...byPath]
    .map(([path, group]) => compileEntry(path, group))
    .sort((a, b) => b.path.length - a.path.length)
  const nested = entries.some((entry) =>
    entries.some((other) => other !== entry && entry.path.startsWith(other.below)),
  )
  return { routes, entries, nested }
}

/**
 * Longest prefix on segment boundaries, case exact. The longest path alone answers for the method: falling
 * back to a shorter one would let a method that a route refuses in by the route above it.
 * Where routes are nested, a path that other parsers could read as another route's (`//` merged, `;x` dropped,
 * `%2F` decoded, case ignored) matches nothing: `/api//admin` must not be served under the rules of `/api`.
 */
export const matchRoute = (table: RouteTable, path: string, method: string): RouteMatch => {
  const entry = table.entries.find((candidate) => covers(candidate, path))
  if (entry === undefined) return NO_ROUTE
  if (table.nested) {
    const folded = fold(path)
    const otherReading = table.entries.find((candidate) => covers(candidate.folded, folded))
    if (otherReading?.folded.path !== entry.folded.path) return NO_ROUTE
  }
  return entry.byMethod.get(method) ?? entry.otherMethods
}

/**
 * The path and query to send: the bytes as they came, behind the base path, without the prefix where the
 * route strips it. Host and port never come from here; they are the route's.
 */
export const upstreamPath = (route: Route, target: Target): string => {
  const kept = route.stripPrefix ? withoutPrefix(route.path, target.rawPath) : target.rawPath
  const path = route.upstreamBasePath + kept
  // `/api//host/x` without `/api` would begin with two slashes: to many parsers that names a host.
  if (!path.startsWith('/') || /^\/(?:\/|%2f)/i.test(path)) {
    throw new GatewayError('request_invalid', { reason: 'leading_slashes' })
  }
  return path + target.query
}

const covers = (prefix: Prefix, path: string): boolean =>
  path.startsWith(prefix.below) || path === prefix.path

/** How the most lenient upstream could read a path. */
const fold = (path: string): string =>
  path
    .replace(/%2f/gi, '/')
    .replace(/(?:;|%3b)[^/]*/gi, '')
    .replace(/\/{2,}/g, '/')
    .toLowerCase()

/** Raw and canonical path have their slashes in the same places, so the prefix is counted in segments. */
const withoutPrefix = (prefix: string, rawPath: string): string => {
  if (prefix === '/') return rawPath
  let at = 0
  for (let segment = prefix.split('/').length; segment > 1; segment -= 1) {
    at = rawPath.indexOf('/', at + 1)
    if (at === -1) return '/'
  }
  return rawPath.slice(at)
}

const prefixOf = (path: string): Prefix => ({ path, below: path === '/' ? '/' : `${path}/` })

const compileEntry = (path: string, routes: readonly Route[]): PathEntry => {
  const byMethod = new Map<string, RouteMatch>()
  let otherMethods: RouteMatch | undefined
  const claim = (route: Route, method: string) => {
    if (byMethod.has(method)) throw new Error(`route ${path} is defined twice for ${method}`)
    byMethod.set(method, { kind: 'route', route })
  }
  for (const route of routes) {
    if (route.methods !== undefined) {
      for (const method of route.methods) claim(route, method)
    } else if (otherMethods === undefined) {
      otherMethods = { kind: 'route', route }
    } else {
      throw new Error(`route ${path} is defined twice for every method`)
    }
  }
  const get = byMethod.get('GET')
  if (get !== undefined && !byMethod.has('HEAD')) byMethod.set('HEAD', get)
  const allow =
    otherMethods === undefined
      ? [...byMethod.keys()]
      : [...new Set([...USUAL_METHODS, ...byMethod.keys()])]
  const refused: RouteMatch = { kind: 'method', allow }
  for (const method of NEVER_FORWARDED) byMethod.set(method, refused)
  const folded = prefixOf(fold(path))
  return { ...prefixOf(path), folded, byMethod, otherMethods: otherMethods ?? refused }
}

const compileRoute = (definition: RouteDefinition): Route => {
  const { upstream, timeout, ...rest } = definition
  const { path, methods } = definition
  const target = parseTarget(path)
  const isCanonical = target.kind === 'ok' && target.path === path && target.query === ''
  if (!isCanonical || path.includes('//') || (path !== '/' && path.endsWith('/'))) {
    throw new Error(`route path ${path} is not a canonical path`)
  }
  for (const method of methods ?? []) {
    if (NEVER_FORWARDED.has(method)) throw new Error(`route ${path} cannot allow ${method}`)
  }
  const url = new URL(upstream)
  if (!/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    throw new Error(`the upstream of route ${path} is not an http(s) origin with an optional path`)
  }
  return {
    ...rest,
    id: path,
    upstreamOrigin: url.origin,
    upstreamBasePath: url.pathname.replace(/\/$/, ''),
    timeouts: {
      connectMs: timeout.connect,
      firstByteMs: timeout.firstByte,
      idleMs: timeout.idle,
    },
    totalMs: timeout.total,
  }
}
