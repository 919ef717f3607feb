/** deploy/kubernetes/sidecar.yaml, parsed into exactly the keys it uses: a misspelt one fails here, where kubectl may only warn. */

import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { repositoryUrl } from './compose-file.ts'

const labels = z.record(z.string(), z.string())
const metadata = z.strictObject({ name: z.string(), labels: labels.optional() })
const selector = z.strictObject({ matchLabels: labels })
const amounts = z.strictObject({ cpu: z.string().optional(), memory: z.string() })

const probe = z.strictObject({
  httpGet: z.strictObject({ path: z.string(), port: z.string() }),
  periodSeconds: z.int(),
  timeoutSeconds: z.int().optional(),
  failureThreshold: z.int(),
})

const commandProbe = z.strictObject({
  exec: z.strictObject({ command: z.array(z.string()).min(1) }),
  periodSeconds: z.int(),
  timeoutSeconds: z.int(),
  failureThreshold: z.int(),
})

const container = z.strictObject({
  name: z.string(),
  image: z.string(),
  env: z.array(z.strictObject({ name: z.string(), value: z.string() })).default([]),
  ports: z.array(z.strictObject({ name: z.string(), containerPort: z.int() })).default([]),
  startupProbe: probe.optional(),
  livenessProbe: probe.optional(),
  lifecycle: z
    .strictObject({
      preStop: z.strictObject({ sleep: z.strictObject({ seconds: z.int() }) }),
    })
    .optional(),
  resources: z.strictObject({ requests: amounts, limits: amounts }),
  securityContext: z.strictObject({
    runAsUser: z.int().optional(),
    runAsGroup: z.int().optional(),
    readOnlyRootFilesystem: z.boolean(),
    allowPrivilegeEscalation: z.boolean(),
    capabilities: z.strictObject({ drop: z.array(z.string()) }),
  }),
  volumeMounts: z
    .array(z.strictObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean() }))
    .default([]),
})

const deployment = z.strictObject({
  apiVersion: z.literal('apps/v1'),
  kind: z.literal('Deployment'),
  metadata,
  spec: z.strictObject({
    replicas: z.int(),
    selector,
    strategy: z.strictObject({
      type: z.literal('RollingUpdate'),
      rollingUpdate: z.strictObject({ maxSurge: z.int(), maxUnavailable: z.int() }),
    }),
    template: z.strictObject({
      metadata: z.strictObject({ labels }),
      spec: z.strictObject({
        enableServiceLinks: z.boolean(),
        automountServiceAccountToken: z.boolean(),
        terminationGracePeriodSeconds: z.int(),
        securityContext: z.strictObject({
          runAsNonRoot: z.boolean(),
          fsGroup: z.int(),
          seccompProfile: z.strictObject({ type: z.string() }),
        }),
        topologySpreadConstraints: z.array(
          z.strictObject({
            maxSkew: z.int(),
            topologyKey: z.string(),
            whenUnsatisfiable: z.enum(['ScheduleAnyway', 'DoNotSchedule']),
            labelSelector: selector,
          }),
        ),
        containers: z.tuple([
          container.extend({ readinessProbe: probe }),
          container.extend({ readinessProbe: commandProbe }),
        ]),
        volumes: z.array(
          z.strictObject({
            name: z.string(),
            secret: z.strictObject({
              secretName: z.string(),
              defaultMode: z.int(),
              items: z.array(z.strictObject({ key: z.string(), path: z.string() })),
            }),
          }),
        ),
      }),
    }),
  }),
})

const service = z.strictObject({
  apiVersion: z.literal('v1'),
  kind: z.literal('Service'),
  metadata,
  spec: z.strictObject({
    selector: labels,
    ports: z.array(z.strictObject({ name: z.string(), port: z.int(), targetPort: z.string() })),
  }),
})

const disruptionBudget = z.strictObject({
  apiVersion: z.literal('policy/v1'),
  kind: z.literal('PodDisruptionBudget'),
  metadata,
  spec: z.strictObject({ maxUnavailable: z.int(), selector }),
})

export type KubernetesContainer = z.infer<typeof container>

export const readKubernetesFile = () => {
  const text = readFileSync(new URL('deploy/kubernetes/sidecar.yaml', repositoryUrl), 'utf8')
  // As kubectl reads it: YAML 1.1, in which 0440 is octal.
  const documents = parseAllDocuments(text, { version: '1.1' }).map((document) => {
    if (document.errors.length > 0) throw document.errors[0]
    return document.toJS() as unknown
  })
  const [first, second, third] = z.tuple([deployment, service, disruptionBudget]).parse(documents)
  return { deployment: first, service: second, disruptionBudget: third }
}
