/**
 * Catalogue and documents agree in both directions. docs/errors.md has one table that begins `| code | status |`;
 * docs/events.md has tables that begin `| event |` and `| reason |`.
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ERRORS } from '../../src/errors.ts'
import { END_REASONS } from '../../src/events.ts'
import { tableRows } from './markdown.ts'
import { REPOSITORY, sourceTree } from './source-tree.ts'

const page = (name: string) => readFileSync(join(REPOSITORY, 'docs', name), 'utf8')
const source = sourceTree()
const text = (file: string) => source.get(file) ?? ''
const others = (but: string) => [...source].flatMap(([file, code]) => (file === but ? [] : [code]))
const firstCells = (rows: readonly string[][]) => rows.map(([first]) => first).toSorted()

const eventTypes = [...text('events.ts').matchAll(/\btype: '(\w+)'/g)].map(([, type = '']) => type)

/** Words that no file but their own catalogue ever writes as a string. */
const neverWritten = (words: readonly string[], catalogue: string) => {
  const rest = others(catalogue)
  return words.filter((word) => !rest.some((code) => code.includes(`'${word}'`)))
}

describe('error codes', () => {
  it('have a row with their status in docs/errors.md, and every row is a code', () => {
    const rows = tableRows(page('errors.md'), 'code').map(([code, status]) => `${code} ${status}`)
    const codes = Object.entries(ERRORS).map(([code, { status }]) => `${code} ${status}`)
    expect(rows.toSorted()).toEqual(codes.toSorted())
  })

  it('are all thrown somewhere', () => {
    expect(neverWritten(Object.keys(ERRORS), 'errors.ts')).toEqual([])
  })
})

describe('events', () => {
  it('have a row in docs/events.md, and every row is an event', () => {
    expect(eventTypes.length).toBeGreaterThan(5)
    expect(firstCells(tableRows(page('events.md'), 'event'))).toEqual(eventTypes.toSorted())
  })

  it('are all emitted somewhere', () => {
    expect(neverWritten(eventTypes, 'events.ts')).toEqual([])
  })
})

describe('end reasons', () => {
  it('have a row in docs/events.md, and every row is a reason', () => {
    expect(firstCells(tableRows(page('events.md'), 'reason'))).toEqual(END_REASONS.toSorted())
  })

  it('are all given somewhere', () => {
    expect(neverWritten(END_REASONS, 'events.ts')).toEqual([])
  })
})

it('reads the tables of a page by their first heading', () => {
  const markdown = [
    '| code | status |',
    '|---|---:|',
    '| `a` | 400 |',
    '| b | 5 \\| 6 |',
    '',
    '| other | x |',
    '| - | - |',
    '| c | 1 |',
  ].join('\n')
  expect(tableRows(markdown, 'code')).toEqual([
    ['a', '400'],
    ['b', '5 \\| 6'],
  ])
  expect(tableRows(markdown, 'missing')).toEqual([])
})

it('finds a word that nobody writes', () => {
  expect(neverWritten(['session_required', 'no_such_code'], 'errors.ts')).toEqual(['no_such_code'])
})
