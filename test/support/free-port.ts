/** Loopback ports for servers whose port must be known before they start. */

import { randomInt } from 'node:crypto'
import { createServer } from 'node:net'

// Below the ephemeral range of Linux (32768 and up), so that no outgoing connection takes the port
// between this check and the server's own bind.
const FIRST_PORT = 15_000
const LAST_PORT = 32_000
const TRIES_MAX = 50

const given = new Set<number>()

/** A port that is free on every loopback address and was not given to anybody in this process before. */
export const freePort = async (): Promise<number> => {
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const port = randomInt(FIRST_PORT, LAST_PORT)
    if (given.has(port)) continue
    given.add(port)
    if ((await canListen(port, '127.0.0.1')) && (await canListen(port, '::1'))) return port
  }
  throw new Error(`no free loopback port found in ${TRIES_MAX} tries`)
}

const canListen = (port: number, host: string): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer()
    // A machine without IPv6 has nothing that could hold the port there.
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'EADDRINUSE'))
    server.listen(port, host, () => server.close(() => resolve(true)))
  })
