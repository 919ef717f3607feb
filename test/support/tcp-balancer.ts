/**
 * A load balancer that knows nothing of HTTP, as a cloud's or `kube-proxy` is one: it asks each replica's `/readyz` now
 * and then, and joins new connections with replicas that are ready, in turn. What is open it leaves alone.
 */

import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface BalancedReplica {
  readonly port: number
  readonly operationsUrl: string
}

export interface TcpBalancer {
  readonly port: number
  /** Connections that no replica took. */
  readonly refused: number
  /** Whether the replica with this index passed its last probe. */
  isReady(index: number): boolean
  close(): Promise<void>
}

const PROBE_MS = 100
const PROBE_TIMEOUT_MS = 1_000

/** `replicas` is asked at each probe: a restarted replica may have another operations address. */
export const startTcpBalancer = async (
  replicas: () => readonly BalancedReplica[],
): Promise<TcpBalancer> => {
  const sockets = new Set<Socket>()
  const stopping = new AbortController()
  let ready: readonly boolean[] = []
  let turn = 0
  let refused = 0

  const probe = ({ operationsUrl }: BalancedReplica) =>
    fetch(`${operationsUrl}/readyz`, { signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) }).then(
      ({ status }) => status === 200,
      () => false,
    )
  const probeAll = async () => {
    ready = await Promise.all(replicas().map(probe))
  }
  const probing = async () => {
    while (!stopping.signal.aborted) {
      await probeAll()
      await sleep(PROBE_MS, undefined, { signal: stopping.signal }).catch(() => undefined)
    }
  }

  const inTurn = (): BalancedReplica[] => {
    turn += 1
    const able = replicas().filter((_, index) => ready[index])
    return able.map((_, index) => able[(turn + index) % able.length] as BalancedReplica)
  }

  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  }

  const join = (client: Socket, [replica, ...others]: BalancedReplica[]): void => {
    if (replica === undefined) {
      refused += 1
      client.destroy()
      return
    }
    const onward = connect({ port: replica.port, host: '127.0.0.1', allowHalfOpen: true })
    keep(onward)
    let isConnected = false
    onward.once('connect', () => {
      isConnected = true
      client.pipe(onward).pipe(client)
    })
    onward.on('error', () => (isConnected ? client.destroy() : join(client, others)))
    client.on('error', () => onward.destroy())
    client.once('close', () => onward.destroy())
  }

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    keep(client)
    client.on('error', () => client.destroy())
    join(client, inTurn())
  })
  await probeAll()
  const probed = probing()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    get refused() {
      return refused
    },
    isReady: (index) => ready[index] === true,
    close: async () => {
      stopping.abort()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await Promise.all([closed, probed])
    },
  }
}
