/** The resident memory of a gateway process, with and without a garbage collection before the reading. */

import { setTimeout as sleep } from 'node:timers/promises'
import { residentBytes } from './measure.ts'

const SETTLED_MS = 2_000
const SAMPLE_MS = 100

/** `HeapProfiler.collectGarbage`, answered when it is done; the process was started with `--inspect` on that port. */
export const collectGarbage = async (inspectorPort: number): Promise<void> => {
  const [target] = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json`)).json()) as {
    webSocketDebuggerUrl: string
  }[]
  const inspector = new WebSocket(target?.webSocketDebuggerUrl ?? '')
  await new Promise((resolve) => inspector.addEventListener('open', resolve))
  const collected = new Promise((resolve) => inspector.addEventListener('message', resolve))
  inspector.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }))
  await collected
  inspector.close()
}

/** What is in use, not what waits to be collected: two collections with time for what they set free. */
export const settledBytes = async (pid: number, inspectorPort: number): Promise<number> => {
  await sleep(SETTLED_MS)
  await collectGarbage(inspectorPort)
  await sleep(SETTLED_MS / 2)
  await collectGarbage(inspectorPort)
  return residentBytes(pid)
}

/** The highest reading while the promise runs, garbage included. */
export const peakBytesDuring = async (pid: number, running: Promise<unknown>): Promise<number> => {
  let peak = residentBytes(pid)
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(pid))
  }, SAMPLE_MS)
  try {
    await running
  } finally {
    clearInterval(timer)
  }
  return Math.max(peak, residentBytes(pid))
}
