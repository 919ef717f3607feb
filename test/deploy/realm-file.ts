/** The Keycloak realm that docker-compose.yml imports, reduced to what the other files must agree with. */

import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { repositoryUrl } from './compose-file.ts'

const mapper = z.object({
  name: z.string(),
  protocolMapper: z.string(),
  config: z.record(z.string(), z.string()),
})

const client = z.object({
  clientId: z.string(),
  secret: z.string(),
  publicClient: z.boolean(),
  standardFlowEnabled: z.boolean(),
  implicitFlowEnabled: z.boolean(),
  directAccessGrantsEnabled: z.boolean(),
  serviceAccountsEnabled: z.boolean(),
  fullScopeAllowed: z.boolean(),
  redirectUris: z.array(z.string()),
  webOrigins: z.array(z.string()),
  attributes: z.record(z.string(), z.string()),
  defaultClientScopes: z.array(z.string()),
  protocolMappers: z.array(mapper),
})

const user = z.object({
  username: z.string(),
  emailVerified: z.boolean(),
  credentials: z.array(z.object({ type: z.string(), value: z.string(), temporary: z.boolean() })),
  groups: z.array(z.string()),
})

const realmFile = z.object({
  realm: z.string(),
  accessTokenLifespan: z.int(),
  revokeRefreshToken: z.boolean(),
  refreshTokenMaxReuse: z.int(),
  ssoSessionIdleTimeout: z.int(),
  ssoSessionMaxLifespan: z.int(),
  users: z.array(user),
  clients: z.tuple([client]),
})

export type RealmFile = z.infer<typeof realmFile>

export const realmFileUrl = new URL('deploy/keycloak/coatcheck-realm.json', repositoryUrl)

export const readRealmFile = (): RealmFile =>
  realmFile.parse(JSON.parse(readFileSync(realmFileUrl, 'utf8')))
