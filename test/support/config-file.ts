/** A configuration file in a folder of its own, for settings that variables cannot say. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'

export interface ConfigFile {
  readonly path: string
  remove(): Promise<void>
}

export const writeConfig = async (settings: object): Promise<ConfigFile> => {
  const folder = await mkdtemp(join(tmpdir(), 'coatcheck-config-'))
  const path = join(folder, 'coatcheck.yaml')
  await writeFile(path, stringify(settings))
  return { path, remove: () => rm(folder, { recursive: true, force: true }) }
}
