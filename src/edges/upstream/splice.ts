/** Two sockets that became one WebSocket: every byte passes as it came, and the gateway has the last word at a frame's end. */

import { randomBytes } from 'node:crypto'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { closeFrame, type FrameKind, FrameWalker } from '../../upstream/frames.ts'
import type { OpenSocket, SocketObserver } from '../../upstream/web-socket.ts'

interface End {
  readonly socket: Duplex
  /** What it has sent behind its handshake. */
  readonly head: Buffer
}

/** A peer on a machine that is gone says nothing: probes end its connection. */
const TCP_PROBE_AFTER_MS = 60_000
/** How long a side that was told the end may take to close: it cannot stay half open. */
const WIND_DOWN_MS = 2_000
/** How long the last words of one end may wait for the other to read them: as long as WebSocket libraries wait. */
const LAST_WORDS_MS = 30_000

export const splice = (client: End, upstream: End, observer: SocketObserver): OpenSocket =>
  new Splice(client, upstream, observer)

class Splice implements OpenSocket {
  readonly #observer: SocketObserver
  readonly #sides: readonly Direction[]
  #endedBy: 'client' | 'upstream' | 'gateway' | undefined
  #isWindingDown = false
  #isOver = false
  #timer: NodeJS.Timeout | undefined
  #cutsAtMs = Number.POSITIVE_INFINITY

  constructor(client: End, upstream: End, observer: SocketObserver) {
    this.#observer = observer
    const fromClient = new Direction(client.socket, upstream.socket, (kind) => {
      observer.fromClient(kind)
      if (kind === 'close') this.#closeFrameCame('client')
    })
    const fromUpstream = new Direction(upstream.socket, client.socket, (kind) => {
      observer.fromUpstream()
      if (kind === 'close') this.#closeFrameCame('upstream')
    })
    this.#sides = [fromClient, fromUpstream]
    this.#begin(fromUpstream, upstream.head, 'upstream')
    this.#begin(fromClient, client.head, 'client')
  }

  close(code: number, reason: string): void {
    if (this.#isOver || this.#endedBy === 'gateway') return
    this.#cutWithin(WIND_DOWN_MS)
    if (this.#isWindingDown) return
    this.#endedBy ??= 'gateway'
    const [fromClient, fromUpstream] = this.#sides
    fromUpstream?.endWith(closeFrame(code, reason))
    fromClient?.endWith(closeFrame(code, reason, randomBytes(4)))
  }

  #begin(direction: Direction, head: Buffer, name: 'client' | 'upstream'): void {
    const { source } = direction
    if (source instanceof Socket) {
      source.setTimeout(0)
      source.setNoDelay(true)
      source.setKeepAlive(true, TCP_PROBE_AFTER_MS)
    }
    const windDown = () => {
      this.#endedBy ??= name
      this.#windDown()
    }
    source.once('end', windDown)
    source.once('close', windDown)
    direction.begin(head)
    // It may have ended while the handshake was on its way.
    if (source.destroyed || source.readableEnded) windDown()
  }

  /** A client that answers the gateway's close frame has nothing more to say, and it is for us to end (RFC 6455 §7.1.1). */
  #closeFrameCame(from: 'client' | 'upstream'): void {
    this.#endedBy ??= from
    if (this.#endedBy === 'gateway' && from === 'client') this.#windDown()
  }

  /** Both end, each after what it was already given. */
  #windDown(): void {
    if (this.#isOver) return
    if (this.#sides.every(({ source }) => source.destroyed)) {
      this.#isOver = true
      clearTimeout(this.#timer)
      this.#observer.ended(this.#endedBy ?? 'gateway')
      return
    }
    if (!this.#isWindingDown) {
      this.#isWindingDown = true
      for (const direction of this.#sides) direction.stop()
      for (const { source } of this.#sides) source.once('finish', () => this.#windDown()).end()
    }
    const hasSaidAll = this.#sides.every(
      ({ source }) => source.writableFinished || source.destroyed,
    )
    this.#cutWithin(hasSaidAll ? WIND_DOWN_MS : LAST_WORDS_MS)
  }

  /** What is to be cut sooner stays so. */
  #cutWithin(durationMs: number): void {
    const atMs = performance.now() + durationMs
    if (atMs >= this.#cutsAtMs) return
    this.#cutsAtMs = atMs
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      for (const { source } of this.#sides) source.destroy()
    }, durationMs)
  }
}

/** One direction of the two: writes what it reads, and waits for its reader. */
class Direction {
  readonly source: Duplex
  /** The source has sent a close frame. */
  carriedClose = false
  readonly #target: Duplex
  readonly #walker: FrameWalker
  #lastFrame: Buffer | undefined
  #isStopped = false

  constructor(source: Duplex, target: Duplex, onFrame: (kind: FrameKind) => void) {
    this.source = source
    this.#target = target
    this.#walker = new FrameWalker((kind) => {
      if (kind === 'close') this.carriedClose = true
      onFrame(kind)
    })
  }

  begin(head: Buffer): void {
    if (head.length > 0) this.#pass(head)
    this.source.on('data', (chunk: Buffer) => this.#pass(chunk))
    this.#target.on('drain', () => this.source.resume())
  }

  /** This frame is the last that the target gets, behind the one that is on its way; unless the source has closed already. */
  endWith(lastFrame: Buffer): void {
    if (this.#isStopped || this.carriedClose) return
    this.#lastFrame = lastFrame
    if (this.#walker.isBetweenFrames) this.#sayLast()
  }

  /** Nothing is passed any more; reading on is what notices that the source has closed. */
  stop(): void {
    this.#isStopped = true
    this.source.resume()
  }

  #pass(chunk: Buffer): void {
    if (this.#isStopped) {
      // Of what is dropped only the answer to the gateway's close frame matters.
      this.#walker.walk(chunk)
      return
    }
    if (this.#lastFrame === undefined) {
      this.#walker.walk(chunk)
      this.#write(chunk)
      return
    }
    const length = this.#walker.walkToFrameEnd(chunk)
    this.#write(chunk.subarray(0, length))
    if (!this.#walker.isBetweenFrames) return
    this.#sayLast()
    this.#walker.walk(chunk.subarray(length))
  }

  #sayLast(): void {
    if (this.#lastFrame !== undefined && !this.carriedClose) this.#target.write(this.#lastFrame)
    this.stop()
  }

  #write(chunk: Buffer): void {
    if (!this.#target.write(chunk)) this.source.pause()
  }
}
