/** The SPA's files from a directory: the index for page loads, caching by name, precompressed siblings, ranges. */

import { createHash } from 'node:crypto'
import { constants, type Stats, statSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { GatewayError } from '../../errors.ts'
import type { SpaServer } from './app.ts'
import { documentHeaders, type PolicySetting } from './document-headers.ts'
import type { Exchange } from './exchange.ts'
import { type Encoding, type FileIndex, type IndexedFile, indexDirectory } from './file-index.ts'
import { hasContentHash, looksLikeFile, mediaType } from './file-names.ts'
import {
  httpDate,
  isNotModified,
  negotiatedEncoding,
  requestedRange,
  type Validators,
} from './file-request.ts'

export interface SpaFilesOptions {
  readonly directory: string
  readonly csp: PolicySetting
  readonly publicUrl: string
}

const INDEX = '/index.html'
/** Up to this size the entity tag is a digest, because reproducible builds give all their files one date. */
const DIGEST_BYTES_MAX = 1024 * 1024

/** Throws where there is no such directory. An index may still be built; until then there is nothing to serve. */
export const createSpaFiles = (options: SpaFilesOptions): SpaServer => {
  const files = new Files(resolve(options.directory))
  const policy = documentHeaders(options.csp, options.publicUrl)

  const serve = async (exchange: Exchange, isNavigation: boolean): Promise<boolean> => {
    const { method, target } = exchange
    const file = await files.find(target.path, isNavigation)
    if (file === undefined) return false
    if (method !== 'GET' && method !== 'HEAD') {
      throw new GatewayError('method_not_allowed', { allow: ['GET', 'HEAD'] })
    }
    const representation = await files.open(file, wantedEncoding(exchange, file))
    if (representation === undefined) return false
    try {
      await send(exchange, representation, policy)
    } finally {
      await representation.handle.close()
    }
    return true
  }

  return {
    serve,
    upgrade: () => {
      throw new GatewayError('route_not_found', { reason: 'no_websocket_here' })
    },
  }
}

/** A part of a compressed file is of no use to whoever asks for a part of the file. */
const wantedEncoding = ({ req }: Exchange, { entry }: FoundFile): Encoding | undefined =>
  req.headers.range === undefined
    ? negotiatedEncoding(req.headers['accept-encoding'], entry.encodings)
    : undefined

interface FoundFile {
  /** As in the index; its name decides about type and caching. */
  readonly path: string
  readonly entry: IndexedFile
}

interface Representation extends Validators {
  readonly path: string
  readonly handle: FileHandle
  readonly sizeBytes: number
  readonly encoding: Encoding | undefined
  /** The answer would be another one for another `Accept-Encoding`. */
  readonly isNegotiated: boolean
}

/** After a scan the next one waits 250 ms, or 20 times what the scan took: misses never cost more than 5 % of a core. */
const RESCAN_PAUSE_MS = 250
const RESCAN_PAUSE_FACTOR = 20

class Files {
  readonly #directory: string
  #index: FileIndex
  #nextScanAtMs = 0
  #rescan: Promise<void> | undefined
  /** Entity tags by resolved path, each valid for one version of its file. */
  readonly #digests = new Map<string, { readonly version: string; readonly entityTag: string }>()

  constructor(directory: string) {
    this.#directory = directory
    if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) {
      throw new Error(`spa.directory: ${directory} is not a directory`)
    }
    this.#index = indexDirectory(directory)
  }

  /** The file of that path, or the index for a page load of a path that is no file's. */
  async find(path: string, isNavigation: boolean): Promise<FoundFile | undefined> {
    const found = this.#lookUp(path)
    if (found !== undefined) return found
    if (isNavigation && isClientRoute(path)) return this.#lookUp('/')
    await this.#refreshed()
    return this.#lookUp(path)
  }

  /** Undefined when the file has gone since. */
  async open(file: FoundFile, encoding: Encoding | undefined): Promise<Representation | undefined> {
    const opened = await this.#openVersion(file, encoding)
    if (opened !== undefined) return opened
    await this.#refreshed()
    const again = this.#lookUp(file.path)
    return again === undefined ? undefined : this.#openVersion(again, encoding)
  }

  #lookUp(path: string): FoundFile | undefined {
    const decoded = decodedPath(path)
    if (decoded === undefined) return undefined
    const key = decoded.endsWith('/') ? `${decoded}${INDEX.slice(1)}` : decoded
    const entry = this.#index.get(key)
    return entry === undefined ? undefined : { path: key, entry }
  }

  /** One scan serves all misses that wait for it; a build that is being written right now gets its turn. */
  #refreshed(): Promise<void> {
    this.#rescan ??= this.#scan().finally(() => {
      this.#rescan = undefined
    })
    return this.#rescan
  }

  async #scan(): Promise<void> {
    const pauseMs = this.#nextScanAtMs - performance.now()
    if (pauseMs > 0) await new Promise((wake) => setTimeout(wake, pauseMs))
    const startedMs = performance.now()
    try {
      this.#index = indexDirectory(this.#directory)
      this.#digests.clear()
    } catch {
      // A build empties its directory first; until it is back, what can still be opened by the old index is served.
    }
    const tookMs = performance.now() - startedMs
    this.#nextScanAtMs = performance.now() + Math.max(RESCAN_PAUSE_MS, RESCAN_PAUSE_FACTOR * tookMs)
  }

  async #openVersion(
    { path, entry }: FoundFile,
    encoding: Encoding | undefined,
  ): Promise<Representation | undefined> {
    const sibling = encoding === undefined ? undefined : entry.encodings.get(encoding)
    const realPath = sibling ?? entry.realPath
    const opened = await openRegular(realPath)
    if (opened === undefined) return undefined
    const { handle, stats } = opened
    try {
      const { size, mtimeMs, ctimeMs, ino } = stats
      const version = `${ino}-${size}-${ctimeMs}`
      const isDigested = size <= DIGEST_BYTES_MAX && !hasContentHash(path)
      return {
        path,
        handle,
        sizeBytes: size,
        modifiedAtMs: mtimeMs,
        entityTag: isDigested
          ? await this.#digest(realPath, version, handle)
          : `"${size.toString(36)}-${Math.floor(mtimeMs).toString(36)}-${encoding ?? 'as-is'}"`,
        encoding: sibling === undefined ? undefined : encoding,
        isNegotiated: entry.encodings.size > 0,
      }
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  async #digest(realPath: string, version: string, handle: FileHandle): Promise<string> {
    const known = this.#digests.get(realPath)
    if (known?.version === version) return known.entityTag
    const digest = createHash('sha256')
    for await (const chunk of handle.createReadStream({ start: 0, autoClose: false })) {
      digest.update(chunk as Buffer)
    }
    const entityTag = `"${digest.digest('base64url').slice(0, 22)}"`
    this.#digests.set(realPath, { version, entityTag })
    return entityTag
  }
}

