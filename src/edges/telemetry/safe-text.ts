/** What may stand in a log line: text without control characters, and causes without their messages. */

import { ERRORS } from '../../errors.ts'

const TEXT_LENGTH_MAX = 500
/** 256 random bits in base64url are 43 characters, the parts of a JWT more; a UUID has 36 and stays readable. */
const SECRET_LIKE = /[A-Za-z0-9_-]{40,}/g

/**
 * JSON already escapes CR, LF and ESC. Terminals also obey the 8-bit controls (C1), and editors the line and
 * direction marks, which JSON leaves alone.
 */
export const plainText = (text: string): string => {
  const plain = text
    .slice(0, TEXT_LENGTH_MAX + 1)
    .replace(/[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '\ufffd')
    .replace(SECRET_LIKE, '[masked]')
  return plain.length <= TEXT_LENGTH_MAX ? plain : `${plain.slice(0, TEXT_LENGTH_MAX)}…`
}

/** One link of a chain of causes. */
export interface CauseFacts {
  readonly name: string
  readonly code?: string
  readonly reason?: string
  readonly error?: string
  readonly claim?: string
  readonly syscall?: string
  readonly address?: string
  readonly port?: number
  readonly status?: number
  /** Where it was thrown; only asked for where the fault is the gateway's own. */
  readonly frames?: readonly string[]
}

const CHAIN_LENGTH_MAX = 5
const FRAMES_MAX = 8

/**
 * A thrown thing and its causes, outermost first. Messages are left out whatever they say: libraries put token
 * answers, URLs with codes and header values into them. What remains are words from fixed sets and numbers.
 */
export const causeChain = (
  thrown: unknown,
  detail: 'facts' | 'facts_and_frames',
): readonly CauseFacts[] => {
  const chain: CauseFacts[] = []
  let link = thrown
  while (link !== undefined && link !== null && chain.length < CHAIN_LENGTH_MAX) {
    if (!(link instanceof Error)) {
      // Responses, URLSearchParams and bodies travel as causes too; only their kind is told.
      chain.push({ name: kindOf(link) })
      break
    }
    chain.push(factsOf(link, detail))
    link = link.cause
  }
  return chain
}

const kindOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1)

const CODE = /^[A-Z][A-Z0-9_]{1,63}$/
const WORD = /^[a-z][a-z0-9_]{0,63}$/
const NAME = /^[A-Za-z]{1,64}$/
const ADDRESS = /^[0-9A-Fa-f:.]{2,45}$/

const factsOf = (error: Error, detail: 'facts' | 'facts_and_frames'): CauseFacts => {
  const fields = error as Error & Readonly<Record<string, unknown>>
  const text = (field: string, form: RegExp): string | undefined => {
    const value = fields[field]
    return typeof value === 'string' && form.test(value) ? value : undefined
  }
  const whole = (field: string): number | undefined => {
    const value = fields[field]
    return Number.isInteger(value) ? (value as number) : undefined
  }
  const ownCode =
    typeof fields.code === 'string' && Object.hasOwn(ERRORS, fields.code) ? fields.code : undefined
  return withoutUndefined({
    name: NAME.test(error.name) ? error.name : 'Error',
    code: text('code', CODE) ?? ownCode,
    reason: text('reason', WORD),
    error: text('error', WORD),
    claim: text('claim', WORD),
    syscall: text('syscall', WORD),
    address: text('address', ADDRESS),
    port: whole('port'),
    status: whole('status'),
    frames: detail === 'facts_and_frames' ? framesOf(error) : undefined,
  })
}

type Loose<T> = { readonly [K in keyof T]: T[K] | undefined }

const withoutUndefined = (facts: Loose<CauseFacts>): CauseFacts =>
  Object.fromEntries(
    Object.entries(facts).filter(([, value]) => value !== undefined),
  ) as unknown as CauseFacts

/** A stack begins with the message, which is cut off where it stands; a stack that does not is not shown. */
const framesOf = (error: Error): readonly string[] | undefined => {
  const { stack, message } = error
  if (typeof stack !== 'string') return undefined
  const messageAt = stack.indexOf(message)
  if (messageAt === -1) return undefined
  const frames = stack
    .slice(messageAt + message.length)
    .split('\n')
    .map((line) => /^\s+at (.{1,300})$/.exec(line)?.[1])
    .filter((frame) => frame !== undefined)
  return frames.slice(0, FRAMES_MAX).map(plainText)
}
