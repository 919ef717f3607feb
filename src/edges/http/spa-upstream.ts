/** Interim upstream. */
import type { SpaServer } from './app.ts'
export const createSpaUpstream = (_: { origin: string; publicUrl: string; dispatch: unknown }): SpaServer => ({
  serve: async () => false,
  upgrade: ({ socket }) => socket.destroy(),
})
