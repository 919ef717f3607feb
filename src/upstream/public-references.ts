/** References in an upstream's answer, as they lead back through the gateway: no internal host name shows. */

import type { Route } from '../routing/route-table.ts'

/** Where the paths of one upstream are on the public origin. */
interface Mount {
  readonly upstream: URL
  readonly basePath: string
  /** Route prefix that the upstream does not see; empty where it sees the whole path. */
  readonly strippedPrefix: string
}

export interface PublicReferences {
  readonly publicOrigin: string
  readonly own: Mount
  /** Of every route, `own` first: one API may well redirect to another by its internal name. */
  readonly mounts: readonly Mount[]
}

type Mounted = Pick<Route, 'upstreamOrigin' | 'upstreamBasePath' | 'stripPrefix' | 'path'>

export const publicReferences = (
  route: Mounted,
  routes: readonly Mounted[],
  publicUrl: string,
): PublicReferences => {
  const own = mountOf(route)
  return {
    publicOrigin: new URL(publicUrl).origin,
    own,
    mounts: [own, ...routes.filter((other) => other !== route).map(mountOf)],
  }
}

const mountOf = (route: Mounted): Mount => ({
  upstream: new URL(route.upstreamOrigin),
  basePath: route.upstreamBasePath,
  strippedPrefix: route.stripPrefix && route.path !== '/' ? route.path : '',
})

/**
 * A place on an upstream becomes the same place behind the public origin. Other hosts and paths relative to the
 * request are passed as they are.
 */
export const publicReference = (reference: string, references: PublicReferences): string => {
  const read = asBrowsersRead(reference)
  if (/^\/(?![/\\])/.test(read)) {
    const path = publicPath(read, references.own)
    // What followed the base path would be a host without it.
    return NAMES_HOST.test(path) ? references.publicOrigin + path : path
  }
  if (!/^https?:/i.test(read) && !NAMES_HOST.test(read)) return reference
  const url = URL.parse(percentEncoded(read), references.own.upstream.href)
  if (url === null) return reference
  // The scheme is left out: an API that believes X-Forwarded-Proto writes https before its internal name.
  const onHost = references.mounts.filter(
    ({ upstream }) => upstream.hostname === url.hostname && upstream.port === url.port,
  )
  const mount = onHost.find(({ basePath }) => isBelow(url.pathname, basePath)) ?? onHost[0]
  if (mount === undefined) return reference
  return references.publicOrigin + publicPath(url.pathname + url.search + url.hash, mount)
}

/** RFC 8288 §3: the target of each link; what stands in parameters is left alone. */
export const publicLinks = (links: string, references: PublicReferences): string =>
  links.replace(
    /(^|,\s*)<([^<>]*)>/g,
    (_, before: string, target: string) => `${before}<${publicReference(target, references)}>`,
  )

/** `5; url=/x` as in HTML's `<meta http-equiv="refresh">`; browsers take it without `url=` and quoted too. */
export const publicRefresh = (refresh: string, references: PublicReferences): string =>
  refresh.replace(
    /^([\s\d.]*[;,]\s*(?:url\s*=\s*)?["']?)([^"']+)/i,
    (_, before: string, target: string) => before + publicReference(target, references),
  )

/** Browsers take either slash. */
const NAMES_HOST = /^[/\\]{2}/

/** WHATWG URL §4.4: without spaces at its ends, and without tabs anywhere. */
const asBrowsersRead = (reference: string): string =>
  reference.replaceAll('\t', '').replace(/^ +| +$/g, '')

/** Each character is a byte here, mostly of UTF-8: a URL parser would take it for a character of its own. */
const percentEncoded = (latin1: string): string =>
  latin1.replace(/[\u0080-\u00ff]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`)

/** Undoes what `upstreamPath` did. A path outside the base path, or already public, stays as it is. */
const publicPath = (path: string, { basePath, strippedPrefix }: Mount): string => {
  if (strippedPrefix !== '' && isBelow(path, strippedPrefix)) return path
  if (!isBelow(path, basePath)) return path
  const rest = path.slice(basePath.length)
  return strippedPrefix === '' && !rest.startsWith('/') ? `/${rest}` : strippedPrefix + rest
}

const isBelow = (path: string, prefix: string): boolean =>
  path.startsWith(prefix) && (prefix === '' || /^(?:[/?#]|$)/.test(path.slice(prefix.length)))
