/**
 * The answers under way on a listener. A `Set` of them would keep garbage: V8 links each hash table that a set outgrows
 * to its successor, and a link from a dead old object counts for the collector of young ones. So with each table in
 * turn, all that it had held would live until the next full collection.
 */

import type { ServerResponse } from 'node:http'

export interface Answers extends Iterable<ServerResponse> {
  readonly size: number
  /** Until the returned function is called. */
  add(res: ServerResponse): () => void
}

interface Entry {
  readonly res: ServerResponse
  place: number
}

const GONE = -1

export const createAnswers = (): Answers => {
  const entries: Entry[] = []

  /** The last one takes its place, so that nothing else has to move. */
  const remove = (entry: Entry) => {
    if (entry.place === GONE) return
    const last = entries.pop()
    if (last !== undefined && last !== entry) {
      entries[entry.place] = last
      last.place = entry.place
    }
    entry.place = GONE
  }

  return {
    get size() {
      return entries.length
    },
    add: (res) => {
      const entry = { res, place: entries.length }
      entries.push(entry)
      return () => remove(entry)
    },
    /** Those of this moment: what is done with one may end others. */
    [Symbol.iterator]: () => entries.map(({ res }) => res).values(),
  }
}
