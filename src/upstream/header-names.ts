/** Header names: what is hop-by-hop, verdicts on names remembered by spelling, and a field found by its name. */

/** Fields of one connection only, whether `Connection` names them or not (RFC 9110 §7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
])

export const isHopByHop = (lowerCaseName: string): boolean => HOP_BY_HOP.has(lowerCaseName)

/**
 * The names in a `Connection` field that a message may take with it, in lower case. `keep-alive` and `close`,
 * nearly all there is in practice, name nothing. `Content-Length` frames the message and cannot be nominated
 * away: dropping it would only turn a checked length into an unchecked one.
 */
export const nominatedBy = (connection: string): readonly string[] => {
  const lower = connection.toLowerCase()
  if (lower === 'keep-alive' || lower === 'close') return []
  return lower
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && name !== 'content-length')
}

/** The flat name-value list without the nominated names. */
export const withoutNominated = (headers: string[], nominated: readonly string[]): string[] => {
  if (nominated.length === 0) return headers
  const dropped = new Set(nominated)
  const kept: string[] = []
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string
    if (!dropped.has(name.toLowerCase())) kept.push(name, headers[i + 1] as string)
  }
  return kept
}

const SPELLINGS_MAX = 1024
const SPELLING_LENGTH_MAX = 64

/**
 * Judging a name costs a dozen string operations, looking a spelling up costs one. Clients choose the
 * spellings, so the map is bounded: when it is full it starts over, and long names are not remembered.
 */
export const rememberVerdicts = <Verdict>(
  judge: (lowerCaseName: string) => Verdict,
): ((name: string) => Verdict) => {
  const verdicts = new Map<string, Verdict>()
  return (name) => {
    const known = verdicts.get(name)
    if (known !== undefined) return known
    const verdict = judge(name.toLowerCase())
    if (name.length <= SPELLING_LENGTH_MAX) {
      if (verdicts.size >= SPELLINGS_MAX) verdicts.clear()
      verdicts.set(name, verdict)
    }
    return verdict
  }
}

/** The first value of a field in a flat list of names and values. */
export const fieldOf = (
  rawHeaders: readonly string[],
  lowerCaseName: string,
): string | undefined => {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (name.length === lowerCaseName.length && name.toLowerCase() === lowerCaseName)
      return rawHeaders[i + 1]
  }
  return undefined
}
