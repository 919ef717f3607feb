/** Request targets of every shape: what is accepted means the same to every parser that could read it next. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseTarget } from '../../src/routing/path.ts'
import { compileRoutes, upstreamPath } from '../../src/routing/route-table.ts'
import { routeTo } from '../edges/upstream/small-gateway.ts'

/** Pieces that are harmless alone and not always together. */
const piece = fc.constantFrom(
  ...[
    '/',
    '//',
    '.',
    '..',
    '%',
    '%2',
    '%25',
    '%2e',
    '%2E',
    '%2f',
    '%5c',
    '%5C',
    '%00',
    '%0a',
    '%7f',
  ],
  ...['\\', ';', '%3b', '#', '?', '@', ':', '%40', '%c0', '%af', '%ae', '%e2%88%95', '%u002f'],
  ...['a', 'api', 'Z', '~', '%7E', '%41', ' ', '\t', 'é', '2f', '5c', '2e', '00', '-', '&', '='],
)
const target = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`)
const anyString = fc.oneof(target, fc.string({ unit: 'binary', maxLength: 40 }), fc.webUrl())
const options = fc.record({ encodedSlash: fc.boolean() })

const decodeOnce = (path: string) =>
  path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  )

describe('parseTarget', () => {
  it('never throws, and what it accepts is visible ASCII that begins with one slash', () => {
    fc.assert(
      fc.property(anyString, options, (raw, given) => {
        const parsed = parseTarget(raw, given)
        if (parsed.kind === 'invalid') return
        expect(parsed.rawPath).toMatch(/^\/(?!\/)[!-~]*$/)
        expect(parsed.path).toMatch(/^\/(?!\/)[!-~]*$/)
        expect(parsed.query).toMatch(/^(?:\?[!-~]*)?$/)
      }),
      { numRuns: 5_000 },
    )
  })

  it('forwards exactly what came', () => {
    fc.assert(
      fc.property(target, options, (raw, given) => {
        const parsed = parseTarget(raw, given)
        if (parsed.kind === 'ok') expect(parsed.rawPath + parsed.query).toBe(raw)
      }),
      { numRuns: 5_000 },
    )
  })

  it('means the same path to the WHATWG URL parser', () => {
    fc.assert(
      fc.property(target, options, (raw, given) => {
        const parsed = parseTarget(raw, given)
        if (parsed.kind === 'invalid') return
        const url = new URL(`http://upstream.example${parsed.rawPath}${parsed.query}`)
        expect(url.origin).toBe('http://upstream.example')
        expect(decodeOnce(url.pathname)).toBe(decodeOnce(parsed.rawPath))
        expect(url.pathname.split('/')).toHaveLength(parsed.rawPath.split('/').length)
        // As a reference without an origin, too: no host may come out of it.
        expect(new URL(raw, 'http://upstream.example').origin).toBe('http://upstream.example')
      }),
      { numRuns: 5_000 },
    )
  })

  it('has as many segments however often it is decoded, and none of them is a dot segment', () => {
    fc.assert(
      fc.property(target, (raw) => {
        const parsed = parseTarget(raw)
        if (parsed.kind === 'invalid') return
        const segments = parsed.rawPath.split('/').length
        let decoded = parsed.rawPath
        for (let layer = 0; layer < 3; layer += 1) {
          decoded = decodeOnce(decoded)
          expect(decoded.split('/')).toHaveLength(segments)
          expect(decoded).not.toMatch(/\\|[\0-\x1f\x7f]/)
          for (const segment of decoded.split('/')) {
            expect(segment.split(';')[0]).not.toMatch(/^\.{1,2}$/)
          }
        }
      }),
      { numRuns: 5_000 },
    )
  })

  it('is stable: a canonical path is its own canonical path', () => {
    fc.assert(
      fc.property(target, options, (raw, given) => {
        const parsed = parseTarget(raw, given)
        if (parsed.kind === 'invalid') return
        expect(parseTarget(parsed.path, given)).toMatchObject({ kind: 'ok', path: parsed.path })
      }),
      { numRuns: 5_000 },
    )
  })

  it('accepts every path that encodeURIComponent makes of ordinary segments', () => {
    const segment = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 10 })
      .filter((text) => text.isWellFormed() && !/[/\\%\0-\x1f\x7f]|^\.{1,2}(?:;|$)/.test(text))
    fc.assert(
      fc.property(fc.array(segment, { minLength: 1, maxLength: 4 }), (segments) => {
        const raw = `/${segments.map(encodeURIComponent).join('/')}`
        expect(parseTarget(raw)).toMatchObject({ kind: 'ok', rawPath: raw })
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('upstreamPath', () => {
  it('stays on the upstream and below its base path, whatever the target', () => {
    const definitions = [
      routeTo('http://upstream.example', { path: '/api', stripPrefix: true, encodedSlash: true }),
      routeTo('http://upstream.example/base', { path: '/', encodedSlash: true }),
      routeTo('http://upstream.example/base', { path: '/api/v1', stripPrefix: true }),
    ]
    const routes = compileRoutes(definitions).routes
    const under = fc.tuple(fc.constantFrom(...routes), fc.array(piece, { maxLength: 10 }))
    fc.assert(
      fc.property(under, ([route, pieces]) => {
        const parsed = parseTarget(`${route.path}/${pieces.join('')}`.replace(/^\/\//, '/'), {
          encodedSlash: true,
        })
        if (parsed.kind === 'invalid') return
        let path: string
        try {
          path = upstreamPath(route, parsed)
        } catch (error) {
          expect(error).toMatchObject({ code: 'request_invalid' })
          return
        }
        for (const url of [
          new URL(route.upstreamOrigin + path),
          new URL(path, route.upstreamOrigin),
        ]) {
          expect(url.origin).toBe('http://upstream.example')
          expect(url.pathname.startsWith(`${route.upstreamBasePath}/`)).toBe(true)
        }
      }),
      { numRuns: 5_000 },
    )
  })
})
