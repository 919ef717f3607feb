/** Certificates of their own for each test run, so that no key lies in the repository. */

import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { isIPv4 } from 'node:net'

/** Both in PEM. */
export interface Certificate {
  readonly cert: string
  readonly key: string
}

export interface CertificateAuthority {
  readonly cert: string
  /** For these DNS names and IPv4 addresses. */
  issue(...names: readonly string[]): Certificate
}

/** Signed by itself, for these DNS names and IPv4 addresses. */
export const selfSigned = (...names: readonly string[]): Certificate => {
  const keys = newKeys()
  return certificate({ subject: 'test', issuer: 'test', keys, signer: keys.privateKey, names })
}

/** With an RSA key of 1024 bits, which OpenSSL speaks no TLS with. */
export const weak = (...names: readonly string[]): Certificate => {
  const keys = generateKeyPairSync('rsa', { modulusLength: 1024 })
  return certificate({
    subject: 'test',
    issuer: 'authority',
    keys,
    signer: newKeys().privateKey,
    names,
  })
}

export const createAuthority = (name = 'authority'): CertificateAuthority => {
  const keys = newKeys()
  const signer = keys.privateKey
  const { cert } = certificate({ subject: name, issuer: name, keys, signer, isAuthority: true })
  return {
    cert,
    issue: (...names) =>
      certificate({ subject: 'test', issuer: name, keys: newKeys(), signer, names }),
  }
}

interface Keys {
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

const newKeys = (): Keys => generateKeyPairSync('ec', { namedCurve: 'P-256' })

let serialNumber = 1

/** X.509 v3 (RFC 5280 §4.1), ECDSA P-256, valid from 2020 to 2049. */
const certificate = (of: {
  readonly subject: string
  readonly issuer: string
  readonly keys: Keys
  readonly signer: KeyObject
  readonly names?: readonly string[]
  readonly isAuthority?: boolean
}): Certificate => {
  const { subject, issuer, keys, signer, names = [], isAuthority = false } = of
  const ecdsaWithSha256 = sequence(tlv(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
  const utcTime = (text: string) => tlv(0x17, Buffer.from(text))
  const subjectAltName = extension('551d11', sequence(...names.map(generalName)))
  const basicConstraints = extension('551d13', sequence(tlv(0x01, Buffer.of(0xff))))
  serialNumber += 1
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    tlv(0x02, Buffer.of(serialNumber)),
    ecdsaWithSha256,
    commonName(issuer),
    sequence(utcTime('200101000000Z'), utcTime('491231000000Z')),
    commonName(subject),
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(isAuthority ? basicConstraints : subjectAltName)),
  )
  const signature = sign('sha256', toBeSigned, signer)
  const der = sequence(toBeSigned, ecdsaWithSha256, tlv(0x03, Buffer.of(0), signature))
  const base64 = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n')
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

const commonName = (name: string): Buffer =>
  sequence(
    tlv(0x31, sequence(tlv(0x06, Buffer.from('550403', 'hex')), tlv(0x0c, Buffer.from(name)))),
  )

const generalName = (name: string): Buffer =>
  isIPv4(name) ? tlv(0x87, Buffer.from(name.split('.').map(Number))) : tlv(0x82, Buffer.from(name))

const extension = (id: string, value: Buffer): Buffer =>
  sequence(tlv(0x06, Buffer.from(id, 'hex')), tlv(0x04, value))

const tlv = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const value = Buffer.concat(parts)
  const { length } = value
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), value])
  const size =
    length < 0x100 ? Buffer.of(0x81, length) : Buffer.of(0x82, length >> 8, length & 0xff)
  return Buffer.concat([Buffer.of(tag), size, value])
}

const sequence = (...parts: readonly Buffer[]): Buffer => tlv(0x30, ...parts)
