/** WebSocket frames by their headers alone (RFC 6455 §5.2): payloads are neither read, unmasked nor copied. */

/** `message`: text, binary or a continuation. `control`: ping, pong, and what is reserved. */
export type FrameKind = 'message' | 'close' | 'control'

/** Walks the bytes of one direction, however they are cut into chunks. Says of each frame, once its header is there, what it is. */
export class FrameWalker {
  readonly #onFrame: (kind: FrameKind) => void
  #opcode = 0
  /** Bytes of the header that has begun; 0 between headers. */
  #headerRead = 0
  #headerBytes = HEADER_BYTES_MIN
  #lengthEndsAt = HEADER_BYTES_MIN
  #length = 0
  #payloadLeft = 0

  constructor(onFrame: (kind: FrameKind) => void) {
    this.#onFrame = onFrame
  }

  /** Another frame may be put in here: control frames come between fragments of a message too (RFC 6455 §5.4). */
  get isBetweenFrames(): boolean {
    return this.#headerRead === 0 && this.#payloadLeft === 0
  }

  walk(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) at = this.#step(chunk, at)
  }

  /** Walks no further than the end of the frame that has begun; how many bytes of the chunk belong to it. */
  walkToFrameEnd(chunk: Uint8Array): number {
    let at = 0
    while (at < chunk.length && !this.isBetweenFrames) at = this.#step(chunk, at)
    return at
  }

  #step(chunk: Uint8Array, at: number): number {
    if (this.#payloadLeft > 0) {
      const skipped = Math.min(this.#payloadLeft, chunk.length - at)
      this.#payloadLeft -= skipped
      return at + skipped
    }
    this.#readHeaderByte(chunk[at] as number)
    return at + 1
  }

  #readHeaderByte(byte: number): void {
    if (this.#headerRead === 0) this.#opcode = byte & 0x0f
    else if (this.#headerRead === 1) this.#readSizes(byte)
    // 64-bit lengths lose their last bits here: nobody lives to see the end of such a frame.
    else if (this.#headerRead < this.#lengthEndsAt) this.#length = this.#length * 256 + byte
    this.#headerRead += 1
    if (this.#headerRead < this.#headerBytes) return
    this.#headerRead = 0
    this.#headerBytes = HEADER_BYTES_MIN
    this.#payloadLeft = this.#length
    this.#onFrame(kindOf(this.#opcode))
  }

  #readSizes(byte: number): void {
    const length = byte & 0x7f
    this.#lengthEndsAt = HEADER_BYTES_MIN + (LENGTH_BYTES.get(length) ?? 0)
    this.#length = LENGTH_BYTES.has(length) ? 0 : length
    this.#headerBytes = this.#lengthEndsAt + ((byte & 0x80) === 0 ? 0 : MASK_BYTES)
  }
}

const HEADER_BYTES_MIN = 2
const MASK_BYTES = 4
/** Bytes of length that follow these two values in the seven bits for it. */
const LENGTH_BYTES: ReadonlyMap<number, number> = new Map([
  [126, 2],
  [127, 8],
])
const CLOSE = 0x8

const kindOf = (opcode: number): FrameKind => {
  if (opcode === CLOSE) return 'close'
  return opcode <= 0x2 ? 'message' : 'control'
}

/**
 * A close frame with its code and reason (RFC 6455 §5.5.1; the reason at most 123 bytes of ASCII). Towards a server it
 * is masked (§5.3), with four random bytes.
 */
export const closeFrame = (code: number, reason: string, mask?: Uint8Array): Buffer => {
  const payload = Buffer.alloc(2 + reason.length)
  payload.writeUInt16BE(code)
  payload.write(reason, 2, 'latin1')
  if (mask === undefined)
    return Buffer.concat([Buffer.from([0x80 | CLOSE, payload.length]), payload])
  const masked = payload.map((byte, index) => byte ^ (mask[index % MASK_BYTES] as number))
  return Buffer.concat([Buffer.from([0x80 | CLOSE, 0x80 | payload.length]), mask, masked])
}