/** Paths that a client-side router may own: not a file's name, nothing hidden. */
const isClientRoute = (path: string): boolean => !looksLikeFile(path) && !path.includes('/.')

/** The name to look up. `%2F` is no slash: a path must not reach another directory than it names. */
const decodedPath = (path: string): string | undefined => {
  if (/%(?:2f|5c|00)/i.test(path)) return undefined
  try {
    return decodeURIComponent(path)
  } catch {
    // Percent-encoded octets that are not UTF-8 name no file.
    return undefined
  }
}

interface OpenFile {
  readonly handle: FileHandle
  readonly stats: Stats
}

/** Without waiting: a pipe that stands where a file was would hold a thread until somebody writes to it. */
const READ_ONLY_NO_LINK = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
const GONE = new Set(['ENOENT', 'ENOTDIR', 'ELOOP'])

/** The path was resolved when it was indexed; a link that has taken its place since is not followed. */
const openRegular = async (realPath: string): Promise<OpenFile | undefined> => {
  try {
    const handle = await open(realPath, READ_ONLY_NO_LINK)
    const stats = await handle.stat()
    if (stats.isFile()) return { handle, stats }
    await handle.close()
    return undefined
  } catch (error) {
    if (GONE.has((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

const send = async (
  { req, res, method, requestId }: Exchange,
  representation: Representation,
  policy: readonly string[],
): Promise<void> => {
  const { path, handle, sizeBytes, encoding } = representation
  const headers = [
    'cache-control',
    hasContentHash(path) ? 'public, max-age=31536000, immutable' : 'no-cache',
    'etag',
    representation.entityTag,
    'last-modified',
    httpDate(representation.modifiedAtMs),
    ...(representation.isNegotiated ? ['vary', 'accept-encoding'] : []),
    ...policy,
    'x-request-id',
    requestId,
  ]
  if (isNotModified(req.headers, representation)) {
    res.writeHead(304, headers).end()
    return
  }
  headers.push('content-type', mediaType(path))
  if (encoding === undefined) headers.push('accept-ranges', 'bytes')
  else headers.push('content-encoding', encoding)

  const range =
    encoding === undefined && method === 'GET'
      ? requestedRange(req.headers, sizeBytes, representation)
      : undefined
  if (range?.kind === 'unsatisfiable') {
    headers.push('content-range', `bytes */${sizeBytes}`, 'content-length', '0')
    res.writeHead(416, headers).end()
    return
  }
  const [first, last] = range === undefined ? [0, sizeBytes - 1] : [range.first, range.last]
  if (range !== undefined) headers.push('content-range', `bytes ${first}-${last}/${sizeBytes}`)
  const length = last - first + 1
  headers.push('content-length', String(length))
  res.writeHead(range === undefined ? 200 : 206, headers)
  if (method === 'HEAD' || length === 0) res.end()
  else await stream(handle, first, last, res)
}

const stream = async (
  handle: FileHandle,
  first: number,
  last: number,
  res: Exchange['res'],
): Promise<void> => {
  const file = handle.createReadStream({ start: first, end: last, autoClose: false })
  try {
    await pipeline(file, res, { end: false })
  } catch (error) {
    if (res.destroyed) return
    throw error
  }
  // A file that shrank meanwhile leaves the answer short: ending it would desynchronise the connection.
  if (file.bytesRead === last - first + 1) res.end()
  else res.destroy()
}
