/** How long the journal keeps what was written, and how much of it. Entries are small closures: no Redis is needed. */

import { expect, it } from 'vitest'
import { createJournal, type JournalEntry, STAGES } from '../../../src/edges/redis/journal.ts'
import { milliseconds } from '../../../src/time.ts'

const MIB = 1024 * 1024

const setUp = () => {
  let nowMs = 0
  const notices: string[] = []
  const journal = createJournal({ monotonicMs: () => milliseconds(nowMs) }, (name) =>
    notices.push(name),
  )
  const keep = (entry: JournalEntry) => journal.keep(entry, journal.epoch())
  return {
    journal,
    notices,
    keep,
    names: () => STAGES.flatMap((stage) => journal.doubted(stage).map(({ name }) => name)),
    /** Time passes, and the store answers or fails all the while. */
    pass: (ms: number, outcome: 'answered' | 'failed' = 'answered') => {
      for (const until = nowMs + ms; nowMs < until; ) {
        nowMs = Math.min(until, nowMs + 2_000)
        journal.heard(outcome)
      }
    },
    sleep: (ms: number) => {
      nowMs += ms
    },
  }
}

const again = async () => true
const record = (name: string, generation = 0, bytes = 3_400): JournalEntry => ({
  stage: 'record',
  name,
  generation,
  bytes,
  again,
})
const end = (name: string, outcome: 'written' | 'asked_for' = 'written'): JournalEntry => ({
  stage: 'end',
  name,
  outcome,
  bytes: 0,
  again,
})

it('keeps a write for 30 s while the store answers', () => {
  const { journal, keep, pass } = setUp()
  keep(record('a'))
  pass(30_000)
  expect(journal.find('a')).toBeDefined()
  pass(4_000)
  expect(journal.find('a')).toBeUndefined()
})

it('keeps it through an outage, for 10 minutes', () => {
  const { journal, keep, pass, names } = setUp()
  keep(record('a'))
  pass(29_000)
  pass(500_000, 'failed')
  expect(journal.find('a')).toBeDefined()
  pass(10_000)
  journal.doubt()
  expect(names()).toEqual(['a'])
  pass(70_000, 'failed')
  expect(names()).toEqual([])
})

it('keeps it where nobody asked the store anything meanwhile, for 10 minutes', () => {
  const { journal, keep, sleep, names } = setUp()
  keep(record('a'))
  sleep(599_000)
  journal.doubt()
  expect(names()).toEqual(['a'])
  sleep(2_000)
  expect(names()).toEqual([])
})

it('keeps an end longer than anybody keeps what it ended', () => {
  const { journal, keep, pass } = setUp()
  keep(end('a'))
  pass(655_000)
  expect(journal.find('a')).toBeDefined()
  pass(10_000)
  expect(journal.find('a')).toBeUndefined()
})

it('keeps an end that was only asked for no longer than a write', () => {
  const { journal, keep, pass } = setUp()
  keep(end('a', 'asked_for'))
  pass(34_000)
  expect(journal.find('a')).toBeUndefined()
})

it('lets an end take the place of a record, and never a record that of an end', () => {
  const { journal, keep } = setUp()
  keep(record('a', 7))
  keep(end('a', 'asked_for'))
  keep(record('a', 8))
  expect(journal.find('a')).toMatchObject({ stage: 'end' })
})

it('lets no generation take the place of a higher one', () => {
  const { journal, keep } = setUp()
  keep(record('a', 8))
  keep(record('a', 7))
  expect(journal.find('a')).toMatchObject({ generation: 8 })
})

it('is bounded by bytes: the oldest goes, which is said once, and ends are not pushed out by records', () => {
  const { journal, keep, notices } = setUp()
  keep(end('ended'))
  for (let number = 0; number < 130; number += 1) keep(record(`r${number}`, 0, MIB))
  expect(journal.find('r0')).toBeUndefined()
  expect(journal.find('r129')).toBeDefined()
  expect(journal.find('ended')).toBeDefined()
  expect(notices).toEqual(['store_journal_full'])
  expect(STAGES.flatMap((stage) => journal.doubted(stage))).toHaveLength(0)
  journal.doubt()
  const kept = STAGES.flatMap((stage) => journal.doubted(stage))
  expect(kept.reduce((bytes, entry) => bytes + entry.bytes, 0)).toBeLessThanOrEqual(64 * MIB)
})

it('is bounded by count, too: what is small has a size of its own', () => {
  const { journal, keep } = setUp()
  for (let number = 0; number < 60_000; number += 1) keep(end(`e${number}`))
  journal.doubt()
  expect(journal.doubted('end').length).toBeLessThan(40_000)
  expect(journal.find('e59999')).toBeDefined()
})

it('doubts an end that was only asked for until it is made', async () => {
  const { journal, keep, names } = setUp()
  keep(end('a', 'asked_for'))
  keep(end('b'))
  expect(names()).toEqual(['a'])
  await journal.restore(journal.doubted('end')[0] ?? record('none'))
  expect(names()).toEqual([])
})

it('doubts what was sent before an event and answered after it', () => {
  const { journal, names } = setUp()
  const sentIn = journal.epoch()
  let told = 0
  journal.onDoubt(() => {
    told += 1
  })
  journal.doubt()
  expect(told).toBe(1)
  journal.keep(record('late'), sentIn)
  expect(told).toBe(2)
  expect(names()).toEqual(['late'])
})

it('counts what was written again, and what of it had been lost', async () => {
  const { journal, keep } = setUp()
  const there = { ...record('there'), again: async () => false }
  const failing = { ...record('failing'), again: () => Promise.reject(new Error('away')) }
  const entries = [record('lost'), end('ended'), there, failing]
  for (const entry of entries) keep(entry)
  journal.doubt()
  await Promise.allSettled(entries.map(journal.restore))
  expect(journal.doubted('record')).toEqual([failing])
  expect(journal.takeCount()).toEqual({ written: 3, lost: 2, lostEnds: 1 })
  expect(journal.takeCount()).toEqual({ written: 0, lost: 0, lostEnds: 0 })
})
