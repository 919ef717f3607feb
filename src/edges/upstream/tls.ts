/** TLS towards upstreams: whom the gateway believes, who it says it is, and what a refusal was about. */

import { isIP } from 'node:net'
import { createSecureContext, type SecureContext } from 'node:tls'

/** Contents of files in PEM, which may change while the gateway runs. */
interface Followed {
  readonly current: string
}

export interface UpstreamTlsSettings {
  /** Authorities that sign the upstreams' certificates, instead of the system's. */
  readonly ca?: Followed | undefined
  readonly cert?: Followed | undefined
  readonly key?: Followed | undefined
  /** Name that their certificates must have, where it is not the host that is connected to. */
  readonly serverName?: string | undefined
}

export interface UpstreamTls {
  /** For the next connection; the same one until a file changes. */
  context(): SecureContext
  /** SNI, and the name that the certificate must have. Empty for an address, which certificates name without SNI. */
  serverName(host: string): string
}

/**
 * `unusable` is told once for each state of the files that does not fit, such as a certificate without its new key.
 * They are looked at when a connection is made: until then the three may change one after another.
 */
export const createUpstreamTls = (
  { ca, cert, key, serverName }: UpstreamTlsSettings = {},
  unusable: () => void = () => undefined,
): UpstreamTls => {
  const read = () => [ca?.current, cert?.current, key?.current] as const
  let tried = read()
  let context = contextOf(...tried)
  return {
    context: () => {
      const now = read()
      if (now.every((text, index) => text === tried[index])) return context
      tried = now
      try {
        context = contextOf(...now)
      } catch {
        // What OpenSSL says may quote the files; the connections go on with what was in them before.
        unusable()
      }
      return context
    },
    serverName: (host) => serverName ?? (isIP(host) === 0 ? host : ''),
  }
}

const contextOf = (
  ca: string | undefined,
  cert: string | undefined,
  key: string | undefined,
): SecureContext =>
  createSecureContext({
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  })

/** The private reason for an error code of Node's or OpenSSL's; undefined for what is not about TLS. */
export const tlsFault = (code: string): string | undefined => {
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return 'tls_other_name'
  if (/^CERT_(?:HAS_EXPIRED|NOT_YET_VALID)$/.test(code)) return 'tls_expired'
  if (/^(?:UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|CERT_|INVALID_|PATH_LENGTH_)/.test(code))
    return 'tls_untrusted'
  // The other side’s word on our certificate, or on there being none (RFC 8446 §6.2).
  if (/^ERR_SSL_.*ALERT_(?:.*CERTIFICATE.*|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)$/.test(code))
    return 'tls_client_refused'
  return /^(?:ERR_TLS|ERR_SSL|ERR_OSSL|EPROTO)/.test(code) ? 'tls_failed' : undefined
}
