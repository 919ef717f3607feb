/** The certificate and key that the gateway shows to browsers: judged together at start, and again at each change. */

import { X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import type { EpochMs } from '../time.ts'
import { belongTogether, isUsable, readPemFile } from './pem-files.ts'
import type { BrokenRule } from './rules.ts'
import { type FollowedFile, followed, type Reread, type Watched } from './watched.ts'

/** Both in PEM; the certificate's chain stands behind it. */
export interface ServerIdentity {
  readonly cert: string
  readonly key: string
}

interface IdentityFiles {
  readonly cert: string
  readonly key: string
}

const CERT = 'tls.cert'
const KEY = 'tls.key'

/** What is wrong with the files, under the setting that is to blame, or the identity in them. */
export const readServerIdentity = (
  files: IdentityFiles,
): { readonly broken: readonly BrokenRule[]; readonly identity: ServerIdentity | undefined } => {
  const cert = readPemFile(files.cert, 'certificates')
  const key = readPemFile(files.key, 'key')
  const broken = [
    ...(cert.kind === 'unusable' ? [{ setting: CERT, rule: cert.rule }] : []),
    ...(key.kind === 'unusable' ? [{ setting: KEY, rule: key.rule }] : []),
  ]
  if (cert.kind === 'unusable' || key.kind === 'unusable') return { broken, identity: undefined }
  const identity = { cert: cert.text, key: key.text }
  if (!belongTogether(identity.cert, identity.key))
    return { broken: [{ setting: KEY, rule: `must be the key of ${CERT}` }], identity: undefined }
  if (!isUsable(identity.cert, identity.key))
    return { broken: [{ setting: CERT, rule: TOO_WEAK }], identity: undefined }
  return { broken: [], identity }
}

const TOO_WEAK = 'must be a certificate, with its chain, that is strong enough for TLS'

/** Both files at each check, because whoever renews them may write one after the other. */
export const followServerIdentity = (
  files: IdentityFiles,
  identity: ServerIdentity,
): { readonly watched: Watched<ServerIdentity>; readonly file: FollowedFile } =>
  followed(CERT, { text: textOf(identity), value: identity }, (): Reread<ServerIdentity> => {
    const read = readServerIdentity(files)
    if (read.identity !== undefined)
      return { kind: 'value', text: textOf(read.identity), value: read.identity }
    const { setting = CERT, rule = '' } = read.broken[0] ?? {}
    return { kind: 'unusable', text: undefined, rule, variable: setting }
  })

const textOf = ({ cert, key }: ServerIdentity): string => `${cert}\0${key}`

/** What browsers will not like, although TLS can be spoken with it. */
export const identityWarnings = (
  { cert }: ServerIdentity,
  publicHost: string,
  now: EpochMs,
): readonly string[] => {
  const certificate = new X509Certificate(cert)
  const host = publicHost.replace(/^\[(.*)\]$/, '$1')
  const isFor = isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)
  return [
    ...(Date.parse(certificate.validTo) <= now
      ? [`The certificate of ${CERT} has expired: browsers refuse it.`]
      : []),
    ...(Date.parse(certificate.validFrom) > now
      ? [`The certificate of ${CERT} is not valid yet: browsers refuse it.`]
      : []),
    ...(isFor === undefined
      ? [`The certificate of ${CERT} does not name the host of publicUrl: browsers refuse it.`]
      : []),
  ]
}
