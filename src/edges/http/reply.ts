/** A finished answer of the gateway itself, and the two ways to send it: as a Response, or on Node's own. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import { transportSecurity } from '../../upstream/response-headers.ts'

export interface Reply {
  readonly status: number
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
}

/** Nothing the gateway itself says may be stored, sniffed or leaked by Referer. */
const ALWAYS: Reply['headers'] = [
  ['cache-control', 'no-store'],
  ['x-content-type-options', 'nosniff'],
  ['referrer-policy', 'no-referrer'],
]

export const reply = (
  status: number,
  headers: Reply['headers'],
  body = '',
  setCookies: readonly string[] = [],
): Reply => ({
  status,
  headers: [...ALWAYS, ...headers, ...setCookies.map((cookie) => ['set-cookie', cookie] as const)],
  body,
})

export const json = (
  status: number,
  value: unknown,
  setCookies: readonly string[] = [],
  contentType = 'application/json',
): Reply => reply(status, [['content-type', contentType]], `${JSON.stringify(value)}\n`, setCookies)

/** 303 always: a login or callback POST must not be repeated elsewhere (RFC 9700 §4.12). */
export const seeOther = (location: string, setCookies: readonly string[] = []): Reply =>
  reply(303, [['location', location]], '', setCookies)

export const transportSecurityOf = (publicUrl: string): Reply['headers'] => {
  const value = transportSecurity(publicUrl)
  return value === undefined ? [] : [['strict-transport-security', value]]
}

/** On every answer, refusals included: its id, so that a user can name the fault, and what else a listener says. */
export type Envelope = (requestId: string) => Reply['headers']

export const envelope =
  (always: Reply['headers'] = []): Envelope =>
  (requestId) => [['x-request-id', requestId], ...always]

export const asResponse = (answer: Reply, outside: Reply['headers']): Response => {
  const headers = new Headers()
  for (const [name, value] of [...answer.headers, ...outside]) headers.append(name, value)
  return new Response(answer.body === '' ? null : answer.body, { status: answer.status, headers })
}

export const send = (
  req: IncomingMessage,
  res: ServerResponse,
  answer: Reply,
  outside: Reply['headers'],
): void => {
  if (res.headersSent || res.destroyed) {
    res.destroy()
    return
  }
  const headers = [...answer.headers, ...outside].flat()
  // RFC 9110 §8.6: 204 has no content, so no length of it either.
  if (answer.status !== 204) headers.push('content-length', String(Buffer.byteLength(answer.body)))
  // A body that nobody will read must not keep the connection: the next request could hide in it.
  if (!req.complete && carriesBody(req)) headers.push('connection', 'close')
  res.writeHead(answer.status, headers)
  res.end(req.method === 'HEAD' ? undefined : answer.body)
}

export const carriesBody = (req: IncomingMessage) =>
  req.headers['transfer-encoding'] !== undefined || (req.headers['content-length'] ?? '0') !== '0'
