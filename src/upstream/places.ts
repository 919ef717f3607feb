/** Places at one upstream: so many calls at a time, so many more in a queue, and whoever comes then is refused. */

export interface PlaceLimits {
  /** Calls at a time, each on a connection of its own; open event streams included. */
  readonly connections: number
  /** Calls that may wait for a place. */
  readonly queue: number
}

/** A call, which is told when its place is there. */
export interface Caller {
  start(): void
}

export interface Places {
  /**
   * `taken`: the caller may start, and owes `leave`. `waits`: `start` is called when its turn comes. One that had its
   * turn before and is sent again (`isAgain`) waits before all others, and is never refused.
   */
  ask(caller: Caller, isAgain: boolean): 'taken' | 'waits' | 'full'
  /** Gives a place back, and with it starts whoever has waited longest. */
  leave(): void
  /** The caller waits no longer. */
  giveUp(caller: Caller): void
  counts(): PlaceCounts
}

export interface PlaceCounts {
  readonly taken: number
  readonly waiting: number
}

export const createPlaces = ({ connections, queue }: PlaceLimits): Places => {
  /** Who has waited longest comes first. */
  const waiting: Caller[] = []
  /** No more than there are places: each has just left one. */
  const waitingAgain: Caller[] = []
  let taken = 0
  return {
    ask: (caller, isAgain) => {
      if (taken < connections) {
        taken += 1
        return 'taken'
      }
      if (waiting.length >= queue && !isAgain) return 'full'
      const line = isAgain ? waitingAgain : waiting
      line.push(caller)
      return 'waits'
    },
    leave: () => {
      const next = waitingAgain.shift() ?? waiting.shift()
      if (next === undefined) taken -= 1
      else next.start()
    },
    giveUp: (caller) => {
      for (const line of [waiting, waitingAgain]) {
        const place = line.indexOf(caller)
        if (place !== -1) line.splice(place, 1)
      }
    },
    counts: () => ({ taken, waiting: waiting.length + waitingAgain.length }),
  }
}
