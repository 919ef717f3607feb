/** The client where it cannot work says so; in a page, e2e/client.spec.ts tries the rest. */

import { expect, it } from 'vitest'
import { createClient } from '../../src/client/client.ts'

it('on a server, the client says that it needs a page', () => {
  expect(() => createClient()).toThrow(
    expect.objectContaining({
      name: 'CoatcheckError',
      code: 'misuse',
      message: expect.stringContaining('needs a page'),
    }),
  )
})
