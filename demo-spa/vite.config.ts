/** Builds the demo SPA for a strict Content-Security-Policy: no inline script or style, no data: URL. */

import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

export default defineConfig({
  root: import.meta.dirname,
  // An app of its own would have the package from npm; this one is built beside its source.
  resolve: {
    alias: {
      'coatcheck/client': fileURLToPath(new URL('../src/client/client.ts', import.meta.url)),
    },
  },
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: 'es2022' },
  logLevel: 'warn',
})
