import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createLineWriter } from '../../../src/edges/telemetry/line-writer.ts'
import { waitFor, within } from '../../support/wait.ts'

let directory = ''
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'coatcheck-log-'))
})
afterEach(() => rm(directory, { recursive: true }))

describe('a file', () => {
  it('gets every line, in order, and flush waits for the last', async () => {
    const path = join(directory, 'log')
    const descriptor = openSync(path, 'w')
    const writer = createLineWriter(descriptor)
    const lines = Array.from({ length: 5_000 }, (_, index) => `line ${index} é\n`)
    for (const line of lines) writer.write(line)
    await within(5_000, 'flushed', writer.flush(5_000))
    closeSync(descriptor)
    expect(readFileSync(path, 'utf8')).toBe(lines.join(''))
  })

  it('flush without lines resolves at once', async () => {
    await within(100, 'flushed', createLineWriter(1).flush(5_000))
  })

  it('a full disk costs lines, not the process', async () => {
    const descriptor = openSync('/dev/full', 'w')
    const writer = createLineWriter(descriptor)
    writer.write('lost\n')
    await within(2_000, 'flushed', writer.flush(5_000))
    writer.write('lost too\n')
    await within(2_000, 'flushed again', writer.flush(5_000))
    closeSync(descriptor)
  })
})

/** A process that writes 20 MB of lines to its standard output and then does what `after` says. */
const startWriter = (after: string) => {
  const module = pathToFileURL(
    join(import.meta.dirname, '../../../src/edges/telemetry/line-writer.ts'),
  )
  const script = `
    const { createLineWriter } = await import(${JSON.stringify(module.href)})
    const writer = createLineWriter(1)
    for (let i = 0; i < 20_000; i += 1) writer.write(i + ' ' + 'x'.repeat(1_000) + '\\n')
    ${after}
  `
  return spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

describe('a pipe', () => {
  it('a reader that stalls holds up nothing, gets what was kept, and is told what was lost', async () => {
    const child = startWriter(`
      const startedMs = performance.now()
      setTimeout(() => process.stderr.write('alive after ' + (performance.now() - startedMs)), 100)
    `)
    child.stdout.pause()
    let stderr = ''
    child.stderr.on('data', (chunk) => {
      stderr += chunk
    })
    await waitFor('the event loop turns', () => /alive after \d/.test(stderr))
    expect(Number(/alive after (\d+)/.exec(stderr)?.[1])).toBeLessThan(2_000)
    let stdout = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk
    })
    child.stdout.resume()
    await within(10_000, 'the writer ends', once(child, 'close'))
    const lines = stdout.trimEnd().split('\n')
    expect(lines.length).toBeLessThan(6_000)
    const lost = lines.map((line) => /"event":"log_lines_lost","lines":(\d+)/.exec(line)?.[1])
    const lostCount = Number(lost.find((count) => count !== undefined))
    expect(lines.length - 1 + lostCount).toBe(20_000)
  })

  it('flush before an exit is bounded when the reader stalls', async () => {
    const child = startWriter('await writer.flush(300); process.exit(3)')
    child.stdout.pause()
    const [code] = await within(10_000, 'the writer exits', once(child, 'exit'))
    expect(code).toBe(3)
    child.stdout.destroy()
  })

  it('a reader that has gone ends neither the process nor its exit', async () => {
    const child = startWriter(`
      setTimeout(async () => { writer.write('late\\n'); await writer.flush(300); process.exit(4) }, 300)
    `)
    child.stdout.destroy()
    const [code] = await within(10_000, 'the writer exits', once(child, 'exit'))
    expect(code).toBe(4)
  })
})
