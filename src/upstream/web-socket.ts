/** Port: a WebSocket through the gateway, from its handshake with the upstream to its end. */

import type { Duplex } from 'node:stream'
import type { FrameKind } from './frames.ts'

export interface UpstreamHandshake {
  /** Fixed by configuration. */
  readonly origin: string
  /** Path and query as they go on the request line. */
  readonly path: string
  /** Flat name-value list, with `host`, without hop-by-hop fields: those of the handshake are added. */
  readonly headers: readonly string[]
  readonly socket: Duplex
  /** What the client has sent behind its handshake. */
  readonly head: Buffer
  readonly connectMs: number
  /** From the connection to the head of the upstream's answer, and again for the body of a refusal. */
  readonly answerMs: number
}

/** Nothing has been written to the client yet; whoever gets one makes exactly one of its calls. */
export type HandshakeAnswer =
  | {
      readonly kind: 'agreed'
      readonly status: number
      readonly rawHeaders: readonly string[]
      /** Answers the client with 101 and these fields, and joins both sockets. */
      open(headers: readonly string[], observer: SocketObserver): OpenSocket
      abandon(): void
    }
  | {
      readonly kind: 'refused'
      readonly status: number
      readonly rawHeaders: readonly string[]
      /** Gives the client the upstream's own refusal: its status, these fields and its body. */
      pass(headers: readonly string[]): Promise<void>
      abandon(): void
    }
  | { readonly kind: 'client_left' }

/** Throws `upstream_unreachable` or `upstream_timeout`. */
export type ShakeHands = (handshake: UpstreamHandshake) => Promise<HandshakeAnswer>

export interface OpenSocket {
  /**
   * Says so to both ends, each with a close frame of this code and reason behind the frame that is on its way, and ends
   * both connections: after the peer's own close frame, or a bounded wait for it.
   */
  close(code: number, reason: string): void
}

export interface SocketObserver {
  fromClient(frame: FrameKind): void
  fromUpstream(): void
  /** Once, when both connections are closed; `by` is who began it. */
  ended(by: 'client' | 'upstream' | 'gateway'): void
}
