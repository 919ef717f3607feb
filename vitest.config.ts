/** All tests but those of the real browser (playwright.config.ts). */

import { configDefaults, defineConfig } from 'vitest/config'

// Flow tests run replicas, providers and kills against real deadlines, and wait for most of their time: two files at
// once, and apart from the others, they do not measure how busy their neighbours keep a machine of 2 cores.
const FLOW = 'test/flow/**/*.test.ts'

export default defineConfig({
  test: {
    pool: 'forks',
    testTimeout: 20_000,
    hookTimeout: 30_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'parts',
          include: ['test/**/*.test.ts'],
          exclude: [...configDefaults.exclude, FLOW],
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'flow', include: [FLOW], maxWorkers: 2, sequence: { groupOrder: 1 } },
      },
    ],
  },
})
