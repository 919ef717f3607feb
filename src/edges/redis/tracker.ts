/**
 * One connection that hears of changes on one server (`CLIENT TRACKING`), for as long as it is proven alive: a
 * connection that swallows everything stays open and silent for minutes.
 */

import { randomBytes } from 'node:crypto'
import type { Redis } from 'ioredis'
import { openSubscriber } from './client.ts'
import { OtherServer } from './failure.ts'
import type { KeyNames } from './keys.ts'

export interface Tracker {
  /** Whether every change was told that was made more than `PROOF_MS` ago. */
  isAlive(): boolean
  /** Asks for a new proof; to be called every `BEAT_MS`. */
  beat(): void
  close(): void
}

interface TrackerOptions {
  readonly keys: Pick<KeyNames, 'watched' | 'probe'>
  readonly onChanged: (key: string) => void
  /** Everything changed at once. */
  readonly onFlushed: () => void
  /** Set up, or proven again. */
  readonly onAlive: () => void
  /** At most once; it is closed then. */
  readonly onLost: (failure: unknown) => void
}

export const BEAT_MS = 250
/** Three beats: one lost in a busy moment of either side is no outage. */
export const PROOF_MS = 750
const CHANNEL = '__redis__:invalidate'
/** As short as Redis takes it: only that it was written counts. */
const PROBE_LIFE_MS = 1

export const openTracker = (master: Redis, options: TrackerOptions): Tracker => {
  const { keys } = options
  const { connectTimeout = 0, commandTimeout = 0 } = master.options
  const subscriber = openSubscriber(master)
  const probe = keys.probe(randomBytes(12).toString('base64url'))
  let isProbeHeard = false
  let state: 'opening' | 'tracking' | 'closed' = 'opening'
  /** When the PING was sent whose answer came last. */
  let provenAtMs = 0

  const end = () => {
    state = 'closed'
    clearTimeout(deadline)
    subscriber.disconnect()
  }
  const lose = (failure: unknown) => {
    if (state === 'closed') return
    end()
    options.onLost(failure)
  }
  const deadline = setTimeout(() => lose(silence()), connectTimeout + commandTimeout).unref()

  const isAlive = () => {
    if (state !== 'tracking') return false
    if (performance.now() - provenAtMs < PROOF_MS) return true
    lose(silence())
    return false
  }

  /** The server answers in order: with the PONG, every change has come that was made before the PING. */
  const pong = async (): Promise<number> => {
    const sentAtMs = performance.now()
    await subscriber.ping()
    return sentAtMs
  }

  const proven = (sentAtMs: number) => {
    provenAtMs = sentAtMs
    if (isAlive()) options.onAlive()
  }

  const setUp = async () => {
    // A replica takes no writes. So two connections that do, of which one hears what the other writes, lead to one
    // server. A node of a Cluster takes its own keys alone; its address is its own too.
    await write(subscriber, `${probe}-own`)
    const id = await subscriber.client('ID')
    await subscriber.call(
      ...(['CLIENT', 'TRACKING', 'ON', 'REDIRECT', String(id)] as const),
      ...(['BCAST', 'PREFIX', keys.watched] as const),
    )
    await subscriber.subscribe(CHANNEL)
    const isWritten = await write(master, probe)
    const sentAtMs = await pong()
    if (isWritten && !isProbeHeard) throw new OtherServer()
    if (state === 'closed') return
    state = 'tracking'
    clearTimeout(deadline)
    proven(sentAtMs)
  }

  subscriber.on('ready', () => void setUp().catch(lose))
  subscriber.on('error', lose)
  subscriber.on('close', () => lose(new Error('Connection is closed.')))
  subscriber.on('messageBuffer', (_channel: Buffer, changed: unknown) => {
    if (state === 'closed') return
    if (!Array.isArray(changed)) return options.onFlushed()
    for (const key of changed.map(String)) {
      if (key === probe) isProbeHeard = true
      else options.onChanged(key)
    }
  })

  return {
    isAlive,
    beat: () => {
      if (isAlive()) pong().then(proven, lose)
    },
    close: () => {
      if (state !== 'closed') end()
    },
  }
}

const silence = (): Error => new Error('Command timed out')

/** False where the key lies on another node of a Cluster. */
const write = async (client: Redis, key: string): Promise<boolean> => {
  try {
    await client.set(key, '', 'PX', PROBE_LIFE_MS)
    return true
  } catch (thrown) {
    if (thrown instanceof Error && thrown.message.startsWith('MOVED ')) return false
    throw thrown
  }
}
