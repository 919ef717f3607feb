/** docker-compose.yml against the realm it imports, the image it builds and the settings it sets. */

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import {
  type ComposeService,
  environmentOf,
  readComposeFile,
  repositoryUrl,
} from './compose-file.ts'
import { effectiveInstructions, lastArgument, readDockerfile } from './dockerfile.ts'
import { readRealmFile } from './realm-file.ts'

/** What the image itself sets. */
const imageVariables = (target: string): Record<string, string> => {
  const written = lastArgument(effectiveInstructions(readDockerfile(), target), 'ENV') ?? ''
  return Object.fromEntries(written.split(' ').map((pair) => pair.split('=', 2)))
}

const { services } = readComposeFile()
const { gateway, keycloak, redis, 'demo-api': demoApi } = services
const each = Object.entries<ComposeService>(services)
const realm = readRealmFile()
const [client] = realm.clients
const stages = readDockerfile()

// As `coatcheck serve` reads them in the container, but for the directory, which only the image has.
const { config, warnings } = loadConfig({
  env: {
    ...imageVariables('gateway'),
    ...gateway.environment,
    COATCHECK_SPA: fileURLToPath(new URL('deploy/', repositoryUrl)),
  },
  cwd: '/',
})

const gatewayVariable = (name: string) => environmentOf(gateway, name)
const mapperConfig = (kind: string) =>
  client.protocolMappers.find(({ protocolMapper }) => protocolMapper === kind)?.config

