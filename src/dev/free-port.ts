/** Finding a port for the demo: the preferred one, else the next that is free. */

import { once } from 'node:events'
import { createServer } from 'node:net'

const ATTEMPTS_MAX = 50

/**
 * The first port from `preferred` on that is free on every host. Both loopback addresses matter for what a
 * browser calls `localhost`: it tries ::1 first, and would meet whoever listens there.
 */
export const freePortFrom = async (
  preferred: number,
  hosts: readonly string[],
): Promise<number> => {
  for (let port = preferred; port < preferred + ATTEMPTS_MAX; port += 1) {
    const free = await Promise.all(hosts.map((host) => isFree(port, host)))
    if (free.every(Boolean)) return port
  }
  throw new Error(`no free port from ${preferred} to ${preferred + ATTEMPTS_MAX - 1}`)
}

/** Whether somebody could listen there now. */
export const isFree = async (port: number, host: string): Promise<boolean> => {
  const server = createServer()
  try {
    server.listen({ port, host })
    await once(server, 'listening')
    return true
  } catch (error) {
    // A machine without IPv6 has nobody there either.
    return (error as NodeJS.ErrnoException).code === 'EADDRNOTAVAIL'
  } finally {
    server.close()
  }
}
