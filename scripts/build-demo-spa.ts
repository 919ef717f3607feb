/** Builds the demo SPA into demo-spa/dist, if that is missing or older than its sources. */

import { readdir, rm, stat } from 'node:fs/promises'
import path from 'node:path'

const root = path.join(import.meta.dirname, '..', 'demo-spa')
/** Built into it, as any app has `coatcheck/client`. */
const client = path.join(import.meta.dirname, '..', 'src', 'client')
const dist = path.join(root, 'dist')

const modifiedAt = async (file: string): Promise<number> => (await stat(file)).mtimeMs

const sources = async (): Promise<string[]> => {
  const found = await Promise.all([root, client].map((directory) => filesIn(directory)))
  return found.flat().filter((file) => !file.startsWith(dist))
}

const filesIn = async (directory: string): Promise<string[]> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
}

const isCurrent = async (): Promise<boolean> => {
  // The directory is emptied before a build, so that one that failed never counts as current.
  const builtAt = await modifiedAt(path.join(dist, 'index.html')).catch(() => 0)
  const times = await Promise.all((await sources()).map(modifiedAt))
  return times.every((time) => time <= builtAt)
}

if (await isCurrent()) {
  console.log('demo SPA: up to date')
} else {
  const { build } = await import('vite')
  await rm(dist, { recursive: true, force: true })
  await build({ configFile: path.join(root, 'vite.config.ts') })
  console.log('demo SPA: built into demo-spa/dist')
}
