/**
 * Clients that take nothing of their answers are cut off: found by what was delivered, because what they send meanwhile
 * would keep any idle timer from running out.
 */

import type { ServerResponse } from 'node:http'

interface Delivery {
  readonly bytes: number
  /** Checks in a row that found no more than these. */
  checks: number
}

const CHECKS = 4

/**
 * Looks after these answers until the returned function is called. Silence while nothing is ready to be sent is
 * none of the client's. What counts is whole writes, which are 64 KiB at most.
 */
export const cutStalled = (answers: Iterable<ServerResponse>, limitMs: number): (() => void) => {
  const deliveries = new WeakMap<ServerResponse, Delivery>()
  const check = () => {
    for (const res of answers) {
      const { socket } = res
      if (socket === null || socket.writableLength === 0) {
        deliveries.delete(res)
        continue
      }
      const bytes = socket.bytesWritten - socket.writableLength
      const before = deliveries.get(res)
      if (before?.bytes !== bytes) deliveries.set(res, { bytes, checks: 0 })
      else if (before.checks + 1 < CHECKS) before.checks += 1
      else socket.destroy()
    }
  }
  const timer = setInterval(check, limitMs / CHECKS)
  return () => clearInterval(timer)
}
