/** The texts that `coatcheck init` writes. */

export interface Surroundings {
  /** Where the app's development server is. */
  readonly app: string
  readonly api: string
  /** Directory of the built app; undefined where a server has it in production too. */
  readonly build: string | undefined
}

export const configurationFile = ({ app, api }: Surroundings): string =>
  `# yaml-language-server: $schema=./node_modules/coatcheck/docs/coatcheck.schema.json
#
# Settings of Coatcheck for this app. A COATCHECK_* variable goes before what stands here, so that this file serves
# development (coatcheck dev) and production (coatcheck serve) alike. Secrets belong in variables, never in this file.
# Every setting: node_modules/coatcheck/docs/configuration.md

# Your API: it gets the requests under these paths, each with the user's access token. COATCHECK_UPSTREAM
upstream: ${api}
apiPaths: [/api]

# Where the API has /items instead of /api/items:
# upstreamStripPrefix: true

# Your app: everything else goes there, hot reload included. In production name the built files: COATCHECK_SPA
spa:
  upstream: ${app}

# What the access tokens are for, and what they allow. With a provider of your own: as it wants them.
# audience: my-api
# scope: openid profile email offline_access orders:read

# Claims that GET /bff/session shows your app, beside name and address:
# user:
#   claims: [roles, groups]

# How long a session lasts without a call, and at most:
# session:
#   idle: 30m
#   absolute: 8h

# In development a provider is there by itself, with the users of coatcheck.users.yaml, or alice and bob. In production:
# COATCHECK_PUBLIC_URL, COATCHECK_ISSUER, COATCHECK_CLIENT_ID, COATCHECK_CLIENT_SECRET and COATCHECK_SECRET.
`

/** Compose itself asks for what is missing. */
export const composeFile = ({ api, build }: Surroundings): string => {
  const { port, protocol, pathname } = new URL(api)
  const apiPort = port || (protocol === 'https:' ? '443' : '80')
  const path = pathname === '/' ? '' : pathname
  return `# Coatcheck beside your API: docker compose -f compose.yaml -f compose.coatcheck.yaml up
# The image, from a checkout of Coatcheck: docker build --tag coatcheck --file deploy/Dockerfile .
services:
  coatcheck:
    image: \${COATCHECK_IMAGE:-coatcheck}
    ports:
      # Only what ends TLS in front of it should reach this port.
      - 127.0.0.1:3000:3000
    environment:
      COATCHECK_CONFIG: /etc/coatcheck/coatcheck.yaml
      # What the browser's address bar says.
      COATCHECK_PUBLIC_URL: \${COATCHECK_PUBLIC_URL:?such as https://app.example.com}
      COATCHECK_ISSUER: \${COATCHECK_ISSUER:?the issuer of your OpenID provider}
      COATCHECK_CLIENT_ID: \${COATCHECK_CLIENT_ID:?the client that is registered there}
      COATCHECK_CLIENT_SECRET: \${COATCHECK_CLIENT_SECRET:?the secret of that client}
      COATCHECK_SECRET: \${COATCHECK_SECRET:?make one with openssl rand -base64 48}
      COATCHECK_REDIS_URL: redis://coatcheck-redis:6379
      # The service of your API in compose.yaml.
      COATCHECK_UPSTREAM: http://api:${apiPort}${path}
${
  build === undefined
    ? `      # The service of your app in compose.yaml.
      COATCHECK_SPA: http://app:3000`
    : `      COATCHECK_SPA: /srv/app`
}
    volumes:
      - ./coatcheck.yaml:/etc/coatcheck/coatcheck.yaml:ro
${build === undefined ? '' : `      - ${build}:/srv/app:ro\n`}    depends_on: [coatcheck-redis]
    # Longer than drain.deadline.
    stop_grace_period: 30s
    read_only: true
    cap_drop: [ALL]
    security_opt: ['no-new-privileges:true']

  coatcheck-redis:
    image: redis:7.2-alpine
    user: redis
    # noeviction: a session store that forgets under pressure signs people out at random.
    command: [redis-server, --save, '', --appendonly, 'no', --maxmemory, 128mb, --maxmemory-policy, noeviction]
    read_only: true
    tmpfs: [/data]
    cap_drop: [ALL]
    security_opt: ['no-new-privileges:true']
`
}
