/** Every page of an application loads the client, so that its size is a promise. */

import { gzipSync } from 'node:zlib'
import { expect, it } from 'vitest'
import { bundle } from '../support/bundle.ts'

it('coatcheck/client is at most 3 KiB, minified and gzipped', async () => {
  const code = await bundle('src/client/client.ts')
  expect(code).toContain('EventSource')
  expect(gzipSync(code).byteLength).toBeLessThanOrEqual(3 * 1024)
})
