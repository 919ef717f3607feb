/** An application of somebody else: the packed package, installed into a folder that has nothing but what it asks for. */

import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startChild } from '../support/child.ts'
import { within } from '../support/wait.ts'
import { repositoryUrl } from './compose-file.ts'

const COMMAND_MS = 120_000

export interface FreshApp {
  /** Runs a program of the app; rejects with what it wrote where it does not end with 0. */
  run(...args: readonly string[]): Promise<string>
  write(name: string, text: string): Promise<void>
  remove(): Promise<void>
}

interface Package {
  readonly dependencies: Record<string, string>
  readonly peerDependencies: Record<string, string>
}

/** `packageDirectory` is packed as it is. `alongside` are packages that the app itself depends on. */
export const installFreshApp = async (
  packageDirectory: string,
  alongside: readonly string[],
): Promise<FreshApp> => {
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-fresh-app-'))
  const run = async (command: string, ...args: readonly string[]): Promise<string> => {
    const child = await startChild(command, args, { cwd: directory, env: { ...process.env } })
    const { code } = await within(COMMAND_MS, `${args[0]} ends`, child.exited)
    const output = child.stdout.join('\n')
    if (code !== 0) throw new Error(`${args[0]} failed:\n${output}\n${child.stderr.join('\n')}`)
    return output
  }
  const installed = join(directory, 'node_modules/coatcheck')
  await mkdir(installed, { recursive: true })
  const tarball = await run('npm', 'pack', '--silent', '--ignore-scripts', packageDirectory)
  await run('tar', '-xzf', tarball.trim(), '--strip-components=1', '-C', installed)
  const { dependencies, peerDependencies } = JSON.parse(
    await readFile(join(installed, 'package.json'), 'utf8'),
  ) as Package
  const names = [...Object.keys(dependencies), ...Object.keys(peerDependencies), ...alongside]
  // What npm would bring is at hand already, in the same versions.
  for (const name of new Set(names)) {
    const place = join(directory, 'node_modules', name)
    await mkdir(dirname(place), { recursive: true })
    await symlink(fileURLToPath(new URL(`node_modules/${name}`, repositoryUrl)), place)
  }
  await writeFile(join(directory, 'package.json'), '{"type":"module","private":true}')
  return {
    run: (...args) => run(process.execPath, ...args),
    write: (name, text) => writeFile(join(directory, name), text),
    remove: () => rm(directory, { recursive: true, force: true }),
  }
}
