/** Lines to a file descriptor in the background: a reader that stalls costs log lines, never a request. */

import { createWriteStream, fstatSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { stdTimeFunctions } from 'pino'

export interface LineWriter {
  write(line: string): void
  /** Resolves when everything is written, or after the time, whichever comes first. */
  flush(timeoutMs: number): Promise<void>
}

/** What a stalled reader may make the process hold. */
const UNWRITTEN_CHARACTERS_MAX = 4 * 1024 * 1024

/**
 * pino's own destinations write synchronously, where a full pipe holds up the event loop, or flush at exit in a
 * loop that never ends once the reader is gone (observed with sonic-boom 5 and EPIPE).
 */
export const createLineWriter = (descriptor: number): LineWriter => {
  let stream: Writable | undefined
  let lostLines = 0
  let hasNoReader = false

  const open = (): Writable => {
    const opened = streamTo(descriptor)
    // A full disk may have room for a later line; a pipe whose reader has gone gets no other.
    opened.on('error', (error: NodeJS.ErrnoException) => {
      hasNoReader = error.code !== 'ENOSPC'
      stream = undefined
    })
    return opened
  }

  const write = (line: string): void => {
    if (hasNoReader) return
    stream ??= open()
    if (stream.writableLength + line.length > UNWRITTEN_CHARACTERS_MAX) {
      lostLines += 1
      if (lostLines === 1) stream.once('drain', tellLost)
      return
    }
    stream.write(line)
  }

  const tellLost = (): void => {
    const lines = lostLines
    lostLines = 0
    write(
      `{"level":"warn"${stdTimeFunctions.isoTime()},"event":"log_lines_lost","lines":${lines}}\n`,
    )
  }

  const flush = async (timeoutMs: number): Promise<void> => {
    const written = Promise.withResolvers<void>()
    const timer = setTimeout(written.resolve, timeoutMs)
    // Called behind everything that waits; with an error where the stream has failed, which is an end as well.
    if (stream === undefined) written.resolve()
    else stream.write('', () => written.resolve())
    await written.promise
    clearTimeout(timer)
  }

  return { write, flush }
}

/** Pipes without blocking: a thread that is stuck in a full one would hold up even `process.exit`. */
const streamTo = (descriptor: number): Writable => {
  const kind = fstatSync(descriptor)
  return kind.isFIFO() || kind.isSocket()
    ? new Socket({ fd: descriptor, readable: false, writable: true })
    : createWriteStream('', { fd: descriptor, autoClose: false })
}
