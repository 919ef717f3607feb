/**
 * docs/ARCHITECTURE.md draws the house, and the drawing is the real one. Its format:
 *
 *   ```tree                                   one line per file of src, in any order: the path
 *   session/seal.ts    seals under the ring   relative to src, two spaces or more, what it is for
 *   ```
 *
 *   ```flow                                   free drawing; every step of the proxied request is
 *   presentedCredential() → guard() → …       written as name(), in the order of src/proxy.ts
 *   ```
 */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { fencedBlock } from './markdown.ts'
import { stepsOf } from './proxy-steps.ts'
import { REPOSITORY, repositoryFiles } from './source-tree.ts'

const architecture = () => readFileSync(join(REPOSITORY, 'docs/ARCHITECTURE.md'), 'utf8')
const drawnPath = (line: string) =>
  /^(\S+) {2,}\S/.exec(line)?.[1] ?? `not "path  purpose": ${line}`

describe('the drawing in docs/ARCHITECTURE.md', () => {
  it('shows every file of src, and no other', () => {
    const lines = fencedBlock(architecture(), 'tree').split('\n')
    const drawn = lines.filter((line) => line.trim() !== '').map(drawnPath)
    const real = repositoryFiles('src').map((file) => file.slice('src/'.length))
    expect(drawn.toSorted()).toEqual(real.toSorted())
  })

  it('shows the steps of the proxied request in their order', () => {
    const flow = fencedBlock(architecture(), 'flow')
    const drawn = [...flow.matchAll(/\b(\w+)\(\)/g)].map(([, name]) => name)
    expect(drawn).toEqual(stepsOf(readFileSync(join(REPOSITORY, 'src/proxy.ts'), 'utf8')))
  })
})

describe('a WebSocket handshake', () => {
  it('goes the way of a request, step by step, until the upstream is dialled', () => {
    const text = (file: string) => readFileSync(join(REPOSITORY, 'src', file), 'utf8')
    const untilAuthenticated = (steps: readonly string[]) =>
      steps.slice(0, steps.indexOf('withFreshToken') + 1)
    const ofRequest = untilAuthenticated(stepsOf(text('proxy.ts')))
    const ofHandshake = stepsOf(text('handshake.ts'), 'createHandshake')
    expect(ofRequest.length).toBeGreaterThan(3)
    expect(untilAuthenticated(ofHandshake)).toEqual(ofRequest)
    expect(ofHandshake.indexOf('openThrough')).toBeGreaterThan(ofHandshake.indexOf('takePlace'))
  })
})

describe('the steps read from a proxy', () => {
  const proxy = (...body: readonly string[]) =>
    [
      'export const createProxy = () => {',
      '  return async (request, route) => {',
      ...body,
      '  }',
      '}',
    ].join('\n')

  it('come in the order in which they run', () => {
    expect(
      stepsOf(
        proxy(
          '    const presented = present(request)',
          "    if (presented === 'session') guard(request, kindOf(request))",
          '    // notThis() is only mentioned',
          '    admission.admit(request.client)',
          '    const session = await refreshed(route, await authenticate(request, presented))',
          "    if (!route.accept.includes('anonymous')) return refuse(session)",
          "    return { kind: 'forwarded', result: await forward(request) }",
        ),
      ),
    ).toEqual(['present', 'guard', 'admit', 'authenticate', 'refreshed', 'refuse', 'forward'])
  })

  it('are an error when the proxy cannot be found', () => {
    expect(() => stepsOf('export const other = 1')).toThrow('createProxy')
  })
})
