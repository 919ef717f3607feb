/** PEM files of TLS: certificates and a private key, judged before anything is made from them. */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { readTextFile } from './files.ts'

export type PemKind = 'certificates' | 'key'

export type PemFile =
  | { readonly kind: 'pem'; readonly text: string }
  | { readonly kind: 'unusable'; readonly text: string | undefined; readonly rule: string }

const PEM_BYTES_MAX = 1024 * 1024
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** The rule continues `redis.tls.ca …` as well as `The file that … names …`, and repeats nothing of the file. */
export const readPemFile = (path: string, kind: PemKind): PemFile => {
  const read = readTextFile(path, PEM_BYTES_MAX)
  if (read.kind === 'unreadable') return { kind: 'unusable', text: undefined, rule: read.rule }
  const { text } = read
  const sound = kind === 'key' ? isPrivateKey(text) : areCertificates(text)
  if (sound) return { kind: 'pem', text }
  const rule =
    kind === 'key'
      ? 'must be a file with a private key in PEM that no passphrase protects'
      : 'must be a file with certificates in PEM'
  return { kind: 'unusable', text, rule }
}

/** Whether the key is that of the certificate, which is the first of the file. */
export const belongTogether = (certificates: string, key: string): boolean =>
  new X509Certificate(certificates).checkPrivateKey(createPrivateKey(key))

/** Whether TLS can be spoken with them. OpenSSL also refuses what is too weak, such as RSA keys of 1024 bits. */
export const isUsable = (certificates: string, key: string): boolean =>
  parses(() => createSecureContext({ cert: certificates, key }))

const areCertificates = (text: string): boolean => {
  const blocks = text.match(CERTIFICATE) ?? []
  return blocks.length > 0 && blocks.every((block) => parses(() => new X509Certificate(block)))
}

const isPrivateKey = (text: string): boolean => parses(() => createPrivateKey(text))

const parses = (parse: () => unknown): boolean => {
  try {
    parse()
    return true
  } catch {
    // What OpenSSL says about it may quote the file.
    return false
  }
}
