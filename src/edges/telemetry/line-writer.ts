/** Lines to a file descriptor in the background: a reader that stalls costs log lines, never a request. */

import { write as writeDescriptor } from 'node:fs'
import { stdTimeFunctions } from 'pino'

export interface LineWriter {
  write(line: string): void
  /** Resolves when everything is written, or after the time, whichever comes first. */
  flush(timeoutMs: number): Promise<void>
}

/** What a stalled reader may make the process hold. */
const UNWRITTEN_BYTES_MAX = 4 * 1024 * 1024
const CHUNK_LINES_MAX = 256
/** A full pipe in non-blocking mode says EAGAIN; nothing tells when it has room again. */
const FULL_PIPE_RETRY_MS = 50

/**
 * pino's own destinations either write synchronously, where a full pipe holds up the event loop, or flush at
 * exit in a loop that never ends once the reader is gone (observed: sonic-boom 5 sleeps for ever on EPIPE).
 */
export const createLineWriter = (descriptor: number): LineWriter => {
  let queue: string[] = []
  let queuedBytes = 0
  let lostLines = 0
  let isWriting = false
  let isBroken = false
  let idle: (() => void)[] = []

  const next = (): void => {
    if (isBroken) queue = []
    if (queue.length === 0) {
      isWriting = false
      for (const resolve of idle) resolve()
      idle = []
      return
    }
    isWriting = true
    const lines = queue.splice(0, CHUNK_LINES_MAX)
    if (lostLines > 0) {
      lines.push(
        `{"level":"warn"${stdTimeFunctions.isoTime()},"event":"log_lines_lost","lines":${lostLines}}\n`,
      )
      lostLines = 0
    }
    const chunk = Buffer.from(lines.join(''))
    put(chunk, 0, chunk.length)
  }

  const put = (chunk: Buffer, offset: number, countedBytes: number): void => {
    writeDescriptor(descriptor, chunk, offset, null, null, (error, written) => {
      if (error?.code === 'EAGAIN') {
        setTimeout(() => put(chunk, offset, countedBytes), FULL_PIPE_RETRY_MS)
        return
      }
      if (error === null && offset + written < chunk.length) {
        put(chunk, offset + written, countedBytes)
        return
      }
      // A full disk may have room for the next line; a pipe without a reader stays broken.
      if (error !== null) isBroken = error.code !== 'ENOSPC'
      queuedBytes = Math.max(0, queuedBytes - countedBytes)
      next()
    })
  }

  return {
    write(line) {
      const bytes = Buffer.byteLength(line)
      if (isBroken) return
      if (queuedBytes + bytes > UNWRITTEN_BYTES_MAX) {
        lostLines += 1
        return
      }
      queuedBytes += bytes
      queue.push(line)
      if (!isWriting) next()
    },
    flush: (timeoutMs) =>
      new Promise((resolve) => {
        if (!isWriting) return resolve()
        const timer = setTimeout(resolve, timeoutMs)
        idle.push(() => {
          clearTimeout(timer)
          resolve()
        })
      }),
  }
}
