/**
 * HTTP/1.1 as RFC 9112 writes it, read a second time and independently of Node's parser: what a fuzz run compares the
 * gateway with. It stops at the first thing that is not clear, because nothing behind that may count as a message.
 */

import { METHODS } from 'node:http'

export interface ReadRequest {
  readonly method: string
  /** In origin form. */
  readonly target: string
  readonly body: string
}

export interface ReadAnswer {
  readonly status: number
  /** Lower-case name and value. */
  readonly fields: readonly (readonly [string, string])[]
  readonly body: string
  /** The body ended where its framing says. */
  readonly isWhole: boolean
}

interface Head {
  readonly firstLine: string
  readonly fields: readonly (readonly [string, string])[]
  /** Where the body begins. */
  readonly end: number
}

interface Body {
  readonly text: string
  readonly end: number
  readonly isWhole: boolean
}

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+"
const FIELD_LINE = new RegExp(`^(${TOKEN}):([\\t -~\\x80-\\xff]*)$`)
/** Node takes more than one space where the grammar has one; RFC 9112 §3 allows that. */
const REQUEST_LINE = /^([A-Z-]+) +([!-~]+) +(?:HTTP|RTSP|ICE)\/1\.([01])$/
/** Of the version a client of ours cannot see more than that it was none of 1.1's (hostile-answers.test.ts). */
const STATUS_LINE = /^(?:HTTP|RTSP|ICE)\/(?:0\.9|1\.[01]|2\.0) ([0-9]{3})(?: [^\r\n]*)?$/

/** The requests on a connection, in order, as far as they are whole and clear. */
export const readRequests = (text: string): readonly ReadRequest[] => {
  const requests: ReadRequest[] = []
  let at = 0
  for (;;) {
    const head = readHead(text, at)
    if (head === undefined) return requests
    const [, method = '', rawTarget = '', minor] = REQUEST_LINE.exec(head.firstLine) ?? []
    const hosts = valuesOf(head, 'host').length
    if (!METHODS.includes(method) || hosts > 1 || (hosts === 0 && minor === '1')) return requests
    const body = readBody(text, head, 'none')
    if (body?.isWhole !== true || (minor === '0' && valuesOf(head, 'transfer-encoding').length > 0))
      return requests
    requests.push({ method, target: originForm(rawTarget), body: body.text })
    if (isLast(head, minor === '0')) return requests
    at = body.end
  }
}

