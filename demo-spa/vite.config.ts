/** Builds the demo SPA for a strict Content-Security-Policy: no inline script or style, no data: URL. */

import { defineConfig } from 'vite'

export default defineConfig({
  root: import.meta.dirname,
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: 'es2022' },
  logLevel: 'warn',
})
