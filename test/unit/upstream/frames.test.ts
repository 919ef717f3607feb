/** Frame headers are found wherever they are, however the bytes are cut. */

import { describe, expect, it } from 'vitest'
import { closeFrame, type FrameKind, FrameWalker } from '../../../src/upstream/frames.ts'

const frame = (firstByte: number, payloadBytes: number, isMasked: boolean): Buffer => {
  const mask = isMasked ? 0x80 : 0
  const length =
    payloadBytes < 126
      ? Buffer.from([mask | payloadBytes])
      : payloadBytes < 65_536
        ? Buffer.from([mask | 126, payloadBytes >> 8, payloadBytes & 0xff])
        : Buffer.concat([Buffer.from([mask | 127, 0, 0, 0, 0]), uint32(payloadBytes)])
  // Payload and mask look like close frames, to whoever loses count.
  return Buffer.concat([
    Buffer.from([firstByte]),
    length,
    Buffer.alloc(isMasked ? 4 : 0, 0x88),
    Buffer.alloc(payloadBytes, 0x88),
  ])
}

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

const kindsIn = (chunks: readonly Uint8Array[]): readonly FrameKind[] => {
  const kinds: FrameKind[] = []
  const walker = new FrameWalker((kind) => kinds.push(kind))
  for (const chunk of chunks) walker.walk(chunk)
  expect(walker.isBetweenFrames).toBe(true)
  return kinds
}

const SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]

describe('frames are told apart by their headers', () => {
  it.each([
    ['text', 0x81, 'message'],
    ['binary, compressed', 0xc2, 'message'],
    ['a fragment that goes on', 0x00, 'message'],
    ['close', 0x88, 'close'],
    ['ping', 0x89, 'control'],
    ['pong', 0x8a, 'control'],
    ['reserved', 0x83, 'control'],
  ] as const)('RFC 6455 §5.2 %s', (_, firstByte, kind) => {
    for (const isMasked of [false, true])
      for (const size of SIZES) expect(kindsIn([frame(firstByte, size, isMasked)])).toEqual([kind])
  })

  it('however they are cut', () => {
    const bytes = Buffer.concat(
      SIZES.flatMap((size) => [frame(0x81, size, true), frame(0x89, 3, true)]),
    )
    const expected = SIZES.flatMap(() => ['message', 'control'])
    for (const step of [1, 2, 3, 5, 7, 1024, 65_536]) {
      const chunks = Array.from({ length: Math.ceil(bytes.length / step) }, (_, index) =>
        bytes.subarray(index * step, (index + 1) * step),
      )
      expect(kindsIn(chunks)).toEqual(expected)
    }
  })

  it('a frame is finished, and nothing behind it is walked', () => {
    const kinds: FrameKind[] = []
    const walker = new FrameWalker((kind) => kinds.push(kind))
    const bytes = Buffer.concat([frame(0x82, 200, false), frame(0x81, 4, false)])
    walker.walk(bytes.subarray(0, 1))
    expect(walker.isBetweenFrames).toBe(false)
    expect(walker.walkToFrameEnd(bytes.subarray(1))).toBe(203)
    expect(walker.isBetweenFrames).toBe(true)
    expect(walker.walkToFrameEnd(bytes.subarray(204))).toBe(0)
    expect(kinds).toEqual(['message'])
  })

  it('a length that no number holds is walked all the same', () => {
    const walker = new FrameWalker(() => {})
    walker.walk(Buffer.from([0x82, 0x7f, ...Array(8).fill(0xff)]))
    walker.walk(Buffer.alloc(100_000, 0x88))
    expect(walker.isBetweenFrames).toBe(false)
  })
})

describe('a close frame', () => {
  it('RFC 6455 §5.5.1 has the code and the reason', () => {
    expect([...closeFrame(4401, 'no')]).toEqual([0x88, 4, 0x11, 0x31, 0x6e, 0x6f])
  })

  it('RFC 6455 §5.3 is masked towards a server', () => {
    const bytes = closeFrame(1001, 'bye', Buffer.from([1, 2, 3, 4]))
    expect([...bytes.subarray(0, 6)]).toEqual([0x88, 0x80 | 5, 1, 2, 3, 4])
    const payload = bytes.subarray(6).map((byte, index) => byte ^ ((index % 4) + 1))
    expect([payload[0], payload[1], String.fromCharCode(...payload.subarray(2))]).toEqual([
      3,
      233,
      'bye',
    ])
  })
})