const originForm = (target: string): string => {
  const rest = target.replace(/^https?:\/\/[^/?#]*/i, '')
  return rest === target || rest.startsWith('/') ? rest : `/${rest}`
}

/** RFC 9112 §9.3 and RFC 9110 §7.8: behind these no request is read. */
const isLast = (head: Head, isOld: boolean): boolean => {
  const options = valuesOf(head, 'connection')
    .join(',')
    .toLowerCase()
    .split(/[\t ,]+/)
  if (valuesOf(head, 'upgrade').length > 0 || options.includes('close')) return true
  return isOld && !options.includes('keep-alive')
}

/**
 * The answers to requests of these methods, in order; informational ones are left out. `hasEnded` is the connection:
 * by its end alone some bodies end.
 */
export const readAnswers = (
  text: string,
  methods: readonly string[],
  hasEnded: boolean,
): readonly ReadAnswer[] | undefined => {
  const answers: ReadAnswer[] = []
  let at = 0
  while (at < text.length) {
    const head = readHead(withLineEnd(text, at), at)
    if (head === undefined) return undefined
    const status = Number(STATUS_LINE.exec(head.firstLine)?.[1])
    if (!(status >= 100)) return undefined
    if (status < 200) {
      at = head.end
      continue
    }
    const method = methods[answers.length] ?? 'GET'
    const isBodiless = method === 'HEAD' || status === 204 || status === 304
    const body = isBodiless
      ? { text: '', end: head.end, isWhole: true }
      : readBody(text, head, hasEnded ? 'all' : 'rest')
    if (body === undefined) return undefined
    answers.push({ status, fields: head.fields, body: body.text, isWhole: body.isWhole })
    if (!body.isWhole) return answers
    at = body.end
  }
  return answers
}

/**
 * The parser of undici takes a second CR for the LF of a status line. Nothing can hide in that: the gateway writes a
 * head of its own.
 */
const withLineEnd = (text: string, from: number): string => {
  const end = text.indexOf('\r', from + 1)
  return text[end + 1] === '\r' ? `${text.slice(0, end)}\r\n${text.slice(end + 2)}` : text
}

const readHead = (text: string, from: number): Head | undefined => {
  let start = from
  // RFC 9112 §2.2: empty lines before a message are skipped.
  while (text[start] === '\r' || text[start] === '\n') start += 1
  const end = text.indexOf('\r\n\r\n', start)
  if (end === -1) return undefined
  const [firstLine = '', ...lines] = text.slice(start, end).split('\r\n')
  const fields: (readonly [string, string])[] = []
  for (const line of lines) {
    const [, name, value] = FIELD_LINE.exec(line) ?? []
    if (name === undefined || value === undefined) return undefined
    fields.push([name.toLowerCase(), value.replace(/^[\t ]+|[\t ]+$/g, '')])
  }
  return { firstLine, fields, end: end + 4 }
}

const valuesOf = ({ fields }: Head, name: string): string[] =>
  fields.filter((field) => field[0] === name).map(([, value]) => value)

/**
 * RFC 9112 §6.3; undefined where it is not clear. `unframed` is what a body without framing is: none (a request), all
 * that comes (an answer, its connection has ended), or all that comes and maybe more.
 */
const readBody = (
  text: string,
  head: Head,
  unframed: 'none' | 'all' | 'rest',
): Body | undefined => {
  const [lengths, codings] = [valuesOf(head, 'content-length'), valuesOf(head, 'transfer-encoding')]
  if (lengths.length + codings.length > 1) return undefined
  const [length, coding] = [lengths[0], codings[0]]
  if (coding !== undefined)
    return coding.toLowerCase() === 'chunked' ? readChunks(text, head.end) : undefined
  if (length !== undefined) {
    if (!/^[0-9]+$/.test(length) || BigInt(length) >= 1n << 64n) return undefined
    const end = head.end + Number(length)
    return { text: text.slice(head.end, end), end, isWhole: text.length >= end }
  }
  if (unframed === 'none') return { text: '', end: head.end, isWhole: true }
  return { text: text.slice(head.end), end: text.length, isWhole: unframed === 'all' }
}

const SIZE_LINE = /^([0-9A-Fa-f]+)(?:;[\t -~\x80-\xff]*)?$/

const readChunks = (text: string, from: number): Body => {
  let body = ''
  let at = from
  for (;;) {
    const broken = { text: body, end: text.length, isWhole: false }
    const lineEnd = text.indexOf('\r\n', at)
    const size = SIZE_LINE.exec(text.slice(at, Math.max(at, lineEnd)))?.[1]
    if (lineEnd === -1 || size === undefined || BigInt(`0x${size}`) >= 1n << 64n) return broken
    const dataEnd = lineEnd + 2 + Number(`0x${size}`)
    if (dataEnd === lineEnd + 2) return readTrailers(text, dataEnd, body)
    if (text.slice(dataEnd, dataEnd + 2) !== '\r\n') return broken
    body += text.slice(lineEnd + 2, dataEnd)
    at = dataEnd + 2
  }
}

const readTrailers = (text: string, from: number, body: string): Body => {
  if (text.startsWith('\r\n', from)) return { text: body, end: from + 2, isWhole: true }
  const end = text.indexOf('\r\n\r\n', from)
  // Fields of framing among them are dropped with all others (RFC 9110 §6.5.1).
  const isClear = text
    .slice(from, end)
    .split('\r\n')
    .every((line) => FIELD_LINE.test(line))
  return { text: body, end: end + 4, isWhole: end !== -1 && isClear }
}
