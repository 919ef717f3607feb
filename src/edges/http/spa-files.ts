/** Interim files. */
import { readFile } from 'node:fs/promises'
import type { SpaServer } from './app.ts'
export const createSpaFiles = (options: { directory: string; csp: string; publicUrl: string }): SpaServer => ({
  serve: async ({ res }, isNavigation) => {
    if (!isNavigation) return false
    res.setHeader('content-type', 'text/html').end(await readFile(`${options.directory}/index.html`))
    return true
  },
  upgrade: ({ socket }) => socket.destroy(),
})
