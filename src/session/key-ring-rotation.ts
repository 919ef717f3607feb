/** The key ring in motion: a secret opens as soon as it is read, and seals once every replica has had time to read it. */

import { type Clock, type Milliseconds, milliseconds } from '../time.ts'
import { type CurrentKeyRing, createKeyRing, type KeyRing, ringIdOf } from './key-ring.ts'

/**
 * Replicas read their secrets every 10 s, each at its own time. Two such periods after this one read a secret, the
 * others have it too: what it seals opens everywhere.
 */
export const SETTLING_MS = milliseconds(20_000)

export interface RotationDependencies {
  readonly secrets: {
    readonly current: readonly string[]
    subscribe(listener: (secrets: readonly string[]) => void): () => void
  }
  readonly clock: Clock
  /** Told at once of the ring at start, and of each change: of the list, or of the secret that seals. */
  readonly changed: (ring: KeyRing) => void
}

export interface KeyRingRotation extends CurrentKeyRing {
  /** Follows no more. */
  stop(): void
}

export const createKeyRingRotation = (dependencies: RotationDependencies): KeyRingRotation => {
  const { secrets, clock, changed } = dependencies
  const stopping = new AbortController()
  /** By id: when it has settled. What was there at start needs no time: whoever starts a replica knows the others. */
  let settledAt = new Map(secrets.current.map((secret) => [ringIdOf(secret), 0]))
  let ring = createKeyRing(secrets.current)
  changed(ring)

  const adopt = (next: KeyRing): void => {
    ring = next
    changed(ring)
  }

  const untilSettled = (secret: string | undefined): Milliseconds =>
    milliseconds(
      secret === undefined ? 0 : (settledAt.get(ringIdOf(secret)) ?? 0) - clock.monotonicMs(),
    )

  /** The first secret seals, unless it is new and the one that sealed so far can go on for a while. */
  const sealingIn = (list: readonly string[]): string | undefined =>
    untilSettled(list[0]) <= 0
      ? list[0]
      : (list.find((secret) => ringIdOf(secret) === ring.sealing.id) ?? list[0])

  const follow = (list: readonly string[]): void => {
    const settles = clock.monotonicMs() + SETTLING_MS
    settledAt = new Map(
      list.map((secret) => [ringIdOf(secret), settledAt.get(ringIdOf(secret)) ?? settles]),
    )
    const sealing = sealingIn(list)
    adopt(createKeyRing(list, sealing))
    if (sealing !== list[0]) void settle(list)
  }

  const settle = async (list: readonly string[]): Promise<void> => {
    // A timer may ring a little before the clock says so.
    while (untilSettled(list[0]) > 0) {
      await clock.sleep(milliseconds(Math.ceil(untilSettled(list[0]))), stopping.signal)
      // Another change that came meanwhile has its own wait.
      if (stopping.signal.aborted || list !== secrets.current) return
    }
    adopt(createKeyRing(list))
  }

  const unsubscribe = secrets.subscribe(follow)
  return {
    get current() {
      return ring
    },
    stop: () => {
      unsubscribe()
      stopping.abort()
    },
  }
}
