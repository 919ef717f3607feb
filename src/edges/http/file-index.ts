/** The files of a directory by the path that asks for them. No path from a request ever reaches the file system. */

import { type Dirent, readdirSync, realpathSync, statSync } from 'node:fs'
import { join, sep } from 'node:path'

export interface IndexedFile {
  /** Resolved: the file itself, whatever links led there. */
  readonly realPath: string
  /** Precompressed siblings that stand beside it, resolved. */
  readonly encodings: ReadonlyMap<Encoding, string>
}

export type Encoding = 'br' | 'gzip'

/** Keys are decoded paths with a leading slash: `/assets/my file.js`. */
export type FileIndex = ReadonlyMap<string, IndexedFile>

/** Far more than any build has; someone who points the setting at `/` learns it at the start. */
const FILES_MAX = 20_000
const DEPTH_MAX = 32

const SUFFIXES: readonly (readonly [Encoding, string])[] = [
  ['br', '.br'],
  ['gzip', '.gz'],
]

/**
 * Regular files only, and links only where they end inside the directory (mounted volumes are made of links).
 * Names that begin with a dot stay out, except `/.well-known`, which RFC 8615 reserves for publishing.
 * Throws where the directory cannot be read or holds too much.
 */
export const indexDirectory = (directory: string): FileIndex => {
  const root = realpathSync(directory)
  const found = new Map<string, string>()
  collect({ root, way: [root], directory: root, urlPath: '', found })
  const index = new Map<string, IndexedFile>()
  for (const [path, realPath] of found) {
    const encodings = new Map<Encoding, string>()
    for (const [encoding, suffix] of SUFFIXES) {
      const sibling = found.get(path + suffix)
      if (sibling !== undefined) encodings.set(encoding, sibling)
    }
    index.set(path, { realPath, encodings })
  }
  return index
}

interface Walk {
  readonly root: string
  readonly directory: string
  /** Resolved directories from the root to this one: a link back to one of them would never end. */
  readonly way: readonly string[]
  readonly urlPath: string
  readonly found: Map<string, string>
}

const collect = ({ root, directory, way, urlPath, found }: Walk): void => {
  if (way.length > DEPTH_MAX) {
    throw new Error(`${root} is nested more than ${DEPTH_MAX} directories deep`)
  }
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = `${urlPath}/${entry.name}`
    if (entry.name.startsWith('.') && path !== '/.well-known') continue
    const target = resolved(root, join(directory, entry.name), entry)
    if (target?.kind === 'file') {
      found.set(path, target.realPath)
      if (found.size > FILES_MAX) throw new Error(`${root} holds more than ${FILES_MAX} files`)
    }
    if (target?.kind === 'directory' && !way.includes(target.realPath)) {
      const next = target.realPath
      collect({ root, directory: next, way: [...way, next], urlPath: path, found })
    }
  }
}

interface Resolved {
  readonly kind: 'file' | 'directory'
  readonly realPath: string
}

/** `path` is resolved but for its last name. */
const resolved = (root: string, path: string, entry: Dirent): Resolved | undefined => {
  if (entry.isFile()) return { kind: 'file', realPath: path }
  if (entry.isDirectory()) return { kind: 'directory', realPath: path }
  if (!entry.isSymbolicLink()) return undefined
  try {
    const realPath = realpathSync(path)
    if (!realPath.startsWith(root + sep)) return undefined
    const target = statSync(realPath)
    if (target.isDirectory()) return { kind: 'directory', realPath }
    return target.isFile() ? { kind: 'file', realPath } : undefined
  } catch {
    // A dangling link, or one that is being replaced right now.
    return undefined
  }
}
