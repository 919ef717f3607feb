/** A server's processes, its children included: what they cost, and on which processor they run. */

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { findExecutable } from '../../test/support/executable.ts'

/** Linux counts the processor time of a process in hundredths of a second, whatever the kernel's own tick. */
const TICK_MS = 10

interface Process {
  readonly pid: number
  readonly parent: number
  /** User and system time, with that of children which have ended. */
  readonly ticks: number
}

const readProcess = (pid: string): Process[] => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name in parentheses may hold anything; the fields behind it begin with the third.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0)
    return [{ pid: Number(pid), parent: Number(fields[1]), ticks }]
  } catch {
    // It ended between the two looks.
    return []
  }
}

const treeOf = (root: number): Process[] => {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap(readProcess)
  const tree: Process[] = all.filter(({ pid }) => pid === root)
  // Grows while it is walked: children are found behind their parents.
  for (const { pid } of tree) tree.push(...all.filter(({ parent }) => parent === pid))
  return tree
}

/** User and system time of one process since it began, all its threads included. */
export const processorMs = (pid: number): number => {
  const [seen] = readProcess(String(pid))
  if (seen === undefined) throw new Error(`process ${pid} has ended`)
  return seen.ticks * TICK_MS
}

/** User and system time of a process and all below it. */
export const treeProcessorMs = (root: number): number =>
  treeOf(root).reduce((sum, { ticks }) => sum + ticks, 0) * TICK_MS

/**
 * Keeps all threads of a server on one processor, and what loads it on the others, so that neither takes the other's
 * turn. Nothing happens where there is one processor alone or no `taskset`.
 */
export const keepOn = (root: number, what: 'gateway' | 'load'): void => {
  const taskset = findExecutable('taskset')
  const processors = availableParallelism()
  if (taskset === undefined || processors < 2) return
  const list = what === 'gateway' ? '0' : `1-${processors - 1}`
  for (const { pid } of treeOf(root)) spawnSync(taskset, ['-a', '-c', '-p', list, String(pid)])
}