describe('what docker-compose.yml refers to exists', () => {
  it.each(each.filter(([, { build }]) => build))(
    '%s builds a stage of a Dockerfile',
    (_, { build }) => {
      const context = new URL(`${build?.context}/`, repositoryUrl)
      expect(existsSync(new URL(build?.dockerfile ?? '', context))).toBe(true)
      expect(stages.map(({ name }) => name)).toContain(build?.target)
    },
  )

  it('every mounted file is there, and read-only', () => {
    const volumes = each.flatMap(([, service]) => service.volumes)
    expect(volumes).toHaveLength(1)
    for (const volume of volumes) {
      const [source = '', , mode] = volume.split(':')
      expect(existsSync(new URL(source, repositoryUrl))).toBe(true)
      expect(mode).toBe('ro')
    }
  })

  it('the mounted realm lies where --import-realm looks', () => {
    expect(keycloak.command).toContain('--import-realm')
    expect(keycloak.volumes[0]).toMatch(/:\/opt\/keycloak\/data\/import\/[\w-]+\.json:ro$/)
  })

  it('the SPA directory is one that the image has', () => {
    const copied = effectiveInstructions(stages, 'gateway')
      .filter(({ name }) => name === 'COPY')
      .map(({ argument }) => argument.split(' ').at(-1)?.replace(/^\.\//, '/app/'))
    expect(copied).toContain(gatewayVariable('COATCHECK_SPA'))
  })

  it('whoever is waited for has a health check', () => {
    for (const [dependency, { condition }] of Object.entries(gateway.depends_on)) {
      const service = services[dependency as keyof typeof services]
      const inImage = effectiveInstructions(stages, service.build?.target ?? '').some(
        ({ name }) => name === 'HEALTHCHECK',
      )
      expect(condition).toBe('service_healthy')
      expect(service.healthcheck !== undefined || inImage, dependency).toBe(true)
    }
  })
})

describe('one issuer for browser, gateway and API', () => {
  const issuer = gatewayVariable('COATCHECK_ISSUER')
  const connectTo = gatewayVariable('COATCHECK_PROVIDER_CONNECT_TO')

  it('is the realm under the address that Keycloak calls its own', () => {
    expect(issuer).toBe(`${environmentOf(keycloak, 'KC_HOSTNAME')}/realms/${realm.realm}`)
    expect(environmentOf(demoApi, 'DEMO_API_ISSUER')).toBe(issuer)
  })

  it('is published where the browser looks for it', () => {
    expect(keycloak.ports).toEqual([`127.0.0.1:${new URL(issuer).port}:8080`])
  })

  it('is reached inside the network by the name of the service', () => {
    expect(connectTo).toBe('keycloak:8080')
    expect(environmentOf(demoApi, 'DEMO_API_JWKS_URL')).toBe(
      `http://${connectTo}/realms/${realm.realm}/protocol/openid-connect/certs`,
    )
  })
})

describe('the gateway’s settings', () => {
  it('are all known and valid, and the warnings say what only development may do', () => {
    expect(config.routes.map(({ path, upstream }) => [path, upstream])).toEqual([
      ['/api', gatewayVariable('COATCHECK_UPSTREAM')],
    ])
    expect(warnings.filter((warning) => !warning.includes('index.html'))).toEqual([
      expect.stringContaining('For development only'),
      expect.stringContaining('looks invented'),
    ])
  })

  it('listen where the ports are published and the health check asks', () => {
    expect(config.listen).toEqual({ host: '0.0.0.0', port: 3000 })
    expect(config.operations.listen).toEqual({ host: '0.0.0.0', port: 9090 })
  })

  it('send the SPA under the strict policy', () => {
    expect(config.spa).toMatchObject({ kind: 'directory', csp: 'strict' })
  })
})

describe('the gateway is the client that the realm knows', () => {
  const publicUrl = gatewayVariable('COATCHECK_PUBLIC_URL')

  it('by id and secret', () => {
    expect(gatewayVariable('COATCHECK_CLIENT_ID')).toBe(client.clientId)
    expect(gatewayVariable('COATCHECK_CLIENT_SECRET')).toBe(client.secret)
  })

  it('with one redirect URI, compared exactly (RFC 9700 §2.1), and one for sign-out', () => {
    expect(client.redirectUris).toEqual([`${publicUrl}/bff/callback`])
    expect(client.attributes['post.logout.redirect.uris']).toBe(`${publicUrl}/bff/logged-out`)
    expect(client.webOrigins).toEqual([])
  })

  it('told of the end of a session where Keycloak’s container reaches the gateway’s (back-channel logout)', () => {
    const url = new URL(client.attributes['backchannel.logout.url'] ?? '')
    expect(Object.keys(readComposeFile().services)).toContain(url.hostname)
    expect(url.hostname).toBe('gateway')
    expect(gateway.ports.map((port) => port.split(':').at(-1))).toEqual([url.port])
    expect(url.pathname).toBe(`${config.prefix}/backchannel-logout`)
    // Keycloak then names the one session that ended (`sid`), not all of the user.
    expect(client.attributes['backchannel.logout.session.required']).toBe('true')
  })

  it('confidential, with the authorization code flow and nothing else', () => {
    expect(client).toMatchObject({
      publicClient: false,
      standardFlowEnabled: true,
      implicitFlowEnabled: false,
      directAccessGrantsEnabled: false,
      serviceAccountsEnabled: false,
      fullScopeAllowed: false,
    })
  })

  it('with PKCE by S256 demanded (RFC 9700 §2.1.1)', () => {
    expect(client.attributes['pkce.code.challenge.method']).toBe('S256')
  })

  it('at the published port', () => {
    expect(gateway.ports).toEqual([`127.0.0.1:${new URL(publicUrl).port}:3000`])
  })

  it('with a stop longer than its own drain', () => {
    const { delay, deadline } = config.drain
    expect(Number.parseInt(gateway.stop_grace_period ?? '', 10)).toBeGreaterThan(delay + deadline)
  })
})

describe('tokens of the realm', () => {
  it('name the demo API as audience, in access tokens alone', () => {
    expect(mapperConfig('oidc-audience-mapper')).toMatchObject({
      'included.custom.audience': environmentOf(demoApi, 'DEMO_API_AUDIENCE'),
      'access.token.claim': 'true',
      'id.token.claim': 'false',
    })
  })

  it('carry the groups without slashes', () => {
    expect(mapperConfig('oidc-group-membership-mapper')).toMatchObject({
      'claim.name': 'groups',
      'full.path': 'false',
      'id.token.claim': 'true',
    })
  })

  it('are short, and a refresh token is good for one refresh (RFC 9700 §4.14.2)', () => {
    expect(realm.accessTokenLifespan).toBe(30)
    expect(realm.revokeRefreshToken).toBe(true)
    expect(realm.refreshTokenMaxReuse).toBe(0)
  })

  it('belong to provider sessions that outlast the gateway’s, idle and absolute', () => {
    const { idle, absolute } = config.session
    expect(realm.ssoSessionIdleTimeout).toBeGreaterThan(idle + realm.accessTokenLifespan)
    expect(realm.ssoSessionMaxLifespan).toBeGreaterThan(absolute)
  })

  it.each(['alice', 'bob'])('are had by %s, whose password is the same word', (name) => {
    expect(realm.users.find(({ username }) => username === name)).toMatchObject({
      emailVerified: true,
      credentials: [{ type: 'password', value: name, temporary: false }],
    })
  })
})

describe('the services', () => {
  it.each(each)('%s has no capabilities and gains none', (_, service) => {
    expect(service.cap_drop).toEqual(['ALL'])
    expect(service.security_opt).toContain('no-new-privileges:true')
  })

  it.each(each.filter(([name]) => name !== 'keycloak'))('%s has a read-only root', (_, service) => {
    expect(service.read_only).toBe(true)
  })

  it.each(each)('%s is published on loopback or not at all', (_, service) => {
    for (const port of service.ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/)
  })

  it.each(each.filter(([, { image }]) => image))('%s has an exact image', (_, { image }) => {
    expect(image).toMatch(/^[a-z/]+:\d+\.\d+[\w.-]*$/)
  })

  it('Redis forgets nothing under pressure and keeps nothing on disk', () => {
    const option = (name: string) => redis.command?.[redis.command.indexOf(name) + 1]
    expect(option('--maxmemory-policy')).toBe('noeviction')
    expect(option('--save')).toBe('')
    expect(option('--appendonly')).toBe('no')
    expect(gatewayVariable('COATCHECK_REDIS_URL')).toBe('redis://redis:6379')
  })

  it('the API listens where the gateway sends its calls', () => {
    const listen = environmentOf(demoApi, 'DEMO_API_LISTEN')
    expect(gatewayVariable('COATCHECK_UPSTREAM')).toBe(`http://demo-api:${listen.split(':')[1]}`)
  })
})
