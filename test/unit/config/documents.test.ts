/** What is generated from the schema: the written pages are the current ones, and editors judge as loading does. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { jsonSchema, SETTINGS } from '../../../src/config/settings.ts'
import { KNOWN_VARIABLES } from '../../../src/config/variables.ts'

const repository = fileURLToPath(new URL('../../..', import.meta.url))

test('docs/configuration.md and docs/coatcheck.schema.json are what the schema says', () => {
  const run = spawnSync(process.execPath, ['scripts/write-docs.ts', '--check'], {
    cwd: repository,
    encoding: 'utf8',
    timeout: 15_000,
  })
  expect(run.stderr).toBe('')
  expect(run.status).toBe(0)
})

test('docs/configuration.md names every variable and every path', () => {
  const page = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8')
  for (const name of [...KNOWN_VARIABLES, ...SETTINGS.map(({ path }) => path)])
    expect(page).toContain(`\`${name}\``)
})

test('the JSON Schema demands nothing that a variable may give, and refuses unknown keys', () => {
  const schema = jsonSchema()
  expect(schema).not.toHaveProperty('required')
  expect(schema).toMatchObject({
    additionalProperties: false,
    properties: {
      session: { additionalProperties: false, properties: { absolute: { default: '8h' } } },
      apiPaths: { anyOf: [{ type: 'array' }, { type: 'string' }] },
      routes: { items: { required: ['path', 'upstream'], additionalProperties: false } },
    },
  })
})
