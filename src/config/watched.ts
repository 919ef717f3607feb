/** Secrets that may change while the gateway runs: mounted files are replaced, and nobody restarts for it. */

import { type Clock, seconds, toMs } from '../time.ts'

/** A value and its changes. What comes from no file never changes. */
export interface Watched<T> {
  readonly current: T
  /** Calls the listener with each new value, until the returned function is called. */
  subscribe(listener: (value: T) => void): () => void
}

/** A `_FILE` whose content is followed. */
export interface FollowedFile {
  /** Reads the file again; answers what the operator should know, the same thing only once. */
  check(): string | undefined
}

const PERIOD = toMs(seconds(10))

export const constant = <T>(value: T): Watched<T> =>
  Object.freeze({ current: Object.freeze(value), subscribe: () => () => undefined })

export type Reread<T> =
  | { readonly kind: 'value'; readonly text: string; readonly value: T }
  | {
      readonly kind: 'unusable'
      readonly text: string | undefined
      readonly rule: string
      /** Where several files make the value: the one that is to blame. */
      readonly variable?: string
    }

/**
 * A value that follows its file. The path is read anew each time, so that a swapped symbolic link is seen, and
 * compared by content. A content that cannot be used changes nothing and is reported once.
 */
export const followed = <T>(
  variable: string,
  initial: { readonly text: string; readonly value: T },
  reread: () => Reread<T>,
): { readonly watched: Watched<T>; readonly file: FollowedFile } => {
  const listeners = new Set<(value: T) => void>()
  let { text } = initial
  let value = Object.freeze(initial.value)
  let reported: string | undefined

  const check = (): string | undefined => {
    const read = reread()
    if (read.text === text) {
      reported = undefined
      return undefined
    }
    if (read.kind === 'unusable') {
      const report = `The file that ${read.variable ?? variable} names ${read.rule}; the value that was read before stays in use.`
      const isNew = report !== reported
      reported = report
      return isNew ? report : undefined
    }
    text = read.text
    value = Object.freeze(read.value)
    reported = undefined
    for (const listener of listeners) listener(value)
    return undefined
  }

  const watched: Watched<T> = Object.freeze({
    get current() {
      return value
    },
    subscribe: (listener: (value: T) => void) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  })
  return { watched, file: { check } }
}

/** For the settings that are read at start only: says that the file changed, once per content. */
export const noticed = (
  variable: string,
  initialText: string,
  read: () => string | undefined,
): FollowedFile => {
  let text = initialText
  return {
    check: () => {
      const now = read()
      if (now === undefined || now === text) return undefined
      text = now
      return `The file that ${variable} names has changed; this setting is read at start only.`
    },
  }
}

export interface SecretWatch {
  /** Checks every file now. */
  check(): void
  /** Ends it at once and holds nothing open. */
  stop(): void
}

/** Checks every file each 10 seconds. */
export const watchSecrets = (
  loaded: { readonly followedFiles: readonly FollowedFile[] },
  options: { readonly clock: Clock; readonly warn: (warning: string) => void },
): SecretWatch => {
  const stopping = new AbortController()
  const { signal } = stopping
  const check = () => {
    for (const file of loaded.followedFiles) {
      const warning = file.check()
      if (warning !== undefined) options.warn(warning)
    }
  }
  const watch = async () => {
    while (loaded.followedFiles.length > 0) {
      await options.clock.sleep(PERIOD, signal)
      if (signal.aborted) return
      check()
    }
  }
  void watch()
  return { check, stop: () => stopping.abort() }
}
