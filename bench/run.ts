/** `npm run bench`: runs the benchmarks, all of them or those that are named; `--list` says what there is. */

import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { runStep } from '../scripts/test-step.ts'

/** Every benchmark bounds itself; this ends one that does not. */
const LIMIT_SECONDS = 3_600

const USAGE = `npm run bench                        all of them, about an hour
npm run bench -- --quick             all of them in under 5 minutes where nothing else runs: a look, not a result
npm run bench -- NAME… [--quick]     some of them
npm run bench -- NAME OPTIONS        one of them; its options stand at the top of bench/NAME.ts
`

const LOOK =
  'A look, not a measurement: too short and too small for its figures to be quoted or held against a budget.'

/** Small enough for a look at each. */
const QUICK: Readonly<Record<string, readonly string[]>> = {
  'event-streams': ['--streams', '200'],
  invalidation: ['--sessions', '10'],
  memory: ['--records', '2000'],
  'refresh-storm': ['--sessions', '400'],
  requests: ['--quick'],
  'start-up': ['--starts', '2'],
  streaming: ['--clients', '100', '--mebibytes', '16', '--seconds', '1'],
  'web-socket-echo': ['--rounds', '2', '--seconds', '1'],
  'web-sockets': ['--sockets', '200'],
}

const files = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .toSorted()
const nameOf = (file: string) => file.replace(/\.ts$/, '')
const known = files.map(nameOf)

/** The first sentence of the comment that a file begins with. */
const purposeOf = (file: string): string => {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8')
  const comment = /^\/\*\*(.*?)\*\//s.exec(text)?.[1] ?? ''
  return /^.*?\.(?=\s|$)/s.exec(comment.replace(/\s*\n\s*\*?\s*/g, ' ').trim())?.[0] ?? ''
}

const list = () => {
  console.log(USAGE)
  for (const file of files) console.log(`  ${nameOf(file).padEnd(16)}${purposeOf(file)}`)
}

const run = async (name: string, options: readonly string[]): Promise<boolean> => {
  console.log(`\n══ ${name} ${options.join(' ')}`)
  const { failure, seconds } = await runStep({
    command: process.execPath,
    args: [fileURLToPath(new URL(`${name}.ts`, import.meta.url)), ...options],
    timeoutSeconds: LIMIT_SECONDS,
  })
  if (failure !== undefined) console.error(`${name} ${failure}`)
  console.log(`══ ${name}: ${seconds.toFixed(0)} s`)
  return failure === undefined
}

/** Names come first, `--quick` anywhere among them; what else there is belongs to the one that is named. */
const args = process.argv.slice(2)
const quick = args.includes('--quick')
if (quick) process.env.BENCH_QUICK = 'yes'
const firstOption = args.findIndex((arg) => arg.startsWith('-') && arg !== '--quick')
const end = firstOption === -1 ? args.length : firstOption
const names = args.slice(0, end).filter((arg) => arg !== '--quick')
const options = args.slice(end).filter((arg) => arg !== '--quick')
const unknown = names.filter((name) => !known.includes(name))

if (options[0] === '--list' || (options[0] === '--help' && names.length === 0)) {
  list()
} else if (unknown.length > 0 || (options.length > 0 && names.length !== 1)) {
  list()
  console.error(
    unknown.length > 0
      ? `\nThere is no benchmark ${unknown.join(', ')}.`
      : '\nOptions belong to one benchmark: name it.',
  )
  process.exitCode = 64
} else {
  if (quick) console.log(LOOK)
  const failed: string[] = []
  for (const name of names.length === 0 ? known : names)
    if (!(await run(name, [...(quick ? (QUICK[name] ?? []) : []), ...options]))) failed.push(name)
  if (quick) console.log(`\n${LOOK}`)
  if (failed.length > 0) {
    console.error(`\nFailed: ${failed.join(', ')}`)
    process.exitCode = 1
  }
}
