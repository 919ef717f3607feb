/** Random but repeatable damage to HTTP messages: the same seed and round always give the same bytes. */

/** Numbers from 0 up to 1, the same ones for the same seed. */
export type Random = () => number

/** FNV-1a for the seed, mulberry32 for the rest: small, known, and the same everywhere. */
export const seededRandom = (seed: string): Random => {
  let state = 0x811c9dc5
  for (const character of seed) state = Math.imul(state ^ character.charCodeAt(0), 0x01000193)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

export const below = (random: Random, limit: number): number => Math.floor(random() * limit)

export const pick = <T>(random: Random, choices: readonly T[]): T =>
  choices[below(random, choices.length)] as T

/** Where parsers have disagreed before. */
const BYTES = [...'\0\t\n\v\f\r !"#%()*+,-./059:;=?@AZ[\\]^_`az{|}~\x7f\x80\xa0\xff']
const WORDS = [
  '\r\n',
  '\n',
  '\r\n ',
  '\r\n\r\n',
  '0\r\n\r\n',
  '0',
  '-1',
  '0x',
  'ffffffffffffffff',
  '18446744073709551616',
  ' HTTP/1.1',
  'HTTP/1.0',
  'HTTP/1.1 200 OK\r\n',
  'Content-Length: 0\r\n',
  'Content-Length: 5\r\n',
  'Content-Length: 5, 5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'Transfer-Encoding : chunked\r\n',
  'Connection: close\r\n',
  'Connection: keep-alive\r\n',
  'Connection: content-length, host\r\n',
  'Connection: Upgrade\r\nUpgrade: h2c\r\n',
  'Expect: 100-continue\r\n',
  'Host: evil.example\r\n',
  ', chunked',
  ';a=b',
  'http://evil.example',
  '/../',
  '%2f',
] as const

/** One to four changes at random places. */
export const mutated = (text: string, random: Random): string => {
  let bytes = text
  for (let changes = 1 + below(random, 4); changes > 0; changes -= 1) bytes = changed(bytes, random)
  return bytes
}

const changed = (text: string, random: Random): string => {
  const at = below(random, text.length + 1)
  const end = Math.min(text.length, at + 1 + below(random, random() < 0.2 ? 64 : 4))
  const [before, part, after] = [text.slice(0, at), text.slice(at, end), text.slice(end)]
  switch (below(random, 8)) {
    case 0:
      return before + flipped(part, random) + after
    case 1:
      return before + pick(random, BYTES) + after
    case 2:
      return before + pick(random, BYTES) + part + after
    case 3:
      return before + pick(random, WORDS) + part + after
    case 4:
      // At the beginning of a line, where a field could stand.
      return atLine(text, random, pick(random, WORDS))
    case 5:
      return before + after
    case 6:
      return before + part + part + after
    default:
      return random() < 0.2 ? before : before + [...part].reverse().join('') + after
  }
}

const flipped = (part: string, random: Random): string =>
  part === ''
    ? ''
    : String.fromCharCode(part.charCodeAt(0) ^ (1 << below(random, 8))) + part.slice(1)

const atLine = (text: string, random: Random, word: string): string => {
  const lines = text.split('\r\n')
  const index = 1 + below(random, lines.length)
  const before = lines.slice(0, index).join('\r\n')
  return index < lines.length
    ? `${before}\r\n${word}${lines.slice(index).join('\r\n')}`
    : before + word
}
