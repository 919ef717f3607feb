/** docs/proxying.md says which headers are removed: they are. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compileRoutes } from '../../../src/routing/route-table.ts'
import {
  requestHeaderPolicy,
  upstreamRequestHeaders,
} from '../../../src/upstream/request-headers.ts'
import {
  downstreamResponseHeaders,
  responseHeaderPolicy,
} from '../../../src/upstream/response-headers.ts'
import { routeTo } from '../../edges/upstream/small-gateway.ts'
import { linesOf } from '../../support/raw-headers.ts'

const page = readFileSync(join(import.meta.dirname, '../../../docs/proxying.md'), 'utf8')
const section = (title: string): string =>
  page.split(/^## /m).find((text) => text.startsWith(title)) ?? expect.unreachable()
/** Header names in code spans. */
const namesIn = (text: string): readonly string[] =>
  [...text.matchAll(/`([A-Za-z][A-Za-z-]*[A-Za-z])`/g)].map(([, name = '']) => name)

const { routes } = compileRoutes([routeTo('http://api.internal:8080')])
const [route] = routes
if (route === undefined) throw new Error('no route')
const settings = { publicUrl: 'https://app.example.com', instanceId: 'i' }

const removedFromAnswers = section('Headers of an answer')
  .split('\n\n')
  .filter((paragraph) => paragraph.startsWith('Removed, because'))
  .flatMap(namesIn)
  .concat(['Expires', 'Pragma', 'Age', 'Surrogate-Control', 'CDN-Cache-Control'])
  .concat(['X-Accel-Expires', 'X-LiteSpeed-Cache-Control', 'Edge-Control'])

describe('docs/proxying.md', () => {
  it('names more than thirty headers that are removed from answers', () => {
    expect(removedFromAnswers.length).toBeGreaterThan(30)
  })

  it.each(removedFromAnswers)('%s of an answer is removed', (name) => {
    const policy = responseHeaderPolicy(route, { ...settings, routes })
    const context = { policy, status: 200, requestId: 'r' }
    expect(linesOf(downstreamResponseHeaders([name, 'x'], context), name)).toEqual([])
  })

  const removedFromRequests = section('Headers of a request')
    .split('\n')
    .filter((line) => line.startsWith('| ') && / \| removed/.test(line))
    .flatMap((line) => namesIn(line.split(' | ')[0] ?? ''))

  it.each(removedFromRequests)('%s of a request is removed', (name) => {
    const headers = upstreamRequestHeaders([name, 'forged'], {
      policy: requestHeaderPolicy(route, settings),
      accessToken: undefined,
      clientAddress: '192.0.2.1',
      requestId: 'r',
    })
    expect(headers).not.toContain('forged')
  })
})
