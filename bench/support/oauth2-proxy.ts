/** oauth2-proxy, which comes in no package: the variable OAUTH2_PROXY names its binary. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startChild } from '../../test/support/child.ts'

export const OAUTH2_PROXY_MISSING =
  'OAUTH2_PROXY=/path/to/oauth2-proxy npm run bench (binaries: github.com/oauth2-proxy/oauth2-proxy/releases)'

export const oauth2ProxyBinary = (): string | undefined => process.env.OAUTH2_PROXY || undefined

export interface Oauth2ProxyOptions {
  readonly port: number
  readonly upstream: string
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  readonly redisUrl: string
}

/** Only this form of its configuration can put the access token into `Authorization`. */
const alphaConfiguration = (options: Oauth2ProxyOptions): string => `
server:
  bindAddress: 127.0.0.1:${options.port}
upstreamConfig:
  upstreams:
    - id: api
      path: /
      uri: ${options.upstream}
injectRequestHeaders:
  - name: Authorization
    values:
      - claimSource:
          claim: access_token
          prefix: 'Bearer '
providers:
  - id: oidc
    provider: oidc
    clientID: ${options.clientId}
    clientSecret: ${options.clientSecret}
    scope: openid profile email
    code_challenge_method: S256
    # UserInfo refuses a token that was made for an API.
    skipClaimsFromProfileURL: true
    oidcConfig:
      issuerURL: ${options.issuer}
      emailClaim: email
      audienceClaims: [aud]
      insecureAllowUnverifiedEmail: true
`

export const startOauth2Proxy = async (binary: string, options: Oauth2ProxyOptions) => {
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-bench-oauth2-proxy-'))
  const file = join(directory, 'alpha.yaml')
  await writeFile(file, alphaConfiguration(options))
  const child = await startChild(binary, [
    `--alpha-config=${file}`,
    `--redirect-url=http://localhost:${options.port}/oauth2/callback`,
    '--email-domain=*',
    '--cookie-secret=a-secret-of-32-bytes-for-bench-1',
    '--cookie-secure=false',
    '--skip-provider-button=true',
    '--session-store-type=redis',
    `--redis-connection-url=${options.redisUrl}`,
    '--request-logging=false',
    '--auth-logging=false',
  ])
  return {
    pid: child.pid,
    stderr: child.stderr,
    hasExited: child.hasExited,
    close: async () => {
      await child.kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
