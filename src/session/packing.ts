/**
 * What is sealed, made small: a session is mostly its tokens, and a JWT is base64url of JSON that says much the same
 * as the other JWT and as the claims. Taken apart, JSON beside JSON, it deflates to half; signatures stay bytes.
 */

import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { Session } from './session.ts'

/**
 * A token of dot-separated base64url, as lengths of its parts in bytes: those that begin as JSON objects, which go to
 * the text, then all others, which no deflating makes smaller. Any other token stays as it is.
 */
type PackedToken = string | readonly [text: readonly number[], bytes: readonly number[]]

const TOKENS = ['accessToken', 'idToken', 'refreshToken'] as const
const LENGTH_BYTES = 4
const NEWLINE = 10
const BRACE = 0x7b
const UNPACKED_BYTES_MAX = 1024 * 1024

/** Length of the deflated text, that text, and the bytes of the tokens. The text: a line of JSON, then JSON parts. */
export const packSession = (session: Session): Buffer => {
  const text: Buffer[] = []
  const bytes: Buffer[] = []
  const tokens: Record<string, unknown> = { ...session.tokens }
  for (const name of TOKENS) {
    const token = session.tokens[name]
    if (token !== undefined) tokens[name] = packToken(token, text, bytes)
  }
  const line = Buffer.from(`${JSON.stringify({ ...session, tokens })}\n`)
  const deflated = deflate(Buffer.concat([line, ...text]))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32BE(deflated.length)
  return Buffer.concat([length, deflated, ...bytes])
}

/** Undefined for what cannot be read: ours, and yet larger than any session may be. It leads nowhere. */
export const unpackSession = (packed: Buffer): Session | undefined => {
  const bytesStart = LENGTH_BYTES + packed.readUInt32BE()
  const text = inflate(packed.subarray(LENGTH_BYTES, bytesStart))
  if (text === undefined) return undefined
  const lineEnd = text.indexOf(NEWLINE)
  const session = JSON.parse(text.toString('utf8', 0, lineEnd)) as Session
  const packedTokens = session.tokens as unknown as Record<string, PackedToken | undefined>
  const tokens: Record<string, unknown> = { ...session.tokens }
  const nextText = readerOf(text, lineEnd + 1)
  const nextBytes = readerOf(packed, bytesStart)
  for (const name of TOKENS) {
    const token = packedTokens[name]
    if (token !== undefined && typeof token !== 'string')
      tokens[name] = [...token[0].map(nextText), ...token[1].map(nextBytes)].join('.')
  }
  return { ...session, tokens: tokens as unknown as Session['tokens'] }
}

/** Any small object of ours that is not a session. */
export const packObject = (value: object): Buffer => deflate(Buffer.from(JSON.stringify(value)))

export const unpackObject = <T extends object>(packed: Buffer): T | undefined => {
  const text = inflate(packed)
  return text === undefined ? undefined : (JSON.parse(text.toString()) as T)
}

const packToken = (token: string, text: Buffer[], bytes: Buffer[]): PackedToken => {
  const parts = token.split('.').map((part) => Buffer.from(part, 'base64url'))
  // Decoding is lenient: only what comes back the same was base64url.
  if (parts.map((part) => part.toString('base64url')).join('.') !== token) return token
  const firstOther = parts.findIndex((part) => part[0] !== BRACE)
  const textCount = firstOther === -1 ? parts.length : firstOther
  const [texts, others] = [parts.slice(0, textCount), parts.slice(textCount)]
  text.push(...texts)
  bytes.push(...others)
  return [texts.map(({ length }) => length), others.map(({ length }) => length)]
}

/** Reads one part after the other, each as base64url. */
const readerOf = (source: Buffer, start: number) => {
  let position = start
  return (length: number): string => {
    const part = source.toString('base64url', position, position + length)
    position += length
    return part
  }
}

const deflate = (text: Buffer): Buffer => deflateRawSync(text, { level: 1, dictionary: FAMILIAR })

const inflate = (deflated: Buffer): Buffer | undefined => {
  try {
    return inflateRawSync(deflated, { maxOutputLength: UNPACKED_BYTES_MAX, dictionary: FAMILIAR })
  } catch {
    // Whoever opened the seal has what we sealed, so this is not damage: it is too large.
    return undefined
  }
}

/**
 * What most sessions hold, as they hold it, the most usual last. It belongs to the record's format: another text is
 * another version.
 */
export const FAMILIAR = Buffer.from(
  [
    'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1',
    'Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36',
    'Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    'Mozilla/5.0 (X11; Linux x86_64) Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15',
    'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0',
    '"subject":"","providerSessionId":"","createdAt":17,"signInStartedAt":17,"device":"Mozilla/5.0 (","address":"::ffff:192.168.',
    '{"typ":"at+jwt","alg":"ES256","kid":"{"alg":"PS256","typ":"JWT","kid":"{"alg":"RS256","typ" : "JWT","kid" : "',
    '"nbf":17,"client_id":"","scp":["openid"],"tid":"","oid":"","ver":"2.0","upn":"","unique_name":"","uti":"","rh":"","appid":"',
    '"picture":"https://","website":"","updated_at":"","nickname":"","phone_number":"","zoneinfo":"Europe/',
    '"allowed-origins":["https://"],"realm_access":{"roles":["offline_access","uma_authorization","default-roles-"]},"resource_access":{"account":{"roles":["manage-account","manage-account-links","view-profile"]}},"groups":["/admin","/user',
    '{"exp":17,"iat":17,"auth_time":17,"jti":"","iss":"https://login.microsoftonline.com//v2.0","aud":"https://api.","sub":"","typ":"ID","typ":"Bearer","azp":"","nonce":"","sid":"","at_hash":"","acr":"1","scope":"openid profile email offline_access",',
    '"email_verified":true,"name":"","preferred_username":"","given_name":"","family_name":"","locale":"en","email":"@gmail.com"}',
    '{"issuer":"https://auth./realms/","subject":"","providerSessionId":"","claims":{"name":"","given_name":"","family_name":"","preferred_username":"","email":"","email_verified":true,"picture":"https://","locale":"en"},"acr":"1","amr":["pwd","mfa","otp"],"authTime":17,"signInStartedAt":17,',
    '"tokens":{"accessToken":[[,],[256]],"accessTokenExpiresAt":17,"accessTokenLifetime":300,"scope":"openid profile email offline_access","refreshToken":[[],[32]],"idToken":[[,],[256]]},"generation":0,"createdAt":17,"absoluteExpiresAt":17',
  ].join(''),
)
