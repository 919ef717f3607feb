/** Event streams of upstreams: held open for as long as their session lives and this replica serves, then cut. */

import type { SessionWatch } from '../session/session-watch.ts'
import type { OpenSession } from '../session/vault.ts'

export interface HeldStreams {
  /**
   * Tells `cut` when an answer with this head may not go on; until the returned function is called. Undefined for an
   * answer that has an end of its own.
   */
  hold(
    rawHeaders: readonly string[],
    session: OpenSession | undefined,
    cut: () => void,
  ): (() => void) | undefined
  /** Cuts all of them, and every later one at once: their clients come back, to another replica. */
  end(): void
}

export const createHeldStreams = (watch: Pick<SessionWatch, 'watch'>): HeldStreams => {
  const cuts = new Set<() => void>()
  let isEnding = false

  return {
    hold: (rawHeaders, session, cut) => {
      if (!isEventStream(rawHeaders)) return undefined
      if (isEnding) {
        cut()
        return undefined
      }
      cuts.add(cut)
      const stopWatching =
        session === undefined
          ? undefined
          : watch.watch(session, { lives: () => undefined, ended: cut })
      return () => {
        cuts.delete(cut)
        stopWatching?.()
      }
    },

    end: () => {
      isEnding = true
      for (const cut of [...cuts]) cut()
    },
  }
}

/** Server-sent events (HTML Standard §9.2); any other answer is expected to end by itself. */
const isEventStream = (rawHeaders: readonly string[]): boolean => {
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (name.length === CONTENT_TYPE.length && name.toLowerCase() === CONTENT_TYPE)
      return /^text\/event-stream[ \t]*(?:;|$)/i.test(rawHeaders[i + 1] ?? '')
  }
  return false
}
const CONTENT_TYPE = 'content-type'
