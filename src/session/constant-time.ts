/** Comparison of secrets in a time that tells nothing about where they differ. */

import { timingSafeEqual } from 'node:crypto'

export const equalInConstantTime = (one: string, other: string): boolean => {
  const a = Buffer.from(one)
  const b = Buffer.from(other)
  return a.length === b.length && timingSafeEqual(a, b)
}
