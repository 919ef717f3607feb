// The demo API as a process of its own, for docker-compose.yml: everything it needs comes from DEMO_API_* variables.
import { startDemoApi } from '../dist/dev/demo-api.js'

const required = (name) => {
  const value = process.env[name]
  if (value) return value
  console.error(`${name} is not set`)
  process.exit(78)
}

const listen = required('DEMO_API_LISTEN')
const colon = listen.lastIndexOf(':')
const api = await startDemoApi({
  host: listen.slice(0, colon),
  port: Number(listen.slice(colon + 1)),
  issuer: required('DEMO_API_ISSUER'),
  jwksUri: required('DEMO_API_JWKS_URL'),
  audience: required('DEMO_API_AUDIENCE'),
})
console.log(`demo API listens on ${listen}`)

// Process 1 of a container has no default reaction to signals: without these it would wait for the kill.
const stop = () => void api.close()
process.once('SIGTERM', stop)
process.once('SIGINT', stop)
