/** The processes of `coatcheck demo --replicas`: a Redis of its own and gateways that run `serve`, to be killed and restarted. */

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { CallTally } from '../dev/call-tally.ts'
import type { Fleet, RedisState, ReplicaState } from '../dev/fleet-control.ts'
import type { LogLevel } from '../errors.ts'
import { type Milliseconds, milliseconds, systemClock } from '../time.ts'
import { type OwnChild, startOwnChild } from './own-child.ts'

export interface FleetOptions {
  readonly host: string
  readonly redisProgram: string
  readonly redisPort: number
  /** Settings of each replica, but for what all of them share. */
  readonly replicas: readonly Readonly<Record<string, string>>[]
  /** Least important level of their logs that is shown. */
  readonly level: LogLevel
  readonly tally: CallTally
  readonly refreshes: () => number
  /** Whether a refresh that is refused was to be, because somebody revoked its grant. */
  readonly takeRevocation: () => boolean
  /** For the person at the terminal. */
  readonly say: (line: string) => void
}

export interface RunningFleet extends Fleet {
  /** Gateways first, because they may still have something to write. */
  close(): Promise<void>
}

/** What could not be started, in words that need no stack. */
export class FleetError extends Error {}

const PAUSE_MS = milliseconds(3_000)
const START_MS = milliseconds(20_000)
const STOP_MS = milliseconds(3_000)
const LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

interface Replica {
  state: ReplicaState
  /** By a button. */
  isKilled: boolean
  child: OwnChild
}

/** Throws FleetError. */
export const startFleet = async (options: FleetOptions): Promise<RunningFleet> => {
  const { host, redisPort, tally, say } = options
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-demo-'))
  const forget = () => rmSync(directory, { recursive: true, force: true })
  process.once('exit', forget)
  const redisPassword = secret()
  const shared = {
    COATCHECK_REDIS_URL: `redis://:${redisPassword}@${host}:${redisPort}`,
    COATCHECK_SECRET: secret(),
    // The page counts what a replica logs at this level; what the terminal shows is decided here.
    COATCHECK_LOGGING_LEVEL: options.level === 'debug' ? 'debug' : 'info',
  }
  const replicas: Replica[] = []
  let redisState: RedisState = 'up'
  const closing = new AbortController()

  const redis = startOwnChild({
    command: options.redisProgram,
    // Its configuration comes by standard input, where no list of processes shows the password.
    args: ['-'],
    env: {},
    cwd: directory,
    input: redisConfiguration({ host, port: redisPort, directory, password: redisPassword }),
    onLine: () => undefined,
  })
  void redis.exited.then((how) => {
    redisState = 'gone'
    if (!closing.signal.aborted)
      report(`Redis ended by itself (${how}): start the demo again to have it back`)
  })

  const report = (text: string) => {
    tally.happened(text)
    say(text)
  }

  const sessionEnded = (reason: string) => {
    if (reason === 'refresh_rejected' && options.takeRevocation())
      tally.happened('A session ended: its refresh token was revoked')
    else tally.sessionEnded(reason)
  }

  const run = (number: number): Replica => {
    const onLine = (line: string, stream: 'stdout' | 'stderr') => {
      const entry = stream === 'stdout' ? logEntry(line) : undefined
      if (entry?.event === 'session_ended') sessionEnded(String(entry.reason))
      const isShown =
        entry === undefined ? stream === 'stderr' : rankOf(entry.level) >= rankOf(options.level)
      if (isShown) say(`replica ${number}: ${line}`)
      if (entry === undefined && /^coatcheck listens on /.test(line)) replica.state = 'up'
    }
    const child = startOwnChild({
      command: process.execPath,
      args: [...mainModule(), 'serve'],
      env: { ...options.replicas[number - 1], ...shared },
      cwd: directory,
      onLine,
    })
    const replica: Replica = { state: 'starting', isKilled: false, child }
    void child.exited.then((how) => {
      if (!replica.isKilled && !closing.signal.aborted)
        report(`Replica ${number} ended by itself (${how}): the page restarts it`)
      replica.state = 'down'
    })
    return replica
  }

  const close = async () => {
    closing.abort()
    for (const { child } of replicas) child.signal('SIGINT')
    redis.signal('SIGCONT')
    await within(STOP_MS, Promise.all(replicas.map(({ child }) => child.exited)))
    for (const child of [...replicas.map(({ child }) => child), redis]) child.signal('SIGKILL')
    await Promise.all([...replicas.map(({ child }) => child.exited), redis.exited])
    forget()
    process.off('exit', forget)
  }

  try {
    await started('Redis', redis, () =>
      redis.lastLines().some((line) => line.includes('Ready to accept connections')),
    )
    for (const index of options.replicas.keys()) replicas.push(run(index + 1))
    for (const [index, replica] of replicas.entries())
      await started(`replica ${index + 1}`, replica.child, () => replica.state === 'up')
  } catch (thrown) {
    await close()
    throw thrown
  }

  return {
    replicaStates: () => replicas.map(({ state }) => state),
    redisState: () => redisState,
    refreshes: options.refreshes,
    kill: async (number) => {
      const replica = replicas[number - 1]
      if (replica === undefined || replica.state === 'down' || replica.isKilled) return false
      replica.isKilled = true
      replica.child.signal('SIGKILL')
      await replica.child.exited
      tally.happened(`Replica ${number} was killed with SIGKILL`)
      return true
    },
    restart: (number) => {
      const replica = replicas[number - 1]
      if (replica?.state !== 'down') return false
      replicas[number - 1] = run(number)
      tally.happened(`Replica ${number} starts`)
      return true
    },
    pauseRedis: () => {
      if (redisState !== 'up') return false
      redisState = 'paused'
      redis.signal('SIGSTOP')
      tally.happened(`Redis was stopped for ${PAUSE_MS / 1000} seconds`)
      void systemClock.sleep(PAUSE_MS, closing.signal).then(() => {
        if (redisState !== 'paused') return
        redisState = 'up'
        redis.signal('SIGCONT')
        tally.happened('Redis goes on')
      })
      return true
    },
    close,
  }
}

