/** Finds programs in PATH, for the parts of the tests that the system has to bring. */

import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** First of the names that is an executable file in PATH, as its full path. */
export const findExecutable = (...names: readonly string[]): string | undefined => {
  const directories = (process.env.PATH ?? '').split(delimiter).filter((entry) => entry !== '')
  for (const name of names) {
    for (const directory of directories) {
      const candidate = join(directory, name)
      if (isExecutable(candidate)) return candidate
    }
  }
  return undefined
}

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    // Absent, a broken link or not ours to run: all mean "look further".
    return false
  }
}
