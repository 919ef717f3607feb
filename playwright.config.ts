/** Browser tests on the system's Chromium: what a process cannot stand in for. */

import { defineConfig } from '@playwright/test'
import { chromiumArgs, findChromium } from './test/support/chromium.ts'

const executablePath = findChromium()

export default defineConfig({
  testDir: 'e2e',
  outputDir: 'test-results/playwright',
  workers: 2,
  retries: 0,
  forbidOnly: true,
  timeout: 60_000,
  expect: { timeout: 10_000 },
  reporter: 'list',
  use: {
    browserName: 'chromium',
    actionTimeout: 10_000,
    navigationTimeout: 15_000,
    screenshot: 'only-on-failure',
    launchOptions: { args: chromiumArgs(), ...(executablePath && { executablePath }) },
  },
})