const secret = (): string => randomBytes(32).toString('base64url')

/** The file that runs now: TypeScript in a checkout, JavaScript in the package. */
const mainModule = (): readonly string[] => process.argv.slice(1, 2)

const redisConfiguration = (settings: {
  readonly host: string
  readonly port: number
  readonly directory: string
  readonly password: string
}): string =>
  [
    `bind ${settings.host}`,
    `port ${settings.port}`,
    `dir "${settings.directory}"`,
    `requirepass ${settings.password}`,
    'save ""',
    'appendonly no',
    'maxmemory-policy noeviction',
    '',
  ].join('\n')

interface LogEntry {
  readonly level: LogLevel
  readonly event: unknown
  readonly reason: unknown
}

const logEntry = (line: string): LogEntry | undefined => {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as LogEntry
  } catch {
    // Half a line, of a process that was killed while it wrote.
    return undefined
  }
}

const rankOf = (level: LogLevel): number => LEVELS.indexOf(level)

/** Throws FleetError, with what the process said last. */
const started = async (what: string, child: OwnChild, isReady: () => boolean): Promise<void> => {
  const givesUpAt = systemClock.monotonicMs() + START_MS
  while (!isReady()) {
    const why = child.hasExited() ? `it ended (${await child.exited})` : 'it took too long'
    if (child.hasExited() || systemClock.monotonicMs() > givesUpAt)
      throw new FleetError([`${what} did not start: ${why}`, ...child.lastLines()].join('\n  '))
    await systemClock.sleep(START_POLL_MS)
  }
}

const START_POLL_MS = milliseconds(20)

/** Gives up waiting, not the work. */
const within = async (limit: Milliseconds, work: Promise<unknown>): Promise<void> => {
  const done = new AbortController()
  await Promise.race([work, systemClock.sleep(limit, done.signal)])
  done.abort()
}
