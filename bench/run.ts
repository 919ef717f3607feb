/** `npm run bench`: lists the benchmarks, and runs one with the options given behind its name. */

import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { runStep } from '../scripts/test-step.ts'

/** Every benchmark bounds itself; this ends one that does not. */
const LIMIT_SECONDS = 3_600

const files = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .toSorted()
const nameOf = (file: string) => file.replace(/\.ts$/, '')

/** The first sentence of the comment that a file begins with. */
const purposeOf = (file: string): string => {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  const comment = /^\/\*\*(.*?)\*\//s.exec(text)?.[1] ?? ''
  return /^.*?\.(?=\s|$)/s.exec(comment.replace(/\s*\n\s*\*?\s*/g, ' ').trim())?.[0] ?? ''
}

const [name, ...options] = process.argv.slice(2)
const chosen = files.find((file) => nameOf(file) === name)
if (chosen === undefined) {
  console.log('npm run bench -- NAME [OPTIONS]     (options stand at the top of bench/NAME.ts)\n')
  for (const file of files) console.log(`  ${nameOf(file).padEnd(16)}${purposeOf(file)}`)
  process.exitCode = name === undefined || name === '--help' ? 0 : 64
} else {
  const path = fileURLToPath(new URL(chosen, import.meta.url))
  const { failure } = await runStep({
    command: process.execPath,
    args: [path, ...options],
    timeoutSeconds: LIMIT_SECONDS,
  })
  if (failure !== undefined) console.error(`${name} ${failure}`)
  process.exitCode = failure === undefined ? 0 : 1
}
