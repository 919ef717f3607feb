/** An older Node: it is told which one is needed, before it reads anything that it might not understand. */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { startChild } from '../support/child.ts'

const root = new URL('../../', import.meta.url)
const text = (path: string) => readFileSync(new URL(path, root), 'utf8')
const { engines } = JSON.parse(text('package.json')) as { engines: { node: string } }
const needed = engines.node.replace('>=', '')

const runAs = async (version: string, file: string) => {
  const pretend = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`
  const args = ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`]
  const child = await startChild(process.execPath, [
    ...args,
    fileURLToPath(new URL(file, root)),
    '--version',
  ])
  const { code } = await child.exited
  return { code, stdout: child.stdout, stderr: child.stderr.join('\n') }
}

test.each(['16.20.2', '18.20.8', '20.20.2', '22.18.0'])(
  '%s is refused with 78',
  async (version) => {
    expect(await runAs(version, 'src/main.ts')).toEqual({
      code: 78,
      stdout: [],
      stderr: `coatcheck needs Node ${needed} or newer, and this is ${version}.`,
    })
    const script = await runAs(version, 'scripts/require-node.mjs')
    expect(script).toMatchObject({ code: 78, stderr: expect.stringContaining(`Node ${needed} or`) })
  },
)

test.each([`${needed}.0`, '24.0.0', '26.1.0'])('%s is taken', async (version) => {
  expect(await runAs(version, 'src/main.ts')).toMatchObject({ code: 0, stderr: '' })
  expect(await runAs(version, 'scripts/require-node.mjs')).toMatchObject({ code: 0, stderr: '' })
})

test('nothing is imported before the version is known', () => {
  const source = text('src/main.ts')
  expect(source).not.toMatch(/^import /m)
  expect(source.indexOf('import(')).toBeGreaterThan(source.indexOf('process.versions.node'))
})
