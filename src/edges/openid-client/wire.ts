/** HTTP towards the provider: one connection pool, no redirects, answers bounded in size, all of it limited in time. */

import type { CustomFetchOptions } from 'openid-client'
import { Agent, buildConnector, fetch } from 'undici'
import type { Milliseconds } from '../../time.ts'

/** Metadata, key sets and token answers are a few kilobytes; this leaves room for claims in bulk. */
const ANSWER_MAX_BYTES = 1024 * 1024
/** Far above the cap on token calls at once, so that it only ever bounds a stampede. */
const CONNECTIONS_MAX = 128

export interface WireOptions {
  /** Its origin is what `connectTo` stands in for. */
  readonly issuer: URL
  readonly connectTo?: { readonly host: string; readonly port: number }
  readonly connectTimeout: Milliseconds
}

export interface Wire {
  /** Resolves once the whole answer is here; rejects with the signal's reason when that comes first. */
  send(url: string, request: CustomFetchOptions, signal: AbortSignal): Promise<Response>
  /** Ends at once: requests under way fail. */
  close(): Promise<void>
}

/** No connection could be made, so the request was certainly not sent. */
export class NotConnected extends Error {
  readonly code: string

  constructor(cause: Error) {
    super('no connection to the provider', { cause })
    this.name = 'NotConnected'
    // undici treats a certificate for another name apart, by this code.
    this.code = codeOf(cause)
  }
}

export class AnswerTooLarge extends Error {
  constructor() {
    super(`the provider's answer exceeds ${ANSWER_MAX_BYTES} bytes`)
    this.name = 'AnswerTooLarge'
  }
}

export const createWire = ({ issuer, connectTo, connectTimeout }: WireOptions): Wire => {
  const connect = buildConnector({ allowH2: false, timeout: connectTimeout })
  const agent = new Agent({
    connections: CONNECTIONS_MAX,
    connect: (target, callback) => {
      const diverted = connectTo !== undefined && originOf(target) === issuer.origin
      // Only the address changes. URL and Host stay, and so does `target.host`, the name that TLS asks for.
      const address = diverted
        ? { ...target, hostname: connectTo.host, port: String(connectTo.port) }
        : target
      connect(address, (...[error, socket]) => {
        if (error === null) callback(null, socket)
        else callback(new NotConnected(error), null)
      })
    },
  })

  return {
    send: async (url, { method, headers, body }, signal) => {
      // undici's own fetch: the built-in one does not work with a dispatcher of undici 8 on Node 24.
      const response = await fetch(url, {
        method,
        headers,
        body: body == null ? null : String(body),
        redirect: 'manual',
        signal,
        dispatcher: agent,
      })
      const text = await boundedText(response.body)
      return new Response(text === '' ? null : text, {
        status: response.status,
        headers: [...response.headers],
      })
    },
    close: () => agent.destroy(),
  }
}

const originOf = ({ protocol, host, hostname, port }: buildConnector.Options): string =>
  new URL(`${protocol}//${host ?? (port ? `${hostname}:${port}` : hostname)}`).origin

const boundedText = async (body: AsyncIterable<Uint8Array> | null): Promise<string> => {
  if (body === null) return ''
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.byteLength
    // Leaving the loop cancels the rest of the body. Counted after decompression, so a bomb stops here too.
    if (size > ANSWER_MAX_BYTES) throw new AnswerTooLarge()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const codeOf = (error: Error): string =>
  'code' in error && typeof error.code === 'string' ? error.code : 'UNKNOWN'
