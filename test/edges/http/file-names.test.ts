import { describe, expect, it } from 'vitest'
import { hasContentHash, looksLikeFile, mediaType } from '../../../src/edges/http/file-names.ts'

describe('a hash of the content', () => {
  it.each([
    ['Vite', '/assets/index-Df0q1mio.css'],
    ['Vite with a dash in the hash', '/assets/index-D-1zg0DM.js'],
    ['Vite with an underscore in the hash', '/assets/index-Bx_2f3Xa.js'],
    ['esbuild and Angular', '/main-5NQKZ2ZQ.js'],
    ['esbuild without a digit', '/chunk-ABCDEFGH.js'],
    ['webpack', '/static/js/main.abcdef12.js'],
    ['webpack, a chunk', '/static/js/453.8ab44547.chunk.js'.replace('.chunk', '')],
    ['webpack, 20 digits', '/app.1234567890abcdef1234.css'],
    ['hexadecimal without a digit', '/assets/app-deadbeef.js'],
    ['a font', '/assets/inter-4f2a9c1b.woff2'],
    ['a source map', '/assets/index-Df0q1mio.js'],
  ])('is recognised as %s writes it: %s', (_, path) => {
    expect(hasContentHash(path)).toBe(true)
  })

  it.each([
    '/index.html',
    '/sw.js',
    '/service-worker.js',
    '/registerSW.js',
    '/assets/my-component.js',
    '/assets/app-myComponent.js',
    '/assets/app-DashView.js',
    '/logo-Dashboard.png',
    '/icon-512-dark.png',
    '/icon-1024x1024.png',
    '/apple-touch-icon-180x180.png',
    '/font-roboto500.woff2',
    '/NotoSans-VariableFont_wght.ttf',
    '/photo-20261122.jpg',
    '/jquery-3.7.1.min.js',
    '/bootstrap.bundle.min.js',
    '/env-config.js',
    '/runtime-config.json',
    '/locales/en-US_messages.json',
    '/THIRD-PARTY-LICENSES.txt',
    '/page-1a2b3c4d.html',
    '/manifest-1a2b3c4d.webmanifest',
    '/abcdef12/app.js',
    '/abcdef12.js',
    '/LICENSES',
  ])('is not seen in %s, which would then be stale for a year', (path) => {
    expect(hasContentHash(path)).toBe(false)
  })
})

describe('a file’s name', () => {
  it.each([
    ['/app.js', 'text/javascript; charset=utf-8'],
    ['/APP.JS', 'text/javascript; charset=utf-8'],
    ['/a.mjs', 'text/javascript; charset=utf-8'],
    ['/a.css', 'text/css; charset=utf-8'],
    ['/a.html', 'text/html; charset=utf-8'],
    ['/a.svg', 'image/svg+xml; charset=utf-8'],
    ['/a.json', 'application/json'],
    ['/a.webmanifest', 'application/manifest+json'],
    ['/a.wasm', 'application/wasm'],
    ['/a.woff2', 'font/woff2'],
    ['/a.tar.unknown', 'application/octet-stream'],
    ['/LICENSE', 'application/octet-stream'],
    ['/a.constructor', 'application/octet-stream'],
  ])('%s is %s', (path, type) => {
    expect(mediaType(path)).toBe(type)
  })

  it.each(['/app.js', '/deep/logo.PNG', '/index.html'])('%s can only be a file’s', (path) => {
    expect(looksLikeFile(path)).toBe(true)
  })

  it.each(['/', '/users/jane.doe', '/releases/v1.2', '/a.b/c', '/x.toString'])(
    '%s may be a client route',
    (path) => {
      expect(looksLikeFile(path)).toBe(false)
    },
  )
})
