/** A directory with files in it, which goes when the tests of the file are over. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'

/** To be called in the body of a suite, where hooks are registered. */
export const temporaryDirectory = (files: Readonly<Record<string, string>>): string => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-'))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content)
  afterAll(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
