/** One exchange with an upstream: streams both ways, retries and replays where that is safe, ends with its client. */

import type { ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import { GatewayError } from '../errors.ts'
import type { UpstreamTimeouts } from '../routing/route-table.ts'
import type { Milliseconds } from '../time.ts'
import type { RequestBody } from './request-body.ts'
import { isIdempotent } from './request-body.ts'
import { answerFault } from './response-headers.ts'

export interface UpstreamRequest {
  /** Fixed by the route; nothing in a request can change where the connection goes. */
  readonly origin: string
  /** Path and query as they go on the request line. */
  readonly path: string
  readonly method: string
  /** Flat name-value list, with `host`. */
  readonly headers: readonly string[]
  readonly body: Readable | null
  readonly timeouts: UpstreamTimeouts
  /** `new`: one that no request was sent on before, and none is after. Any other may be closed under the request. */
  readonly connection: 'any' | 'new'
  /** It was on its way once before, and its connection died. */
  readonly isAgain: boolean
  /** When the whole answer must be there, on the monotonic clock; the same for every sending of one request. */
  readonly endsAtMs: Milliseconds | undefined
}

/** Why there is no answer, or no whole one. */
export type UpstreamFault =
  | {
      readonly kind: 'unreachable'
      /** Stable private word, such as `connection_refused`. */
      readonly reason: string
      readonly cause: unknown
      /** The connection broke after the request had been started on it and before any byte of an answer. */
      readonly unanswered: boolean
    }
  | { readonly kind: 'timeout'; readonly reason: 'connect' | 'first_byte' | 'idle' | 'total' }
  /** The upstream has as many calls as it may have, and the queue was full or did not move; nothing was sent. */
  | { readonly kind: 'busy'; readonly reason: 'queue_full' | 'queue_timeout' }
  /** The request itself is what HTTP does not allow. */
  | { readonly kind: 'unsendable'; readonly cause: unknown }

/** Port: the caller of `dispatch` is told what comes. After `onEnd` or `onFault`, or its own `abort`, nothing more. */
export interface UpstreamObserver {
  /** The final head; informational answers (1xx) are dropped before. Names and values are latin1, as on the wire. */
  onHead(status: number, rawHeaders: readonly string[]): void
  onChunk(chunk: Buffer): void
  /** The answer is complete. Trailers are dropped (RFC 9110 §6.5.1). */
  onEnd(): void
  onFault(fault: UpstreamFault): void
}

export interface UpstreamCall {
  /** No chunk beyond those already on their way until `resume`, and no idle limit. */
  pause(): void
  resume(): void
  /** Ends the call and its connection. */
  abort(): void
}

/** Port: sends one request. Never throws, never calls back before it has returned. */
export type UpstreamDispatch = (
  request: UpstreamRequest,
  observer: UpstreamObserver,
) => UpstreamCall

export interface ForwardRequest extends Omit<UpstreamRequest, 'body' | 'connection' | 'isAgain'> {
  readonly body: RequestBody
  /** The head to send to the client. */
  readonly responseHeaders: (status: number, rawHeaders: readonly string[]) => string[]
  /**
   * Asked once per answer, before anything of it was sent. An unwanted one is dropped unread (`discarded`), so that
   * the caller can forward again; one that does not must call `body.discard()`.
   */
  readonly isUnwanted?: (status: number, rawHeaders: readonly string[]) => boolean
  /**
   * Asked once about an answer that is passed on: for one that something may end before its own end, what to call when
   * it is over. `cut` ends it, visibly, and before that says the line where one can stand.
   */
  readonly hold?: (
    rawHeaders: readonly string[],
    cut: (lastLine?: string) => void,
  ) => (() => void) | undefined
}

export type ForwardResult =
  | { readonly kind: 'sent'; readonly status: number }
  | { readonly kind: 'discarded'; readonly status: number }
  | { readonly kind: 'client_left' }
  /** The answer broke off or was cut after its head had been sent; so was the client's connection: it shows. */
  | {
      readonly kind: 'truncated'
      readonly status: number
      /** A private word, as in refusals; `cut` where `hold` had it cut. */
      readonly reason: string
    }

/**
 * Sends the request and streams the answer to `res`; resolves when the client has all of it, or has left.
 * Throws `upstream_unreachable`, `upstream_timeout`, `upstream_busy`, `body_too_large` or `request_invalid` only
 * while nothing has been sent to the client.
 */
export const forward = (
  request: ForwardRequest,
  res: ServerResponse,
  dispatch: UpstreamDispatch,
): Promise<ForwardResult> =>
  new Promise((resolve, reject) => {
    new Exchange(request, res, dispatch, { resolve, reject }).start()
  })

interface Settle {
  readonly resolve: (result: ForwardResult) => void
  readonly reject: (error: GatewayError) => void
}

/** With CR, LF or both, as event streams may end their lines. */
const endsLine = (chunk: Buffer): boolean => {
  const last = chunk.at(-1)
  return last === 0x0a || last === 0x0d
}

class Exchange implements UpstreamObserver {
  readonly #request: ForwardRequest
  readonly #res: ServerResponse
  readonly #dispatch: UpstreamDispatch
  readonly #settle: Settle
  #call: UpstreamCall | undefined
  #release: (() => void) | undefined
  #attempts = 0
  #status = 0
  #brokeFor = 'cut'
  #state: 'waiting' | 'streaming' | 'ended' | 'truncated' | 'settled' = 'waiting'
  #isWritten = false
  /** Of an answer that is held. */
  #isAtLineStart = true
  #drains = false

  constructor(
    request: ForwardRequest,
    res: ServerResponse,
    dispatch: UpstreamDispatch,
    settle: Settle,
  ) {
    this.#request = request
    this.#res = res
    this.#dispatch = dispatch
    this.#settle = settle
  }

  start(): void {
    if (this.#res.destroyed) {
      this.#onClose()
      return
    }
    this.#res.on('close', this.#onClose)
    this.#send()
  }

  onHead(status: number, rawHeaders: readonly string[]): void {
    if (this.#state !== 'waiting') return
    const { isUnwanted, responseHeaders } = this.#request
    this.#status = status
    const fault = answerFault(rawHeaders)
    if (fault !== undefined) {
      this.#call?.abort()
      this.#fail(new GatewayError('upstream_unreachable', { reason: fault }))
      return
    }
    try {
      if (isUnwanted?.(status, rawHeaders) === true) {
        this.#call?.abort()
        this.#leave()
        this.#settle.resolve({ kind: 'discarded', status })
        return
      }
      this.#res.writeHead(status, responseHeaders(status, rawHeaders))
    } catch (cause) {
      // Node refuses a status or header that HTTP does not allow before it has sent anything.
      this.#call?.abort()
      this.#fail(new GatewayError('upstream_unreachable', { reason: 'response_head', cause }))
      return
    }
    this.#state = 'streaming'
    this.#release = this.#request.hold?.(rawHeaders, this.#cut)
    // Node holds the head back for the first bytes of the body, which an event stream may not have for minutes.
    queueMicrotask(this.#flushHead)
  }

  onChunk(chunk: Buffer): void {
    if (this.#state !== 'streaming') return
    this.#isWritten = true
    if (this.#release !== undefined) this.#isAtLineStart = endsLine(chunk)
    if (this.#res.write(chunk)) return
    this.#call?.pause()
    if (this.#drains) return
    this.#drains = true
    this.#res.on('drain', () => this.#call?.resume())
  }

  onEnd(): void {
    if (this.#state !== 'streaming') return
    this.#state = 'ended'
    this.#isWritten = true
    this.#res.end()
    // An upstream may answer before it has read everything; what is left would block the client's next request.
    this.#request.body.discard()
  }

  onFault(fault: UpstreamFault): void {
    if (this.#state === 'streaming') {
      this.#state = 'truncated'
      this.#brokeFor = 'reason' in fault ? fault.reason : fault.kind
      this.#res.destroy()
      return
    }
    if (this.#state !== 'waiting') return
    if (this.#mayRetry(fault)) this.#send()
    else this.#fail(this.#errorFor(fault))
  }

  #send(): void {
    const { origin, path, method, headers, body, timeouts, endsAtMs } = this.#request
    this.#attempts += 1
    // A retry on a kept-alive connection would meet the next one that the upstream has closed meanwhile.
    const isAgain = this.#attempts > 1
    const connection = isAgain || body.mayOutgrowReplay() ? 'new' : 'any'
    this.#call = this.#dispatch(
      { origin, path, method, headers, body: body.open(), timeouts, endsAtMs, connection, isAgain },
      this,
    )
  }

  /**
   * Once, where the upstream closed a kept-alive connection while the request was on its way (RFC 9112 §9.3.1).
   * Never where sending twice could act twice (RFC 9110 §9.2.2), or where an answer had begun.
   */
  #mayRetry(fault: UpstreamFault): boolean {
    const { method, body } = this.#request
    return (
      fault.kind === 'unreachable' &&
      fault.unanswered &&
      this.#attempts === 1 &&
      isIdempotent(method) &&
      body.replayable()
    )
  }

  #errorFor(fault: UpstreamFault): GatewayError {
    const { body } = this.#request
    const bodyFailure = body.failure()
    if (bodyFailure !== undefined) return bodyFailure
    switch (fault.kind) {
      case 'unreachable':
        return new GatewayError('upstream_unreachable', {
          reason: fault.reason,
          cause: fault.cause,
        })
      case 'timeout':
        if (fault.reason === 'first_byte' && body.awaitsClient()) {
          return new GatewayError('request_invalid', { reason: 'body_stalled' })
        }
        return new GatewayError('upstream_timeout', { reason: fault.reason })
      case 'busy':
        return new GatewayError('upstream_busy', { reason: fault.reason })
      case 'unsendable':
        return new GatewayError('request_invalid', { reason: 'unsendable', cause: fault.cause })
    }
  }

  /** Emitted after the last byte was handed over, or when the connection went before that. */
  readonly #onClose = (): void => {
    const state = this.#state
    if (state === 'settled') return
    const hasLeft = state !== 'truncated' && !this.#res.writableFinished
    // Also for an answer that is paused: nobody will resume it, and it would keep its connection for ever.
    if (hasLeft) this.#call?.abort()
    this.#finish()
    if (hasLeft) {
      this.#request.body.discard()
      this.#settle.resolve({ kind: 'client_left' })
    } else {
      const status = this.#status
      this.#settle.resolve(
        state === 'truncated'
          ? { kind: 'truncated', status, reason: this.#brokeFor }
          : { kind: 'sent', status },
      )
    }
  }

  readonly #cut = (lastLine?: string): void => {
    if (this.#state !== 'streaming') return
    this.#state = 'truncated'
    this.#call?.abort()
    // A client that is behind would have to read all the rest first.
    const isHeard = this.#isAtLineStart && this.#res.writableLength === 0
    if (lastLine === undefined || !isHeard) this.#res.destroy()
    else this.#res.write(lastLine, () => this.#res.destroy())
  }

  readonly #flushHead = (): void => {
    if (this.#state === 'streaming' && !this.#isWritten) this.#res.flushHeaders()
  }

  #fail(error: GatewayError): void {
    this.#leave()
    this.#request.body.discard()
    this.#settle.reject(error)
  }

  #finish(): void {
    this.#state = 'settled'
    this.#release?.()
  }

  /** Ends before `res` does, to which others go on listening. */
  #leave(): void {
    this.#finish()
    this.#res.off('close', this.#onClose)
  }
}
