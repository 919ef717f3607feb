/**
 * What a Node team assembles: express-openid-connect with its sessions in Redis, http-proxy-middleware with a keep-alive
 * agent. Lean on purpose: no logging, no other middleware.
 *
 *   node bench/peers/express-openid-connect.mjs PORT UPSTREAM_ORIGIN ISSUER CLIENT_ID CLIENT_SECRET REDIS_URL
 */

import http from 'node:http'
import { RedisStore } from 'connect-redis'
import express from 'express'
import openid from 'express-openid-connect'
import { createProxyMiddleware } from 'http-proxy-middleware'
import { createClient } from 'redis'

const [port, upstream, issuer, clientId, clientSecret, redisUrl] = process.argv.slice(2)
const redis = createClient({ url: redisUrl })
await redis.connect()

const app = express()
app.disable('x-powered-by')
app.disable('etag')
app.use(
  openid.auth({
    issuerBaseURL: issuer,
    baseURL: `http://localhost:${port}`,
    clientID: clientId,
    clientSecret,
    secret: 'a-secret-of-the-benchmark-alone-of-32-characters',
    authRequired: true,
    authorizationParams: { response_type: 'code', scope: 'openid profile email' },
    session: { store: new RedisStore({ client: redis }) },
  }),
)
app.use(
  createProxyMiddleware({
    target: upstream,
    agent: new http.Agent({ keepAlive: true, maxSockets: 256 }),
    changeOrigin: true,
    on: {
      proxyReq: (proxied, req) => {
        proxied.setHeader('authorization', `Bearer ${req.oidc.accessToken.access_token}`)
        proxied.removeHeader('cookie')
      },
    },
  }),
)
app.listen(Number(port), '127.0.0.1')
