/** Sources as a browser gets them: one minified module, built in memory by the bundler of most applications. */

import { fileURLToPath } from 'node:url'
import { build } from 'vite'

const REPOSITORY = new URL('../..', import.meta.url)

/** Code of the module at this path, relative to the repository, with everything that it imports. */
export const bundle = async (entry: string): Promise<string> => {
  const built = await build({
    root: fileURLToPath(REPOSITORY),
    configFile: false,
    logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"development"' },
    build: {
      write: false,
      target: 'es2022',
      modulePreload: false,
      rollupOptions: {
        input: fileURLToPath(new URL(entry, REPOSITORY)),
        preserveEntrySignatures: 'strict',
      },
    },
  })
  if (!('output' in built)) throw new Error(`${entry} was not built into one module`)
  const [{ code }] = built.output
  return code
}
