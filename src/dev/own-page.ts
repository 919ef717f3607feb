/** The demo's own paths on the gateway's origin, and the guard that keeps every page but the demo's away from them. */

import type { MiddlewareHandler } from 'hono'

export const DEMO_PREFIX = '/demo/'

/**
 * Other sites may not press, and after a DNS rebinding not read either. Browsers send `Origin` with every POST, and
 * what is no browser has no page that could be misled: it names the origin by itself.
 */
export const onlyFromItsOwnPage = (publicUrl: string): MiddlewareHandler => {
  const { host, origin } = new URL(publicUrl)
  return async (c, next) => {
    const isOurs =
      c.req.header('host') === host && (c.req.method === 'GET' || c.req.header('origin') === origin)
    if (!isOurs) return c.json({ error: 'not_from_the_demo' }, 403)
    return next()
  }
}
