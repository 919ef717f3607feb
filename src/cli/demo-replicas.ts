/** The gateway of `coatcheck demo --replicas`: a fleet of processes, the balancer before it and the page's buttons. */

import { loadConfig } from '../config/load.ts'
import { startBalancer } from '../dev/balancer.ts'
import { CallTally } from '../dev/call-tally.ts'
import { fleetControl, unansweredPage } from '../dev/fleet-control.ts'
import { freePortFrom } from '../dev/free-port.ts'
import { DEMO_PREFIX } from '../dev/own-page.ts'
import { createCookieForms } from '../session/session-cookie.ts'
import type { StartGateway } from './demo.ts'
import { startFleet } from './demo-fleet.ts'

export const startReplicas =
  (count: number, redisProgram: string): StartGateway =>
  async ({ host, ports, publicUrl, env, refreshes, breakage, rival, experiments }, io, running) => {
    const replicaPorts = await nextPorts(ports.gateway + 1, count, host)
    const operationsPorts = await nextPorts(ports.operations, count, host)
    const redisPort = await freePortFrom(REDIS_PORT, [host])
    // What is wrong with the settings is better said once than by every replica.
    const { config } = loadConfig({ env, cwd: io.cwd, profile: 'demo' })
    const tally = new CallTally(
      count,
      createCookieForms(publicUrl, true, 'plain').all.map((names) => names.session),
    )
    const fleet = await startFleet({
      host,
      redisProgram,
      redisPort,
      replicas: replicaPorts.map((port, index) => ({
        ...env,
        COATCHECK_LISTEN: `${host}:${port}`,
        COATCHECK_OPERATIONS_LISTEN: `${host}:${operationsPorts[index]}`,
      })),
      level: config.logging.level,
      tally,
      refreshes,
      takeRevocation: () => breakage.takeRevocation(),
      say: (line) => io.err(line),
    })
    running.push(fleet)
    const balancer = await startBalancer({
      host,
      port: ports.gateway,
      replicaPorts,
      own: { prefix: DEMO_PREFIX, listener: fleetControl(fleet, tally, publicUrl, experiments) },
      unanswered: (why, request, response) => unansweredPage(why, request, response, fleet),
      passed: (passed) => {
        tally.count(passed)
        const { method, url: path, headers } = passed.request
        rival.note({ method, path, headers, status: passed.status, body: passed.body })
      },
    })
    running.push(balancer)
    return [
      `replicas           ${replicaPorts.map((port) => `${host}:${port}`).join(', ')}; the page kills and restarts them`,
      `Redis              ${host}:${redisPort}, for this demo alone`,
      `operations         ${operationsPorts.map((port) => `http://${host}:${port}/metrics`).join(', ')}`,
    ]
  }

/** Above the usual one: what listens there is somebody else's. */
const REDIS_PORT = 6380

const nextPorts = async (
  first: number,
  count: number,
  host: string,
): Promise<readonly number[]> => {
  const ports: number[] = []
  for (let from = first; ports.length < count; from += 1) {
    from = await freePortFrom(from, [host])
    ports.push(from)
  }
  return ports
}
