/** Answers under way: kept while they are, and nothing of them after that. */

import type { ServerResponse } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { createAnswers } from '../../../src/edges/http/answers.ts'

setFlagsFromString('--expose_gc')
const collect: (options: { readonly type: 'minor' | 'major' }) => void = runInNewContext('gc')

/** With what an exchange holds: a few KiB on the heap. */
const answer = () => ({ held: new Array(512).fill(0.5) }) as unknown as ServerResponse

describe('answers under way', () => {
  test('has each one until it is over, whatever the order in which they end', () => {
    const answers = createAnswers()
    const [one, two, three] = [answer(), answer(), answer()]
    const [endOne, endTwo, endThree] = [one, two, three].map(answers.add)
    expect([...answers]).toEqual([one, two, three])
    endOne?.()
    expect(new Set(answers)).toEqual(new Set([two, three]))
    endThree?.()
    expect([...answers]).toEqual([two])
    endTwo?.()
    expect(answers.size).toBe(0)
  })

  test('hears of an end twice, and takes only the first', () => {
    const answers = createAnswers()
    const end = answers.add(answer())
    const other = answer()
    end()
    answers.add(other)
    end()
    expect([...answers]).toEqual([other])
  })

  test('may lose some while they are looked at', () => {
    const answers = createAnswers()
    const ends = [answer(), answer(), answer()].map(answers.add)
    let seen = 0
    for (const _ of answers) {
      seen += 1
      for (const end of ends) end()
    }
    expect(seen).toBe(3)
    expect(answers.size).toBe(0)
  })

  test('collections of young objects free what the answers held', () => {
    const answers = createAnswers()
    const ends: (() => void)[] = []
    const next = () => {
      ends.push(answers.add(answer()))
      if (ends.length > 64) ends.shift()?.()
    }
    for (let i = 0; i < 200; i += 1) next()
    // Makes old whatever lives now, as any full collection does.
    collect({ type: 'major' })
    const before = process.memoryUsage().heapUsed
    for (let i = 1; i <= 5_000; i += 1) {
      next()
      if (i % 250 === 0) collect({ type: 'minor' })
    }
    // 20 MiB of arrays came and went.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 * 1024 * 1024)
  })
})
