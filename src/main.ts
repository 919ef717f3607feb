#!/usr/bin/env node
/**
 * The process: runs the command line, on a Node that can. Nothing is imported before that is known, and what stands
 * here any Node since 16 can read: an older one fails with words, not with what it happens to lack first.
 */

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(
    `coatcheck needs Node 22.19 or newer, and this is ${process.versions.node}.\n`,
  )
  process.exitCode = 78
} else {
  const { enableCompileCache } = await import('node:module')
  // Compiling some six hundred modules is a tenth of a start. Beside the code, where nobody else may write; where we
  // may not either, nothing is kept.
  enableCompileCache(`${import.meta.dirname}/../node_modules/.cache/compiled`)
  const { runCommandLine } = await import('./cli/command-line.ts')
  await runCommandLine()
}
