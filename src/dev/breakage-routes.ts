/**
 * The demo API's own buttons, `/api/demo/…`: ordinary calls through the gateway, so that its guard keeps other sites
 * out, and the access token that comes along says for whose session a thing is broken.
 */

import { Hono } from 'hono'
import type { VerifiedAccessToken } from './access-token.ts'
import type { Breakage } from './breakage.ts'
import type { DemoApiEnv } from './demo-api.ts'

export const breakageRoutes = (breakage: Breakage): Hono<DemoApiEnv> => {
  const app = new Hono<DemoApiEnv>()

  /** What an experiment calls to see how it goes; `refreshes` are those of this session so far. */
  app.get('/probe', (c) => {
    const token = c.var.accessToken
    if (breakage.takeRefusal(token.fingerprint)) {
      const reason = 'this API refuses one call, because it was asked to'
      c.header(
        'WWW-Authenticate',
        `Bearer realm="demo-api", error="invalid_token", error_description="${reason}"`,
      )
      return c.json({ error: 'invalid_token', detail: reason }, 401)
    }
    return c.json({ token: token.fingerprint, refreshes: breakage.refreshesOf(token) })
  })

  /** `waitMs`: when to call next; `refreshes`: of this session until now. */
  const expired = (token: VerifiedAccessToken) => ({
    waitMs: breakage.expire(token),
    refreshes: breakage.refreshesOf(token),
  })
  app.post('/expire', (c) => c.json(expired(c.var.accessToken)))
  app.post('/refuse-once', (c) => {
    breakage.refuseOnce(c.var.accessToken)
    return c.json({})
  })
  app.post('/slow-refresh', (c) => {
    breakage.slowRefresh()
    return c.json(expired(c.var.accessToken))
  })
  app.post('/provider-down', (c) => {
    const lastsMs = breakage.breakProvider()
    return c.json({ lastsMs, waitMs: breakage.expire(c.var.accessToken) })
  })
  app.post('/revoke', (c) => {
    const revoked = breakage.revokeGrantOf(c.var.accessToken)
    return c.json({ revoked, waitMs: breakage.expire(c.var.accessToken) })
  })
  app.post('/end-session', async (c) =>
    c.json({ ended: await breakage.endSessionOf(c.var.accessToken) }),
  )
  return app
}
