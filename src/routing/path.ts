/** The request target: one canonical path to match on, or a refusal where two parsers could disagree. */

/** What the request line said, checked. `path` is for matching only; `rawPath` and `query` are forwarded as sent. */
export interface Target {
  /** Percent-encoded unreserved octets decoded, other triplets in upper case (RFC 3986 §6.2.2). */
  readonly path: string
  readonly rawPath: string
  /** Empty, or begins with `?`. */
  readonly query: string
  /** The path holds one layer of `%2F`: only a route with `encodedSlash` may take it. */
  readonly encodedSlash: boolean
}

export type ParsedTarget =
  | ({ readonly kind: 'ok' } & Target)
  /** `reason` is a stable private word for the log. */
  | { readonly kind: 'invalid'; readonly reason: string }

export interface TargetOptions {
  /** Lets one layer of `%2F` pass; `Target.encodedSlash` then tells whether there was one. */
  readonly encodedSlash?: boolean
}

const TARGET_LENGTH_MAX = 8192
/** An upstream behind two further proxies may decode a path three times over. */
const DECODINGS_MAX = 3

const invalid = (reason: string): ParsedTarget => ({ kind: 'invalid', reason })

/**
 * Origin-form and absolute-form (RFC 9112 §3.2); the authority of the latter is checked and then ignored,
 * because routes are chosen by path alone. The asterisk and authority forms name nothing that can be proxied.
 */
export const parseTarget = (rawTarget: string, options: TargetOptions = {}): ParsedTarget => {
  if (rawTarget.length > TARGET_LENGTH_MAX) return invalid('target_too_long')
  // Browsers never send a fragment; a parser that honours one would see a shorter path than we do.
  // Control bytes and tabs are stripped by WHATWG parsers, and non-ASCII is read in different charsets.
  if (/[^!-~]|#/.test(rawTarget)) return invalid('forbidden_character')
  const originForm = rawTarget.startsWith('/') ? rawTarget : afterAuthority(rawTarget)
  if (originForm === undefined) return invalid('target_form')

  const queryAt = originForm.indexOf('?')
  const rawPath = queryAt === -1 ? originForm : originForm.slice(0, queryAt)
  const query = queryAt === -1 ? '' : originForm.slice(queryAt)

  if (rawPath.includes('\\')) return invalid('backslash')
  if (rawPath.startsWith('//')) return invalid('leading_slashes')
  if (hasDotSegment(rawPath)) return invalid('dot_segment')
  if (!rawPath.includes('%')) {
    return { kind: 'ok', path: rawPath, rawPath, query, encodedSlash: false }
  }
  if (/%(?![0-9A-Fa-f]{2})/.test(rawPath)) return invalid('percent_encoding')
  const encodedSlash = /%2f/i.test(rawPath)
  const gained = gainedByDecoding(rawPath, options.encodedSlash === true)
  if (gained !== undefined) return invalid(gained)
  return { kind: 'ok', path: canonical(rawPath), rawPath, query, encodedSlash }
}

/** The path and query of an absolute-form target; userinfo in it is treated as an error (RFC 9110 §4.2.4). */
const afterAuthority = (target: string): string | undefined => {
  const match = /^https?:\/\/[A-Za-z0-9.\-_:[\]]+(?=[/?]|$)/i.exec(target)
  if (match === null) return undefined
  const rest = target.slice(match[0].length)
  return rest.startsWith('/') ? rest : `/${rest}`
}

/** `.` and `..`, also with path parameters: Java servers drop `;x` before they resolve dot segments. */
const hasDotSegment = (path: string): boolean =>
  path.includes('/.') && /\/\.\.?(?:[/;]|$)/.test(path)

/** Decodes what a lenient parser would decode, layer by layer, and names what the path must not gain. */
const gainedByDecoding = (rawPath: string, encodedSlash: boolean): string | undefined => {
  let path = rawPath
  for (let decoding = 1; decoding <= DECODINGS_MAX; decoding += 1) {
    const decoded = decodeOctets(path)
    if (decoded === path) return undefined
    // The first decoding may gain slashes where that is allowed, but never a second one in front.
    const mayGainSlash = encodedSlash && decoding === 1 && !decoded.startsWith('//')
    if (!mayGainSlash && slashes(decoded) !== slashes(path)) return 'encoded_slash'
    if (decoded.includes('\\')) return 'encoded_backslash'
    if (/[\u0000-\u001f\u007f]/.test(decoded)) return 'encoded_control'
    if (hasDotSegment(decoded)) return 'encoded_dot_segment'
    // Overlong UTF-8 (C0 AF for a slash, C0 AE for a dot) is a second spelling to decoders that accept it.
    if (/[\u00c0\u00c1][\u0080-\u00bf]|\u00e0[\u0080-\u009f]|\u00f0[\u0080-\u008f]/.test(decoded)) {
      return 'overlong_encoding'
    }
    path = decoded
  }
  return undefined
}

/** One character per octet, so that nothing depends on a charset. */
const decodeOctets = (path: string): string =>
  path.replace(/%([0-9A-Fa-f]{2})/g, (_triplet, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )

const slashes = (path: string): number => path.split('/').length

const canonical = (rawPath: string): string =>
  rawPath.replace(/%[0-9A-Fa-f]{2}/g, (triplet) => {
    const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16))
    return /[A-Za-z0-9\-._~]/.test(character) ? character : triplet.toUpperCase()
  })
