/** A certificate of its own for each test run, so that no key lies in the repository. */

import { generateKeyPairSync, sign } from 'node:crypto'

export interface SelfSigned {
  readonly cert: string
  readonly key: string
}

/** X.509 v3 (RFC 5280 §4.1), ECDSA P-256, valid from 2020 to 2049, for these DNS names. */
export const selfSigned = (...dnsNames: readonly string[]): SelfSigned => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSha256 = sequence(tlv(0x06, Buffer.from('2a8648ce3d040302', 'hex')))
  const commonName = tlv(0x06, Buffer.from('550403', 'hex'))
  const subjectAltName = tlv(0x06, Buffer.from('551d11', 'hex'))
  const name = sequence(tlv(0x31, sequence(commonName, tlv(0x0c, Buffer.from('test')))))
  const utcTime = (text: string) => tlv(0x17, Buffer.from(text))
  const names = sequence(...dnsNames.map((dnsName) => tlv(0x82, Buffer.from(dnsName))))
  const toBeSigned = sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    tlv(0x02, Buffer.of(1)),
    ecdsaWithSha256,
    name,
    sequence(utcTime('200101000000Z'), utcTime('491231000000Z')),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(sequence(subjectAltName, tlv(0x04, names)))),
  )
  const signature = sign('sha256', toBeSigned, privateKey)
  const der = sequence(toBeSigned, ecdsaWithSha256, tlv(0x03, Buffer.of(0), signature))
  const base64 = der.toString('base64').replace(/.{64}/g, '$&\n')
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

const tlv = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const value = Buffer.concat(parts)
  const { length } = value
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), value])
  const size =
    length < 0x100 ? Buffer.of(0x81, length) : Buffer.of(0x82, length >> 8, length & 0xff)
  return Buffer.concat([Buffer.of(tag), size, value])
}

const sequence = (...parts: readonly Buffer[]): Buffer => tlv(0x30, ...parts)
