/** What deploy/Dockerfile puts into its /app, laid out without Docker: built code above the packages it would find. */

import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { startChild } from '../support/child.ts'
import { within } from '../support/wait.ts'
import { repositoryUrl } from './compose-file.ts'
import { effectiveInstructions, readDockerfile } from './dockerfile.ts'

const BUILD_TIMEOUT_MS = 120_000

export interface ImageLayout {
  /** Working directory of the image's start commands. */
  readonly directory: string
  remove(): Promise<void>
}

export const layImageOut = async (): Promise<ImageLayout> => {
  const cache = fileURLToPath(new URL('.cache/', repositoryUrl))
  await mkdir(cache, { recursive: true })
  // Inside the repository, so that packages resolve to its node_modules.
  const directory = await mkdtemp(`${cache}image-`)
  const remove = () => rm(directory, { recursive: true, force: true })
  try {
    await build(`${directory}/dist`)
    for (const path of ['package.json', 'deploy/healthcheck.mjs', 'deploy/demo-api.mjs']) {
      await cp(fileURLToPath(new URL(path, repositoryUrl)), `${directory}/${path}`)
    }
    for (const name of await packagesLeftBehind()) await shadow(`${directory}/node_modules/${name}`)
  } catch (error) {
    await remove()
    throw error
  }
  return { directory, remove }
}

/** The TypeScript half of `npm run build`, into a directory of its own: parallel tests share the checkout. */
const build = async (outDirectory: string): Promise<void> => {
  await compile('tsconfig.build.json', outDirectory)
  await compile('tsconfig.client.json', `${outDirectory}/client`)
}

const compile = async (project: string, outDirectory: string): Promise<void> => {
  const compiler = fileURLToPath(new URL('node_modules/typescript/bin/tsc', repositoryUrl))
  const child = await startChild(
    process.execPath,
    [compiler, '-p', project, '--outDir', outDirectory],
    { cwd: fileURLToPath(repositoryUrl), env: { ...process.env } },
  )
  const { code } = await within(BUILD_TIMEOUT_MS, 'the build ends', child.exited)
  if (code !== 0) throw new Error(`the build failed:\n${child.stdout.join('\n')}`)
}

/** Development dependencies, and what the Dockerfile uninstalls by name. */
const packagesLeftBehind = async (): Promise<readonly string[]> => {
  const { devDependencies } = JSON.parse(
    await readFile(new URL('package.json', repositoryUrl), 'utf8'),
  ) as { devDependencies: Record<string, string> }
  const uninstalled = effectiveInstructions(readDockerfile(), 'build')
    .filter(({ argument }) => argument.startsWith('npm uninstall'))
    .flatMap(({ argument }) => argument.split(' ').slice(2))
    .filter((word) => !word.startsWith('--'))
  return [...uninstalled, ...Object.keys(devDependencies)]
}

/** The nearest node_modules wins: importing the package fails here as it would in the image. */
const shadow = async (directory: string): Promise<void> => {
  await mkdir(directory, { recursive: true })
  await writeFile(`${directory}/package.json`, '{"type":"module","exports":"./absent.js"}')
  await writeFile(`${directory}/absent.js`, "throw new Error('the image has no such package')\n")
}
