/** docker-compose.yml, parsed into exactly the keys it uses: a misspelt one fails here as it would in Compose. */

import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { z } from 'zod'

const service = z.strictObject({
  build: z
    .strictObject({ context: z.string(), dockerfile: z.string(), target: z.string() })
    .optional(),
  image: z.string().optional(),
  user: z.string().optional(),
  command: z.array(z.string()).optional(),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.string() })).default({}),
  healthcheck: z
    .strictObject({
      test: z.array(z.string()),
      interval: z.string(),
      timeout: z.string(),
      start_period: z.string().optional(),
      retries: z.int(),
    })
    .optional(),
  stop_grace_period: z.string().optional(),
  read_only: z.boolean().default(false),
  tmpfs: z.array(z.string()).default([]),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
})

const composeFile = z.strictObject({
  name: z.string(),
  services: z.strictObject({
    gateway: service,
    'demo-api': service,
    redis: service,
    keycloak: service,
  }),
})

export type ComposeFile = z.infer<typeof composeFile>
export type ComposeService = z.infer<typeof service>

export const repositoryUrl = new URL('../../', import.meta.url)

export const readComposeFile = (): ComposeFile =>
  composeFile.parse(parse(readFileSync(new URL('docker-compose.yml', repositoryUrl), 'utf8')))

/** The variable's value, or a failure that names what is missing. */
export const environmentOf = (service: ComposeService, variable: string): string => {
  const value = service.environment[variable]
  if (value === undefined) throw new Error(`docker-compose.yml does not set ${variable}`)
  return value
}

/** A health check's command as its container runs it: `$$` is Compose's way to write `$`. */
export const healthCommandOf = (service: ComposeService): readonly string[] => {
  const [kind, ...command] = service.healthcheck?.test ?? []
  if (kind !== 'CMD' || command.length === 0) throw new Error('the service has no CMD health check')
  return command.map((word) => word.replaceAll('$$', '$'))
}
