/** The request body: streamed once, counted, and kept while it is small enough to be sent again. */

import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'

/** RFC 9110 §9.2.2, RFC 10008 (QUERY) and WebDAV's reading methods: sending such a request twice does no more than once. */
export const isIdempotent = (method: string): boolean => IDEMPOTENT.has(method)
const IDEMPOTENT = new Set([
  ...['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE', 'QUERY'],
  ...['PROPFIND', 'REPORT', 'SEARCH'],
])

export interface RequestBodyLimits {
  readonly bytesMax: number
  /** How much of an idempotent request is kept for a second sending. */
  readonly replayBytesMax: number
}

export interface RequestBody {
  /** A stream from the first byte, or null without a body. An earlier stream is cut off by a later one. */
  open(): Readable | null
  /** Sending the request again would send the same bytes. */
  replayable(): boolean
  /** The method would allow a second sending, the size does not, or may not in the end. */
  mayOutgrowReplay(): boolean
  /** The client is what is being waited for: the upstream takes bytes, and none come. */
  awaitsClient(): boolean
  /** Why the body cannot be sent on: it grew too large. */
  failure(): GatewayError | undefined
  /**
   * Reads what still comes and drops it, so that the client gets the answer and its connection stays usable.
   * Who sends as much again as the limit allows is cut off. Call it when nothing will read the body any more.
   */
  discard(): void
}

/** Throws `body_too_large` at once where the client says so itself in `Content-Length`. */
export const createRequestBody = (req: IncomingMessage, limits: RequestBodyLimits): RequestBody => {
  const declaredBytes = Number(req.headers['content-length'] ?? 0)
  if (declaredBytes > limits.bytesMax) {
    throw new GatewayError('body_too_large', { reason: 'content_length' })
  }
  const hasBody = declaredBytes > 0 || req.headers['transfer-encoding'] !== undefined
  return hasBody ? new StreamedBody(req, limits) : NO_BODY
}

const NO_BODY: RequestBody = {
  open: () => null,
  replayable: () => true,
  mayOutgrowReplay: () => false,
  awaitsClient: () => false,
  failure: () => undefined,
  discard: () => undefined,
}

class StreamedBody implements RequestBody {
  readonly #req: IncomingMessage
  readonly #limits: RequestBodyLimits
  /** Undefined once it can't be replayed. */
  #kept: Buffer[] | undefined
  #stream: Readable | undefined
  #isListening = false
  #hasEnded = false
  #isDiscarding = false
  #seenBytes = 0
  #failure: GatewayError | undefined

  constructor(req: IncomingMessage, limits: RequestBodyLimits) {
    this.#req = req
    this.#limits = limits
    this.#kept = isIdempotent(req.method ?? '') ? [] : undefined
  }

  open(): Readable {
    if (this.#stream !== undefined && this.#kept === undefined) {
      throw new Error('a body that is not replayable can be opened once')
    }
    this.#stream?.destroy()
    // Nothing is read of the client before the upstream takes it: whoever waits for 100 (RFC 9110 §10.1.1) is not
    // asked for a body in vain, and no body lies here while its call waits for a connection.
    // The upstream client destroys what it is given when its connection breaks. Given the request itself,
    // it would take the client's connection down with it.
    const stream = new Readable({ read: () => this.#resume(stream) })
    // It may also be destroyed after that client has stopped listening; an unheard 'error' ends the process.
    stream.on('error', () => undefined)
    this.#stream = stream
    for (const chunk of this.#kept ?? []) stream.push(chunk)
    if (this.#failure !== undefined) stream.destroy(this.#failure)
    else if (this.#hasEnded) stream.push(null)
    return stream
  }

  replayable(): boolean {
    return this.#kept !== undefined && this.#failure === undefined
  }

  mayOutgrowReplay(): boolean {
    const declaredBytes = Number(this.#req.headers['content-length'] ?? Number.POSITIVE_INFINITY)
    return isIdempotent(this.#req.method ?? '') && declaredBytes > this.#limits.replayBytesMax
  }

  awaitsClient(): boolean {
    return this.#isListening && !this.#hasEnded && !this.#req.isPaused()
  }

  failure(): GatewayError | undefined {
    return this.#failure
  }

  discard(): void {
    this.#kept = undefined
    this.#stream?.destroy()
    if (this.#isDiscarding || this.#hasEnded || this.#req.destroyed) return
    // Reading says 100 (RFC 9110 §10.1.1), and nobody is to send what is dropped. That connection ends with its answer.
    if (!this.#isListening && this.#req.headers.expect !== undefined) return
    this.#isDiscarding = true
    this.#seenBytes = 0
    this.#listen()
    this.#req.resume()
  }

  #listen(): void {
    if (this.#isListening) return
    this.#isListening = true
    this.#req
      .on('data', (chunk: Buffer) => this.#onData(chunk))
      .on('end', () => {
        this.#hasEnded = true
        if (this.#stream?.destroyed === false) this.#stream.push(null)
      })
      // Without 'end' before it: the client broke off, and the upstream must not take that for the end.
      .on('close', () => {
        if (!this.#hasEnded) this.#stream?.destroy(new Error('the client left'))
      })
  }

  #onData(chunk: Buffer): void {
    this.#seenBytes += chunk.length
    const isTooLarge = this.#seenBytes > this.#limits.bytesMax
    if (this.#isDiscarding) {
      if (isTooLarge) this.#req.destroy()
      return
    }
    if (isTooLarge) {
      this.#failure = new GatewayError('body_too_large', { reason: 'body_bytes' })
      this.#stream?.destroy(this.#failure)
      return
    }
    const stream = this.#stream?.destroyed === false ? this.#stream : undefined
    // Between two streams nothing is lost: what comes is kept, whatever its size, and the rest waits in the socket.
    if (stream !== undefined && this.#seenBytes > this.#limits.replayBytesMax)
      this.#kept = undefined
    this.#kept?.push(chunk)
    if (stream?.push(chunk) !== true) this.#req.pause()
  }

  #resume(stream: Readable): void {
    if (stream !== this.#stream) return
    this.#listen()
    if (this.#req.isPaused()) this.#req.resume()
  }
}
