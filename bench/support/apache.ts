/** Apache with mod_auth_openidc, in its lean configuration: no logging, the token from the session into the proxied call. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startChild } from '../../test/support/child.ts'
import { findExecutable } from '../../test/support/executable.ts'

export const APACHE_MISSING =
  'apt-get update && apt-get install -y apache2 libapache2-mod-auth-openidc'

const MODULES = '/usr/lib/apache2/modules'
const OPENIDC = `${MODULES}/mod_auth_openidc.so`

export const hasApache = (): boolean =>
  findExecutable('apache2') !== undefined && existsSync(OPENIDC)

export interface ApacheOptions {
  readonly port: number
  readonly upstream: string
  readonly issuer: string
  readonly clientId: string
  readonly clientSecret: string
  /** Where sessions live. */
  readonly cache: { readonly kind: 'shm' } | { readonly kind: 'redis'; readonly port: number }
}

const LOADED = 'mpm_event authn_core authz_core authz_user headers proxy proxy_http env setenvif'

const configuration = (directory: string, options: ApacheOptions): string => `
ServerRoot ${directory}
PidFile ${directory}/pid
ServerName localhost
Listen 127.0.0.1:${options.port}
Mutex file:${directory} default
ErrorLog ${directory}/error.log
LogLevel error
${LOADED.split(' ')
  .map((name) => `LoadModule ${name}_module ${MODULES}/mod_${name}.so`)
  .join('\n')}
LoadModule auth_openidc_module ${OPENIDC}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
StartServers 2
ServerLimit 4
ThreadsPerChild 64
MaxRequestWorkers 256
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
OIDCProviderMetadataURL ${options.issuer}/.well-known/openid-configuration
OIDCClientID ${options.clientId}
OIDCClientSecret ${options.clientSecret}
OIDCRedirectURI http://localhost:${options.port}/oidc/callback
OIDCCryptoPassphrase a-passphrase-of-the-benchmark-alone
OIDCScope "openid profile email"
OIDCPKCEMethod S256
OIDCCookiePath /
OIDCPassClaimsAs environment
OIDCPassIDTokenAs serialized
OIDCStripCookies mod_auth_openidc_session
OIDCSessionInactivityTimeout 28800
${
  options.cache.kind === 'shm'
    ? 'OIDCCacheType shm'
    : `OIDCCacheType redis\nOIDCRedisCacheServer 127.0.0.1:${options.cache.port}`
}
<Location />
  AuthType openid-connect
  Require valid-user
  RequestHeader set Authorization "Bearer %{OIDC_access_token}e" env=OIDC_access_token
</Location>
ProxyRequests Off
ProxyPass /oidc !
ProxyPass / ${options.upstream}/ keepalive=On
`

/** Ends a whole process group when this process ends, however it does: that is when the guard's input is closed. */
const endWithUs = (group: number): ChildProcess => {
  // In a session of its own, so that what ends the benchmark's group leaves the guard to do its work.
  const guard = spawn('sh', ['-c', `read _; kill -s KILL -- -${group}`], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  guard.unref()
  return guard
}

export const startApache = async (options: ApacheOptions) => {
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-bench-apache-'))
  await writeFile(join(directory, 'apache.conf'), configuration(directory, options))
  // A group of its own: a master that is killed leaves its workers behind.
  const child = await startChild(
    'setsid',
    [findExecutable('apache2') ?? 'apache2', '-f', join(directory, 'apache.conf'), '-DFOREGROUND'],
    { env: { PATH: process.env.PATH } },
  )
  const guard = endWithUs(child.pid)
  return {
    pid: child.pid,
    close: async () => {
      child.signal('SIGTERM')
      await child.exited
      // Before another process can have that number.
      guard.kill('SIGKILL')
      await rm(directory, { recursive: true, force: true })
    },
  }
}
