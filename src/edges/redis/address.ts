/** Where Redis is and how to get in: what every client is made from. */

import type { Milliseconds } from '../../time.ts'

export interface RedisLogin {
  /** Undefined: the server's default user. */
  readonly username: string | undefined
  readonly password: string
}

export interface RedisHost {
  readonly host: string
  readonly port: number
}

interface RedisServers {
  readonly tls: boolean
  /** The server itself, the Sentinels, or the nodes that a Cluster is learnt from. */
  readonly hosts: readonly RedisHost[]
  readonly login: RedisLogin | undefined
}

export interface SentinelAddress extends RedisServers {
  readonly kind: 'sentinel'
  readonly masterName: string
  readonly database: number
  readonly sentinelLogin: RedisLogin | undefined
}

export type RedisAddress =
  | (RedisServers & { readonly kind: 'standalone'; readonly database: number })
  | SentinelAddress
  | (RedisServers & { readonly kind: 'cluster' })

/** In PEM; undefined: what the system trusts, and no certificate of our own. */
export interface RedisTls {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly serverName: string | undefined
}

/** The same for `tls.connect`. */
export interface TlsOptions {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly servername?: string
}

export interface RedisTimeouts {
  /** A command is answered within this, or fails; so is a wait for a connection that is just being made. */
  readonly commandTimeout: Milliseconds
  readonly connectTimeout: Milliseconds
}

export const loginOptions = ({ username, password }: RedisLogin) => ({
  ...(username === undefined ? {} : { username }),
  password,
})

export const tlsOptions = ({ ca, cert, key, serverName }: RedisTls): TlsOptions => ({
  ...(ca === undefined ? {} : { ca }),
  ...(cert === undefined ? {} : { cert }),
  ...(key === undefined ? {} : { key }),
  ...(serverName === undefined ? {} : { servername: serverName }),
})
