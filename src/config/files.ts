/** Files of an operator: the configuration file, secrets in files, and the directory of the app. */

import { accessSync, constants, readFileSync, statSync } from 'node:fs'

export type TextFile =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'unreadable'; readonly absent: boolean; readonly rule: string }

/** Follows symbolic links, as secret mounts need. The rule names the cause, never the path or the content. */
export const readTextFile = (path: string, bytesMax: number): TextFile => {
  try {
    const status = statSync(path)
    if (!status.isFile()) return unreadable('must be a regular file')
    if (status.size > bytesMax) return unreadable(`must be a file of at most ${bytesMax} bytes`)
    const bytes = readFileSync(path)
    return { kind: 'text', text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) }
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown error'
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return unreadable('must be text in UTF-8')
    return {
      kind: 'unreadable',
      absent: code === 'ENOENT',
      rule: `must be a file that can be read (${code})`,
    }
  }
}

const unreadable = (rule: string): TextFile => ({ kind: 'unreadable', absent: false, rule })

export const isReadable = (path: string, kind: 'directory' | 'file'): boolean => {
  try {
    const status = statSync(path)
    accessSync(path, constants.R_OK)
    return kind === 'directory' ? status.isDirectory() : status.isFile()
  } catch {
    // Absent, forbidden or no such path at all: none of them can be served from.
    return false
  }
}
