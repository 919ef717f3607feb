/** Load from wrk: many keep-alive connections for a few seconds, and what came of it. */

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findExecutable } from '../../test/support/executable.ts'

export const WRK_MISSING = 'apt-get update && apt-get install -y wrk'

export interface LoadOptions {
  readonly url: string
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
  readonly connections: number
  readonly seconds: number
}

export interface LoadResult {
  readonly requests: number
  readonly seconds: number
  /** Answers of status 400 and above, broken connections, answers that took over 10 s; undefined when there were none. */
  readonly failures: string | undefined
  readonly latencyMs: { readonly p50: number; readonly p90: number; readonly p99: number }
}

/** wrk asks in Lua: what is the same for all requests is formatted once, by wrk itself. */
const script = ({ method, headers, body }: LoadOptions): string => `
wrk.method = ${JSON.stringify(method)}
${Object.entries(headers)
  .map(([name, value]) => `wrk.headers[${JSON.stringify(name)}] = ${JSON.stringify(value)}`)
  .join('\n')}
${body === undefined ? '' : `wrk.body = ${JSON.stringify(body)}`}
done = function(summary, latency)
  local e = summary.errors
  print(string.format('RESULT %d %d %d %d %d', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
  print(string.format('FAILURES status %d, connect %d, read %d, write %d, timeout %d',
    e.status, e.connect, e.read, e.write, e.timeout))
end
`

/** A slice that takes much longer than asked for is ended. */
const GRACE_MS = 15_000

export const runLoad = async (options: LoadOptions): Promise<LoadResult> => {
  const wrk = findExecutable('wrk')
  if (wrk === undefined) throw new Error(`wrk is not installed. Run: ${WRK_MISSING}`)
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-bench-wrk-'))
  try {
    const file = join(directory, 'load.lua')
    await writeFile(file, script(options))
    const { connections, seconds, url } = options
    const output = await outputOf(
      wrk,
      [
        '-t',
        '1',
        '-c',
        String(connections),
        '-d',
        `${seconds}s`,
        '--timeout',
        '10s',
        '-s',
        file,
        url,
      ],
      seconds * 1000 + GRACE_MS,
    )
    const found = /^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)$/m.exec(output)
    const failures = /^FAILURES (.*)$/m.exec(output)?.[1]
    if (found === null || failures === undefined) throw new Error(`wrk said:\n${output}`)
    const [requests = 0, micros = 0, p50 = 0, p90 = 0, p99 = 0] = found.slice(1).map(Number)
    return {
      requests,
      seconds: micros / 1e6,
      failures: /[1-9]/.test(failures) ? failures : undefined,
      latencyMs: { p50: p50 / 1000, p90: p90 / 1000, p99: p99 / 1000 },
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

const outputOf = (command: string, args: readonly string[], timeoutMs: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { timeout: timeoutMs, killSignal: 'SIGKILL' })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output)
      else reject(new Error(`wrk ended with ${signal ?? code}:\n${output}`))
    })
  })
