/** `coatcheck/react` where there is no page: rendered by a server, and without its provider. */

import { createElement } from 'react'
import { renderToString } from 'react-dom/server'
import { expect, it } from 'vitest'
import { SessionProvider, SignedIn, SignedOut, useSession } from '../../src/client/react.ts'

const Status = () => useSession().status

it('a server renders neither view, since it does not know', () => {
  const html = renderToString(
    createElement(
      SessionProvider,
      null,
      createElement(SignedIn, null, 'in'),
      createElement(SignedOut, null, 'out'),
      createElement(Status),
    ),
  )
  expect(html).toBe('loading')
})

it('without a provider, useSession() says what is missing', () => {
  expect(() => renderToString(createElement(Status))).toThrow(
    expect.objectContaining({
      code: 'misuse',
      message: expect.stringContaining('<SessionProvider>'),
    }),
  )
})
