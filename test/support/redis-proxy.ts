/**
 * A TCP proxy before Redis that treats the connections of trackers as a test says: it may stop forwarding without
 * closing anything, as a firewall does that forgot a connection. They are known by what they ask for.
 */

import { connect, createServer, type Socket } from 'node:net'
import { freePort } from './free-port.ts'

export interface RedisProxy {
  readonly url: string
  readonly port: number
  /** Connections that asked for tracking and are still open, the swallowed ones included. */
  trackers(): number
  /**
   * Of present and future trackers: nothing passes any more in either direction, answers come late by that many
   * milliseconds, or the connection is cut. What was swallowed stays so.
   */
  treatTrackers(how: 'pass' | 'swallow' | 'cut' | { readonly lateByMs: number }): void
  /** Cuts every connection but those of trackers, and each that is made from now on. */
  cutOthers(): void
  /** Connections made from now on lead to another server. */
  leadTo(port: number): void
  close(): Promise<void>
}

const ASKS_FOR_TRACKING = /TRACKING/

export const startRedisProxy = async (toPort: number): Promise<RedisProxy> => {
  const port = await freePort()
  const pairs = new Set<{ isTracker: boolean; isSwallowed: boolean; end(): void }>()
  let target = toPort
  let trackersAre: Parameters<RedisProxy['treatTrackers']>[0] = 'pass'
  let isCuttingOthers = false

  const server = createServer((client) => {
    const redis = connect(target, '127.0.0.1')
    const pair = {
      isTracker: false,
      isSwallowed: false,
      end: () => {
        pairs.delete(pair)
        client.destroy()
        redis.destroy()
      },
    }
    pairs.add(pair)
    const treat = () => {
      if (trackersAre === 'swallow') pair.isSwallowed = true
      if (trackersAre === 'cut') pair.end()
    }
    client.on('data', (chunk) => {
      pair.isTracker ||= ASKS_FOR_TRACKING.test(chunk.toString('latin1'))
      if (pair.isTracker) treat()
      if (!pair.isSwallowed) redis.write(chunk)
    })
    redis.on('data', (chunk) => {
      if (pair.isTracker) treat()
      if (pair.isSwallowed) return
      if (pair.isTracker && typeof trackersAre === 'object')
        setTimeout(() => client.write(chunk), trackersAre.lateByMs).unref()
      else client.write(chunk)
    })
    for (const socket of [client, redis] satisfies Socket[]) {
      socket.setNoDelay(true)
      // `close` follows each error and ends both sides.
      socket.on('error', () => {})
      socket.once('close', pair.end)
    }
    if (isCuttingOthers) pair.end()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    trackers: () => [...pairs].filter(({ isTracker }) => isTracker).length,
    treatTrackers: (how) => {
      trackersAre = how
      for (const pair of pairs) {
        if (!pair.isTracker) continue
        if (how === 'swallow') pair.isSwallowed = true
        if (how === 'cut') pair.end()
      }
    },
    cutOthers: () => {
      isCuttingOthers = true
      for (const pair of pairs) if (!pair.isTracker) pair.end()
    },
    leadTo: (otherPort) => {
      target = otherPort
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const pair of pairs) pair.end()
      }),
  }
}
