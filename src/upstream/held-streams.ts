/** Event streams of upstreams: held open for as long as their session lives and this replica serves, then cut. */

import type { SessionWatch } from '../session/session-watch.ts'
import type { OpenSession } from '../session/vault.ts'
import { fieldOf } from './header-names.ts'

export interface HeldStreams {
  /**
   * Tells `cut` when an answer with this head may not go on; until the returned function is called. Undefined for an
   * answer that has an end of its own.
   */
  hold(
    rawHeaders: readonly string[],
    session: OpenSession | undefined,
    cut: (lastLine?: string) => void,
  ): (() => void) | undefined
  /** Cuts all of them, and every later one at once: their clients come back, to another replica. */
  end(): void
}

/** Clients of a replica that stops come back spread over some seconds. */
const RETRY_MIN_MS = 1_000
const RETRY_SPREAD_MS = 4_000

/** `random` is between 0 and 1. */
export const createHeldStreams = (
  watch: Pick<SessionWatch, 'watch'>,
  random: () => number,
): HeldStreams => {
  const goAways = new Set<() => void>()
  let isEnding = false

  /** Read as soon as its line is, without an event behind it (HTML Standard §9.2.6). */
  const retryLine = () => `retry: ${Math.round(RETRY_MIN_MS + random() * RETRY_SPREAD_MS)}\n`

  return {
    hold: (rawHeaders, session, cut) => {
      if (!isEventStream(rawHeaders)) return undefined
      if (isEnding) {
        cut()
        return undefined
      }
      const goAway = () => (isPlain(rawHeaders) ? cut(retryLine()) : cut())
      goAways.add(goAway)
      const stopWatching =
        session === undefined
          ? undefined
          : watch.watch(session, { lives: () => undefined, ended: () => cut() })
      return () => {
        goAways.delete(goAway)
        stopWatching?.()
      }
    },

    end: () => {
      isEnding = true
      for (const goAway of [...goAways]) goAway()
    },
  }
}

/** Server-sent events (HTML Standard §9.2); any other answer is expected to end by itself. */
const isEventStream = (rawHeaders: readonly string[]): boolean =>
  /^text\/event-stream[ \t]*(?:;|$)/i.test(fieldOf(rawHeaders, 'content-type') ?? '')

/** A line can be added to it: it has no length that was announced, and no coding that the line would break. */
const isPlain = (rawHeaders: readonly string[]): boolean =>
  fieldOf(rawHeaders, 'content-length') === undefined &&
  fieldOf(rawHeaders, 'content-encoding') === undefined
