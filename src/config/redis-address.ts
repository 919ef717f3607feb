/** The URL of Redis or Valkey: one server, Sentinels that know the server, or the nodes of a Cluster. */

import { parseHostPort } from './addresses.ts'
import { type Form, type HostPort, text } from './forms.ts'

export interface RedisLogin {
  /** Undefined: the server's default user. */
  readonly username: string | undefined
  readonly password: string
}

interface RedisServers {
  readonly tls: boolean
  /** The server itself, the Sentinels, or the nodes that a Cluster is learnt from. */
  readonly hosts: readonly HostPort[]
  readonly login: RedisLogin | undefined
}

export type RedisAddress =
  | (RedisServers & { readonly kind: 'standalone'; readonly database: number })
  | (RedisServers & {
      readonly kind: 'sentinel'
      readonly masterName: string
      readonly database: number
      readonly sentinelLogin: RedisLogin | undefined
    })
  | (RedisServers & { readonly kind: 'cluster' })

/** Several hosts stand where a URL has one, so this is no URL that the URL parser could read. */
const REDIS_URL =
  /^redis(?<tls>s?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<user>[^:@/?#\s]*):(?<password>[^@/?#\s]+)@)?(?<hosts>[^@/?#\s]+)(?<path>\/[^?#\s]*)?(?:\?(?<query>[^#\s]*))?$/i
const DATABASE = /^\/?(\d{0,4})$/
const MASTER = /^\/([A-Za-z0-9._-]{1,128})(?:\/(\d{0,4}))?$/
const HOSTS_MAX = 50

const parse = (written: string): RedisAddress | undefined => {
  const parts = REDIS_URL.exec(written)?.groups
  if (parts === undefined) return undefined
  const { kind = 'standalone', path = '', query } = parts
  const servers = parseServers(parts, kind.toLowerCase() === 'sentinel' ? 26_379 : 6_379)
  if (servers === undefined) return undefined
  switch (kind.toLowerCase()) {
    case 'sentinel': {
      const [, masterName, database = ''] = MASTER.exec(path) ?? []
      const sentinel = parseSentinelQuery(query)
      return masterName === undefined || sentinel === undefined
        ? undefined
        : {
            kind: 'sentinel',
            ...servers,
            masterName,
            database: Number(database),
            sentinelLogin: sentinel.login,
          }
    }
    case 'cluster':
      return query === undefined && /^\/?0?$/.test(path)
        ? { kind: 'cluster', ...servers }
        : undefined
    default: {
      const database = DATABASE.exec(path)?.[1]
      return query === undefined && database !== undefined && servers.hosts.length === 1
        ? { kind: 'standalone', ...servers, database: Number(database) }
        : undefined
    }
  }
}

const parseServers = (
  { tls, user, password, hosts = '' }: Readonly<Record<string, string | undefined>>,
  defaultPort: number,
): RedisServers | undefined => {
  const addresses = hosts
    .split(',')
    .map((host) => host.replace(/^([^:]+|\[[^\]]*\])$/, `$1:${defaultPort}`))
    .map((host) => parseHostPort(host, 1))
  const known = addresses.filter((address) => address !== undefined)
  if (known.length !== addresses.length || known.length > HOSTS_MAX) return undefined
  const servers = { tls: tls !== '', hosts: known }
  if (password === undefined) return { ...servers, login: undefined }
  const login = parseLogin(decoded(user), decoded(password))
  return login === undefined ? undefined : { ...servers, login }
}

const parseLogin = (
  username: string | undefined,
  password: string | undefined,
): RedisLogin | undefined =>
  username === undefined || !password || /\p{Cc}/u.test(username + password)
    ? undefined
    : { username: username || undefined, password }

/** Sentinels have users of their own; those of the server are unknown to them. */
const parseSentinelQuery = (
  query: string | undefined,
): { readonly login: RedisLogin | undefined } | undefined => {
  if (query === undefined) return { login: undefined }
  const pairs = query.split('&').map((pair) => pair.split('='))
  const given = new Map(pairs.map(([name = '', value]) => [name, decoded(value)]))
  const known = [...given.keys()].every((name) =>
    ['sentinelUsername', 'sentinelPassword'].includes(name),
  )
  if (!known || given.size !== pairs.length || pairs.some((pair) => pair.length !== 2))
    return undefined
  const login = parseLogin(
    given.has('sentinelUsername') ? given.get('sentinelUsername') : '',
    given.get('sentinelPassword'),
  )
  return login === undefined ? undefined : { login }
}

const decoded = (written: string | undefined): string | undefined => {
  try {
    return written === undefined ? undefined : decodeURIComponent(written)
  } catch {
    // A percent sign that is none: the caller refuses the whole.
    return undefined
  }
}

export const redisUrl: Form<RedisAddress> = text(
  '`redis://`, `redis+sentinel://` or `redis+cluster://` URL; with TLS `rediss…`',
  'must be redis://host, redis+sentinel://host,host/master-name or redis+cluster://host,host (rediss… for TLS), with at most ports, a user and its password (percent-encoded), and a database number where there is no Cluster',
  parse,
)
