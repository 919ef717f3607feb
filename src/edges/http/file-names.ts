/** What a file's name says: its media type, and whether a bundler put a hash of the content into it. */

/** Text says its charset (RFC 9110 §8.3.2); browsers would guess, differently for each. */
const TYPES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    avif: 'image/avif',
    bmp: 'image/bmp',
    cjs: 'text/javascript; charset=utf-8',
    css: 'text/css; charset=utf-8',
    csv: 'text/csv; charset=utf-8',
    eot: 'application/vnd.ms-fontobject',
    gif: 'image/gif',
    htm: 'text/html; charset=utf-8',
    html: 'text/html; charset=utf-8',
    ico: 'image/vnd.microsoft.icon',
    jpeg: 'image/jpeg',
    jpg: 'image/jpeg',
    js: 'text/javascript; charset=utf-8',
    json: 'application/json',
    jsonld: 'application/ld+json',
    m4a: 'audio/mp4',
    map: 'application/json',
    md: 'text/markdown; charset=utf-8',
    mjs: 'text/javascript; charset=utf-8',
    mp3: 'audio/mpeg',
    mp4: 'video/mp4',
    ogg: 'audio/ogg',
    otf: 'font/otf',
    pdf: 'application/pdf',
    png: 'image/png',
    svg: 'image/svg+xml; charset=utf-8',
    ttf: 'font/ttf',
    txt: 'text/plain; charset=utf-8',
    wasm: 'application/wasm',
    wav: 'audio/wav',
    webm: 'video/webm',
    webmanifest: 'application/manifest+json',
    webp: 'image/webp',
    woff: 'font/woff',
    woff2: 'font/woff2',
    xml: 'application/xml; charset=utf-8',
    zip: 'application/zip',
  }),
)

const extensionOf = (path: string): string =>
  /\.([A-Za-z0-9]{1,16})$/.exec(path)?.[1]?.toLowerCase() ?? ''

/** With `nosniff`, bytes of an unknown kind are offered for download and never run. */
export const mediaType = (path: string): string =>
  TYPES.get(extensionOf(path)) ?? 'application/octet-stream'

/** A name that only a file would have: `/app.js`, not `/users/jane.doe` or `/releases/v1.2`. */
export const looksLikeFile = (path: string): boolean => TYPES.has(extensionOf(path))

/** Documents link to hashed names and are never hashed themselves; `THIRD-PARTY-LICENSES.txt` only looks so. */
const NEVER_HASHED = new Set(['htm', 'html', 'md', 'txt', 'xml', 'webmanifest'])

/**
 * `name-<hash>.ext` or `name.<hash>.ext`, as Vite and Rollup (8 characters of base64url), esbuild and Angular (8 of
 * base32), webpack and Parcel (8 and more hexadecimal digits) write them. Some hashes look like a word and are not
 * recognised, which costs a revalidation; a word taken for a hash would be stale for a year.
 */
export const hasContentHash = (path: string): boolean => {
  const extension = extensionOf(path)
  if (extension === '' || NEVER_HASHED.has(extension)) return false
  const name = path.slice(path.lastIndexOf('/') + 1, -extension.length - 1)
  // base64url has dashes of its own, so that the last dash need not be the one before the hash.
  const eight = /[-.]([A-Za-z0-9_-]{8})$/.exec(name)?.[1]
  const longer = /[-.]([A-Za-z0-9_]{8,64})$/.exec(name)?.[1]
  return [eight, longer].some((candidate) => candidate !== undefined && isHash(candidate))
}

const HEXADECIMAL = /^(?=.*[a-f])[0-9a-f]{8,64}$/
/** What people write between dashes: words, `camelCase`, `roboto500`, `US`, `192`, `1024x1024`. */
const WRITTEN = /^(?:\d+(?:x\d+)?|[A-Z]{1,4}|[a-z]|[A-Za-z][a-z]+(?:[A-Z][a-z]{2,})*\d{0,3})$/

const isHash = (candidate: string): boolean =>
  HEXADECIMAL.test(candidate) || !candidate.split(/[-_]+/).every((part) => WRITTEN.test(part))
