/** The known name that a mistyped one is most like. */

export const nearest = (name: string, known: readonly string[]): string | undefined => {
  let best: string | undefined
  let bestDistance = Number.POSITIVE_INFINITY
  // Longer names than any of ours gain nothing from exactness, and cost its square.
  const written = name.slice(0, 100)
  for (const candidate of known) {
    const distance = unlikeness(written.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Whoever writes only the beginning of a name, or something after it, is nearer than the count of letters says. */
const unlikeness = (written: string, candidate: string): number => {
  const distance = editDistance(written, candidate)
  return candidate.startsWith(written) || written.startsWith(candidate) ? distance / 2 : distance
}

/** Levenshtein distance: insertions, deletions and substitutions. */
const editDistance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}
