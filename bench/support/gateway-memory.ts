/** The resident memory of a gateway process, with and without a garbage collection before the reading. */

import { setTimeout as sleep } from 'node:timers/promises'
import { residentBytes } from './measure.ts'

const SETTLED_MS = 2_000
const SAMPLE_MS = 100

/** One command of the inspector's protocol; the process was started with `--inspect` on that port. */
const inspect = async (inspectorPort: number, method: string, params = {}): Promise<unknown> => {
  const [target] = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json`)).json()) as {
    webSocketDebuggerUrl: string
  }[]
  const inspector = new WebSocket(target?.webSocketDebuggerUrl ?? '')
  await new Promise((resolve) => inspector.addEventListener('open', resolve))
  const answered = new Promise<unknown>((resolve) =>
    inspector.addEventListener('message', ({ data }) => resolve(JSON.parse(String(data)).result)),
  )
  inspector.send(JSON.stringify({ id: 1, method, params }))
  const result = await answered
  inspector.close()
  return result
}

/** Resolves when it is done. */
export const collectGarbage = async (inspectorPort: number): Promise<void> => {
  await inspect(inspectorPort, 'HeapProfiler.collectGarbage')
}

/** Objects and buffers that are reachable or not yet collected, without what the allocators keep for later. */
export const usedBytes = async (inspectorPort: number): Promise<number> => {
  const expression = '(({ heapUsed, external }) => heapUsed + external)(process.memoryUsage())'
  const { result } = (await inspect(inspectorPort, 'Runtime.evaluate', { expression })) as {
    result: { value: number }
  }
  return result.value
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
