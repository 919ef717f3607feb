/** Pages rendered by a server behind the gateway: it gets a Bearer token with each page load, as an API does. */

import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { html } from 'hono/html'
import { createRemoteJWKSet, jwtVerify } from 'jose'

// What `coatcheck dev` prints; in production those of your provider.
const {
  PORT = '4100',
  ISSUER = 'http://127.0.0.1:3100',
  JWKS_URL = `${ISSUER}/jwks`,
  AUDIENCE = 'urn:coatcheck:dev',
} = process.env
const keys = createRemoteJWKSet(new URL(JWKS_URL))

const app = new Hono<{ Variables: { sub: string } }>()

app.use(async (context, next) => {
  const [, token = ''] = /^Bearer (.+)$/.exec(context.req.header('authorization') ?? '') ?? []
  const verified = await jwtVerify(token, keys, { issuer: ISSUER, audience: AUDIENCE }).catch(
    () => undefined,
  )
  if (verified?.payload.sub === undefined)
    return context.text('This page is reached through the gateway.', 401, {
      'www-authenticate': 'Bearer error="invalid_token"',
    })
  context.set('sub', verified.payload.sub)
  return next()
})

app.get('/account', (context) =>
  context.html(
    html`<!doctype html>
      <html lang="en">
        <title>Coatcheck and Hono</title>
        <h1>Hello ${context.get('sub')}</h1>
        <form method="post" action="/bff/logout">
          <input type="hidden" name="returnTo" value="/" />
          <button>Sign out</button>
        </form>
      </html>`,
  ),
)

serve({ fetch: app.fetch, port: Number(PORT), hostname: '127.0.0.1' })
